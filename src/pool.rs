//! [`Pool`]: connections kept for reuse, under limits, with an account of everything that happens to them.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::Request;
use http::header::HOST;

use crate::body::{self, RequestBody};
use crate::clock::{self, AgeClock};
use crate::config::PoolConfig;
use crate::connect::Connector;
use crate::error::{Error, ErrorKind, Retry};
use crate::idle::{CloseReason, end_of_rest};
use crate::lifetime::Lifetimes;
use crate::observer::{Event, Observer, Watched};
use crate::origin::{Origin, origin_form};
use crate::phase::Phase;
use crate::retry;
#[cfg(feature = "tls")]
use crate::tls::TlsClient;

mod closing;
mod drain;
mod fitted;
mod hand_off;
mod held;
mod lease;
mod minder;
mod opening;
mod progress;
mod response;
mod state;
mod stats;
mod unread;
mod upgraded;
mod watch;

pub use drain::Drained;
pub use lease::{Lease, LeaseError};
pub use response::{Body, Response};
pub use stats::PoolStats;
pub use upgraded::Upgraded;

use drain::Drain;
use minder::Minder;
use state::{After, Kept, State};
use watch::Pooled;

/// A pool of HTTP/1.1 connections. Clones share one pool; dropping the last one closes every idle connection.
///
/// It must be used inside a tokio runtime with I/O and time enabled, multi-threaded or current-thread. A connection
/// belongs to the runtime in which it was opened: when that ends, its connections end, and are replaced as others are.
/// Idle ones are minded by one task, on the runtime that gave one back first; when that ends, on another of theirs. A
/// current-thread runtime that nobody drives minds none.
///
/// A connection is driven by whoever reads its response. While a [`Body`] is held and not polled its exchange stands
/// still, the rest of an upload included.
///
/// *Bounds.* What a peer may send before a response is in the caller's hands is bounded by default
/// ([`PoolConfig::max_header_size`], [`PoolConfig::max_headers`]), and so is opening a connection
/// ([`PoolConfig::connect_timeout`]). How long an answer may take is not, for nobody else knows: give a
/// [`PoolConfig::response_timeout`] and a [`PoolConfig::body_idle_timeout`], and against peers that mean harm a
/// [`PoolConfig::total_timeout`] as well: one that drips, a byte now and then, ends by no other.
#[derive(Clone, Debug)]
pub struct Pool {
    handle: Arc<Handle>,
}

/// Counts the handles: its drop is the last handle's.
#[derive(Debug)]
struct Handle(Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.shut();
    }
}

/// Makes a request again.
pub(crate) type Remake<'a> = dyn Fn() -> Request<RequestBody> + Sync + 'a;

/// What a pool's handles, leases and minder share.
#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    connector: Connector,
    lifetimes: Option<Lifetimes>,
    /// By which idle times and lifetimes are told.
    ages: AgeClock,
    state: Mutex<State<Box<Pooled>>>,
    minder: Minder,
    drain: Drain,
    next_id: AtomicU64,
    lingering: AtomicU64,
    watched: Watched,
}

impl Pool {
    /// A pool for plain HTTP, and for HTTPS with the system's roots when the feature `tls` is on.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] when the configuration cannot work; the text tells the cure.
    pub fn new(config: PoolConfig) -> Result<Pool, Error> {
        #[cfg(feature = "tls")]
        return Pool::with_tls(config, crate::tls::TlsConfig::default().build()?);
        #[cfg(not(feature = "tls"))]
        Pool::with_connector(config, Connector::without_tls())
    }

    /// A pool whose HTTPS connections are made by `tls`. Pools that share a [`TlsClient`] share its sessions.
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    #[cfg(feature = "tls")]
    pub fn with_tls(config: PoolConfig, tls: TlsClient) -> Result<Pool, Error> {
        Pool::with_connector(config, Connector::with_tls(tls))
    }

    fn with_connector(config: PoolConfig, connector: Connector) -> Result<Pool, Error> {
        if let Some(fault) = config.fault() {
            return Err(Error::new(ErrorKind::InvalidRequest).with_detail(fault));
        }
        let state = Mutex::new(State::new(&config));
        let (jitter, seed) = (config.lifetime_jitter, RandomState::new().hash_one(0));
        let lifetimes = config.max_lifetime.map(|longest| Lifetimes { longest, jitter, seed });
        let shared = Shared {
            config,
            connector,
            lifetimes,
            ages: AgeClock::new(),
            state,
            minder: Minder::default(),
            drain: Drain::default(),
            next_id: AtomicU64::new(1),
            lingering: AtomicU64::new(0),
            watched: Watched::default(),
        };
        Ok(Pool { handle: Arc::new(Handle(Arc::new(shared))) })
    }

