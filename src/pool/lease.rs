//! [`Lease`]: the right to one exchange on one connection, and how it is come by.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Request;
use http::header::{CONNECTION, HeaderValue};
use tokio::sync::oneshot;

use super::Shared;
use super::response::{Body, Progress, Response};
use super::state::{Grant, Turn};
use super::watch::Pooled;
use crate::body::RequestBody;
use crate::clock;
use crate::connection::{Connection, Stamps};
use crate::error::{Error, ErrorKind};
use crate::exchange::{ConnectionFacts, ConnectionId, Retry, TlsFacts};
use crate::idle::CloseReason;
use crate::observer::Event;
use crate::origin::Origin;
use crate::phase::{ConnectTimings, Phase, Timings};

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

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.pooled.as_mut().expect("held until it is given up").connection
    }

    pub(super) fn as_ref(&self) -> &Connection {
        &self.pooled.as_ref().expect("held until it is given up").connection
    }

    pub(super) fn origin(&self) -> &Origin {
        self.pooled.as_ref().expect("held until it is given up").origin()
    }

    /// Tells the observer of the pool; the event is not made when there is none.
    pub(super) fn tell<'a>(&'a self, event: impl FnOnce(&'a Origin, &'a ConnectionFacts) -> Event<'a>) {
        self.shared.watched.tell(|| event(self.origin(), self.as_ref().facts()));
    }

    /// Its exchange is over. It goes back if it may be used again, and ends otherwise, with the reason.
    pub(super) fn finish(mut self, now: Instant) {
        let Some(mut pooled) = self.pooled.take() else { return };
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
    if !usable {
        return Some(pooled.connection.why_it_cannot_go_on());
    }
    pooled.dies().is_some_and(|dies| now >= dies).then_some(CloseReason::MaxLifetime)
}

/// Finds a connection. `asked` is when the request first wanted one.
pub(super) async fn check_out(shared: &Arc<Shared>, origin: &Origin, asked: Instant) -> Result<Lease, Error> {
    let mut closing = Vec::new();
    let turn = shared.lock().ask(origin, asked, &mut closing);
    if !closing.is_empty() {
        shared.close_all(closing);
    }
    match turn {
        Turn::Reuse(pooled) => Ok(Lease::new(Held::new(pooled, shared), asked, None)),
        Turn::Open => open(Place::new(shared, origin), asked).await,
        Turn::Wait(ticket, waiting) => {
            let waiter = Waiter::new(shared, origin, ticket, waiting);
            shared.watched.tell(|| Event::Waiting { origin });
            match waiter.granted().await? {
                Ok(held) => Ok(Lease::new(held, asked, None)),
                Err(place) => open(place, asked).await,
            }
        }
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
            self.shared.lock().release(self.origin);
        }
    }
}

async fn open(mut place: Place<'_>, asked: Instant) -> Result<Lease, Error> {
    let (shared, origin) = (place.shared, place.origin);
    shared.watched.tell(|| Event::Opening { origin });
    let opened = match connect(shared, origin).await {
        Ok(connection) => connection,
        Err(error) => {
            shared.lock().counts.failed_to_open += 1;
            shared.watched.tell(|| Event::NotOpened { origin, error: &error });
            return Err(error);
        }
    };
    count_opening(shared, opened.facts().tls.as_ref());
    place.filled = true;
    let mut connection = Box::new(opened);
    let opening = connection.take_opening();
    let held = Held::new(Pooled::new(connection, origin, shared), shared);
    shared.watched.tell(|| Event::Opened { origin, connection: held.as_ref().facts(), timings: opening });
    Ok(Lease::new(held, asked, opening))
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
            Ok(Grant::Connection(pooled)) => {
                self.shared.lock().counts.reused += 1;
                Ok(Ok(Held::new(pooled, self.shared)))
            }
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
            Ok(Grant::Place) => self.shared.lock().release(self.origin),
            Err(_) => {}
        }
    }
}

impl Lease {
    fn new(held: Held, asked: Instant, opening: Option<ConnectTimings>) -> Lease {
        let granted = clock::now();
        held.shared.watched.tell(|| {
            let (connection, origin) = (held.as_ref(), held.origin());
            Event::Granted {
                origin,
                connection: connection.facts(),
                exchanges: connection.exchanges(),
                idle: connection.idle_since().map(|since| granted.saturating_duration_since(since)),
                waited: granted.saturating_duration_since(asked),
            }
        });
        Lease { held, asked, granted, opening, retries: Vec::new() }
    }

    /// The connection's number, addresses and TLS.
    pub fn connection(&self) -> &Arc<ConnectionFacts> {
        self.held.as_ref().facts()
    }

    /// Whether an earlier exchange opened the connection.
    pub fn is_reused(&self) -> bool {
        self.held.as_ref().exchanges() > 0
    }

    pub(super) fn remember_retries(&mut self, retries: &mut Vec<Retry>) {
        self.retries.append(retries);
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
        if !config.keep_alive || last {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let connection = held.begin();
        let idle_before = connection.idle_since().map(|since| granted.saturating_duration_since(since));
        let (written_before, read_before) = (connection.wire().written(), connection.wire().read());
        match connection.exchange(request).await {
            Ok((head, stamps)) => {
                let progress = progress(held.as_ref(), asked, opening, idle_before, retries, stamps);
                let (status, Timings { send, wait, .. }) = (head.status(), progress.timings);
                held.tell(|origin, connection| Event::Head { origin, connection, status, send, wait });
                Ok(Body::response(head, held, progress))
            }
            Err(failure) => {
                let reason = match failure.error.kind() {
                    ErrorKind::NotSent => held.as_ref().why_it_ended(),
                    _ => CloseReason::Failed,
                };
                let ended = clock::now();
                let wire = held.as_ref().wire();
                let sent = if wire.written() > written_before { wire.last_write() } else { ended };
                let sent = sent.clamp(granted, ended);
                let stamps = Stamps { began: granted, sent, head: ended, written_before, read_before };
                let so_far = progress(held.as_ref(), asked, opening, idle_before, retries.clone(), stamps);
                let error = failure.error.with_facts(so_far.exchange(held.as_ref(), ended));
                held.tell(|origin, connection| Event::Failed { origin, connection, error: &error });
                held.end(reason);
                Err(LeaseError { error, request: failure.request, idle_before, retries })
            }
        }
    }
}

fn progress(
    connection: &Connection,
    asked: Instant,
    opening: Option<ConnectTimings>,
    idle_before: Option<Duration>,
    retries: Vec<Retry>,
    stamps: Stamps,
) -> Progress {
    let waited = stamps.began.saturating_duration_since(asked);
    let timings = Timings {
        blocked: waited.saturating_sub(opening.map_or(Duration::ZERO, |opening| opening.total())),
        connect: opening,
        send: stamps.sent - stamps.began,
        wait: stamps.head - stamps.sent,
        receive: Duration::ZERO,
    };
    let age = stamps.began.saturating_duration_since(connection.born());
    Progress { nth: connection.exchanges(), age, idle_before, timings, retries, stamps }
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

    /// The error alone.
    pub fn into_error(self) -> Error {
        self.error
    }

    /// The request, if no byte of it was written and the connection had been idle before, so that another
    /// connection may do better; and the account of all attempts so far.
    pub fn take_retry(&mut self) -> Option<(Request<RequestBody>, Vec<Retry>)> {
        let idle_before = self.idle_before?;
        let request = self.request.take()?;
        let mut retries = std::mem::take(&mut self.retries);
        retries.push(Retry { kind: self.error.kind(), idle_before });
        Some((request, retries))
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
