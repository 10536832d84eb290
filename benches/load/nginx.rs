//! The server: nginx as its users run it for speed, without a log, counting its requests.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::certificate::Certificate;

pub(crate) struct Nginx {
    child: Child,
    folder: tempfile::TempDir,
    plain: SocketAddr,
    tls: SocketAddr,
    status: SocketAddr,
}

impl Nginx {
    /// One worker, where this thread may run.
    pub(crate) fn start() -> Nginx {
        Nginx::with_workers(1)
    }

    pub(crate) fn with_workers(workers: usize) -> Nginx {
        let folder = tempfile::tempdir().expect("a folder");
        let certificate = Certificate::new();
        // All three at once, so that they differ.
        let free: Vec<TcpListener> =
            (0..3).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let [plain, tls, status] = [0, 1, 2].map(|nth: usize| free[nth].local_addr().expect("it is bound"));
        drop(free);
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("a file in the folder");
        };
        write("certificate.pem", &certificate.pem);
        write("key.pem", &certificate.key_pem);
        let pages = "default_type text/plain;\n    location / { return 200 \"Hello, world!\"; }";
        write(
            "nginx.conf",
            &format!(
                r#"daemon off;
worker_processes {workers};
worker_rlimit_nofile 20000;
pid nginx.pid;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  server {{
    listen {plain} backlog=16384;
    {pages}
  }}
  server {{
    listen {tls} ssl backlog=16384;
    ssl_certificate certificate.pem;
    ssl_certificate_key key.pem;
    ssl_protocols TLSv1.3;
    ssl_session_cache shared:sessions:1m;
    {pages}
  }}
  server {{
    listen {status};
    location / {{ stub_status; }}
  }}
}}
"#
            ),
        );
        let child = Command::new("nginx")
            .arg("-p")
            .arg(folder.path())
            .args(["-e", "error.log", "-c", "nginx.conf"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nginx is installed (tests/run does it)");
        let nginx = Nginx { child, folder, plain, tls, status };
        crate::support::until("nginx", || TcpStream::connect(nginx.status).ok());
        nginx
    }

    pub(crate) fn address(&self, is_tls: bool) -> SocketAddr {
        if is_tls { self.tls } else { self.plain }
    }

    pub(crate) fn url(&self, is_tls: bool) -> String {
        format!("{}://{}/", if is_tls { "https" } else { "http" }, self.address(is_tls))
    }

    /// Requests that it has answered, those for this number apart.
    pub(crate) fn requests(&self) -> u64 {
        let mut stream = TcpStream::connect(self.status).expect("nginx listens");
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a timeout");
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: status\r\nConnection: close\r\n\r\n")
            .expect("nginx reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("nginx answers");
        let mut lines = text.lines().skip_while(|line| !line.starts_with("server accepts"));
        let counts = lines.nth(1).expect("accepts, handled, requests");
        counts.split_whitespace().nth(2).and_then(|count| count.parse().ok()).expect("a number")
    }

    pub(crate) fn version(&self) -> String {
        let output = Command::new("nginx").arg("-v").output().expect("it ran before");
        String::from_utf8_lossy(&output.stderr).trim().to_owned()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let _ = self.child.wait();
        let _ = &self.folder;
    }
}
