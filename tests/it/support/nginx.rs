//! A real nginx, with its own folder, its own port and a log that counts connections and requests on its side.

use std::fmt::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use super::certificate::{Certificate, Tls};
use super::link::Link;
use super::process::{self, Process};
use super::until;

/// An nginx that is described and not yet started.
pub(crate) struct Nginx<'l> {
    tls: Option<Tls>,
    keepalive_timeout: Duration,
    hint: Option<u64>,
    keepalive_requests: u64,
    keepalive_time: Duration,
    header_timeout: Duration,
    link: Option<&'l Link>,
}

/// An nginx that answers `Hello, world!` until it is dropped.
pub(crate) struct Running {
    // Declared first, so that the process has ended when its folder goes.
    _process: Process,
    folder: TempDir,
    address: SocketAddr,
    certificate: Certificate,
}

/// One line of its log: a request as nginx saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged {
    /// Which connection carried it. The numbers rise and may skip some.
    pub(crate) connection: u64,
    /// Which of that connection's requests it was, from 1.
    pub(crate) nth: u64,
    pub(crate) status: u16,
    /// `TLSv1.2`, `TLSv1.3`, or nothing on a plain connection.
    pub(crate) tls: Option<String>,
    /// Whether its connection resumed a TLS session.
    pub(crate) resumed: bool,
}

impl<'l> Nginx<'l> {
    pub(crate) fn new() -> Self {
        Self {
            tls: None,
            keepalive_timeout: Duration::from_secs(75),
            hint: None,
            keepalive_requests: 1000,
            keepalive_time: Duration::from_secs(3600),
            header_timeout: Duration::from_secs(60),
            link: None,
        }
    }

    pub(crate) fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    pub(crate) fn keepalive_timeout(mut self, timeout: Duration) -> Self {
        self.keepalive_timeout = timeout;
        self
    }

    /// Tells of so many seconds in `Keep-Alive: timeout=`.
    pub(crate) fn hint(mut self, seconds: u64) -> Self {
        self.hint = Some(seconds);
        self
    }

    pub(crate) fn keepalive_requests(mut self, requests: u64) -> Self {
        self.keepalive_requests = requests;
        self
    }

    /// After so long a connection is closed when its next request is answered.
    pub(crate) fn keepalive_time(mut self, time: Duration) -> Self {
        self.keepalive_time = time;
        self
    }

    /// How long a request's header section, or a handshake, may take to come.
    pub(crate) fn header_timeout(mut self, timeout: Duration) -> Self {
        self.header_timeout = timeout;
        self
    }

    /// At the server's end of a link, instead of on this machine's loopback.
    pub(crate) fn at(mut self, link: &'l Link) -> Self {
        self.link = Some(link);
        self
    }

    pub(crate) fn start(self) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let certificate = Certificate::new();
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file in the temporary folder");
        };
        write("certificate.pem", &certificate.pem);
        write("key.pem", &certificate.key_pem);
        let own_socket = folder.path().join("up.sock");
        let command = |address| {
            write("nginx.conf", &self.configuration(address, &own_socket));
            // An attempt that ended leaves it, and then nobody can listen on it again.
            let _ = std::fs::remove_file(&own_socket);
            let mut command = process::command(self.link, "nginx", "nginx-light");
            command.arg("-p").arg(folder.path()).args(["-e", "error.log", "-c", "nginx.conf"]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        // nginx listens on everything or ends, so that its own socket tells that the port is its own too.
        let up = || UnixStream::connect(&own_socket).is_ok();
        let (process, address) = process::start(self.link, command, up, &folder.path().join("error.log"));
        Running { _process: process, folder, address, certificate }
    }

    fn configuration(&self, address: SocketAddr, own_socket: &Path) -> String {
        let mut listen = format!("listen {address} backlog=4096;\n    listen unix:{};", own_socket.display());
        if let Some(tls) = self.tls {
            listen = listen.replacen(" backlog", " ssl backlog", 1);
            let (cache, tickets) = if tls.resumption { ("shared:sessions:1m", "on") } else { ("off", "off") };
            write!(
                listen,
                "
    ssl_certificate certificate.pem;
    ssl_certificate_key key.pem;
    ssl_protocols {};
    ssl_session_cache {cache};
    ssl_session_tickets {tickets};",
                tls.version.name()
            )
            .expect("a String takes text");
        }
        format!(
            r#"daemon off;
master_process off;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  log_format counted "$connection $connection_requests $status $ssl_protocol $ssl_session_reused";
  access_log access.log counted;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  client_max_body_size 1m;
  keepalive_timeout {timeout}ms{hint};
  keepalive_requests {requests};
  keepalive_time {time}ms;
  client_header_timeout {header}ms;
  server {{
    {listen}
    default_type text/plain;
    location / {{ return 200 "Hello, world!"; }}
  }}
}}
"#,
            timeout = self.keepalive_timeout.as_millis(),
            hint = self.hint.map_or_else(String::new, |seconds| format!(" {seconds}s")),
            requests = self.keepalive_requests,
            time = self.keepalive_time.as_millis(),
            header = self.header_timeout.as_millis(),
        )
    }
}

