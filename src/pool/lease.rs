//! [`Lease`]: the right to one exchange on one connection, and how it is come by.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use http::Request;
use http::header::{CONNECTION, HeaderValue};
use hyper::body::Incoming;
use tokio::sync::oneshot;

use super::response::{Body, Progress, Response};
use super::state::{Grant, Turn};
use super::watch::Pooled;
use super::{Shared, drain};
use crate::body::RequestBody;
use crate::clock;
use crate::connection::{Connection, Failure, Stamps};
use crate::error::{Error, ErrorKind, Retry};
use crate::exchange::{ConnectionFacts, ConnectionId, TlsFacts};
use crate::hint::{Hint, Rest};
use crate::idle::CloseReason;
use crate::origin::Origin;
use crate::phase::{ConnectTimings, Phase, Timings};
use crate::retry::{self, FailedAttempt, RetryPolicy};

/// A response head, or why there is none.
type Exchanged = Result<(http::Response<Incoming>, Stamps), Failure>;

/// One connection for one exchange. It ends by [`Lease::exchange`]; dropped unused, its connection goes back.
#[derive(Debug)]
pub struct Lease {
    held: Held,
    asked: Instant,
    granted: Instant,
    opening: Option<ConnectTimings>,
    retries: Vec<Retry>,
}

/// A connection in use and its place in the pool. Whatever happens, the place is given up exactly once: by
/// giving the connection back, by ending it with a reason, or, when dropped, as cancelled. Dropped before an
/// exchange began on it, the connection goes back.
#[derive(Debug)]
pub(super) struct Held {
    pooled: Option<Pooled>,
    shared: Arc<Shared>,
    begun: bool,
}

impl Held {
    pub(super) fn new(pooled: Pooled, shared: &Arc<Shared>) -> Held {
        Held { pooled: Some(pooled), shared: Arc::clone(shared), begun: false }
    }

    /// The connection's next exchange begins: from here on there is no giving it back unused.
    fn begin(&mut self) -> &mut Connection {
        self.begun = true;
        let pooled = self.pooled.as_mut().expect("held until it is given up");
        pooled.watch.ends_rest();
        &mut pooled.connection
    }

    /// Sends the request and waits for the head of its response; `None`: the pool's end came first.
    async fn exchange(&mut self, request: Request<RequestBody>) -> Option<Exchanged> {
        let pooled = self.pooled.as_mut().expect("held until it is given up");
        let (watch, drain) = (&pooled.watch, &self.shared.drain);
        let mut exchanging = pin!(pooled.connection.exchange(request));
        poll_fn(|cx| match exchanging.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            Poll::Pending => {
                watch.hold(cx.waker());
                if drain.is_cut() { Poll::Ready(None) } else { Poll::Pending }
            }
        })
        .await
    }

    /// Whoever waits for the connection's peer says so; answers whether the pool's end has come.
    pub(super) fn is_cut(&self, waker: &Waker) -> bool {
        self.pooled.as_ref().expect("held until it is given up").watch.hold(waker);
        self.shared.drain.is_cut()
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.pooled.as_mut().expect("held until it is given up").connection
    }

    fn origin(&self) -> &Origin {
        self.pooled.as_ref().expect("held until it is given up").origin()
    }

    fn as_ref(&self) -> &Connection {
        &self.pooled.as_ref().expect("held until it is given up").connection
    }

    /// A hint holds until another comes: a server may give it only to those requests that ask.
    fn heed(&mut self, hint: Option<Hint>) -> Option<Hint> {
        let pooled = self.pooled.as_mut().expect("held until it is given up");
        pooled.hint = hint.or(pooled.hint);
        hint
    }

    /// Its exchange is over. It goes back if it may be used again, and ends otherwise, with the reason.
    pub(super) fn finish(mut self, now: Instant) {
        let Some(mut pooled) = self.pooled.take() else { return };
        let now = self.shared.ages.at(now);
        match why_not_again(&mut pooled, &self.shared, now) {
            None => self.shared.put_back(pooled, now),
            Some(reason) => self.shared.end(pooled, reason),
        }
    }

    /// Closes the connection, good as it may be, and leaves its place to the caller, who needs one never used.
    fn make_room(mut self) {
        if let Some(pooled) = self.pooled.take() {
            self.shared.close(pooled, CloseReason::Evicted);
        }
    }

    pub(super) fn end(mut self, reason: CloseReason) {
        if let Some(pooled) = self.pooled.take() {
            self.shared.end(pooled, reason);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.pooled.take() {
            Some(pooled) if self.begun => self.shared.end(pooled, CloseReason::Cancelled),
            Some(pooled) => self.shared.rest_on(pooled),
            None => {}
        }
    }
}

