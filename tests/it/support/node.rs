//! A real Node server: `node:http` as it comes, with its own port.

use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{self, Process};

/// Says `Hello, world!`, and that it is up once it listens.
const PROGRAM: &str = "
const [port, host, timeout, requests] = process.argv.slice(2);
const server = require('node:http').createServer((request, response) => {
  if (Number(request.headers['content-length']) > 1048576) {
    response.writeHead(413, { Connection: 'close', 'Content-Length': 0 });
    return response.end();
  }
  request.resume();
  response.setHeader('Content-Length', 13);
  response.end('Hello, world!');
});
server.keepAliveTimeout = Number(timeout);
server.maxRequestsPerSocket = Number(requests);
server.listen(Number(port), host, () => require('node:fs').writeFileSync('up', ''));
";

/// A Node server that is described and not yet started.
pub(crate) struct Node {
    keep_alive_timeout: Duration,
    max_requests: u64,
}

/// A Node server at work until it is dropped.
pub(crate) struct Running {
    // Declared first, so that the process has ended when its folder goes.
    _process: Process,
    _folder: TempDir,
    address: SocketAddr,
}

impl Node {
    pub(crate) fn new() -> Self {
        Self { keep_alive_timeout: Duration::from_secs(5), max_requests: 0 }
    }

    pub(crate) fn keep_alive_timeout(mut self, timeout: Duration) -> Self {
        self.keep_alive_timeout = timeout;
        self
    }

    /// The most requests of a connection; 0: any number.
    pub(crate) fn max_requests(mut self, requests: u64) -> Self {
        self.max_requests = requests;
        self
    }

    pub(crate) fn start(self) -> Running {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path();
        std::fs::write(path.join("server.js"), PROGRAM).expect("a file in the temporary folder");
        let command = |address: SocketAddr| {
            let errors = std::fs::File::create(path.join("errors")).expect("a file in the folder");
            let mut command = process::command(None, "node", "nodejs");
            command.arg("server.js").arg(address.port().to_string()).arg(address.ip().to_string());
            command.arg(self.keep_alive_timeout.as_millis().to_string()).arg(self.max_requests.to_string());
            command.current_dir(path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors);
            command
        };
        let up = || path.join("up").exists();
        let (process, address) = process::start(None, command, up, &path.join("errors"));
        Running { _process: process, _folder: folder, address }
    }
}

impl Running {
    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }
}

mod tests {
    use super::super::raw::Raw;
    use super::*;

    #[test]
    fn node_tells_everybody_of_keep_alive_and_always_the_same() {
        let node = Node::new().keep_alive_timeout(Duration::from_secs(2)).max_requests(5).start();
        let mut client = Raw::connect(node.addr());
        for _ in 0..2 {
            let answer = client.get("/");
            assert!(answer.head.contains("keep-alive: timeout=2, max=5\r\n"), "{}", answer.head);
            assert_eq!(answer.body, b"Hello, world!");
        }
    }
}