    /// Has an [`Observer`] told of everything that happens from now on, by this handle or any other of the pool.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] when there is one already: a pair of two observers is one.
    pub fn observed_by(self, observer: impl Observer) -> Result<Pool, Error> {
        if self.shared().watched.set(observer) {
            return Ok(self);
        }
        let text = "the pool has an observer already: give it both at once, as a pair".to_owned();
        Err(Error::new(ErrorKind::InvalidRequest).with_detail(text))
    }

    /// Sends a request with an absolute URI and waits for the head of its response.
    ///
    /// *Its length.* A body whose size is known gets its `Content-Length`, also one that is empty, with POST, PUT and PATCH.
    /// A field of the caller's own that says something else is refused: the server would wait for the rest, or take it for
    /// another request. A stream that turns out to be longer or shorter fails with [`ErrorKind::RequestBody`]; longer only
    /// where that is known as its last declared byte is given, for its end is not waited for. A body whose size is not known
    /// is sent in chunks, whatever the method, unless such a field says how long it is. HTTP/1.0 has no chunks: a connection
    /// whose peer has answered in HTTP/1.0 does not get such a request, which goes out over another, as if the connection
    /// had ended.
    ///
    /// *Its version.* It is sent as HTTP/1.1, whatever version it carries: in a proxy that says how it came.
    ///
    /// *Trailers.* Of the trailers that a streamed body ends with, those are sent that the request's own `Trailer` field
    /// names, where the body is sent in chunks; others are left out without a word, which is hyper's rule.
    ///
    /// *Retries.* A request whose connection ended while it was idle, or as the request was on its way to it, is sent
    /// again when [`PoolConfig::retry`] allows it: by default when no byte of it was written, and once more, on a
    /// fresh connection, when it was written, got no byte of a response, and may be processed twice. Each such
    /// attempt stands in [`Exchange::retries`](crate::Exchange::retries), or in [`Error::retries`].
    ///
    /// *Cancel safety.* Dropping the future closes the connection if the request had begun, and otherwise
    /// gives it back.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`].
    pub async fn send<B: Into<RequestBody>>(&self, request: Request<B>) -> Result<Response, Error> {
        let (origin, request) = prepare(request)?;
        self.send_to(&origin, request).await
    }

    /// As [`Pool::send`], with a request in origin-form (`GET /path`, with a `Host` field) and its origin
    /// apart: for many requests to one origin, whose parts need to be found only once.
    ///
    /// # Errors
    ///
    /// See [`ErrorKind`].
    pub async fn send_to(
        &self,
        origin: &Origin,
        mut request: Request<RequestBody>,
    ) -> Result<Response, Error> {
        body::frame(&mut request)?;
        self.send_from(origin, &mut Some(request), clock::now(), None).await
    }

    /// As [`Pool::send_to`], for a request that was wanted at `asked` and lies where it need not be moved. `remake` makes it
    /// again if it is needed again; without that a copy is made before.
    pub(crate) async fn send_from(
        &self,
        origin: &Origin,
        request: &mut Option<Request<RequestBody>>,
        asked: Instant,
        remake: Option<&Remake<'_>>,
    ) -> Result<Response, Error> {
        let mut retries = Vec::new();
        loop {
            let mut lease = match self.ask(origin, asked, &retries).await {
                Ok(lease) => lease,
                Err(error) => return Err(error.after_retries(retries)),
            };
            lease.remember_retries(retries);
            let wants_copy = lease.wants_copy();
            let copy = match (wants_copy && remake.is_none(), &*request) {
                (true, Some(request)) => retry::copy_of(request),
                _ => None,
            };
            let began = lease.granted();
            match lease.send(request, began).await {
                Ok(response) => return Ok(response),
                Err(failure) => {
                    let copy = copy.or_else(|| remake.filter(|_| wants_copy).map(|remake| remake()));
                    let (again, so_far) = failure.again(copy, &self.config().retry)?;
                    (*request, retries) = (Some(again), so_far);
                    if let Some(&retry) = retries.last() {
                        self.shared().watched.tell(|| Event::Retried { origin, retry });
                    }
                }
            }
        }
    }

