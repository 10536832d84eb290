//! [`Lease`]: the right to one exchange on one connection, and how it is come by.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, Request, StatusCode};

use super::fitted::Fitted;
use super::hand_off::{Given, Place, Waiter};
use super::held::Held;
use super::opening::{open, open_beside};
use super::response::{Body, Response};
use super::state::Turn;
use super::watch::Pooled;
use super::{Shared, drain};
use crate::body::{self, RequestBody};
use crate::clock;
use crate::config::{OnMiss, PoolConfig};
use crate::connection::{Failure, Limits, Stamps};
use crate::error::{Error, ErrorKind, Retry};
use crate::exchange::{ConnectionFacts, Obtained};
use crate::hint::Hint;
use crate::idle::CloseReason;
use crate::observer::Event;
use crate::origin::Origin;
use crate::phase::{ConnectTimings, Phase, Timings};
use crate::retry::{self, FailedAttempt, RetryPolicy};

/// One connection for one exchange. It ends by [`Lease::exchange`]; dropped unused, its connection goes back.
#[derive(Debug)]
pub struct Lease {
    held: Held,
}

/// What a request that asked has to do for its connection.
pub(super) enum Asked {
    /// Open one, in that place.
    Open(Place<Arc<Shared>>),
    /// Wait for one.
    Queue(Waiter<Arc<Shared>>),
    /// Wait for a place for one of its own.
    QueueForPlace(Waiter<Arc<Shared>>),
    Refused(Error),
}

/// Asks for a connection: here it is, or this is to be done for it. `asked` is when the request first wanted one,
/// `retries` are its attempts so far: after some of them it needs a connection that was opened for it.
pub(super) fn ask(
    shared: &Arc<Shared>,
    origin: &Origin,
    asked: Instant,
    retries: &[Retry],
) -> Result<Lease, Asked> {
    let fresh = retry::wants_fresh(retries);
    let now = if retries.is_empty() { asked } else { clock::now() };
    let age = shared.age_at(now);
    let turn = shared.change(|state, after| match fresh {
        false => state.ask(origin, age, after),
        true => state.ask_fresh(origin, after),
    });
    Err(match turn {
        // It was there: no time has passed that a clock should be looked at for.
        Turn::Reuse(pooled) => return Ok(Lease::returned(pooled, shared, (asked, now), false)),
        Turn::Open => Asked::Open(Place::new(shared, origin)),
        Turn::Wait(ticket) => {
            let waiter = Waiter::new(shared, origin, ticket);
            if fresh { Asked::QueueForPlace(waiter) } else { Asked::Queue(waiter) }
        }
        Turn::Full => Asked::Refused(Error::new(ErrorKind::QueueFull).at(Phase::Blocked)),
        Turn::Closed => Asked::Refused(Error::new(ErrorKind::Closed)),
    })
}