/// Why a connection whose exchange is complete is not used again; `None` when it is.
fn why_not_again(pooled: &mut Pooled, shared: &Shared, now: Instant) -> Option<CloseReason> {
    let config = &shared.config;
    let usable = pooled.watch();
    if pooled.connection.is_unfinished() {
        return Some(CloseReason::RequestUnfinished);
    }
    if !config.keep_alive {
        return Some(CloseReason::KeepAliveOff);
    }
    if config.max_exchanges.is_some_and(|most| pooled.connection.exchanges() >= most) {
        return Some(CloseReason::MaxExchanges);
    }
    if shared.drain.has_begun() {
        return Some(CloseReason::Shutdown);
    }
    if !usable {
        return Some(pooled.connection.why_it_cannot_go_on());
    }
    if pooled.dies().is_some_and(|dies| now >= dies) {
        return Some(CloseReason::MaxLifetime);
    }
    (config.hint.rest(pooled.hint) == Rest::Never).then_some(CloseReason::Hint)
}

/// Finds a connection. `asked` is when the request first wanted one, `retries` are its attempts so far: after some of
/// them it needs a connection that was opened for it.
pub(super) async fn check_out(
    shared: &Arc<Shared>,
    origin: &Origin,
    asked: Instant,
    retries: &[Retry],
) -> Result<Lease, Error> {
    let fresh = retry::wants_fresh(retries);
    let now = shared.age_at(if retries.is_empty() { asked } else { clock::now() });
    let mut closing = Vec::new();
    let turn = match fresh {
        false => shared.lock().ask(origin, now, &mut closing),
        true => shared.lock().ask_fresh(origin, &mut closing),
    };
    if !closing.is_empty() {
        shared.close_all(closing);
    }
    match turn {
        Turn::Reuse(pooled) => Ok(Lease::new(Held::new(pooled, shared), asked, None)),
        Turn::Open => open(Place::new(shared, origin), asked).await,
        Turn::Wait(ticket, waiting) => match Waiter::new(shared, origin, ticket, waiting).granted().await? {
            Ok(held) if fresh => {
                held.make_room();
                open(Place::new(shared, origin), asked).await
            }
            Ok(held) => {
                shared.lock().counts.reused += 1;
                Ok(Lease::new(held, asked, None))
            }
            Err(place) => open(place, asked).await,
        },
        Turn::Closed => Err(Error::new(ErrorKind::Closed)),
    }
}

/// A reserved place for a connection that is not open yet; given up when dropped.
struct Place<'a> {
    shared: &'a Arc<Shared>,
    origin: &'a Origin,
    filled: bool,
}

impl<'a> Place<'a> {
    fn new(shared: &'a Arc<Shared>, origin: &'a Origin) -> Place<'a> {
        Place { shared, origin, filled: false }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.filled {
            self.shared.release(self.origin);
        }
    }
}

async fn open(mut place: Place<'_>, asked: Instant) -> Result<Lease, Error> {
    let (shared, origin) = (place.shared, place.origin);
    let opened = match shared.drain.unless_cut(connect(shared, origin)).await {
        Some(Ok(connection)) => connection,
        None => return Err(drain::cut_error().at(Phase::Connect)),
        Some(Err(error)) => {
            shared.lock().counts.failed_to_open += 1;
            return Err(error);
        }
    };
    count_opening(shared, opened.facts().tls.as_ref());
    place.filled = true;
    let mut connection = Box::new(opened);
    let opening = connection.take_opening();
    Ok(Lease::new(Held::new(Pooled::new(connection, origin, shared), shared), asked, opening))
}

