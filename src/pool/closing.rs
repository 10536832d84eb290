//! How a connection's socket is closed, and by whom first.

use std::future::poll_fn;
use std::pin::Pin;
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

/// The most connections that wait for their peer's FIN at a time; beyond it we close first.
const MAX_LINGERING: u64 = 256;

/// Closes a connection. After a response that was announced as its connection's last, the server closes
/// first; waiting for it leaves TIME_WAIT there. Otherwise our side says goodbye (close_notify over TLS, then
/// FIN) as far as the socket takes it without waiting.
pub(super) fn close(shared: &Arc<Shared>, connection: Connection, reason: CloseReason) {
    let Some(stream) = connection.into_stream() else { return };
    match reason {
        CloseReason::KeepAliveOff | CloseReason::ServerClose | CloseReason::MaxExchanges => {
            linger(shared, stream);
        }
        CloseReason::Cancelled
        | CloseReason::BodyDropped
        | CloseReason::RequestUnfinished
        | CloseReason::Failed => drop(stream),
        _ => say_goodbye(stream),
    }
}

fn say_goodbye(mut stream: Stream) {
    let _ = Pin::new(&mut stream).poll_shutdown(&mut Context::from_waker(Waker::noop()));
}

/// Waits for the peer's FIN: often it is there already; else in a task of its own, for a bounded time.
fn linger(shared: &Arc<Shared>, mut stream: Stream) {
    let limit = shared.config.linger;
    if let Some(end) = drain(&mut stream) {
        return count(shared, end);
    }
    let full = shared.lingering.fetch_add(1, Relaxed) >= MAX_LINGERING;
    match Handle::try_current() {
        Ok(runtime) if !full && limit > Duration::ZERO => {
            let shared = Arc::clone(shared);
            runtime.spawn(async move {
                let end = tokio::time::timeout(limit, wait_for_end(&mut stream)).await;
                shared.lingering.fetch_sub(1, Relaxed);
                count(&shared, end.unwrap_or(WhoClosed::Us));
                say_goodbye(stream);
            });
        }
        _ => {
            shared.lingering.fetch_sub(1, Relaxed);
            count(shared, WhoClosed::Us);
            say_goodbye(stream);
        }
    }
}

#[derive(Clone, Copy)]
enum WhoClosed {
    Peer,
    Us,
}

fn count(shared: &Arc<Shared>, end: WhoClosed) {
    let mut state = shared.lock();
    match end {
        WhoClosed::Peer => state.counts.peer_closed_first += 1,
        WhoClosed::Us => state.counts.closed_first += 1,
    }
}

/// Looks at the socket itself, beneath TLS: a close_notify is not yet a FIN. What still comes is thrown away.
fn drain(stream: &mut Stream) -> Option<WhoClosed> {
    let tcp = stream.wire().tcp();
    let mut scrap = [0_u8; 512];
    loop {
        match rustix::net::recv(tcp, &mut scrap[..], rustix::net::RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Some(WhoClosed::Peer),
            Ok(_) => {}
            Err(rustix::io::Errno::AGAIN) => return None,
            Err(_) => return Some(WhoClosed::Peer),
        }
    }
}

async fn wait_for_end(stream: &mut Stream) -> WhoClosed {
    poll_fn(|cx| {
        // tokio must have seen the socket dry before it reports the next readiness.
        let mut scrap = [0_u8; 512];
        loop {
            let mut buf = ReadBuf::new(&mut scrap);
            match Pin::new(stream.wire_mut()).poll_read(cx, &mut buf) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buf.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(WhoClosed::Peer),
            }
        }
    })
    .await
}
