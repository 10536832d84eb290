//! [`Pool`]: connections kept for reuse, under limits, with an account of everything that happens to them.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use http::Request;
use http::header::HOST;

use crate::body::RequestBody;
use crate::clock;
use crate::config::PoolConfig;
use crate::connect::Connector;
use crate::error::{Error, ErrorKind};
use crate::idle::CloseReason;
use crate::observer::{Event, Observer, Watched};
use crate::origin::Origin;
#[cfg(feature = "tls")]
use crate::tls::TlsClient;

mod closing;
mod lease;
mod minder;
mod response;
mod state;
mod stats;
mod watch;

pub use lease::{Lease, LeaseError};
pub use response::{Body, Response};
pub use stats::PoolStats;

use minder::Minder;
use state::{Closing, State};
use watch::Pooled;

/// A pool of HTTP/1.1 connections. Clones share one pool; dropping the last one closes every idle connection.
///
/// It must be used inside a tokio runtime with I/O and time enabled, multi-threaded or current-thread. A connection
/// belongs to the runtime in which it was opened: when that ends, its connections end, and are replaced as others are.
///
/// A connection is driven by whoever reads its response. While a [`Body`] is held and not polled its exchange stands
/// still, the rest of an upload included.
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

/// What a pool's handles, leases and minder share.
#[derive(Debug)]
struct Shared {
    config: PoolConfig,
    connector: Connector,
    state: Mutex<State>,
    minder: Minder,
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
        Pool::with_connector(config, Connector {})
    }

    /// A pool whose HTTPS connections are made by `tls`. Pools that share a [`TlsClient`] share its sessions.
    ///
    /// # Errors
    ///
    /// As [`Pool::new`].
    #[cfg(feature = "tls")]
    pub fn with_tls(config: PoolConfig, tls: TlsClient) -> Result<Pool, Error> {
        Pool::with_connector(config, Connector { tls: Some(tls) })
    }

    fn with_connector(config: PoolConfig, connector: Connector) -> Result<Pool, Error> {
        if let Some(fault) = config.fault() {
            return Err(Error::new(ErrorKind::InvalidRequest).with_detail(fault));
        }
        let state = Mutex::new(State::new(&config));
        let shared = Shared {
            config,
            connector,
            state,
            minder: Minder::default(),
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
    /// *Retries.* A request is sent again only when nothing of it can have been processed: no byte of it was
    /// written because the connection turned out to have ended while idle ([`ErrorKind::NotSent`]). Each such
    /// attempt stands in [`Exchange::retries`](crate::Exchange::retries). A request that was written is never
    /// sent again by the pool, whatever its method: RFC 9110, section 9.2.2, leaves that to whoever knows what
    /// the request means.
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
        let mut retries = Vec::new();
        let asked = clock::now();
        loop {
            let mut lease = self.ask(origin, asked).await?;
            lease.remember_retries(&mut retries);
            match lease.exchange(request).await {
                Ok(response) => return Ok(response),
                Err(mut failure) => match failure.take_retry() {
                    Some((back, so_far)) => {
                        request = back;
                        retries = so_far;
                        if let Some(&retry) = retries.last() {
                            self.shared().watched.tell(|| Event::Retried { origin, retry });
                        }
                    }
                    None => return Err(failure.into_error()),
                },
            }
        }
    }

    /// Takes a connection to `origin` for one exchange: an idle one, or a new one, or, when as many as allowed
    /// are in use, the first that comes free, oldest request first.
    ///
    /// *Cancel safety.* A connection that was handed over and not received goes back to the pool.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::AcquireTimeout`], [`ErrorKind::Closed`], or why a connection could not be opened.
    pub async fn lease(&self, origin: &Origin) -> Result<Lease, Error> {
        self.ask(origin, clock::now()).await
    }

    async fn ask(&self, origin: &Origin, asked: Instant) -> Result<Lease, Error> {
        let watched = &self.shared().watched;
        watched.tell(|| Event::Asked { origin });
        let lease = lease::check_out(self.shared(), origin, asked).await;
        if let Err(error) = &lease {
            watched.tell(|| Event::Refused { origin, error });
        }
        lease
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

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.0
    }
}

