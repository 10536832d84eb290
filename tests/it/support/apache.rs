//! A real Apache httpd, with its own folder, its own port and a log that tells which of its connection's requests each
//! was.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{self, Process};
use super::until;

/// An Apache httpd that is described and not yet started.
pub(crate) struct Apache {
    keep_alive_timeout: Duration,
    max_keep_alive_requests: u64,
}

/// An Apache httpd that answers `Hello, world!` until it is dropped.
pub(crate) struct Running {
    // Declared first, so that the process has ended when its folder goes.
    _process: Process,
    folder: TempDir,
    address: SocketAddr,
}

impl Apache {
    /// With Apache's own defaults.
    pub(crate) fn new() -> Self {
        Self { keep_alive_timeout: Duration::from_secs(5), max_keep_alive_requests: 100 }
    }

    pub(crate) fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keep_alive_timeout = timeout;
        self
    }

    pub(crate) fn max_keep_alive_requests(mut self, requests: u64) -> Self {
        self.max_keep_alive_requests = requests;
        self
    }

    pub(crate) fn start(self) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        // Its workers are nobody when the tests run as root.
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(path, open).expect("the folder is ours");
        std::fs::create_dir(path.join("content")).expect("a folder in the temporary folder");
        let write = |name: &str, text: &str| {
            std::fs::write(path.join(name), text).expect("a file in the temporary folder");
        };
        write("content/index.txt", "Hello, world!");
        let command = |address| {
            write("apache.conf", &self.configuration(address, path));
            let mut command = process::command(None, "apache2", "apache2-bin");
            command.arg("-d").arg(path).arg("-f").arg(path.join("apache.conf")).arg("-DFOREGROUND");
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command
        };
        // It writes its number when it listens.
        let up = || path.join("apache.pid").exists();
        let (process, address) = process::start(None, command, up, &path.join("error.log"));
        Running { _process: process, address, folder }
    }

    fn configuration(&self, address: SocketAddr, folder: &Path) -> String {
        // Debian builds these apart; other builds have them inside.
        let modules: String = ["mpm_event", "authz_core"]
            .map(|name| (name, format!("/usr/lib/apache2/modules/mod_{name}.so")))
            .into_iter()
            .filter(|(_, path)| Path::new(path).exists())
            .map(|(name, path)| format!("LoadModule {name}_module {path}\n"))
            .collect();
        format!(
            r#"{modules}Listen {address}
ServerName localhost
User #65534
Group #65534
PidFile apache.pid
DefaultRuntimeDir {folder}
ErrorLog error.log
LogFormat "%k" nth
CustomLog access.log nth
StartServers 1
ServerLimit 1
ThreadsPerChild 25
MaxRequestWorkers 25
MinSpareThreads 1
MaxSpareThreads 25
DocumentRoot {folder}/content
KeepAlive On
KeepAliveTimeout {timeout}ms
MaxKeepAliveRequests {requests}
LimitRequestBody 1048576
"#,
            folder = folder.display(),
            timeout = self.keep_alive_timeout.as_millis(),
            requests = self.max_keep_alive_requests,
        )
    }
}

impl Running {
    /// Where it answers `Hello, world!`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/index.txt", self.address)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Which of its connection's requests each was, from 0, once so many are logged: Apache writes a line after the
    /// client has its response.
    pub(crate) fn log(&self, requests: usize) -> Vec<u64> {
        until("Apache's log", || {
            let text = process::read(&self.folder.path().join("access.log"));
            let lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            let nths: Vec<_> = lines.map(|line| line.trim().parse().expect("Apache logs numbers")).collect();
            (nths.len() >= requests).then_some(nths)
        })
    }
}

mod tests {
    use super::super::raw::{Ending, Raw};
    use super::*;

    #[test]
    fn apache_tells_of_keep_alive_whom_asks_and_closes_in_time() {
        let apache = Apache::new().keep_alive_timeout(Duration::from_secs(1)).start();
        let mut client = Raw::connect(apache.addr());
        assert!(!client.get("/index.txt").head.contains("keep-alive:"));
        client.send("GET /index.txt HTTP/1.1\r\nHost: test\r\nConnection: keep-alive\r\n\r\n");
        let answer = client.answer();
        assert!(answer.head.contains("keep-alive: timeout=1, max=99\r\n"), "{}", answer.head);
        assert_eq!(answer.body, b"Hello, world!");
        assert_eq!(client.ending(), Ending::Orderly);
        assert_eq!(apache.log(2), [0, 1]);
    }
}
