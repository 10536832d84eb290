//! One connection from its first byte to its close: requests answered as the behaviour says, silence ended when it
//! has lasted too long.

use std::convert::Infallible;
use std::future::pending;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{error, fmt, io};

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt;
use tokio::time::{timeout, timeout_at};

use super::Origin;
use super::profile::{IdleEnd, Profile};
use super::scripted::{Rest, Scripted};
use super::stream::{Socket, Stream};
use super::truth::{self, EndedBy, Truth};
use crate::clock;

/// How long a connection that was told to close may take over it: a client that stopped in the middle of a request
/// would otherwise hold it for ever.
const FAREWELL: Duration = Duration::from_secs(5);

/// What RFC 9110, section 15.5.9, lets a server say to a connection that it will not wait for any longer.
const TIMED_OUT: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// One accepted connection.
pub(super) struct Conversation {
    origin: Arc<Origin>,
    /// Which of the server's connections this is.
    nth: u64,
    accepted: Instant,
    exchanges: AtomicU64,
    /// Whether a response was announced to be the last.
    last_announced: AtomicBool,
    /// Since when nothing was asked; `None` while a request is being answered.
    silent_since: Mutex<Option<Instant>>,
}

type Answer = Either<Full<Bytes>, Scripted>;

impl Conversation {
    pub(super) fn new(origin: Arc<Origin>, nth: u64) -> Self {
        let accepted = clock::now();
        Self {
            origin,
            nth,
            accepted,
            exchanges: AtomicU64::new(0),
            last_announced: AtomicBool::new(false),
            silent_since: Mutex::new(Some(accepted)),
        }
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
    pub(super) async fn hold<S: Socket>(self, socket: S) {
        let this = Arc::new(self);
        let stays_open = this.origin.behaviour.ignores_close();
        let mut stream = Stream { socket, stays_open };
        let ended = loop {
            let before = this.exchanges.load(Relaxed);
            let service = service_fn(|request| answer(Arc::clone(&this), request));
            let mut connection =
                Box::pin(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            if !this.is_silent(connection.as_mut()).await {
                // To hyper, a request that said `close` was the last; with the profile `ignore-close` it was not.
                if !stays_open || this.exchanges.load(Relaxed) == before {
                    break this.ended_by();
                }
                stream = take_stream(connection);
                continue;
            }
            match this.origin.behaviour.patience() {
                Some((_, IdleEnd::Close)) | None => {
                    connection.as_mut().graceful_shutdown();
                    let _ = timeout(FAREWELL, connection).await;
                }
                Some((_, IdleEnd::Reset)) => {
                    let _ = take_stream(connection).socket.tcp().set_zero_linger();
                }
                Some((_, IdleEnd::Answer408)) => {
                    let _ = timeout(FAREWELL, refuse(&mut take_stream(connection).socket)).await;
                }
                Some((_, IdleEnd::Silence)) => match pending::<Infallible>().await {},
            }
            break EndedBy::Idle;
        };
        if let Some(truth) = &this.origin.truth {
            truth.ended(ended);
        }
    }

    /// Runs the connection until it is over (`false`), or has been silent for longer than the behaviour's patience.
    async fn is_silent<C: Future>(&self, mut connection: Pin<&mut C>) -> bool {
        let Some((patience, _)) = self.origin.behaviour.patience() else {
            connection.await;
            return false;
        };
        let mut look = clock::now() + patience;
        while timeout_at(look.into(), connection.as_mut()).await.is_err() {
            match next_look(self.silence(), patience, clock::now()) {
                Some(next) => look = next,
                None => return true,
            }
        }
        false
    }

    fn ended_by(&self) -> EndedBy {
        if self.last_announced.load(Relaxed) { EndedBy::Response } else { EndedBy::Client }
    }

    fn silence(&self) -> Option<Instant> {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_silence(&self, since: Option<Instant>) {
        *self.silent_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    fn response(&self) -> Response<Answer> {
        let nth = self.exchanges.fetch_add(1, Relaxed) + 1;
        let behaviour = &self.origin.behaviour;
        let mut response = Response::new(Either::Left(Full::new(behaviour.content())));
        *response.status_mut() = behaviour.status_code();
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        if behaviour.closes(nth) {
            self.last_announced.store(true, Relaxed);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        } else if behaviour.ignores_close() {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("keep-alive"));
        }
        response
    }

    /// The response to the `nth` request of the server, as the profiles want it. Answers whether it is an error, and
    /// whether it is cut short.
    fn scripted(&self, nth: u64) -> (Response<Answer>, bool, bool) {
        let behaviour = &self.origin.behaviour;
        let mut response = self.response();
        let (mut error, mut truncated) = (false, false);
        for profile in behaviour.profiles() {
            let body = match *profile {
                Profile::TwoWrite(pause) => Scripted::after_head(behaviour.content(), self.rest(pause)),
                Profile::Dribble(n, pause) => {
                    Scripted::dribbled(behaviour.content(), n.get(), self.rest(pause))
                }
                Profile::Truncate(k) if nth.is_multiple_of(k.get()) => {
                    truncated = true;
                    Scripted::truncated(&behaviour.content())
                }
                Profile::Error(k) if nth.is_multiple_of(k.get()) => {
                    error = true;
                    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                    continue;
                }
                _ => continue,
            };
            *response.body_mut() = Either::Right(body);
        }
        (response, error, truncated)
    }

    /// What a body does between two of its pieces.
    fn rest(&self, pause: Duration) -> Rest {
        Rest::of(pause, Arc::clone(&self.origin.pauses))
    }

    fn note_closing(&self, request: &Request<Incoming>) {
        let closing = request
            .headers()
            .get_all(CONNECTION)
            .iter()
            .any(|value| value.as_bytes().eq_ignore_ascii_case(b"close"));
        if closing && !self.origin.behaviour.ignores_close() {
            self.last_announced.store(true, Relaxed);
        }
    }
}

/// The stream out of a connection that is over.
fn take_stream<S, F>(connection: Pin<Box<http1::Connection<TokioIo<Stream<S>>, F>>>) -> Stream<S>
where
    S: Socket,
    F: HttpService<Incoming, ResBody = Answer, Error = Unanswered> + Unpin,
{
    Pin::into_inner(connection).into_parts().io.into_inner()
}

async fn refuse<S: Socket>(stream: &mut S) -> io::Result<()> {
    stream.write_all(TIMED_OUT).await?;
    stream.shutdown().await
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
) -> Result<Response<Answer>, Unanswered> {
    conversation.set_silence(None);
    let response = match &conversation.origin.truth {
        Some(truth) => answer_truly(&conversation, truth, request).await,
        None => answer_plainly(&conversation, request).await,
    };
    conversation.set_silence(Some(clock::now()));
    response
}

async fn answer_plainly(
    conversation: &Conversation,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Unanswered> {
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
        origin.pauses.last(delay).await;
    }
    Ok(conversation.response())
}

/// Answers as the profiles want it, and writes it down; or shows what was written down.
async fn answer_truly(
    conversation: &Conversation,
    truth: &Truth,
    request: Request<Incoming>,
) -> Result<Response<Answer>, Unanswered> {
    conversation.note_closing(&request);
    if let Some(question) = request.uri().path().strip_prefix(truth::PATH) {
        return Ok(tell_truth(conversation, truth, request.method(), question));
    }
    conversation.origin.tallies.requests.fetch_add(1, Relaxed);
    let admitted = truth.admit(conversation.nth, conversation.accepted);
    read_to_end(request.into_body()).await?;
    conversation.origin.pauses.until(admitted.ready).await;
    let (response, error, truncated) = conversation.scripted(admitted.nth);
    truth.answer(admitted, error, truncated);
    Ok(response)
}

fn tell_truth(
    conversation: &Conversation,
    truth: &Truth,
    method: &Method,
    question: &str,
) -> Response<Answer> {
    let told = match (method, question) {
        (&Method::GET, "") => Some((truth.summary(conversation.origin.tallies.counts()), "application/json")),
        (&Method::GET, "/log") => Some((truth.log(), "text/csv")),
        (&Method::POST, "") => {
            truth.reset();
            Some((Bytes::new(), "text/plain"))
        }
        _ => None,
    };
    let Some((text, kind)) = told else {
        let mut response = Response::new(Either::Left(Full::default()));
        *response.status_mut() = StatusCode::NOT_FOUND;
        return response;
    };
    let mut response = Response::new(Either::Left(Full::new(text)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
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
pub(super) struct Unanswered;

impl fmt::Display for Unanswered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request gets no response")
    }
}

impl error::Error for Unanswered {}

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
