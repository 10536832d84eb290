//! The other side: a process of its own, on a processor of its own, that does as little as a server can. It reads until
//! a blank line, sends a fixed response, and knows nothing else of HTTP.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use keeplive::server::{Behaviour, Server, ServerTls};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

use crate::usage;

/// The body of every response: 13 bytes.
pub(crate) const BODY: &[u8] = b"Hello, world!";
const KEPT: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 13\r\n\r\nHello, world!";
const LAST: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 13\r\n\r\nHello, world!";

/// How many requests the gathering listener waits for.
pub(crate) const AT_ONCE: usize = 500;

/// The word that makes this program the other side.
pub(crate) const ROLE: &str = "--echo";

/// Where to find what; the process ends when this is dropped.
pub(crate) struct Echo {
    child: Child,
    /// Answers, and keeps connections.
    pub(crate) keeps: SocketAddr,
    /// The same, and never falls asleep meanwhile: who sends does not pay for waking it.
    pub(crate) awake: SocketAddr,
    /// Answers once and closes.
    pub(crate) closes: SocketAddr,
    /// Answers when [`AT_ONCE`] connections have a request each, so that none can be used for two.
    pub(crate) gathers: SocketAddr,
    /// Reads requests and never answers.
    pub(crate) holds: SocketAddr,
    /// The embedded server over TLS 1.3, answering.
    pub(crate) tls: SocketAddr,
    /// The same, silent.
    pub(crate) tls_holds: SocketAddr,
}

impl Echo {
    pub(crate) fn start() -> Echo {
        let program = std::env::current_exe().expect("this program's path");
        let mut child = Command::new(program)
            .arg(ROLE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program starts again");
        let mut line = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("the other side tells its ports");
        let mut ports = line.split_whitespace().map(|port| port.parse().expect("a port"));
        let mut next = || SocketAddr::from((Ipv4Addr::LOCALHOST, ports.next().expect("seven ports")));
        let (keeps, awake, closes, gathers) = (next(), next(), next(), next());
        let (holds, tls, tls_holds) = (next(), next(), next());
        Echo { child, keeps, awake, closes, gathers, holds, tls, tls_holds }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // It waits for its standard input to end.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// What a connection gets.
#[derive(Clone, Copy)]
enum Manner {
    Keep,
    KeepAwake,
    Close,
    Gather,
    Hold,
}

/// The other side's `main`.
pub(crate) fn serve() {
    usage::pin_to_last();
    usage::allow_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let secure = |behaviour: Behaviour| {
        let behaviour = behaviour.body(BODY.len()).idle_timeout(None);
        Server::new(behaviour).tls(ServerTls::default()).start().expect("the embedded server")
    };
    let servers = [secure(Behaviour::default()), secure(Behaviour::default().stall_after(0))];
    let mut ports = Vec::new();
    for manner in [Manner::Keep, Manner::KeepAwake, Manner::Close, Manner::Gather, Manner::Hold] {
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).expect("a free port");
        ports.push(listener.local_addr().expect("bound").port());
        runtime.spawn(accept(listener, manner));
    }
    ports.extend(servers.iter().map(|server| server.addr().port()));
    let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
    println!("{}", ports.join(" "));
    let (gone, end) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        let _ = gone.send(());
    });
    let _ = runtime.block_on(end);
}

async fn accept(listener: TcpListener, manner: Manner) {
    let gathered = Arc::new(Barrier::new(AT_ONCE));
    while let Ok((tcp, _)) = listener.accept().await {
        let _ = tcp.set_nodelay(true);
        if matches!(manner, Manner::KeepAwake) && AWAKE_FOR.fetch_add(1, Relaxed) == 0 {
            tokio::spawn(stay_awake());
        }
        tokio::spawn(answer(tcp, manner, Arc::clone(&gathered)));
    }
}

/// Connections for which this process stays awake.
static AWAKE_FOR: AtomicUsize = AtomicUsize::new(0);

/// As long as there is something to do the runtime only looks at its sockets, and does not wait for them.
async fn stay_awake() {
    while AWAKE_FOR.load(Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
}

async fn answer(tcp: TcpStream, manner: Manner, gathered: Arc<Barrier>) {
    serve_one(tcp, manner, gathered).await;
    if matches!(manner, Manner::KeepAwake) {
        AWAKE_FOR.fetch_sub(1, Relaxed);
    }
}

async fn serve_one(mut tcp: TcpStream, manner: Manner, gathered: Arc<Barrier>) {
    let mut buf = [0_u8; 1024];
    let mut filled = 0;
    loop {
        match tcp.read(&mut buf[filled..]).await {
            Ok(0) | Err(_) => return,
            Ok(n) => filled += n,
        }
        // Nobody here sends a second request before its first is answered.
        if !buf[..filled].ends_with(b"\r\n\r\n") {
            continue;
        }
        filled = 0;
        let written = match manner {
            Manner::Keep | Manner::KeepAwake => tcp.write_all(KEPT).await,
            Manner::Close => return drop(tcp.write_all(LAST).await),
            Manner::Gather => {
                gathered.wait().await;
                tcp.write_all(KEPT).await
            }
            Manner::Hold => Ok(()),
        };
        if written.is_err() {
            return;
        }
    }
}
