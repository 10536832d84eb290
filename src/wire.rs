//! [`Wire`]: a TCP or Unix stream that counts its bytes, remembers how it ended, and can be told to look at the
//! socket itself before it believes the reactor.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::clock;

mod socket;

pub(crate) use socket::Socket;

/// What the pool may know about a connection's bytes while hyper owns the stream. Relaxed atomics: the
/// stream is polled by whoever holds the connection, and the facts are read by the same task.
#[derive(Debug)]
pub(crate) struct WireFacts {
    born: Instant,
    look: AtomicBool,
    blocked: AtomicBool,
    broken: AtomicBool,
    listening: AtomicBool,
    turn: AtomicU8,
    end: AtomicU8,
    read: AtomicU64,
    heard: AtomicU64,
    turn_ends: AtomicU64,
    written: AtomicU64,
    last_write: AtomicU64,
}

/// No turn that is for one waker.
const OUTSIDE: u8 = 0;
/// A turn in which there may be something to read,
const FOR_ONE: u8 = 1;
/// and one in which there is nothing any more.
const EXHAUSTED: u8 = 2;

/// How the peer ended the stream, as far as we have read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Fin,
    Reset,
}

impl WireFacts {
    fn new(now: Instant) -> WireFacts {
        WireFacts {
            born: now,
            look: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            listening: AtomicBool::new(false),
            turn: AtomicU8::new(OUTSIDE),
            end: AtomicU8::new(0),
            read: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            turn_ends: AtomicU64::new(u64::MAX),
            written: AtomicU64::new(0),
            last_write: AtomicU64::new(0),
        }
    }

    /// When the socket was connected.
    pub(crate) fn born(&self) -> Instant {
        self.born
    }

    /// Bytes read from the socket so far.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Relaxed)
    }

    /// Bytes of HTTP read so far: without what TLS adds, and what it says to itself.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Relaxed)
    }

    pub(crate) fn add_heard(&self, n: usize) {
        self.heard.store(self.heard() + n as u64, Relaxed);
    }

    /// Whoever polls the connection lets it read so much and no more before it is asked again. Without any turn, as in
    /// handshakes, there is no end.
    ///
    /// A peer may send faster than we read what makes no progress: interim responses, zeros before a chunk's size, TLS
    /// tickets. hyper would go on as long as tokio's budget lasts, up to 128 reads of 400 kB, TLS without any end where
    /// there is no budget, and no limit of ours would be looked at meanwhile.
    pub(crate) fn begin_turn(&self) {
        self.turn_ends.store(self.read().saturating_add(TURN), Relaxed);
        self.listening.store(false, Relaxed);
    }

    /// A turn of which all reads are for one waker, until [`WireFacts::end_turn`].
    ///
    /// *Design.* hyper asks five times for each exchange whether there is something to read, and through TLS each of these
    /// is a long way. Once the answer was that there is nothing, and who asked will be woken, it stays so for the turn:
    /// tokio has told this waker, and tells it of what comes meanwhile.
    pub(crate) fn begin_turn_for_one(&self) {
        self.begin_turn();
        self.turn.store(FOR_ONE, Relaxed);
    }

    pub(crate) fn end_turn(&self) {
        self.turn.store(OUTSIDE, Relaxed);
    }

    /// From here on there are no turns, as before the first.
    pub(crate) fn end_turns(&self) {
        self.turn_ends.store(u64::MAX, Relaxed);
    }

    /// There was nothing to read, in TLS neither.
    pub(crate) fn found_nothing(&self) {
        if self.turn.load(Relaxed) == FOR_ONE {
            self.turn.store(EXHAUSTED, Relaxed);
        }
    }

    /// Whether there is nothing to read for the rest of this turn, unless somebody wants the socket looked at.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.turn.load(Relaxed) == EXHAUSTED && !self.look.load(Relaxed)
    }

    /// Whether the reads of this turn ended because there was nothing more, and the reactor tells of what comes next.
    pub(crate) fn is_listening(&self) -> bool {
        self.listening.load(Relaxed)
    }

    fn has_read_enough(&self) -> bool {
        self.read() >= self.turn_ends.load(Relaxed)
    }

    /// Bytes the kernel took so far.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Whether bytes wait to be written that the kernel does not take.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked.load(Relaxed)
    }

    /// Whether nothing more can be exchanged: the stream ended or failed, here or in TLS. While it is not, an error
    /// is about what the bytes say.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }

    pub(crate) fn broke(&self) {
        self.broken.store(true, Relaxed);
    }

    /// When the kernel last took bytes.
    pub(crate) fn last_write(&self) -> Instant {
        self.born + Duration::from_nanos(self.last_write.load(Relaxed))
    }

    pub(crate) fn end(&self) -> End {
        match self.end.load(Relaxed) {
            0 => End::Open,
            1 => End::Fin,
            _ => End::Reset,
        }
    }

    /// Asks for a look at the socket itself, past the reactor's cached readiness, at every read before the next
    /// write.
    ///
    /// *Race window.* tokio clears a socket's readiness after a short read and then answers `Pending` without a
    /// system call until the reactor has run; a FIN, RST or stray bytes that the kernel already holds are
    /// invisible meanwhile. hyper reads before it writes, so a look at that read leaves only what is still on
    /// its way to us. One read is not always all: TLS reads on when a record was none of HTTP's, and a task
    /// whose budget is spent reads now and writes at its next turn.
    pub(crate) fn look_before_write(&self) {
        #[cfg(test)]
        if tests::IS_BLIND.get() {
            return;
        }
        self.look.store(true, Relaxed);
    }

    fn wrote(&self, n: usize) {
        self.written.store(self.written() + n as u64, Relaxed);
        let since_born = clock::now().saturating_duration_since(self.born);
        self.last_write.store(since_born.as_nanos() as u64, Relaxed);
    }

    fn ended(&self, error: Option<&io::Error>) {
        let end = match error {
            None => 1,
            Some(error) if is_reset(error) => 2,
            Some(_) => return,
        };
        // The kernel tells a reset once, and shows an end of the stream from then on.
        self.end.fetch_max(end, Relaxed);
    }
}

