//! A peer that follows a script: each connection gets a thread, the thread runs the script, and what came in is kept.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use socket2::SockRef;

use super::PATIENCE;
use super::raw::{content_length, find};

/// A listening peer. When it is dropped its connections end, and a script that panicked fails the test.
pub(crate) struct Scripted {
    address: SocketAddr,
    stage: Arc<Stage>,
    accepting: Option<JoinHandle<Vec<JoinHandle<()>>>>,
}

/// What the threads share.
#[derive(Default)]
struct Stage {
    closing: AtomicBool,
    received: Mutex<Vec<Received>>,
    /// Weak, because a connection ends when its last descriptor is closed, and that is the script's.
    streams: Mutex<Vec<Weak<TcpStream>>>,
}

/// One request, byte for byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// The connection that brought it, from 1.
    pub(crate) connection: usize,
    pub(crate) request: Vec<u8>,
}

/// One connection, as its script holds it. It is closed when the script returns.
pub(crate) struct Conn {
    number: usize,
    /// `None` once it was reset.
    stream: Option<Arc<TcpStream>>,
    ahead: Vec<u8>,
    stage: Arc<Stage>,
}

impl Scripted {
    /// Listens on a free port of 127.0.0.1 and follows the script on every connection.
    pub(crate) fn start(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let stage = Arc::new(Stage::default());
        let accepting = {
            let (stage, script) = (Arc::clone(&stage), Arc::new(script));
            std::thread::spawn(move || stage.accept(&listener, &script))
        };
        Self { address, stage, accepting: Some(accepting) }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.address
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.stage.streams().len()
    }

    /// Requests read so far, in the order of their ends.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.stage.received.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.stage.closing.store(true, Relaxed);
        // accept() returns for a connection and for nothing else.
        let _ = TcpStream::connect(self.address);
        let scripts = self.accepting.take().and_then(|thread| thread.join().ok()).unwrap_or_default();
        // A script that waits for a client that will not come reads an end.
        for stream in self.stage.streams().iter().filter_map(Weak::upgrade) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let panicked = scripts.into_iter().map(JoinHandle::join).filter(Result::is_err).count();
        assert!(panicked == 0 || std::thread::panicking(), "{panicked} scripts panicked, as said above");
    }
}

impl Stage {
    fn accept(
        self: &Arc<Self>,
        listener: &TcpListener,
        script: &Arc<impl Fn(&mut Conn) + Send + Sync + 'static>,
    ) -> Vec<JoinHandle<()>> {
        let mut scripts = Vec::new();
        for number in 1.. {
            let (stream, _) = listener.accept().expect("a listener on the loopback accepts");
            if self.closing.load(Relaxed) {
                break;
            }
            let mut conn = self.conn(number, stream);
            let script = Arc::clone(script);
            scripts.push(std::thread::spawn(move || script(&mut conn)));
        }
        scripts
    }

    fn conn(self: &Arc<Self>, number: usize, stream: TcpStream) -> Conn {
        stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        let stream = Arc::new(stream);
        self.streams().push(Arc::downgrade(&stream));
        Conn { number, stream: Some(stream), ahead: Vec::new(), stage: Arc::clone(self) }
    }

    fn streams(&self) -> MutexGuard<'_, Vec<Weak<TcpStream>>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Conn {
    /// Which of the peer's connections this is, from 1.
    pub(crate) fn number(&self) -> usize {
        self.number
    }

    /// The next request, head and body, whose length is given by Content-Length or is none; `None` when the client
    /// has ended the connection instead.
    pub(crate) fn read_request(&mut self) -> Option<Vec<u8>> {
        let head = loop {
            match find(&self.ahead, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.read_more()?,
            }
        };
        let length = head + content_length(&String::from_utf8_lossy(&self.ahead[..head]));
        while self.ahead.len() < length {
            self.read_more()?;
        }
        let rest = self.ahead.split_off(length);
        let request = std::mem::replace(&mut self.ahead, rest);
        let received = Received { connection: self.number, request: request.clone() };
        self.stage.received.lock().unwrap_or_else(PoisonError::into_inner).push(received);
        Some(request)
    }

    /// Reads on until these bytes have come, and forgets all up to their end: a chunked body, for one. `None` when the
    /// client has ended the connection before.
    pub(crate) fn read_past(&mut self, end: &[u8]) -> Option<()> {
        loop {
            if let Some(at) = find(&self.ahead, end) {
                self.ahead.drain(..at + end.len());
                return Some(());
            }
            self.read_more()?;
        }
    }

