//! One connection from its first byte to its close: requests answered as the behaviour says, silence ended when it
//! has lasted too long.

use std::convert::Infallible;
use std::future::pending;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{error, fmt};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{timeout, timeout_at};

use super::Origin;
use crate::clock;
use crate::timer::Timer;

/// How long a connection that was told to close may take over it: a client that stopped in the middle of a request
/// would otherwise hold it for ever.
const FAREWELL: Duration = Duration::from_secs(5);

/// One accepted connection.
pub(super) struct Conversation {
    origin: Arc<Origin>,
    /// Which of the server's connections this is.
    nth: u64,
    exchanges: AtomicU64,
    /// Since when nothing was asked; `None` while a request is being answered.
    silent_since: Mutex<Option<Instant>>,
}

impl Conversation {
    pub(super) fn new(origin: Arc<Origin>, nth: u64) -> Self {
        Self { origin, nth, exchanges: AtomicU64::new(0), silent_since: Mutex::new(Some(clock::now())) }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn is_to_be_reset(&self) -> bool {
        self.origin.behaviour.resets(self.nth)
    }

    /// Serves the connection until either side ends it. hyper closes as the behaviour wants a close to look: after a
    /// last response it shuts the stream down at once, which is close_notify over TLS and then a FIN. An error is the
    /// client's departure, or the reset that was asked for.
    pub(super) async fn hold<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S) {
        let this = Arc::new(self);
        let service = service_fn(|request| answer(Arc::clone(&this), request));
        let mut connection = pin!(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        let Some(patience) = this.origin.behaviour.patience() else {
            let _ = connection.await;
            return;
        };
        let mut look = clock::now() + patience;
        while timeout_at(look.into(), connection.as_mut()).await.is_err() {
            match next_look(this.silence(), patience, clock::now()) {
                Some(next) => look = next,
                None => {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(FAREWELL, connection).await;
                    return;
                }
            }
        }
    }

    fn silence(&self) -> Option<Instant> {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_silence(&self, since: Option<Instant>) {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn response(&self) -> Response<Full<Bytes>> {
        let nth = self.exchanges.fetch_add(1, Relaxed) + 1;
        let behaviour = &self.origin.behaviour;
        let mut response = Response::new(Full::new(behaviour.content()));
        *response.status_mut() = behaviour.status_code();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if behaviour.closes(nth) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// When to look again whether the silence has lasted too long; `None`: it has. Looking once per timeout instead of
/// setting a timer anew for every request keeps timers off the path of a request.
fn next_look(silent_since: Option<Instant>, patience: Duration, now: Instant) -> Option<Instant> {
    match silent_since {
        Some(since) => Some(since + patience).filter(|end| *end > now),
        None => Some(now + patience),
    }
}

async fn answer(
    conversation: Arc<Conversation>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Unanswered> {
    conversation.set_silence(None);
    let origin = &conversation.origin;
    let nth = origin.tallies.requests.fetch_add(1, Relaxed) + 1;
    if conversation.is_to_be_reset() {
        return Err(Unanswered);
    }
    read_to_end(request.into_body()).await?;
    if origin.behaviour.stalls(nth) {
        match pending::<Infallible>().await {}
    }
    if let Some(delay) = origin.behaviour.pause() {
        wait(delay).await;
    }
    let response = conversation.response();
    conversation.set_silence(Some(clock::now()));
    Ok(response)
}

/// A request body that is left unread would end the connection with the response.
async fn read_to_end(mut body: Incoming) -> Result<(), Unanswered> {
    while !body.is_end_stream() {
        match body.frame().await {
            Some(Ok(_)) => {}
            Some(Err(_)) => return Err(Unanswered),
            None => break,
        }
    }
    Ok(())
}

/// The request gets no response: hyper drops the connection where it stands.
#[derive(Debug)]
struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request gets no response")
    }
}

impl error::Error for Unanswered {}

/// Waits as long as it was told, exactly where the system can; out of descriptors, a rounded wait is better than
/// none.
async fn wait(delay: Duration) {
    let due = clock::now() + delay;
    let exact = async { Timer::new()?.wait_until(due).await };
    if exact.await.is_err() {
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_ended_when_it_has_lasted_as_long_as_patience() {
        let start = clock::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let patience = Duration::from_secs(5);
        let rows = [
            ("silent from the start", Some(at(0)), at(5), None),
            ("a request came in between", Some(at(3)), at(5), Some(at(8))),
            ("a request is being answered", None, at(5), Some(at(10))),
            ("looked too late", Some(at(1)), at(9), None),
        ];
        for (name, silent_since, now, expected) in rows {
            assert_eq!(next_look(silent_since, patience, now), expected, "{name}");
        }
    }
}