/// Bytes per poll; a body needs a poll for each of its pieces in any case.
const TURN: u64 = 256 * 1024;

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe)
}

/// The stream beneath TLS and HTTP.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    facts: Arc<WireFacts>,
    /// The peer takes nothing any more.
    deaf: bool,
    talk: Talk,
    /// Nothing has been written yet.
    fresh: bool,
}

/// What is said over a wire. It decides what becomes of a write to a peer that takes nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Talk {
    /// Handshakes are under way: HTTP has not begun.
    Handshake,
    Http,
    /// HTTP is over, and the wire is the caller's.
    Other,
}

impl Wire {
    pub(crate) fn new(socket: Socket, now: Instant) -> Wire {
        let facts = Arc::new(WireFacts::new(now));
        Wire { socket, facts, deaf: false, talk: Talk::Handshake, fresh: true }
    }

    /// Handshakes are over: what is written from now on is HTTP. What comes was told to whoever shook hands until now.
    pub(crate) fn end_opening(&mut self) {
        self.talk = Talk::Http;
        self.facts.listening.store(false, Relaxed);
    }

    /// HTTP is over: whoever writes from now on is told what becomes of it.
    pub(crate) fn end_http(&mut self) {
        self.talk = Talk::Other;
        self.deaf = false;
    }

    pub(crate) fn facts(&self) -> &Arc<WireFacts> {
        &self.facts
    }