/// Splits an absolute URI into the origin to connect to and the path to ask for (origin-form, RFC 9112,
/// section 3.2.1), and names the host.
fn prepare<B: Into<RequestBody>>(request: Request<B>) -> Result<(Origin, Request<RequestBody>), Error> {
    let origin = Origin::from_uri(request.uri())?;
    let mut request = request.map(Into::into);
    let path = request.uri().path_and_query().cloned();
    *request.uri_mut() = path.map_or_else(|| http::Uri::from_static("/"), http::Uri::from);
    if !request.headers().contains_key(HOST) {
        request.headers_mut().insert(HOST, origin.host_header());
    }
    Ok((origin, request))
}

fn closed(pooled: &Pooled, reason: CloseReason) -> Event<'_> {
    let (connection, now) = (&pooled.connection, clock::now());
    // One that has written since it came back is in use.
    let idle_since = connection.idle_since().filter(|since| connection.wire().last_write() <= *since);
    Event::Closed {
        origin: pooled.origin(),
        connection: connection.facts(),
        reason,
        exchanges: connection.exchanges(),
        age: now.saturating_duration_since(connection.born()),
        idle: idle_since.map(|since| now.saturating_duration_since(since)),
    }
}

impl Shared {
    /// The lock is held for arithmetic only, so a panic elsewhere cannot leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Relaxed)
    }

    /// Gives a connection to the oldest waiter, or lets it rest from `since` on.
    fn put_back(self: &Arc<Self>, mut pooled: Pooled, since: Instant) {
        pooled.connection.rest_from(since);
        let (watch, origin) = (Arc::clone(&pooled.watch), pooled.origin().clone());
        let idle_end = self.config.idle_timeout.and_then(|timeout| since.checked_add(timeout));
        let deadline = idle_end.into_iter().chain(pooled.dies()).min();
        let mut closing = Vec::new();
        let earlier = {
            let mut state = self.lock();
            state.put_back(&origin, pooled, since, &mut closing);
            let looks_at = state.minder_looks_at;
            let earlier = deadline.is_some_and(|deadline| looks_at.is_none_or(|at| deadline < at));
            if earlier {
                state.minder_looks_at = deadline;
            }
            earlier
        };
        Minder::start(self);
        if earlier {
            self.minder.wake();
        }
        if watch.has_stirred() {
            watch.report();
        }
        self.close_all(closing);
    }

    /// A connection that no request has used since it was taken goes on resting, if it still can.
    fn rest_on(self: &Arc<Self>, mut pooled: Pooled) {
        if pooled.watch() {
            let since = pooled.connection.idle_since().unwrap_or_else(clock::now);
            self.put_back(pooled, since);
        } else {
            let reason = pooled.connection.why_it_ended();
            self.end(pooled, reason);
        }
    }

    /// A connection that still had its place ends.
    fn end(self: &Arc<Self>, pooled: Pooled, reason: CloseReason) {
        let origin = pooled.origin().clone();
        self.close(pooled, reason);
        self.lock().release(&origin);
    }

    fn close_all(self: &Arc<Self>, closing: Closing) {
        for (pooled, reason) in closing {
            self.close(pooled, reason);
        }
    }

    /// Closes a connection whose place has been given up, or is about to be.
    fn close(self: &Arc<Self>, pooled: Pooled, reason: CloseReason) {
        self.lock().counts.count_close(reason);
        self.watched.tell(|| closed(&pooled, reason));
        closing::close(self, *pooled.connection, reason);
    }

    fn shut(self: &Arc<Self>) {
        let mut closing = Vec::new();
        self.lock().close(&mut closing);
        self.close_all(closing);
        self.minder.wake();
    }
}
