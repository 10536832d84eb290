//! [`Lease`]: the right to one exchange on one connection, and how it is come by.

use std::fmt;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use http::header::{CONNECTION, HeaderValue, UPGRADE};
use http::{Method, Request, StatusCode};
use hyper::body::Incoming;

use super::hand_off::{Given, Place, Waiter};
use super::opening::{open, open_beside};
use super::response::{Body, Progress, Response};
use super::state::{Kept, Turn};
use super::watch::Pooled;
use super::{Shared, drain};
use crate::body::RequestBody;
use crate::clock;
use crate::config::{OnMiss, PoolConfig};
use crate::connection::{Connection, Failure, Limits, Stamps};
use crate::error::{Error, ErrorKind, Retry};
use crate::exchange::{ConnectionFacts, Obtained};
use crate::hint::{Hint, Rest};
use crate::idle::CloseReason;
use crate::observer::Event;
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
    obtained: Obtained,
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
    async fn exchange(&mut self, request: Request<RequestBody>, limits: Limits) -> Option<Exchanged> {
        let pooled = self.pooled.as_mut().expect("held until it is given up");
        let (watch, drain) = (&pooled.watch, &self.shared.drain);
        let mut exchanging = pin!(pooled.connection.exchange(request, limits));
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

    pub(super) fn config(&self) -> &PoolConfig {
        &self.shared.config
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether more exchanges may follow this one on its connection, for all that this side knows.
    pub(super) fn may_go_on(&self) -> bool {
        let config = &self.shared.config;
        let is_last = config.max_exchanges.is_some_and(|most| self.as_ref().exchanges() >= most);
        config.keep_alive && !is_last && !self.shared.drain.has_begun()
    }

    pub(super) fn facts(&self) -> &Arc<ConnectionFacts> {
        self.as_ref().facts()
    }

    pub(super) fn origin(&self) -> &Origin {
        self.pooled.as_ref().expect("held until it is given up").origin()
    }

    pub(super) fn as_ref(&self) -> &Connection {
        &self.pooled.as_ref().expect("held until it is given up").connection
    }

    fn heed(&mut self, hint: Option<Hint>) -> Option<Hint> {
        let pooled = self.pooled.as_mut().expect("held until it is given up");
        pooled.heed(hint, self.shared.config.hint);
        hint
    }

    /// Tells the observer of the pool; the event is not made when there is none.
    pub(super) fn tell<'a>(&'a self, event: impl FnOnce(&'a Origin, &'a ConnectionFacts) -> Event<'a>) {
        self.shared.watched.tell(|| event(self.origin(), self.as_ref().facts()));
    }

    /// Its exchange is over. It goes back if it may be used again, and ends otherwise, with the reason.
    pub(super) fn finish(mut self, now: Instant) {
        let Some(mut pooled) = self.pooled.take() else { return };
        let now = self.shared.ages.at(now);
        match why_not_again(&mut pooled, &self.shared, now) {
            None => {
                self.shared.watched.tell(|| returned(&pooled));
                self.shared.put_back(pooled, now);
            }
            Some(reason) => self.shared.end(pooled, reason),
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
            Some(pooled) => {
                self.shared.watched.tell(|| returned(&pooled));
                self.shared.rest_on(pooled);
            }
            None => {}
        }
    }
}

fn returned(pooled: &Pooled) -> Event<'_> {
    Event::Returned { origin: pooled.origin(), connection: pooled.connection.facts() }
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
    (pooled.rest == Rest::Never).then_some(CloseReason::Hint)
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
    let turn = shared.change(|state, after| match fresh {
        false => state.ask(origin, now, after),
        true => state.ask_fresh(origin, after),
    });
    match turn {
        Turn::Reuse(pooled) => Ok(Lease::returned(pooled, shared, asked, false)),
        Turn::Open => open(Place::new(shared, origin), asked).await,
        Turn::Wait(ticket) => {
            let waiter = Waiter::new(shared, origin, ticket);
            shared.watched.tell(|| Event::Waiting { origin });
            match fresh {
                true => queue_for_place(shared, waiter, asked).await,
                false => queue(shared, waiter, asked).await,
            }
        }
        Turn::Full => Err(Error::new(ErrorKind::QueueFull).at(Phase::Blocked)),
        Turn::Closed => Err(Error::new(ErrorKind::Closed)),
    }
}