    pub(crate) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether the kernel holds something to read, the end of the stream included, whatever the reactor knows.
    ///
    /// An error is news that the kernel tells once: whoever asked must pass it on.
    fn has_news(&self) -> io::Result<bool> {
        use rustix::net::{RecvFlags, recv};
        let mut byte = [0_u8; 1];
        match recv(self.socket.as_fd(), &mut byte[..], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok(_) => Ok(true),
            Err(rustix::io::Errno::AGAIN) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads what the socket holds now, without asking the reactor.
    fn read_past_reactor(&self, buf: &mut ReadBuf<'_>) -> io::Result<()> {
        use rustix::net::{RecvFlags, recv};
        let (n, _) = recv(self.socket.as_fd(), buf.initialize_unfilled(), RecvFlags::DONTWAIT)?;
        buf.advance(n);
        Ok(())
    }

    /// Writes what the kernel takes. A new connection takes something, but its reactor has not run since and does not know.
    fn poll_write_socket(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if std::mem::take(&mut self.fresh)
            && let Some(n) = self.socket.write_past_reactor(bytes)
        {
            return Poll::Ready(Ok(n));
        }
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_read_socket(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.facts.look.load(Relaxed) && self.has_news()? {
            return Poll::Ready(self.read_past_reactor(buf));
        }
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.facts.has_read_enough() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let polled = this.poll_read_socket(cx, buf);
        this.facts.listening.store(polled.is_pending(), Relaxed);
        let result = ready!(polled);
        match &result {
            Ok(()) if buf.filled().len() == before && buf.capacity() > before => this.facts.ended(None),
            Ok(()) => {
                let n = (buf.filled().len() - before) as u64;
                this.facts.read.store(this.facts.read() + n, Relaxed);
            }
            Err(error) => this.facts.ended(Some(error)),
        }
        Poll::Ready(result)
    }
}

impl AsyncWrite for Wire {
    /// Writes what the kernel takes.
    ///
    /// *Early answers.* A server may answer in the middle of a request, close, and reset what still comes (RFC
    /// 9112, section 9.5). Its answer is then in our kernel while writing fails, and hyper would give the failure
    /// precedence. So a write to a peer that takes nothing any more does not fail but stays pending, and the
    /// reader goes on, to the answer or to the reset.
    ///
    /// In a handshake the peer's last word is an alert, or a proxy's refusal. But rustls reads nothing while it has
    /// something to write: there such a write is taken to be done, and what is read next tells how it ended.
    ///
    /// After HTTP whoever writes need not read at all: there a write that fails does fail.
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.deaf {
            return if this.talk == Talk::Handshake { Poll::Ready(Ok(bytes.len())) } else { Poll::Pending };
        }
        this.facts.look.store(false, Relaxed);
        let result = this.poll_write_socket(cx, bytes);
        this.facts.blocked.store(result.is_pending(), Relaxed);
        let result = ready!(result);
        match &result {
            Ok(n) => this.facts.wrote(*n),
            Err(error) if is_reset(error) && this.talk == Talk::Other => this.facts.ended(Some(error)),
            Err(error) if is_reset(error) => {
                this.facts.ended(Some(error));
                this.deaf = true;
                // Reading ends without the reactor's help: it may have told all it knows.
                this.facts.look_before_write();
                if this.talk == Talk::Handshake {
                    return Poll::Ready(Ok(bytes.len()));
                }
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Err(_) => {}
        }
        Poll::Ready(result)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::Cell;
    use std::io::Write as _;
    use std::net::{Ipv4Addr, TcpListener};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    thread_local! {
        /// Whether this thread's connections do without the look, to see what it is for.
        pub(crate) static IS_BLIND: Cell<bool> = const { Cell::new(false) };
    }

    #[tokio::test]
    async fn a_handshake_that_is_cut_reads_the_peers_last_word() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let tcp = tokio::net::TcpStream::connect(address).await.expect("a peer");
        let (mut peer, _) = listener.accept().expect("a client");
        let mut wire = Wire::new(Socket::Tcp(tcp), clock::now());
        peer.write_all(b"last word").expect("the client is there");
        // Closing with something unread sends an RST.
        wire.write_all(b"unread").await.expect("the peer is there");
        while peer.peek(&mut [0; 6]).expect("it was sent") == 0 {}
        drop(peer);
        // One of these is answered by the RST if it has not come yet; none fails, and none waits.
        for _ in 0..3 {
            wire.write_all(b"into the void").await.expect("it is taken to be done");
        }
        let mut heard = [0; 9];
        wire.read_exact(&mut heard).await.expect("what had come is still there");
        assert_eq!(&heard, b"last word");
        assert!(matches!(wire.read(&mut heard).await, Ok(0) | Err(_)), "the end");
    }
}