impl Asked {
    /// Does what is to be done.
    pub(super) async fn find(self, shared: &Arc<Shared>, asked: Instant) -> Result<Lease, Error> {
        let waits = |waiter: &Waiter<_>| shared.watched.tell(|| Event::Waiting { origin: waiter.origin() });
        match self {
            Asked::Open(place) => open(place, asked).await,
            Asked::Queue(waiter) => {
                waits(&waiter);
                queue(shared, waiter, asked).await
            }
            Asked::QueueForPlace(waiter) => {
                waits(&waiter);
                queue_for_place(shared, waiter, asked).await
            }
            Asked::Refused(error) => Err(error),
        }
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
        Given::Connection { connection, late } => {
            Ok(Lease::returned(connection, shared, (asked, clock::now()), late))
        }
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
    pub(super) fn opened(mut pooled: Box<Pooled>, shared: &Arc<Shared>, asked: Instant) -> Lease {
        let opening = pooled.connection.take_opening();
        Lease::new(pooled, shared, (asked, clock::now()), Obtained::Opened, opening)
    }

    /// On a connection that others had, or should have had.
    fn returned(pooled: Box<Pooled>, shared: &Arc<Shared>, when: (Instant, Instant), late: bool) -> Lease {
        let obtained = match pooled.connection.exchanges() {
            _ if late => Obtained::LateBound,
            0 => Obtained::Spare,
            _ => Obtained::Reused,
        };
        Lease::new(pooled, shared, when, obtained, None)
    }

    fn new(
        mut pooled: Box<Pooled>,
        shared: &Arc<Shared>,
        (asked, granted): (Instant, Instant),
        obtained: Obtained,
        opening: Option<ConnectTimings>,
    ) -> Lease {
        pooled.progress.grant(asked, granted, obtained, opening);
        let held = Held::new(pooled, shared);
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
        Lease { held }
    }

    /// The connection's number, addresses and TLS.
    pub fn connection(&self) -> &Arc<ConnectionFacts> {
        self.held.as_ref().facts()
    }

    /// How the connection was come by.
    pub fn obtained(&self) -> Obtained {
        self.held.progress().obtained
    }

    /// Whether an earlier exchange used the connection.
    pub fn is_reused(&self) -> bool {
        self.held.as_ref().exchanges() > 0
    }

    pub(super) fn remember_retries(&mut self, retries: Vec<Retry>) {
        self.held.pooled_mut().progress.retries = retries;
    }

    /// Whether the request can be needed again after it was handed over: a fresh connection's failure is final.
    pub(super) fn wants_copy(&self) -> bool {
        self.held.as_ref().idle_since().is_some() && self.held.config().retry.wants_copy()
    }

    pub(super) fn granted(&self) -> Instant {
        self.held.progress().granted
    }

    /// Gives the connection back unused.
    pub fn discard(self) {
        drop(self);
    }

    /// Sends a request in origin-form (`GET /path`, with a `Host` field) and waits for the response's head.
    /// The pool adds `Connection: close` where this is the connection's last exchange. CONNECT takes its target in
    /// authority-form (`host:port`), and the lease is on the proxy. Length and version are as with
    /// [`Pool::send`](super::Pool::send).
    ///
    /// *Cancel safety.* Dropping the future closes the connection; the request may have been processed.
    ///
    /// # Errors
    ///
    /// [`LeaseError`] gives the request back when no byte of it was written.
    pub async fn exchange(self, mut request: Request<RequestBody>) -> Result<Response, LeaseError> {
        if let Err(error) = body::frame(&mut request) {
            let (request, retries) = (Some(request), Vec::new());
            let (idle_before, took) = (None, Duration::ZERO);
            return Err(LeaseError(Box::new(Attempt { error, request, idle_before, took, retries })));
        }
        self.send(&mut Some(request), clock::now()).await
    }

    /// As [`Lease::exchange`], for a request that lies where it need not be moved, and begins now.
    pub(super) async fn send(
        self,
        request: &mut Option<Request<RequestBody>>,
        began: Instant,
    ) -> Result<Response, LeaseError> {
        let mut held = self.held;
        let connects = request.as_ref().is_some_and(|request| request.method() == Method::CONNECT);
        let fitted = request.as_mut().map(|request| Fitted::fit(&held, request));
        let (config, asked) = (held.config(), held.progress().asked());
        let limits = Limits { asked, began, total: config.total_timeout, response: config.response_timeout };
        let latest = config.latest(asked);
        let granted = held.shared().ages.at(held.progress().granted);
        let Pooled { connection, progress, .. } = held.begin();
        let idle_before = connection.idle_since().map(|since| granted.saturating_duration_since(since));
        progress.begin(idle_before, latest);
        let (written_before, read_before) = (connection.wire().written(), connection.wire().read());
        match held.exchange(request, limits).await {
            Some(Ok(head)) => {
                held.head(Hint::of(head.headers()));
                let (status, Timings { send, wait, .. }) = (head.status(), held.progress().timings);
                held.tell(|origin, connection| Event::Head { origin, connection, status, send, wait });
                let switches = status == StatusCode::SWITCHING_PROTOCOLS || (connects && status.is_success());
                Ok(Body::response(head, held, switches))
            }
            Some(Err(mut failure)) => {
                // It was handed back, or never taken.
                let unsent = failure.request.as_mut().or(request.as_mut());
                if let (Some(fitted), Some(request)) = (fitted, unsent) {
                    fitted.undo(request);
                }
                Err(failed(held, *failure, written_before, read_before))
            }
            None => {
                let error = drain::cut_error().at(Phase::Wait);
                Err(failed(held, Failure { error, request: None }, written_before, read_before))
            }
        }
    }
}

/// The attempt failed before its head.
fn failed(mut held: Held, failure: Failure, written_before: u64, read_before: u64) -> LeaseError {
    let Failure { error, request } = failure;
    let reason = match error.kind() {
        ErrorKind::NotSent => held.as_ref().why_it_ended(),
        ErrorKind::Closed => CloseReason::Shutdown,
        kind if kind.is_timeout() => CloseReason::TimedOut,
        _ => CloseReason::Failed,
    };
    let (began, ended) = (held.progress().granted, clock::now());
    let wire = held.as_ref().wire();
    let sent = if wire.written() > written_before { wire.last_write() } else { ended };
    let sent = sent.clamp(began, ended);
    held.failed(Stamps { began, sent, head: ended, written_before, read_before });
    let mut so_far = held.record(ended);
    if request.is_some() {
        // What TLS has written was an alert.
        so_far.bytes_out = 0;
    }
    let (idle_before, retries, took) = (so_far.idle_before, so_far.retries.clone(), so_far.last_attempt());
    let error = error.after_exchange(so_far);
    held.tell(|origin, connection| Event::Failed { origin, connection, error: &error });
    let (shared, origin) = (Arc::clone(held.shared()), held.origin().clone());
    held.end(reason);
    if let Some(idle) = idle_before.filter(|_| error.kind().is_unanswered()) {
        shared.end_siblings(&origin, idle);
    }
    LeaseError(Box::new(Attempt { error, request, idle_before, took, retries }))
}

/// Why an exchange failed, with the request when it can be sent elsewhere without any risk.
pub struct LeaseError(Box<Attempt>);

/// An attempt that failed. In a box: it is larger than a response, which would be moved with as many bytes.
struct Attempt {
    error: Error,
    request: Option<Request<RequestBody>>,
    idle_before: Option<Duration>,
    took: Duration,
    retries: Vec<Retry>,
}

impl LeaseError {
    /// What went wrong.
    pub fn error(&self) -> &Error {
        &self.0.error
    }

