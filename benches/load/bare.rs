//! What hyper itself costs a load tester: a closed loop on `hyper::client::conn::http1` that does no more than it must, and
//! nothing of what keeplive measures. What an aim asks below this cannot be had through hyper.
//!
//! Over TLS with tokio-rustls, as keeplive.
//!
//! The connection is polled by the task that sends; the halves of hyper's channels are polled with a waker that does
//! nothing; a response's header map is the next request's; one clock read and one histogram entry a request; responses that
//! have come are read before the next request is sent, as wrk does.

use std::cell::RefCell;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{HeaderMap, Request, Uri};
use http_body::Body as _;
use http_body_util::Empty;
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio_rustls::TlsConnector;

use crate::support::now;
use crate::{Scenario, tls};

/// What all loops of the thread share.
struct Shared {
    to: SocketAddr,
    keeps: bool,
    tls: Option<TlsConnector>,
    path: Uri,
    host: HeaderValue,
    ends: Instant,
    taken: RefCell<Histogram<u64>>,
}

pub(crate) fn run(address: &str, scenario: Scenario, connections: usize, seconds: u64) {
    let to: SocketAddr = address.parse().expect("an address");
    let shared = Rc::new(Shared {
        to,
        keeps: scenario.keeps(),
        tls: scenario.is_tls().then(|| TlsConnector::from(tls::config())),
        path: Uri::from_static("/"),
        host: HeaderValue::try_from(address).expect("an address is visible ASCII"),
        ends: now() + Duration::from_secs(seconds),
        taken: RefCell::new(Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that fit")),
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        let loops: Vec<_> = (0..connections)
            .map(|_| tokio::task::spawn_local(Rc::clone(&shared).send_until_over()))
            .collect();
        for one in loops {
            one.await.expect("no panic");
        }
    });
    assert!(!shared.taken.borrow().is_empty(), "something was answered");
}

impl Shared {
    async fn send_until_over(self: Rc<Self>) {
        let mut began = now();
        while began < self.ends {
            let tcp = TcpStream::connect(self.to).await.expect("nginx listens");
            tcp.set_nodelay(true).expect("a TCP socket");
            began = match &self.tls {
                None => self.converse(tcp, began).await,
                Some(tls) => {
                    let stream = tls.connect(self.to.ip().into(), tcp).await.expect("nginx shakes hands");
                    self.converse(stream, began).await
                }
            };
        }
    }

    /// Requests on one connection, until the time is over or the connection is; and when the next one begins.
    async fn converse<S>(&self, stream: S, mut began: Instant) -> Instant
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let shaken = Builder::new().writev(false).handshake(TokioIo::new(stream)).await;
        let (mut sender, mut connection) = shaken.expect("no I/O yet");
        let mut fields = HeaderMap::new();
        loop {
            fields = exchange(&mut sender, &mut connection, self.request(fields)).await;
            let done = now();
            self.taken.borrow_mut().saturating_record((done - began).as_nanos() as u64);
            after_those_at_hand().await;
            began = now();
            if !self.keeps || began >= self.ends {
                return began;
            }
        }
    }

    fn request(&self, mut fields: HeaderMap) -> Request<Empty<Bytes>> {
        fields.clear();
        fields.insert(HOST, self.host.clone());
        if !self.keeps {
            fields.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = fields;
        request
    }
}

/// A request, and its response to the end; the map of its fields may be used again.
async fn exchange<S>(
    sender: &mut SendRequest<Empty<Bytes>>,
    connection: &mut Connection<S, Empty<Bytes>>,
    request: Request<Empty<Bytes>>,
) -> HeaderMap
where
    S: hyper::rt::Read + hyper::rt::Write + Unpin + 'static,
{
    let mut answer = pin!(sender.send_request(request));
    let mut quietly = Context::from_waker(Waker::noop());
    let response = poll_fn(|cx| {
        let _ = connection.poll_without_shutdown(cx);
        answer.as_mut().poll(&mut quietly)
    });
    let (head, mut body) = response.await.expect("a response").into_parts();
    while !body.is_end_stream() {
        let frame = poll_fn(|cx| {
            if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut quietly) {
                return Poll::Ready(frame);
            }
            let _ = connection.poll_without_shutdown(cx);
            Pin::new(&mut body).poll_frame(&mut quietly)
        });
        let Some(frame) = frame.await else { break };
        frame.expect("a whole body");
    }
    head.headers
}

async fn after_those_at_hand() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