async fn queue(
    shared: &Arc<Shared>,
    mut waiter: Waiter<Arc<Shared>>,
    asked: Instant,
) -> Result<Lease, Error> {
    let mut given = wait(&mut waiter, &shared.config).await?;
    if let Given::PlaceBeside(place) = given {
        tokio::spawn(open_beside(place));
        // The opening ends by its own time limit, and this wait with it.
        given = waiter.given().await;
    }
    match given {
        Given::Connection { connection, late } => Ok(Lease::returned(connection, shared, asked, late)),
        Given::Own(pooled) => Ok(Lease::opened(pooled, shared, asked)),
        Given::Place(place) => open(place, asked).await,
        Given::PlaceBeside(_) => unreachable!("a waiter is given one place"),
        Given::Failed(error) => Err(error),
        Given::Closed => Err(Error::new(ErrorKind::Closed)),
    }
}

/// Waits for as long as a request may wait before anything is done for it.
async fn wait(waiter: &mut Waiter<Arc<Shared>>, config: &PoolConfig) -> Result<Given<Arc<Shared>>, Error> {
    let limit = config.acquire_timeout.and_then(|timeout| clock::now().checked_add(timeout));
    if let OnMiss::WaitThenOpen(patience) = config.on_miss {
        match tokio::time::timeout(patience, waiter.given()).await {
            Ok(given) => return Ok(given),
            Err(_) => waiter.want(),
        }
    }
    match limit {
        None => Ok(waiter.given().await),
        Some(limit) => tokio::time::timeout_at(limit.into(), waiter.given())
            .await
            .map_err(|_| too_late(config.acquire_timeout)),
    }
}

fn too_late(limit: Option<Duration>) -> Error {
    let limit = limit.unwrap_or_default();
    let text = format!("no connection of the pool became free within the acquire timeout of {limit:?}");
    Error::new(ErrorKind::AcquireTimeout).at(Phase::Blocked).with_detail(text)
}

/// Waits for a place for a connection that nobody has used: one that comes back makes room for it.
async fn queue_for_place(
    shared: &Arc<Shared>,
    mut waiter: Waiter<Arc<Shared>>,
    asked: Instant,
) -> Result<Lease, Error> {
    match wait(&mut waiter, &shared.config).await? {
        Given::Place(place) => open(place, asked).await,
        Given::Closed => Err(Error::new(ErrorKind::Closed)),
        Given::Failed(error) => Err(error),
        Given::Connection { .. } | Given::Own(_) | Given::PlaceBeside(_) => {
            unreachable!("who needs a fresh connection is given a place of its own")
        }
    }
}

impl Lease {
    /// On a connection that was opened for this request.
    pub(super) fn opened(mut pooled: Pooled, shared: &Arc<Shared>, asked: Instant) -> Lease {
        let opening = pooled.connection.take_opening();
        Lease::new(pooled, shared, asked, Obtained::Opened, opening)
    }

    /// On a connection that others had, or should have had.
    fn returned(pooled: Pooled, shared: &Arc<Shared>, asked: Instant, late: bool) -> Lease {
        let obtained = match pooled.connection.exchanges() {
            _ if late => Obtained::LateBound,
            0 => Obtained::Spare,
            _ => Obtained::Reused,
        };
        Lease::new(pooled, shared, asked, obtained, None)
    }

    fn new(
        pooled: Pooled,
        shared: &Arc<Shared>,
        asked: Instant,
        obtained: Obtained,
        opening: Option<ConnectTimings>,
    ) -> Lease {
        let held = Held::new(pooled, shared);
        let granted = clock::now();
        shared.watched.tell(|| {
            let (connection, origin, now) = (held.as_ref(), held.origin(), shared.ages.at(granted));
            Event::Granted {
                origin,
                connection: connection.facts(),
                exchanges: connection.exchanges(),
                idle: connection.idle_since().map(|since| now.saturating_duration_since(since)),
                waited: granted.saturating_duration_since(asked),
            }
        });
        Lease { held, asked, granted, obtained, opening, retries: Vec::new() }
    }

    /// The connection's number, addresses and TLS.
    pub fn connection(&self) -> &Arc<ConnectionFacts> {
        self.held.as_ref().facts()
    }

    /// How the connection was come by.
    pub fn obtained(&self) -> Obtained {
        self.obtained
    }

