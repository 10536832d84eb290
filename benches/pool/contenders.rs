//! Who is compared. Each does what its own documentation shows, with the same request (a GET with nothing but `Host`),
//! reads the body to its end without collecting it, and sets TCP_NODELAY.

use std::future::{Ready, poll_fn, ready};
use std::hint::black_box;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, HeaderValue};
use http::{Request, Uri};
use http_body::Body as _;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use keeplive::{Origin, Pool, PoolConfig, RequestBody, Resolve};
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::Service;

use crate::echo::BODY;

/// Where requests go, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct To {
    pub(crate) addr: SocketAddr,
    /// Whether connections are used again.
    pub(crate) keep: bool,
    /// Loops that send at the same time.
    pub(crate) loops: usize,
    /// Names by which the same place is asked for. With more than one, every loop has some of its own and takes them in
    /// turn.
    pub(crate) origins: usize,
}

impl To {
    /// The URLs that one of the loops asks for.
    fn urls(&self, which: usize) -> Vec<String> {
        if self.origins == 1 {
            return vec![format!("http://{}/", self.addr)];
        }
        let own = (which..self.origins).step_by(self.loops);
        own.map(|n| format!("http://{}:{}/", name(n), self.addr.port())).collect()
    }
}

pub(crate) fn name(n: usize) -> String {
    format!("origin-{n}.test")
}

/// One after the other, and again. To have another of its kind takes no memory: what is weighed are connections.
#[derive(Clone)]
struct Turns<T> {
    all: Arc<[T]>,
    next: usize,
}

impl<T> Turns<T> {
    fn new(all: impl IntoIterator<Item = T>) -> Turns<T> {
        Turns { all: all.into_iter().collect(), next: 0 }
    }

    fn next(&mut self) -> &T {
        let turn = self.next;
        self.next = (turn + 1) % self.all.len();
        &self.all[turn]
    }
}

/// A client, as one of several loops uses it.
pub(crate) trait Contender: Send + Sync + Sized + 'static {
    /// The client of the first loop.
    fn new(to: To) -> Self;

    /// The client of another loop: the same pool, where there is one.
    fn another(&self, which: usize) -> Self;

    /// One request, and its response to the end.
    fn request(&mut self) -> impl Future<Output = ()> + Send;
}

async fn connect(addr: SocketAddr) -> TcpStream {
    let tcp = TcpStream::connect(addr).await.expect("the other side listens");
    tcp.set_nodelay(true).expect("a TCP socket");
    tcp
}

fn host(addr: SocketAddr) -> HeaderValue {
    HeaderValue::try_from(addr.to_string()).expect("an address is visible ASCII")
}

/// The floor: the request's bytes are ready, and a response is over when as many bytes have come as it has.
pub(crate) struct Floor {
    to: To,
    request: Bytes,
    tcp: Option<TcpStream>,
    buf: Box<[u8; 1024]>,
}

impl Contender for Floor {
    fn new(to: To) -> Floor {
        let close = if to.keep { "" } else { "connection: close\r\n" };
        let request = format!("GET / HTTP/1.1\r\nhost: {}\r\n{close}\r\n", to.addr).into();
        Floor { to, request, tcp: None, buf: Box::new([0; 1024]) }
    }

    fn another(&self, _: usize) -> Floor {
        Floor::new(self.to)
    }

    async fn request(&mut self) {
        let tcp = match &mut self.tcp {
            Some(tcp) => tcp,
            none => none.insert(connect(self.to.addr).await),
        };
        tcp.write_all(&self.request).await.expect("written");
        let mut filled = 0;
        while filled == 0 || (self.to.keep && !self.buf[..filled].ends_with(BODY)) {
            let n = tcp.read(&mut self.buf[filled..]).await.expect("read");
            assert!(n > 0, "the response ended early");
            filled += n;
        }
        if !self.to.keep {
            while tcp.read(&mut self.buf[..]).await.expect("read") > 0 {}
            self.tcp = None;
        }
    }
}