    /// Sends these bytes as they are. A client that has gone does not get them.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) {
        if let Some(mut stream) = self.stream.as_deref() {
            let _ = stream.write_all(bytes.as_ref());
        }
    }

    /// Sends a FIN; what the client still sends can be read.
    pub(crate) fn close(&mut self) {
        if let Some(stream) = &self.stream {
            let _ = stream.shutdown(Shutdown::Write);
        }
    }

    /// Ends the connection with an RST.
    pub(crate) fn reset(&mut self) {
        if let Some(stream) = self.stream.take() {
            let at_once = Some(std::time::Duration::ZERO);
            SockRef::from(&*stream).set_linger(at_once).expect("a socket takes SO_LINGER");
        }
    }

    /// The connection itself, for a script that speaks another language over it.
    pub(crate) fn tcp(&self) -> &TcpStream {
        self.stream.as_deref().expect("the connection was not reset")
    }

    /// What has come and was not read, at least one byte; nothing when the client has ended the connection.
    pub(crate) fn read_some(&mut self) -> Vec<u8> {
        if self.ahead.is_empty() {
            self.read_more();
        }
        std::mem::take(&mut self.ahead)
    }

    /// Carries bytes between the client and `target` until both have ended.
    pub(crate) fn relay(&mut self, target: SocketAddr) {
        let target = TcpStream::connect(target).expect("the target listens");
        let carry = |mut from: &TcpStream, mut to: &TcpStream| {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        let client = self.tcp();
        std::thread::scope(|scope| {
            scope.spawn(|| carry(&target, client));
            carry(client, &target);
        });
    }

    /// Waits so long, and tells whether nothing came, not even an end. A socket's own timeout would be coarse: the
    /// kernel rounds two seconds up by as much as a quarter.
    pub(crate) fn is_idle_for(&self, time: Duration) -> bool {
        let Some(stream) = self.stream.as_deref() else { return false };
        let mut socket = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        ppoll(&mut socket, Some(time.into()), None) == Ok(0)
    }

    /// Waits until the client ends the connection, and forgets what it says until then.
    pub(crate) fn until_closed(&mut self) {
        while self.read_more().is_some() {}
        self.ahead.clear();
    }

    /// `None`: there is no more.
    fn read_more(&mut self) -> Option<()> {
        let mut part = [0; 16 * 1024];
        let length = self.stream.as_deref()?.read(&mut part).ok().filter(|length| *length > 0)?;
        self.ahead.extend_from_slice(&part[..length]);
        Some(())
    }
}

mod tests {
    use super::super::raw::{Ending, Raw};
    use super::*;

    const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    #[test]
    fn a_script_reads_requests_and_writes_responses() {
        let peer = Scripted::start(|conn| {
            while conn.read_request().is_some() {
                conn.write(ANSWER);
            }
        });
        let mut client = Raw::connect(peer.addr());
        assert_eq!(client.get("/").body, b"hi");
        let post = "POST /2 HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc";
        client.send(post);
        assert_eq!(client.answer().body, b"hi");
        let received = peer.received();
        assert_eq!(received.len(), 2);
        assert_eq!(received[1], Received { connection: 1, request: post.into() });
    }

    #[test]
    fn a_script_knows_which_connection_it_follows() {
        let peer = Scripted::start(|conn| match (conn.read_request(), conn.number()) {
            (_, 1) => conn.write(ANSWER),
            _ => conn.reset(),
        });
        let mut first = Raw::connect(peer.addr());
        assert_eq!(first.get("/").body, b"hi");
        assert_eq!(first.ending(), Ending::Orderly);
        let mut second = Raw::connect(peer.addr());
        second.send("GET / HTTP/1.1\r\n\r\n");
        assert_eq!(second.ending(), Ending::Reset);
        assert_eq!(peer.connections(), 2);
    }

    #[test]
    fn a_script_may_close_and_go_on_reading() {
        let peer = Scripted::start(|conn| {
            conn.close();
            conn.read_request();
            conn.until_closed();
        });
        let mut client = Raw::connect(peer.addr());
        assert_eq!(client.ending(), Ending::Orderly);
        client.send("GET / HTTP/1.1\r\n\r\n");
        super::super::until("the request", || (peer.received().len() == 1).then_some(()));
    }

    #[test]
    fn a_peer_whose_script_waits_ends_all_the_same() {
        let peer = Scripted::start(Conn::until_closed);
        let mut client = Raw::connect(peer.addr());
        super::super::until("the connection", || (peer.connections() == 1).then_some(()));
        drop(peer);
        assert_eq!(client.ending(), Ending::Orderly);
    }

    #[test]
    fn a_script_that_panics_fails_the_test() {
        let peer = Scripted::start(|_| panic!("this panic is meant"));
        let mut client = Raw::connect(peer.addr());
        assert_eq!(client.ending(), Ending::Orderly);
        assert!(std::thread::spawn(move || drop(peer)).join().is_err());
    }
}