    /// Takes a connection to `origin` for one exchange: an idle one, or a new one, or, when as many as allowed
    /// are in use, the first that comes free, oldest request first. [`PoolConfig::on_miss`] may have it wait, or
    /// take what comes back, where a new one may be opened.
    ///
    /// *Cancel safety.* A connection that was handed over and not received goes back to the pool.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AcquireTimeout`], [`ErrorKind::QueueFull`], [`ErrorKind::Closed`], or why a connection could not be opened.
    pub async fn lease(&self, origin: &Origin) -> Result<Lease, Error> {
        self.ask(origin, clock::now(), &[]).await
    }

    async fn ask(&self, origin: &Origin, asked: Instant, retries: &[Retry]) -> Result<Lease, Error> {
        let watched = &self.shared().watched;
        watched.tell(|| Event::Asked { origin });
        let lease = self.check_out(origin, asked, retries).await;
        if let Err(error) = &lease {
            watched.tell(|| Event::Refused { origin, error });
        }
        lease
    }

    /// As a rule a connection is there. What else is to be done for one lies in a box, so that a request that needs none of it
    /// does not carry it. An opening ends by its own limits, of which the total timeout is one.
    async fn check_out(&self, origin: &Origin, asked: Instant, retries: &[Retry]) -> Result<Lease, Error> {
        match lease::ask(self.shared(), origin, asked, retries) {
            Ok(lease) => Ok(lease),
            Err(lease::Asked::Open(place)) => opening::open(place, asked).await,
            Err(todo) => Box::pin(self.find(todo, asked)).await,
        }
    }

    /// The total timeout includes the wait for a connection. While one is being opened the connector ends it itself,
    /// and tells in which phase.
    async fn find(&self, todo: lease::Asked, asked: Instant) -> Result<Lease, Error> {
        let finding = todo.find(self.shared(), asked);
        let config = self.config();
        let Some(latest) = config.latest(asked) else { return finding.await };
        tokio::time::timeout_at(latest.into(), finding)
            .await
            .map_err(|_| Error::out_of_time(ErrorKind::Timeout, config.total_timeout, Phase::Blocked, ""))?
    }

    /// What the pool has done and holds.
    pub fn stats(&self) -> PoolStats {
        PoolStats { lingering: self.shared().lingering.load(Relaxed), ..self.shared().lock().stats() }
    }

    /// The pool's configuration.
    pub fn config(&self) -> &PoolConfig {
        &self.shared().config
    }

    /// Closes idle connections now, and those in use when their exchange ends. Requests that wait for a
    /// connection fail with [`ErrorKind::Closed`].
    pub fn close(&self) {
        self.shared().shut();
    }

    /// As [`Pool::close`], and waits until the last connection is closed. Requests that were not yet written say
    /// `Connection: close`. What is still under way after `deadline` is cut: its requests end with
    /// [`ErrorKind::Closed`] and a text that says so, and its connections are closed. Answers with what was cut.
    ///
    /// *Cancel safety.* Dropping the future leaves the pool closed and cuts nothing.
    pub async fn shutdown(&self, deadline: Duration) -> Drained {
        drain::shut_down(self.shared(), deadline).await
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }
}

/// Splits an absolute URI into the origin to connect to and the path to ask for, and names the host.
fn prepare<B: Into<RequestBody>>(request: Request<B>) -> Result<(Origin, Request<RequestBody>), Error> {
    let origin = Origin::from_uri(request.uri())?;
    let mut request = request.map(Into::into);
    *request.uri_mut() = origin_form(request.uri());
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, origin.host_header());
    }
    Ok((origin, request))
}

/// A connection that ends after less rest than this has not ended of age: no server's idle timeout is near it, and a
/// server that resets a busy client now and then would cost it all its connections each time.
const YOUNGEST_STALE: Duration = Duration::from_millis(100);

fn closed<'a>(pooled: &'a Pooled, reason: CloseReason, ages: &AgeClock) -> Event<'a> {
    let (connection, now) = (&pooled.connection, clock::now());
    // One that has written since it came back is in use.
    let idle_since =
        connection.idle_since().filter(|since| ages.at(connection.wire().last_write()) <= *since);
    Event::Closed {
        origin: pooled.origin(),
        connection: connection.facts(),
        reason,
        exchanges: connection.exchanges(),
        age: now.saturating_duration_since(connection.born()),
        idle: idle_since.map(|since| ages.at(now).saturating_duration_since(since)),
    }
}