/// What both kinds of bare hyper send.
#[derive(Clone)]
struct Template {
    to: To,
    path: Uri,
    host: HeaderValue,
}

impl Template {
    fn new(to: To) -> Template {
        Template { to, path: Uri::from_static("/"), host: host(to.addr) }
    }

    fn request<B>(&self, body: B) -> Request<B> {
        let mut request = Request::new(body);
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        request
    }

    fn for_bare_hyper(&self) -> Request<Empty<Bytes>> {
        let mut request = self.request(Empty::new());
        if !self.to.keep {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        request
    }
}

async fn read_to_end(mut body: Incoming) {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        read += frame.expect("a whole body").data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(read, BODY.len());
}

/// hyper's connection in a task of its own, as its documentation shows.
pub(crate) struct Spawned {
    template: Template,
    sender: Option<SendRequest<Empty<Bytes>>>,
}

impl Contender for Spawned {
    fn new(to: To) -> Spawned {
        Spawned { template: Template::new(to), sender: None }
    }

    fn another(&self, _: usize) -> Spawned {
        Spawned { template: self.template.clone(), sender: None }
    }

    async fn request(&mut self) {
        let sender = match &mut self.sender {
            Some(sender) => sender,
            none => {
                let io = TokioIo::new(connect(self.template.to.addr).await);
                let (sender, connection) = http1::handshake(io).await.expect("no I/O yet");
                tokio::spawn(connection);
                none.insert(sender)
            }
        };
        sender.ready().await.expect("an open connection");
        let response = sender.send_request(self.template.for_bare_hyper()).await.expect("a response");
        read_to_end(response.into_body()).await;
        if !self.template.to.keep {
            self.sender = None;
        }
    }
}

/// hyper's connection polled by the task that sends the request, as keeplive does: what is left between this and
/// keeplive is the pool.
pub(crate) struct Inline {
    template: Template,
    open: Option<Open>,
}

type Open = (SendRequest<Empty<Bytes>>, HyperConnection);

/// The same with a connection for each of several names, which it need not look for.
pub(crate) struct InlineByTurns {
    all: Vec<Inline>,
    next: usize,
}

impl InlineByTurns {
    fn of(to: To, which: usize) -> InlineByTurns {
        InlineByTurns { all: to.urls(which).iter().map(|_| Inline::new(to)).collect(), next: 0 }
    }
}

impl Contender for InlineByTurns {
    fn new(to: To) -> InlineByTurns {
        InlineByTurns::of(to, 0)
    }

    fn another(&self, which: usize) -> InlineByTurns {
        InlineByTurns::of(self.all[0].template.to, which)
    }

    async fn request(&mut self) {
        let turn = self.next;
        self.next = (turn + 1) % self.all.len();
        self.all[turn].request().await;
    }
}

/// The same with what a pool owes to each request, and no pool: a look at the socket before it is written to again, a copy
/// of the request in case that it gets no response, and the instants at which it was asked for, begun, written, answered
/// and done.
pub(crate) struct Dutiful {
    inline: Inline,
    socket: RawFd,
}

#[expect(clippy::disallowed_methods, reason = "bare hyper has no clock of keeplive's")]
fn now() -> Instant {
    Instant::now()
}

type HyperConnection = Connection<TokioIo<TcpStream>, Empty<Bytes>>;

impl Contender for Inline {
    fn new(to: To) -> Inline {
        Inline { template: Template::new(to), open: None }
    }

    fn another(&self, _: usize) -> Inline {
        Inline { template: self.template.clone(), open: None }
    }

    async fn request(&mut self) {
        self.send(self.template.for_bare_hyper()).await;
    }
}

impl Contender for Dutiful {
    fn new(to: To) -> Dutiful {
        Dutiful { inline: Inline::new(to), socket: -1 }
    }

    fn another(&self, _: usize) -> Dutiful {
        Dutiful { inline: self.inline.another(0), socket: -1 }
    }

