//! The embedded origin: a small HTTP/1.1 server with a scripted [`Behaviour`], so that an experiment has a target
//! whose truth is known and a test has a peer that misbehaves on request.
//!
//! ```
//! use keeplive::server::{Behaviour, Server};
//!
//! let server = Server::new(Behaviour::default().body(1024).close_after(100)).start()?;
//! println!("listening on {}", server.url());
//! server.stop();
//! # Ok::<(), keeplive::server::ServerError>(())
//! ```
//!
//! # Design
//!
//! The server has its own operating-system thread with a runtime of its own. A client in the same process then
//! competes with it for cores but never for a task queue, synchronous code can start one, and the server's
//! processor time can be told apart from the client's ([`Running::cpu_time`]).

mod behaviour;
mod conversation;
mod profile;
mod scripted;
mod stream;
mod tls;
mod truth;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc as blocking;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use std::{error, fmt, io};

use bytes::Bytes;
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::HandshakeKind;

pub use self::behaviour::Behaviour;
use self::conversation::Conversation;
pub use self::profile::{IdleEnd, Profile};
pub use self::tls::{Certificate, ServerTls, TlsVersions};
use self::truth::Truth;
use crate::pauses::Pauses;
use crate::timer::Timer;

/// Connections that may wait to be accepted. The usual 128 overflows when an experiment without keep-alive opens a
/// burst, and each overflow costs a client a whole second of SYN retransmission that is not the server's answer time.
const BACKLOG: i32 = 4096;

/// How long a client may take over its TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The pause after accept failed: out of descriptors, it would fail again at once and spin until some are closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long a caller waits for the server's thread. It never blocks, so this bounds only a starved machine.
const THREAD_TIMEOUT: Duration = Duration::from_secs(5);

/// An origin that is described and not yet started.
#[derive(Clone, Debug)]
pub struct Server {
    behaviour: Behaviour,
    address: SocketAddr,
    tls: Option<ServerTls>,
}

impl Server {
    /// A server that behaves so, on a free port of 127.0.0.1, without TLS.
    #[must_use]
    pub fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), tls: None }
    }

    /// Where to listen. Port 0 takes a free one; [`Running::addr`] tells which.
    #[must_use]
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Speak TLS.
    #[must_use]
    pub fn tls(mut self, tls: ServerTls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Listens, and serves on a thread of its own from then on.
    ///
    /// # Errors
    /// [`ServerError`] when the behaviour is impossible, the address cannot be listened on, the certificate cannot
    /// be read or made, or the thread cannot be started.
    pub fn start(self) -> Result<Running, ServerError> {
        self.behaviour.check()?;
        let tls = self.tls.as_ref().map(tls::Identity::new).transpose()?;
        let listener = bind(self.address).map_err(|error| ServerError::Listen(self.address, error))?;
        let address = listener.local_addr().map_err(|error| ServerError::Listen(self.address, error))?;
        let profiles = self.behaviour.profiles();
        let truth = (!profiles.is_empty()).then(|| Truth::new(profiles));
        let (tallies, pauses) = (Tallies::default(), Arc::default());
        let origin = Arc::new(Origin { behaviour: self.behaviour, tallies, truth, pauses });
        let acceptor = tls.as_ref().map(|identity| identity.acceptor.clone());
        let thread = Thread::start(listener, acceptor, Arc::clone(&origin)).map_err(ServerError::Thread)?;
        Ok(Running { address, certificate: tls.map(|identity| identity.certificate_pem), origin, thread })
    }
}

/// A server at work. It stops when this is dropped.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    certificate: Option<String>,
    origin: Arc<Origin>,
    thread: Thread,
}

impl Running {
    /// The address it listens on, with the port it was given.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Its root, ready to be requested: `http://127.0.0.1:PORT/`, or with `https` over TLS.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.certificate.is_some() { "https" } else { "http" };
        format!("{scheme}://{}/", reachable(self.address))
    }

    /// The certificate a client must trust, as PEM; `None` without TLS. With [`Certificate::Files`] this is the
    /// chain that was given.
    #[must_use]
    pub fn certificate_pem(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.origin.tallies.counts()
    }

    /// What it did to each request that it answered, the first million of them: the CSV that is asked for at `/__truth/log`. `None` without
    /// a profile.
    #[must_use]
    pub fn log(&self) -> Option<Bytes> {
        self.origin.truth.as_ref().map(Truth::log)
    }

    /// The processor time that the server's thread has used, or `None` when it could not be asked.
    ///
    /// This waits until the thread is between two tasks, a matter of microseconds.
    #[must_use]
    pub fn cpu_time(&self) -> Option<Duration> {
        self.thread.cpu_time()
    }

    /// Closes the listener and every connection, and waits until that is done.
    pub fn stop(self) {
        drop(self);
    }
}