    /// Whether an earlier exchange used the connection.
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
    /// The pool adds `Connection: close` where this is the connection's last exchange. CONNECT takes its target in
    /// authority-form (`host:port`), and the lease is on the proxy.
    ///
    /// *Cancel safety.* Dropping the future closes the connection; the request may have been processed.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] gives the request back when no byte of it was written.
    pub async fn exchange(self, mut request: Request<RequestBody>) -> Result<Response, LeaseError> {
        let Lease { mut held, asked, granted, obtained, opening, retries } = self;
        let config = &held.shared.config;
        let last = config.max_exchanges.is_some_and(|most| held.as_ref().exchanges() + 1 >= most);
        // A request to upgrade has its own Connection field; HTTP ends on its connection in any case.
        let ends = !config.keep_alive || last || held.shared.drain.has_begun();
        if ends && !request.headers().contains_key(UPGRADE) {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let connects = request.method() == Method::CONNECT;
        let limits = Limits { asked, total: config.total_timeout, response: config.response_timeout };
        let latest = config.latest(asked);
        let (began, granted) = (granted, held.shared.ages.at(granted));
        let connection = held.begin();
        let idle_before = connection.idle_since().map(|since| granted.saturating_duration_since(since));
        let (written_before, read_before) = (connection.wire().written(), connection.wire().read());
        let Some(exchanged) = held.exchange(request, limits).await else {
            let written = held.connection().wire().written() - written_before;
            let error = drain::cut_error().at(Phase::Wait).after_sending(written).after_idle(idle_before);
            held.tell(|origin, connection| Event::Failed { origin, connection, error: &error });
            held.end(CloseReason::Shutdown);
            return Err(LeaseError { error, request: None, idle_before, retries });
        };
        let story = Story { asked, obtained, opening, idle_before, latest };
        match exchanged {
            Ok((head, stamps)) => {
                let hint = held.heed(Hint::of(head.headers()));
                let switches = head.status() == StatusCode::SWITCHING_PROTOCOLS
                    || (connects && head.status().is_success());
                let progress = story.progress(held.as_ref(), retries, hint, stamps);
                let (status, Timings { send, wait, .. }) = (head.status(), progress.timings);
                held.tell(|origin, connection| Event::Head { origin, connection, status, send, wait });
                Ok(Body::response(head, held, progress, switches))
            }
            Err(failure) => {
                let reason = match failure.error.kind() {
                    ErrorKind::NotSent => held.as_ref().why_it_ended(),
                    kind if kind.is_timeout() => CloseReason::TimedOut,
                    _ => CloseReason::Failed,
                };
                let ended = clock::now();
                let wire = held.as_ref().wire();
                let sent = if wire.written() > written_before { wire.last_write() } else { ended };
                let sent = sent.clamp(began, ended);
                let stamps = Stamps { began, sent, head: ended, written_before, read_before };
                let so_far = story.progress(held.as_ref(), retries.clone(), None, stamps);
                let facts = so_far.exchange(held.as_ref(), ended);
                let error = failure.error.after_idle(idle_before).with_facts(facts);
                held.tell(|origin, connection| Event::Failed { origin, connection, error: &error });
                let (shared, origin) = (Arc::clone(&held.shared), held.origin().clone());
                held.end(reason);
                if let Some(idle) = idle_before.filter(|_| error.kind().is_unanswered()) {
                    shared.end_siblings(&origin, idle);
                }
                Err(LeaseError { error, request: failure.request, idle_before, retries })
            }
        }
    }
}

/// What is known of an exchange before it begins.
struct Story {
    asked: Instant,
    obtained: Obtained,
    opening: Option<ConnectTimings>,
    idle_before: Option<Duration>,
    latest: Option<Instant>,
}

impl Story {
    /// With what is known when its head has come, or it has failed.
    fn progress(
        self,
        connection: &Connection,
        retries: Vec<Retry>,
        hint: Option<Hint>,
        stamps: Stamps,
    ) -> Progress {
        let Story { asked, obtained, opening, idle_before, latest } = self;
        let waited = stamps.began.saturating_duration_since(asked);
        let timings = Timings {
            blocked: waited.saturating_sub(opening.map_or(Duration::ZERO, |opening| opening.total())),
            connect: opening,
            send: stamps.sent - stamps.began,
            wait: stamps.head - stamps.sent,
            receive: Duration::ZERO,
        };
        let age = stamps.began.saturating_duration_since(connection.born());
        let nth = connection.exchanges();
        Progress { obtained, nth, age, idle_before, timings, retries, hint, stamps, latest }
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
