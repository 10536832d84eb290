//! Tunnels through HTTP proxies (CONNECT, RFC 9110, section 9.3.6).

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use http::header::{HOST, HeaderMap, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;

use super::forward::authorization;
use super::stream::{Pipe, Stream};
use crate::body::RequestBody;
use crate::error::{Error, ErrorKind};
use crate::heads::{HeadLimits, TooMuch, is_too_large};
use crate::phase::Phase;
use crate::proxy::Proxy;

/// Asks the proxy for a tunnel to `target` (host and port), and gives back what leads through it. Its answer has the
/// limits of any response head.
///
/// *Cancel safety.* Dropping the future closes the connection to the proxy.
pub(super) async fn dig(pipe: Pipe, proxy: &Proxy, target: &str, heads: HeadLimits) -> Result<Pipe, Error> {
    let lost = |source: hyper::Error| {
        if is_too_large(&source) {
            return too_much(proxy, target, heads, TooMuch::Size).with_source(source);
        }
        failed(format!("the proxy {proxy} gave no answer to CONNECT {target}")).with_source(source)
    };
    let stream = Stream(pipe);
    let wire = Arc::clone(stream.wire().facts());
    let heard_before = wire.heard();
    let (mut sender, mut connection) = heads.builder().handshake(TokioIo::new(stream)).await.map_err(lost)?;
    let mut request = request(proxy, target)?;
    let informed = heads.count_informational(&mut request);
    let mut answer = pin!(sender.try_send_request(request));
    let mut broken = None;
    let mut is_over = false;
    let answer = poll_fn(|cx| {
        wire.begin_turn();
        if !is_over && let Poll::Ready(end) = connection.poll_without_shutdown(cx) {
            is_over = true;
            broken = end.err();
        }
        let answered = answer.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let size = || if answered.is_ready() { None } else { heads.ends_before(wire.heard() - heard_before) };
        match heads.has_enough_of(informed.as_deref()).or_else(size) {
            Some(which) => Poll::Ready(Err(which)),
            None => answered.map(Ok),
        }
    });
    let answer = answer.await.map_err(|which| too_much(proxy, target, heads, which))?;
    let response = answer.map_err(|error| lost(broken.take().unwrap_or_else(|| error.into_error())))?;
    if !response.status().is_success() {
        return Err(refused(proxy, target, response.status(), response.headers()));
    }
    let http1::Parts { io, read_buf, .. } = connection.into_parts();
    if !read_buf.is_empty() {
        // Whoever waits to be asked has nothing to say: these bytes would be taken for the beginning of an answer.
        let text = format!(
            "the proxy {proxy} sent {} bytes through its tunnel to {target} before anything was asked",
            read_buf.len()
        );
        return Err(failed(text));
    }
    wire.end_turns();
    Ok(io.into_inner().0)
}

fn too_much(proxy: &Proxy, target: &str, heads: HeadLimits, which: TooMuch) -> Error {
    failed(format!("the proxy {proxy} said too much to CONNECT {target}: {}", heads.told(which)))
}

fn request(proxy: &Proxy, target: &str) -> Result<Request<RequestBody>, Error> {
    let uri = Uri::builder().authority(target).build();
    let uri = uri.map_err(|source| failed(format!("no tunnel leads to `{target}`")).with_source(source))?;
    let mut request = Request::new(RequestBody::empty());
    *request.method_mut() = Method::CONNECT;
    let host = target.parse().expect("an authority has only visible ASCII characters");
    request.headers_mut().insert(HOST, host);
    if let Some(authorization) = authorization(proxy) {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
    }
    *request.uri_mut() = uri;
    Ok(request)
}

fn refused(proxy: &Proxy, target: &str, status: StatusCode, headers: &HeaderMap) -> Error {
    if status != StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        let text = format!("the proxy {proxy} refused the tunnel to {target}: {status}");
        return failed(text);
    }
    let wanted =
        headers.get(PROXY_AUTHENTICATE).and_then(|value| value.to_str().ok()).unwrap_or("nothing it names");
    let cure = match proxy.credentials {
        Some(_) => "it does not accept this user and password",
        None => "give them in the proxy's URL, http://user:password@host:port",
    };
    failed(format!("the proxy {proxy} wants credentials (407, {wanted}): {cure}"))
}

pub(super) fn failed(text: String) -> Error {
    Error::new(ErrorKind::Proxy).at(Phase::Proxy).with_detail(text)
}