/// The place of a connection that is being closed, released when dropped: after its connection, and even if that takes
/// something of the caller's with it that panics as it is dropped, such as a request body.
struct PlaceTaken<'a> {
    shared: &'a Arc<Shared>,
    origin: Origin,
}

impl Drop for PlaceTaken<'_> {
    fn drop(&mut self) {
        self.shared.change(|state, after| state.release(&self.origin, after));
    }
}

impl Shared {
    /// The lock is held for arithmetic, and to look at a connection that rests where it lies: a panic elsewhere cannot leave
    /// the state half changed.
    fn lock(&self) -> MutexGuard<'_, State<Box<Pooled>>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state under the lock, and does what follows of the change without it.
    fn change<R>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut State<Box<Pooled>>, &mut After<Box<Pooled>>) -> R,
    ) -> R {
        let mut after = After::default();
        let result = change(&mut self.lock(), &mut after);
        after.wake();
        if after.earlier {
            self.minder.wake();
        }
        for (pooled, reason) in after.closing {
            self.close(pooled, reason);
        }
        self.drain.note_end();
        result
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// What the clock of ages shows when the monotonic one shows that. After a suspend all ages are other than the
    /// minder knows.
    fn age_at(&self, monotonic: Instant) -> Instant {
        if self.ages.look(monotonic) {
            self.minder.wake();
        }
        self.ages.at(monotonic)
    }

    /// Gives a connection to the oldest waiter, or lets it rest from `since` on, by the clock of ages.
    fn put_back(self: &Arc<Self>, mut pooled: Box<Pooled>, since: Instant) {
        if self.drain.has_begun() {
            return self.end(pooled, CloseReason::Shutdown);
        }
        pooled.connection.rest_from(since);
        let watch = Arc::clone(&pooled.watch);
        self.change(|state, after| state.put_back(watch.origin(), pooled, since, after));
        Minder::start(self);
        if watch.has_stirred() {
            watch.report();
        }
    }

    /// A connection that no request has used since it was taken goes on resting, if it still can and may: its time has run
    /// on meanwhile.
    fn rest_on(self: &Arc<Self>, mut pooled: Box<Pooled>) {
        let now = self.age_at(clock::now());
        let since = pooled.connection.idle_since().unwrap_or(now);
        let end = end_of_rest(since, pooled.may_rest(self.config.idle_timeout), pooled.dies);
        if !pooled.watch() {
            let reason = pooled.connection.why_it_ended();
            self.end(pooled, reason);
        } else if let Some((_, reason)) = end.filter(|(at, _)| now >= *at) {
            self.end(pooled, reason);
        } else {
            self.put_back(pooled, since);
        }
    }

    /// A connection that still had its place ends.
    fn end(self: &Arc<Self>, pooled: Box<Pooled>, reason: CloseReason) {
        let _place = PlaceTaken { shared: self, origin: pooled.origin().clone() };
        self.close(pooled, reason);
    }

    /// Whether nothing is open, being opened, or waiting for its peer's FIN.
    fn is_empty(&self) -> bool {
        let stats = self.lock().stats();
        stats.busy + stats.idle == 0 && self.lingering.load(Relaxed) == 0
    }

    /// A connection that had been idle for so long got no response: those as old are taken for as dead.
    fn end_siblings(self: &Arc<Self>, origin: &Origin, idle: Duration) {
        if idle < YOUNGEST_STALE {
            return;
        }
        let Some(since) = self.age_at(clock::now()).checked_sub(idle) else { return };
        self.change(|state, after| state.close_older(origin, since, after));
    }

    /// Closes a connection whose place has been given up, or is about to be.
    fn close(self: &Arc<Self>, mut pooled: Box<Pooled>, reason: CloseReason) {
        self.lock().counts.count_close(reason, pooled.connection.exchanges());
        self.watched.tell(|| closed(&pooled, reason, &self.ages));
        closing::close(self, &mut pooled.connection, reason);
    }

    fn shut(self: &Arc<Self>) {
        self.drain.begin();
        self.change(|state, after| state.close(after));
        self.minder.wake();
    }
}

#[cfg(test)]
mod tests;