impl Running {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }

    /// What a client must trust.
    pub(crate) fn certificate_pem(&self) -> &str {
        &self.certificate.pem
    }

    /// The log once it has `requests` lines: nginx writes a line after the client has its response.
    pub(crate) fn log(&self, requests: usize) -> Vec<Logged> {
        until("nginx's log", || {
            let log = read_log(&self.folder.path().join("access.log"));
            (log.len() >= requests).then_some(log)
        })
    }
}

fn read_log(path: &Path) -> Vec<Logged> {
    let text = process::read(path);
    // A last line without its end is still being written.
    text.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(parse).collect()
}

fn parse(line: &str) -> Logged {
    let words: Vec<_> = line.split_whitespace().collect();
    let [connection, nth, status, tls, reused] = words[..] else {
        panic!("not a line of nginx's log: {line:?}")
    };
    let number = |word: &str| word.parse().expect("nginx logs numbers");
    Logged {
        connection: number(connection),
        nth: number(nth),
        status: status.parse().expect("a status is a number"),
        tls: (tls != "-").then(|| tls.to_owned()),
        resumed: reused == "r",
    }
}

mod tests {
    use super::super::certificate::Version;
    use super::super::raw::{Ending, Raw, trusting};
    use super::*;

    #[test]
    fn nginx_logs_each_request_with_its_connection() {
        let nginx = Nginx::new().start();
        let mut first = Raw::connect(nginx.addr());
        assert_eq!(first.get("/").body, b"Hello, world!");
        first.get("/");
        Raw::connect(nginx.addr()).get("/");
        let log = nginx.log(3);
        assert_eq!(
            log.iter().map(|line| (line.nth, line.status)).collect::<Vec<_>>(),
            [(1, 200), (2, 200), (1, 200)]
        );
        assert_eq!(log[0].connection, log[1].connection);
        assert_ne!(log[0].connection, log[2].connection);
        assert_eq!(log[0].tls, None);
    }

    #[test]
    fn nginx_closes_an_idle_connection_after_its_timeout() {
        let nginx = Nginx::new().keepalive_timeout(Duration::from_millis(200)).start();
        let mut client = Raw::connect(nginx.addr());
        client.get("/");
        assert_eq!(client.ending(), Ending::Orderly);
    }

    #[test]
    fn nginx_announces_the_close_in_its_last_response() {
        let nginx = Nginx::new().keepalive_requests(2).start();
        let mut client = Raw::connect(nginx.addr());
        assert_eq!([client.get("/").says_close(), client.get("/").says_close()], [false, true]);
        assert_eq!(client.ending(), Ending::Orderly);
    }

    #[test]
    fn nginx_resumes_sessions_when_it_may() {
        for version in [Version::Tls12, Version::Tls13] {
            for resumption in [true, false] {
                let nginx = Nginx::new().tls(Tls { version, resumption }).start();
                let config = trusting(nginx.certificate_pem(), true);
                for _ in 0..2 {
                    Raw::connect_tls(nginx.addr(), &config).get("/");
                }
                let log = nginx.log(2);
                let resumed: Vec<_> = log.iter().map(|line| line.resumed).collect();
                assert_eq!(resumed, [false, resumption], "{version:?}");
                assert_eq!(log[0].tls.as_deref(), Some(version.name()));
            }
        }
    }
}