/// What a server has counted since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Connections accepted.
    pub connections: u64,
    /// Requests whose head arrived, answered or not.
    pub requests: u64,
    /// TLS handshakes completed from the beginning.
    pub handshakes_full: u64,
    /// TLS handshakes completed by resuming an earlier session.
    pub handshakes_resumed: u64,
}

/// Why a server did not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// No HTTP/1.1 server can behave so.
    Behaviour(String),
    /// The address cannot be listened on.
    Listen(SocketAddr, io::Error),
    /// The certificate or its key cannot be made, read or used.
    Certificate(Box<dyn error::Error + Send + Sync>),
    /// The server's thread or its runtime could not be started.
    Thread(io::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behaviour(problem) => write!(f, "no server can behave so: {problem}"),
            Self::Listen(address, error) if error.kind() == io::ErrorKind::AddrInUse => {
                write!(f, "could not listen on {address}: somebody else does; port 0 takes a free one")
            }
            Self::Listen(address, error) => write!(f, "could not listen on {address}: {error}"),
            Self::Certificate(error) => write!(f, "could not prepare the server's certificate: {error}"),
            Self::Thread(error) => write!(f, "could not start the server's thread: {error}"),
        }
    }
}

impl error::Error for ServerError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::Behaviour(_) => None,
            Self::Listen(_, error) | Self::Thread(error) => Some(error),
            Self::Certificate(error) => Some(&**error),
        }
    }
}

/// What every connection of one server shares.
#[derive(Debug)]
struct Origin {
    behaviour: Behaviour,
    tallies: Tallies,
    /// Kept only for a server with profiles: it costs a lock per request.
    truth: Option<Truth>,
    /// Every delay that the behaviour asks for.
    pauses: Arc<Pauses>,
}

/// The living form of [`Counts`]. Each number stands for itself, so relaxed order is enough.
#[derive(Debug, Default)]
struct Tallies {
    connections: AtomicU64,
    requests: AtomicU64,
    handshakes_full: AtomicU64,
    handshakes_resumed: AtomicU64,
}

impl Tallies {
    fn counts(&self) -> Counts {
        Counts {
            connections: self.connections.load(Relaxed),
            requests: self.requests.load(Relaxed),
            handshakes_full: self.handshakes_full.load(Relaxed),
            handshakes_resumed: self.handshakes_resumed.load(Relaxed),
        }
    }

    fn handshake(&self, kind: HandshakeKind) {
        let tally = match kind {
            HandshakeKind::Resumed => &self.handshakes_resumed,
            HandshakeKind::Full | HandshakeKind::FullWithHelloRetryRequest => &self.handshakes_full,
        };
        tally.fetch_add(1, Relaxed);
    }
}

/// The thread that serves. It ends when nobody can ask it anything any more.
#[derive(Debug)]
struct Thread {
    /// `None` only while it is being dropped.
    questions: Option<mpsc::UnboundedSender<CpuTime>>,
    /// Nothing is ever sent: it disconnects when the thread is through. The lock is never taken; it lets threads share
    /// a server.
    ended: Mutex<blocking::Receiver<()>>,
    join: Option<JoinHandle<()>>,
}

/// "How much processor time have you used?", and where the answer goes. Only a thread can read its own clock.
type CpuTime = blocking::SyncSender<Duration>;

impl Thread {
    fn start(
        listener: std::net::TcpListener,
        tls: Option<TlsAcceptor>,
        origin: Arc<Origin>,
    ) -> io::Result<Self> {
        let (questions, asked) = mpsc::unbounded_channel();
        let (ready, started) = blocking::sync_channel(1);
        let (end, ended) = blocking::sync_channel(0);
        let serve = move || {
            serve(listener, tls, &origin, asked, &ready);
            drop(end);
        };
        let join = std::thread::Builder::new().name("keeplive-server".into()).spawn(serve)?;
        started.recv().map_err(|_| io::Error::other("the thread ended at once"))??;
        Ok(Self { questions: Some(questions), ended: Mutex::new(ended), join: Some(join) })
    }

    fn cpu_time(&self) -> Option<Duration> {
        let (answer, told) = blocking::sync_channel(1);
        self.questions.as_ref()?.send(answer).ok()?;
        told.recv_timeout(THREAD_TIMEOUT).ok()
    }
}