    /// How long the connection had been idle before; `None` on a fresh connection.
    pub fn idle_before(&self) -> Option<Duration> {
        self.0.idle_before
    }

    /// The error alone, with the attempts before.
    pub fn into_error(self) -> Error {
        self.0.error.after_retries(self.0.retries)
    }

    /// The request as it was given, if no byte of it was written and the connection had been idle before, so that
    /// another connection may do better; and the account of all attempts so far.
    pub fn take_retry(&mut self) -> Option<(Request<RequestBody>, Vec<Retry>)> {
        let idle_before = self.0.idle_before?;
        let request = self.0.request.take()?;
        Some((request, self.account(idle_before)))
    }

    /// The request for another attempt and the account of all so far, if the policy allows one; else the error. `copy`
    /// stands for a request that hyper has taken, whether or not something of it was written.
    pub(super) fn again(
        mut self,
        copy: Option<Request<RequestBody>>,
        policy: &RetryPolicy,
    ) -> Result<(Request<RequestBody>, Vec<Retry>), Error> {
        let (Some(idle_before), Some(request)) = (self.0.idle_before, self.0.request.take().or(copy)) else {
            return Err(self.into_error());
        };
        let (kind, retries) = (self.0.error.kind(), &self.0.retries);
        if !policy.allows(&FailedAttempt { kind, idle_before, request: &request, retries }) {
            return Err(self.into_error());
        }
        Ok((request, self.account(idle_before)))
    }

    fn account(&mut self, idle_before: Duration) -> Vec<Retry> {
        let mut retries = std::mem::take(&mut self.0.retries);
        retries.push(Retry { kind: self.0.error.kind(), idle_before, took: self.0.took });
        retries
    }
}

impl fmt::Debug for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.error(), f)
    }
}

impl fmt::Display for LeaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.error(), f)
    }
}

impl std::error::Error for LeaseError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(self.error())
    }
}
