//! How a connection's socket is closed, and by whom first.

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::runtime::Handle;

use super::Shared;
use crate::connect::Stream;
use crate::connection::Connection;
use crate::idle::CloseReason;

/// The most connections that wait for their peer's FIN at a time, and no more than may be open; beyond it we close
/// first.
const MAX_LINGERING: u64 = 256;

/// How often a closing connection is read, 4 kB at a time, before its peer is taken for one that never stops sending.
const MAX_READS: usize = 32;

/// Closes a connection. After a response that was announced as its connection's last, the server closes
/// first; waiting for it leaves TIME_WAIT there. Otherwise our side says goodbye (close_notify over TLS, then
/// FIN) as far as the socket takes it without waiting.
pub(super) fn close(shared: &Arc<Shared>, connection: &mut Connection, reason: CloseReason) {
    let Some(stream) = connection.take_stream() else { return };
    match reason {
        CloseReason::KeepAliveOff | CloseReason::ServerClose | CloseReason::MaxExchanges => {
            linger(shared, stream);
        }
        CloseReason::Cancelled
        | CloseReason::BodyDropped
        | CloseReason::RequestUnfinished
        | CloseReason::Failed
        | CloseReason::TimedOut => drop(stream),
        _ => say_goodbye(stream),
    }
}

fn say_goodbye(mut stream: Stream) {
    let _ = Pin::new(&mut stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
}

/// Waits for the peer's FIN: often it is there already; else in a task of its own, for a bounded time.
fn linger(shared: &Arc<Shared>, mut stream: Stream) {
    if let Some(end) = drain(&mut stream) {
        return count(shared, end);
    }
    let limit = shared.config.linger;
    let most = shared.config.max_connections.map_or(MAX_LINGERING, |most| MAX_LINGERING.min(most as u64));
    let (lingering, others) = Lingering::begin(shared);
    match Handle::try_current() {
        Ok(runtime) if others < most && limit > Duration::ZERO => {
            runtime.spawn(wait_for_the_peer(stream, lingering, limit));
        }
        _ => say_goodbye(stream),
    }
}

/// After the peer's FIN there is nobody left to say goodbye to: the peer would answer with an RST.
async fn wait_for_the_peer(mut stream: Stream, mut lingering: Lingering, limit: Duration) {
    let shared = Arc::clone(&lingering.shared);
    let waited = {
        let waiting = pin!(tokio::time::timeout(limit, wait_for_end(&mut stream)));
        shared.drain.unless_cut(waiting).await
    };
    match waited {
        Some(Ok(end)) => lingering.end = end,
        Some(Err(_)) | None => say_goodbye(stream),
    }
}

/// A connection that waits for its peer's FIN. Dropped, it waits no more, even when its runtime ended before.
struct Lingering {
    shared: Arc<Shared>,
    end: WhoClosed,
}

impl Lingering {
    /// With the number of those that linger already.
    fn begin(shared: &Arc<Shared>) -> (Lingering, u64) {
        let others = shared.lingering.fetch_add(1, Relaxed);
        (Lingering { shared: Arc::clone(shared), end: WhoClosed::Us }, others)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        count(&self.shared, self.end);
        self.shared.lingering.fetch_sub(1, Relaxed);
        self.shared.drain.note_end();
    }
}

#[derive(Clone, Copy, Debug)]
enum WhoClosed {
    Peer,
    Us,
}

fn count(shared: &Shared, end: WhoClosed) {
    let mut state = shared.lock();
    match end {
        WhoClosed::Peer => state.counts.peer_closed_first += 1,
        WhoClosed::Us => state.counts.closed_first += 1,
    }
}

/// Looks at the socket itself, beneath TLS: a close_notify is not yet a FIN. What still comes is thrown away.
fn drain(stream: &mut Stream) -> Option<WhoClosed> {
    let socket = stream.wire().socket();
    let mut scrap = [MaybeUninit::<u8>::uninit(); 4096];
    // A peer that never stops sending is not waited for.
    for _ in 0..MAX_READS {
        match rustix::net::recv(socket, &mut scrap[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Some(WhoClosed::Peer),
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return None,
            Err(_) => return Some(WhoClosed::Peer),
        }
    }
    Some(WhoClosed::Us)
}

async fn wait_for_end(stream: &mut Stream) -> WhoClosed {
    let mut reads = 0;
    poll_fn(|cx| {
        stream.wire().facts().begin_turn();
        // tokio must have seen the socket dry before it reports the next readiness.
        let mut scrap = [0_u8; 4096];
        while reads < MAX_READS {
            reads += 1;
            let mut buf = ReadBuf::new(&mut scrap);
            match Pin::new(stream.wire_mut()).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(WhoClosed::Peer),
            }
        }
        Poll::Ready(WhoClosed::Us)
    })
    .await
}