async fn connect(shared: &Arc<Shared>, origin: &Origin) -> Result<Connection, Error> {
    let opened = shared.connector.open(origin, &shared.config).await?;
    Connection::start(opened, ConnectionId(shared.next_id())).await
}

fn count_opening(shared: &Shared, tls: Option<&TlsFacts>) {
    let mut state = shared.lock();
    state.counts.opened += 1;
    match tls {
        Some(tls) if tls.resumed => state.counts.handshakes_resumed += 1,
        Some(_) => state.counts.handshakes_full += 1,
        None => {}
    }
}

/// A request in the queue. Dropped, it leaves the queue, and what it was given meanwhile goes on to the next.
struct Waiter<'a> {
    shared: &'a Arc<Shared>,
    origin: &'a Origin,
    ticket: u64,
    waiting: oneshot::Receiver<Grant>,
}

impl<'a> Waiter<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        origin: &'a Origin,
        ticket: u64,
        waiting: oneshot::Receiver<Grant>,
    ) -> Waiter<'a> {
        Waiter { shared, origin, ticket, waiting }
    }

    async fn granted(mut self) -> Result<Result<Held, Place<'a>>, Error> {
        let grant = match self.shared.config.acquire_timeout {
            None => (&mut self.waiting).await,
            Some(limit) => tokio::time::timeout(limit, &mut self.waiting)
                .await
                .map_err(|_| Error::new(ErrorKind::AcquireTimeout).at(Phase::Blocked))?,
        };
        match grant {
            Ok(Grant::Connection(pooled)) => Ok(Ok(Held::new(pooled, self.shared))),
            Ok(Grant::Place) => Ok(Err(Place::new(self.shared, self.origin))),
            Err(_) => Err(Error::new(ErrorKind::Closed)),
        }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.waiting.close();
        self.shared.lock().forget(self.origin, self.ticket);
        match self.waiting.try_recv() {
            Ok(Grant::Connection(pooled)) => self.shared.rest_on(pooled),
            Ok(Grant::Place) => self.shared.release(self.origin),
            Err(_) => {}
        }
    }
}

impl Lease {
    fn new(held: Held, asked: Instant, opening: Option<ConnectTimings>) -> Lease {
        Lease { held, asked, granted: clock::now(), opening, retries: Vec::new() }
    }

    /// The connection's number, addresses and TLS.
    pub fn connection(&self) -> &Arc<ConnectionFacts> {
        self.held.as_ref().facts()
    }

    /// Whether an earlier exchange opened the connection.
    pub fn is_reused(&self) -> bool {
        self.held.as_ref().exchanges() > 0
    }

    pub(super) fn remember_retries(&mut self, retries: Vec<Retry>) {
        self.retries = retries;
    }

    /// A copy of the request, if it can be needed: a fresh connection's failure is final.
    pub(super) fn copy_for_retry(&self, request: &Request<RequestBody>) -> Option<Request<RequestBody>> {
        let rested = self.held.as_ref().idle_since().is_some();
        let wanted = rested && self.held.shared.config.retry.wants_copy(request);
        if wanted { retry::copy_of(request) } else { None }
    }

    /// Gives the connection back unused.
    pub fn discard(self) {
        drop(self);
    }

