//! A real HAProxy, as an origin of its own or in front of another server, that tells its own counts.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use super::certificate::{Certificate, Tls};
use super::link::Link;
use super::process::{self, Process};

/// A HAProxy that is described and not yet started.
pub(crate) struct Haproxy<'l> {
    tls: Option<Tls>,
    keep_alive_timeout: Duration,
    request_timeout: Duration,
    backend: Option<SocketAddr>,
    reuse: &'static str,
    link: Option<&'l Link>,
}

/// A HAProxy at work until it is dropped.
pub(crate) struct Running {
    // Declared first, so that the process has ended when its folder goes.
    _process: Process,
    folder: TempDir,
    address: SocketAddr,
    certificate: Certificate,
}

/// What its clients have done so far, by its own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) requests: u64,
}

impl<'l> Haproxy<'l> {
    /// It answers every request itself, with `Hello, world!`.
    pub(crate) fn new() -> Self {
        Self {
            tls: None,
            keep_alive_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(10),
            backend: None,
            reuse: "safe",
            link: None,
        }
    }

    pub(crate) fn tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    pub(crate) fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keep_alive_timeout = timeout;
        self
    }

    /// How long a client may take over a request, its first included.
    pub(crate) fn request_timeout(mut self, timeout: Duration) -> Self {
        self.request_timeout = timeout;
        self
    }

    /// It passes every request on to this server.
    pub(crate) fn backend(mut self, address: SocketAddr) -> Self {
        self.backend = Some(address);
        self
    }

    /// Whose connections to that server a client's request may use (`http-reuse`); HAProxy's default is `safe`: its
    /// own and others', but for its first request only a fresh one.
    pub(crate) fn reuse(mut self, reuse: &'static str) -> Self {
        self.reuse = reuse;
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
        write("both.pem", &format!("{}{}", certificate.pem, certificate.key_pem));
        let command = |address| {
            write("haproxy.cfg", &self.configuration(address, folder.path()));
            let errors = std::fs::File::create(folder.path().join("errors")).expect("a file in the folder");
            let mut command = process::command(self.link, "haproxy", "haproxy");
            command.arg("-db").arg("-f").arg(folder.path().join("haproxy.cfg"));
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
            command
        };
        // Asked over its own socket: a client that tries the port would be counted.
        let up = || UnixStream::connect(folder.path().join("stats.sock")).is_ok();
        let (process, address) = process::start(self.link, command, up, &folder.path().join("errors"));
        Running { _process: process, folder, address, certificate }
    }

    fn configuration(&self, address: SocketAddr, folder: &Path) -> String {
        let folder = folder.display();
        let (mut bind, mut sessions) = (format!("bind {address} backlog 4096"), "");
        if let Some(tls) = self.tls {
            let version = tls.version.name();
            bind += &format!(" ssl crt {folder}/both.pem ssl-min-ver {version} ssl-max-ver {version}");
            if !tls.resumption {
                bind += " no-tls-tickets";
                sessions = "tune.ssl.cachesize 0";
            }
        }
        let (answer, backend) = match self.backend {
            Some(address) => (
                "default_backend behind",
                format!("backend behind\n  http-reuse {}\n  server origin {address}\n", self.reuse),
            ),
            None => (
                "http-request return status 200 content-type text/plain string \"Hello, world!\"",
                String::new(),
            ),
        };
        format!(
            "global
  stats socket {folder}/stats.sock mode 600 level user
  nbthread 1
  maxconn 4000
  {sessions}
defaults
  mode http
  timeout client 75s
  timeout connect 5s
  timeout server 75s
  timeout http-request {request}ms
  timeout http-keep-alive {timeout}ms
frontend counted
  {bind}
  http-request deny deny_status 413 if {{ req.hdr_val(content-length) gt 1048576 }}
  {answer}
{backend}",
            timeout = self.keep_alive_timeout.as_millis(),
            request = self.request_timeout.as_millis(),
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

    /// What has arrived so far. HAProxy counts a request before it answers it, so that a response which has been
    /// read is a request which is counted.
    pub(crate) fn counts(&self) -> Counts {
        let table = self.ask("show stat\n");
        let mut rows = table.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let names = rows.next().expect("the first row names the columns");
        let row = rows.find(|row| row.starts_with(&["counted", "FRONTEND"])).expect("the frontend's own row");
        let number = |name| {
            let column = names.iter().position(|other| *other == name).expect("HAProxy has this column");
            row[column].parse().expect("HAProxy counts in numbers")
        };
        Counts { connections: number("conn_tot"), requests: number("req_tot") }
    }

    fn ask(&self, question: &str) -> String {
        let mut socket = UnixStream::connect(self.folder.path().join("stats.sock")).expect("HAProxy is up");
        socket.write_all(question.as_bytes()).expect("HAProxy takes a question");
        let mut answer = String::new();
        socket.read_to_string(&mut answer).expect("HAProxy answers in text");
        answer
    }
}

mod tests {
    use tokio_rustls::rustls::HandshakeKind;

    use super::super::certificate::Version;
    use super::super::nginx::Nginx;
    use super::super::raw::{Ending, Raw, trusting};
    use super::*;

    #[test]
    fn haproxy_counts_connections_and_requests() {
        let haproxy = Haproxy::new().start();
        assert_eq!(haproxy.counts(), Counts { connections: 0, requests: 0 });
        let mut first = Raw::connect(haproxy.addr());
        assert_eq!(first.get("/").body, b"Hello, world!");
        first.get("/");
        Raw::connect(haproxy.addr()).get("/");
        assert_eq!(haproxy.counts(), Counts { connections: 2, requests: 3 });
    }

    #[test]
    fn haproxy_closes_an_idle_connection_after_its_timeout() {
        let haproxy = Haproxy::new().keep_alive_timeout(Duration::from_millis(200)).start();
        let mut client = Raw::connect(haproxy.addr());
        client.get("/");
        assert_eq!(client.ending(), Ending::Orderly);
    }

    #[test]
    fn haproxy_passes_requests_on_to_the_server_behind_it() {
        let nginx = Nginx::new().start();
        let haproxy = Haproxy::new().backend(nginx.addr()).start();
        let mut client = Raw::connect(haproxy.addr());
        for _ in 0..2 {
            assert_eq!(client.get("/").body, b"Hello, world!");
        }
        assert_eq!(nginx.log(2).len(), 2);
        assert_eq!(haproxy.counts(), Counts { connections: 1, requests: 2 });
    }

    #[test]
    fn haproxy_runs_at_the_far_end_of_a_link() {
        let link = Link::new(Duration::from_millis(2)).unwrap_or_else(|error| panic!("{error}"));
        let haproxy = Haproxy::new().at(&link).start();
        assert_eq!(link.at_client(|| Raw::connect(haproxy.addr()).get("/").body), b"Hello, world!");
        assert_eq!(haproxy.counts(), Counts { connections: 1, requests: 1 });
    }

    #[test]
    fn haproxy_resumes_sessions_when_it_may() {
        for version in [Version::Tls12, Version::Tls13] {
            for resumption in [true, false] {
                let haproxy = Haproxy::new().tls(Tls { version, resumption }).start();
                let config = trusting(haproxy.certificate_pem(), true);
                let handshakes = [(); 2].map(|()| {
                    let mut client = Raw::connect_tls(haproxy.addr(), &config);
                    client.get("/");
                    client.handshake()
                });
                let second = if resumption { HandshakeKind::Resumed } else { HandshakeKind::Full };
                assert_eq!(handshakes, [HandshakeKind::Full, second], "{version:?}");
            }
        }
    }
}