    async fn request(&mut self) {
        let asked = now();
        let request = self.inline.template.for_bare_hyper();
        let copy = request.clone();
        if self.inline.open.is_none() {
            self.socket = self.inline.connect().await;
        }
        // SAFETY: the connection is open.
        let socket = unsafe { BorrowedFd::borrow_raw(self.socket) };
        let looked = recv(socket, &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        assert!(looked.is_err(), "nothing has come");
        let began = now();
        self.inline.send(request).await;
        // Written, answered, done: when they are read makes no difference to what that costs.
        black_box((copy, asked, began, [(); 3].map(|()| now())));
    }
}

impl Inline {
    async fn connect(&mut self) -> RawFd {
        let tcp = connect(self.template.to.addr).await;
        let socket = tcp.as_raw_fd();
        let handshake = http1::Builder::new().writev(false).handshake(TokioIo::new(tcp)).await;
        self.open = Some(handshake.expect("no I/O yet"));
        socket
    }

    async fn send(&mut self, request: Request<Empty<Bytes>>) {
        if self.open.is_none() {
            self.connect().await;
        }
        let (sender, connection) = self.open.as_mut().expect("opened above");
        let mut answer = pin!(sender.send_request(request));
        let mut done = false;
        let mut drive = |connection: &mut HyperConnection, cx: &mut Context<'_>| {
            if !done {
                done = Pin::new(connection).poll(cx).is_ready();
            }
        };
        let response = poll_fn(|cx| {
            drive(connection, cx);
            answer.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        let mut body = response.await.expect("a response").into_body();
        let mut read = 0;
        while !body.is_end_stream() {
            let frame = poll_fn(|cx| {
                let mut quietly = Context::from_waker(Waker::noop());
                if let Poll::Ready(frame) = Pin::new(&mut body).poll_frame(&mut quietly) {
                    return Poll::Ready(frame);
                }
                drive(connection, cx);
                Pin::new(&mut body).poll_frame(&mut quietly)
            });
            let Some(frame) = frame.await else { break };
            read += frame.expect("a whole body").data_ref().map_or(0, Bytes::len);
        }
        assert_eq!(read, BODY.len());
        if self.template.to.keep {
            // As a rule the poll that read the end has made it ready for the next request.
            poll_fn(|cx| {
                if !sender.is_ready() {
                    drive(connection, cx);
                }
                Poll::Ready(())
            })
            .await;
            assert!(sender.is_ready());
        } else {
            if !done {
                let _ = connection.await;
            }
            self.open = None;
        }
    }
}

/// keeplive: `Pool::send_to`.
pub(crate) struct SendTo(Keeplive);

/// keeplive: `Pool::lease`, then `Lease::exchange`.
pub(crate) struct Leased(Keeplive);

#[derive(Clone)]
pub(crate) struct Keeplive {
    pub(crate) pool: Pool,
    origins: Turns<Origin>,
    template: Template,
}

impl Keeplive {
    pub(crate) fn new(to: To) -> Keeplive {
        let resolve = (0..to.origins)
            .map(|n| Resolve { host: name(n), port: to.addr.port(), address: to.addr })
            .collect();
        let config = PoolConfig::default()
            .keep_alive(to.keep)
            .max_idle_per_origin(to.loops)
            .max_idle(to.loops.max(to.origins))
            .resolve(resolve);
        Keeplive::with(Pool::new(config).expect("a pool"), to, &to.urls(0))
    }

    pub(crate) fn with(pool: Pool, to: To, urls: &[String]) -> Keeplive {
        let origins = Turns::new(urls.iter().map(|url| url.parse().expect("an origin")));
        Keeplive { pool, origins, template: Template::new(to) }
    }

    fn another(&self, which: usize) -> Keeplive {
        let to = self.template.to;
        Keeplive::with(self.pool.clone(), to, &to.urls(which))
    }

    pub(crate) fn origin(&mut self) -> &Origin {
        self.origins.next()
    }

    pub(crate) fn request(&self) -> Request<RequestBody> {
        self.template.request(RequestBody::empty())
    }

