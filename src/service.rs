//! [`Pool`] as a [`tower_service::Service`], so that middleware can be stacked over it.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Request;
use http_body::Body as HttpBody;
use tower_service::Service;

use crate::body::RequestBody;
use crate::error::Error;
use crate::pool::{Pool, Response};

/// A request on its way, as [`Pool::call`](Service::call) gives it: [`Pool::send`] with a name of its own.
///
/// *Cancel safety.* As [`Pool::send`]: dropped, it closes the connection if the request had begun, and otherwise
/// gives it back.
#[must_use = "a request is sent by whoever awaits it"]
pub struct Sending(Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>);

impl Future for Sending {
    type Output = Result<Response, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl fmt::Debug for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sending")
    }
}

/// The request's URI is absolute; any body will do.
///
/// *Readiness.* The pool is always ready. A place cannot be promised before the origin is known, and that stands in
/// the request. Back-pressure is in the queue: beyond
/// [`max_connections_per_origin`](crate::PoolConfig::max_connections_per_origin) a call waits for its turn, for as
/// long as the [`acquire_timeout`](crate::PoolConfig::acquire_timeout) lets it. Middleware that must know before it
/// calls, such as load shedding, stands over a concurrency limit.
///
/// *Cost.* One allocation more than [`Pool::send`], for the future that must have a name.
///
/// ```
/// use std::time::Duration;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # async fn example(pool: keeplive::Pool) -> Result<(), tower::BoxError> {
/// let client = ServiceBuilder::new().concurrency_limit(64).timeout(Duration::from_secs(5)).service(pool);
/// let request = http::Request::get("http://example.com/").body(String::new())?;
/// let response = client.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
impl<B> Service<Request<B>> for Pool
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response;
    type Error = Error;
    type Future = Sending;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Request<B>>::poll_ready(&mut &*self, cx)
    }

    fn call(&mut self, request: Request<B>) -> Sending {
        (&*self).call(request)
    }
}

/// As for [`Pool`]: a shared handle is enough.
impl<B> Service<Request<B>> for &Pool
where
    B: HttpBody + Send + 'static,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    type Response = Response;
    type Error = Error;
    type Future = Sending;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Sending {
        let (pool, request) = (Pool::clone(self), request.map(RequestBody::new));
        Sending(Box::pin(async move { pool.send(request).await }))
    }
}