impl Drop for Thread {
    fn drop(&mut self) {
        self.questions = None;
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        let through = ended.recv_timeout(THREAD_TIMEOUT) == Err(blocking::RecvTimeoutError::Disconnected);
        if let (true, Some(join)) = (through, self.join.take()) {
            // A panic in the server's thread has been printed there; a second one in a drop would abort.
            let _ = join.join();
        }
    }
}

/// The thread's whole life: a runtime, the listener in it, and the questions until there can be no more. The runtime
/// falls last and closes the listener and every connection with it.
fn serve(
    listener: std::net::TcpListener,
    tls: Option<TlsAcceptor>,
    origin: &Arc<Origin>,
    mut asked: mpsc::UnboundedReceiver<CpuTime>,
    ready: &blocking::SyncSender<io::Result<()>>,
) {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return tell(ready, Err(error)),
    };
    runtime.block_on(async {
        match TcpListener::from_std(listener).and_then(|listener| Ok((listener, Timer::new()?))) {
            Ok((listener, timer)) => {
                let pauses = Arc::clone(&origin.pauses);
                drop(tokio::spawn(async move { pauses.keep(&timer).await }));
                drop(tokio::spawn(accept(listener, tls, Arc::clone(origin))));
            }
            Err(error) => return tell(ready, Err(error)),
        }
        tell(ready, Ok(()));
        while let Some(answer) = asked.recv().await {
            tell(&answer, thread_cpu_time());
        }
    });
}

/// Whoever asked may have given up waiting; then nobody needs to know.
fn tell<T>(listener: &blocking::SyncSender<T>, message: T) {
    let _ = listener.try_send(message);
}

fn thread_cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime))
        .expect("a thread has not run for less than no time")
}

fn bind(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The address that a client on this machine connects to: a server on every address is reached on the loopback.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, origin: Arc<Origin>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let nth = origin.tallies.connections.fetch_add(1, Relaxed) + 1;
                let conversation = Conversation::new(Arc::clone(&origin), nth);
                tokio::spawn(welcome(stream, tls.clone(), conversation));
            }
            // That client left while it waited: the next one is no worse.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// Whatever fails here concerns one client, who sees its connection end.
async fn welcome(stream: TcpStream, tls: Option<TlsAcceptor>, conversation: Conversation) {
    let behaviour = &conversation.origin().behaviour;
    let accepts_late = behaviour.asks(|profile| match *profile {
        Profile::SlowAccept(delay) => Some(delay),
        _ => None,
    });
    let costs = behaviour.asks(|profile| match *profile {
        Profile::TlsCost(delay) => Some(delay),
        _ => None,
    });
    let writes_twice = behaviour.asks(|profile| matches!(profile, Profile::TwoWrite(_)).then_some(()));
    let _ = stream.set_nodelay(writes_twice.is_none());
    if let Some(delay) = accepts_late {
        conversation.origin().pauses.last(delay).await;
    }
    if conversation.is_to_be_reset() {
        // Only a close reads this option: from now on, however the connection ends, it ends with a reset.
        let _ = stream.set_zero_linger();
    }
    let Some(tls) = tls else { return conversation.hold(stream).await };
    if let Some(delay) = costs {
        conversation.origin().pauses.last(delay).await;
    }
    let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE_TIMEOUT, tls.accept(stream)).await else { return };
    if let Some(kind) = stream.get_ref().1.handshake_kind() {
        conversation.origin().tallies.handshake(kind);
    }
    conversation.hold(stream).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_on_every_address_is_requested_on_the_loopback() {
        let reached = |address: &str| reachable(address.parse().unwrap()).to_string();
        assert_eq!(reached("0.0.0.0:80"), "127.0.0.1:80");
        assert_eq!(reached("[::]:80"), "[::1]:80");
        assert_eq!(reached("192.0.2.1:80"), "192.0.2.1:80");
    }

    #[test]
    fn an_error_says_what_failed_and_why() {
        let taken = Server::new(Behaviour::default()).start().unwrap();
        let error = Server::new(Behaviour::default()).listen(taken.addr()).start().unwrap_err();
        let text = format!("could not listen on {}: somebody else does", taken.addr());
        assert!(error.to_string().starts_with(&text), "{error}");
        let source = error::Error::source(&error).expect("the system said why");
        assert!(source.to_string().contains("in use"), "{source}");
    }
}