    /// Sends a request in origin-form (`GET /path`, with a `Host` field) and waits for the response's head.
    /// The pool adds `Connection: close` where this is the connection's last exchange.
    ///
    /// *Cancel safety.* Dropping the future closes the connection; the request may have been processed.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] gives the request back when no byte of it was written.
    pub async fn exchange(self, mut request: Request<RequestBody>) -> Result<Response, LeaseError> {
        let Lease { mut held, asked, granted, opening, retries } = self;
        let config = &held.shared.config;
        let last = config.max_exchanges.is_some_and(|most| held.as_ref().exchanges() + 1 >= most);
        if !config.keep_alive || last || held.shared.drain.has_begun() {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let granted = held.shared.ages.at(granted);
        let connection = held.begin();
        let idle_before = connection.idle_since().map(|since| granted.saturating_duration_since(since));
        let written_before = connection.wire().written();
        let Some(exchanged) = held.exchange(request).await else {
            let written = held.connection().wire().written() - written_before;
            held.end(CloseReason::Shutdown);
            let error = drain::cut_error().at(Phase::Wait).after_sending(written).after_idle(idle_before);
            return Err(LeaseError { error, request: None, idle_before, retries });
        };
        match exchanged {
            Ok((head, stamps)) => {
                let hint = held.heed(Hint::of(head.headers()));
                let connection = held.connection();
                let waited = stamps.began.saturating_duration_since(asked);
                let blocked =
                    waited.saturating_sub(opening.map_or(Duration::ZERO, |opening| opening.total()));
                let progress = Progress {
                    nth: connection.exchanges(),
                    age: stamps.began.saturating_duration_since(connection.born()),
                    idle_before,
                    timings: Timings {
                        blocked,
                        connect: opening,
                        send: stamps.sent - stamps.began,
                        wait: stamps.head - stamps.sent,
                        receive: Duration::ZERO,
                    },
                    retries,
                    hint,
                    stamps,
                };
                Ok(Body::response(head, held, progress))
            }
            Err(failure) => {
                let reason = match failure.error.kind() {
                    ErrorKind::NotSent => held.as_ref().why_it_ended(),
                    _ => CloseReason::Failed,
                };
                let (shared, origin) = (Arc::clone(&held.shared), held.origin().clone());
                held.end(reason);
                if let Some(idle) = idle_before.filter(|_| failure.error.kind().is_unanswered()) {
                    shared.end_siblings(&origin, idle);
                }
                let error = failure.error.after_idle(idle_before);
                Err(LeaseError { error, request: failure.request, idle_before, retries })
            }
        }
    }
}

/// Why an exchange failed, with the request when it can be sent elsewhere without any risk.
pub struct LeaseError {
    error: Error,
    request: Option<Request<RequestBody>>,
    idle_before: Option<Duration>,
    retries: Vec<Retry>,
}

impl LeaseError {
    /// What went wrong.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// How long the connection had been idle before; `None` on a fresh connection.
    pub fn idle_before(&self) -> Option<Duration> {
        self.idle_before
    }

    /// The error alone, with the attempts before.
    pub fn into_error(self) -> Error {
        self.error.after_retries(self.retries)
    }

    /// The request, if no byte of it was written and the connection had been idle before, so that another
    /// connection may do better; and the account of all attempts so far.
    pub fn take_retry(&mut self) -> Option<(Request<RequestBody>, Vec<Retry>)> {
        let idle_before = self.idle_before?;
        let request = self.request.take()?;
        Some((request, self.account(idle_before)))
    }

    /// The request for another attempt and the account of all so far, if the policy allows one; else the error. `copy`
    /// stands for a request of which something was written.
    pub(super) fn again(
        mut self,
        copy: Option<Request<RequestBody>>,
        policy: &RetryPolicy,
    ) -> Result<(Request<RequestBody>, Vec<Retry>), Error> {
        let (Some(idle_before), Some(request)) = (self.idle_before, self.request.take().or(copy)) else {
            return Err(self.into_error());
        };
        let (kind, retries) = (self.error.kind(), &self.retries);
        if !policy.allows(&FailedAttempt { kind, idle_before, request: &request, retries }) {
            return Err(self.into_error());
        }
        Ok((request, self.account(idle_before)))
    }

    fn account(&mut self, idle_before: Duration) -> Vec<Retry> {
        let mut retries = std::mem::take(&mut self.retries);
        retries.push(Retry { kind: self.error.kind(), idle_before });
        retries
    }
}

impl fmt::Debug for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.error, f)
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for LeaseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