    async fn read_to_end(response: keeplive::Response) {
        let exchange = response.into_body().finish().await.expect("a whole body");
        assert!(exchange.bytes_in > BODY.len() as u64);
    }
}

impl Contender for SendTo {
    fn new(to: To) -> SendTo {
        SendTo(Keeplive::new(to))
    }

    fn another(&self, which: usize) -> SendTo {
        SendTo(self.0.another(which))
    }

    async fn request(&mut self) {
        let request = self.0.request();
        let response = self.0.pool.send_to(self.0.origins.next(), request).await.expect("a response");
        Keeplive::read_to_end(response).await;
    }
}

impl Contender for Leased {
    fn new(to: To) -> Leased {
        Leased(Keeplive::new(to))
    }

    fn another(&self, which: usize) -> Leased {
        Leased(self.0.another(which))
    }

    async fn request(&mut self) {
        let lease = self.0.pool.lease(self.0.origins.next()).await.expect("a lease");
        let response = lease.exchange(self.0.request()).await.expect("a response");
        Keeplive::read_to_end(response).await;
    }
}

/// hyper-util's legacy Client. Its idle connections are closed in time only if it is given a timer, so it is.
pub(crate) struct Legacy {
    client: Client<HttpConnector<Known>, Empty<Bytes>>,
    uris: Turns<Uri>,
    to: To,
}

/// A resolver that leads every name to the same place.
#[derive(Clone)]
pub(crate) struct Known(SocketAddr);

impl Service<Name> for Known {
    type Response = std::iter::Once<SocketAddr>;
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Name) -> Self::Future {
        ready(Ok(std::iter::once(self.0)))
    }
}

fn parsed(urls: &[String]) -> Turns<Uri> {
    Turns::new(urls.iter().map(|url| url.parse().expect("a URL")))
}

impl Contender for Legacy {
    fn new(to: To) -> Legacy {
        let mut connector = HttpConnector::new_with_resolver(Known(to.addr));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(if to.keep { usize::MAX } else { 0 })
            .build(connector);
        Legacy { client, uris: parsed(&to.urls(0)), to }
    }

    fn another(&self, which: usize) -> Legacy {
        Legacy { client: self.client.clone(), uris: parsed(&self.to.urls(which)), to: self.to }
    }

    async fn request(&mut self) {
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uris.next().clone();
        if !self.to.keep {
            // It does not say so by itself, even when it keeps nothing.
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let response = self.client.request(request).await.expect("a response");
        read_to_end(response.into_body()).await;
    }
}

/// reqwest, without what it offers beyond HTTP/1.1 (its default features are off).
pub(crate) struct Reqwest {
    client: reqwest::Client,
    urls: Turns<reqwest::Url>,
    to: To,
}

impl Contender for Reqwest {
    fn new(to: To) -> Reqwest {
        let idle = if to.keep { usize::MAX } else { 0 };
        let builder = reqwest::Client::builder().no_proxy().pool_max_idle_per_host(idle);
        let builder = (0..to.origins).fold(builder, |builder, n| builder.resolve(&name(n), to.addr));
        let client = builder.build().expect("a client");
        Reqwest { client, urls: Reqwest::parsed(&to.urls(0)), to }
    }

    fn another(&self, which: usize) -> Reqwest {
        Reqwest { client: self.client.clone(), urls: Reqwest::parsed(&self.to.urls(which)), to: self.to }
    }

    async fn request(&mut self) {
        let mut request = self.client.get(self.urls.next().clone());
        if !self.to.keep {
            request = request.header(CONNECTION, "close");
        }
        let mut response = request.send().await.expect("a response");
        let mut read = 0;
        while let Some(chunk) = response.chunk().await.expect("a whole body") {
            read += chunk.len();
        }
        assert_eq!(read, BODY.len());
    }
}

impl Reqwest {
    fn parsed(urls: &[String]) -> Turns<reqwest::Url> {
        Turns::new(urls.iter().map(|url| reqwest::Url::parse(url).expect("a URL")))
    }
}
