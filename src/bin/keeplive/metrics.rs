//! `--metrics`: what a run counts, for Prometheus to fetch while it runs.

use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use keeplive::load::Live;
use keeplive::report::live::prometheus;
use tokio::sync::oneshot;
use tokio::task::LocalSet;

use crate::say::say;

/// The text format's media type.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Serves until it is dropped, on a thread of its own: nobody who fetches makes a worker wait.
pub(crate) struct Metrics {
    _end: oneshot::Sender<()>,
}

impl Metrics {
    /// Serves from now on.
    ///
    /// # Errors
    ///
    /// When it cannot listen there, with the cure.
    pub(crate) fn serve(address: SocketAddr, live: Live) -> io::Result<Metrics> {
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (bound, listener) = listener.map_err(|error| io::Error::other(refusal(address, &error)))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (end, ended) = oneshot::channel();
        thread::spawn(move || {
            LocalSet::new().block_on(&runtime, async {
                let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
                tokio::select! {
                    () = accept(listener, live) => {}
                    _ = ended => {}
                }
            });
        });
        say(&format!("metrics: http://{bound}/metrics"));
        Ok(Metrics { _end: end })
    }
}

fn refusal(address: SocketAddr, error: &io::Error) -> String {
    let cure = match error.kind() {
        io::ErrorKind::AddrInUse => "the port is taken: give another, or 0 for any that is free",
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address: give a port alone for the loopback"
        }
        io::ErrorKind::PermissionDenied => "ports below 1024 are the system's: give a higher one",
        _ => "give another address or port",
    };
    format!("could not serve --metrics at {address} ({error}); {cure}")
}

async fn accept(listener: tokio::net::TcpListener, live: Live) {
    loop {
        // What fails here is that one connection, or the descriptors that the run needs more.
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let live = live.clone();
        let answer = service_fn(move |request| {
            let response = respond(&request, &live);
            async move { Ok::<_, Infallible>(response) }
        });
        tokio::task::spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

fn respond(request: &Request<Incoming>, live: &Live) -> Response<Full<Bytes>> {
    let is_known = matches!(request.method(), &Method::GET | &Method::HEAD);
    let (status, media, text) = match (is_known, request.uri().path()) {
        (false, _) => (StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET /metrics\n".to_owned()),
        (true, "/metrics") => (StatusCode::OK, TEXT, prometheus(&live.read())),
        (true, _) => (StatusCode::NOT_FOUND, "text/plain", "the metrics are at /metrics\n".to_owned()),
    };
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
    response
}
