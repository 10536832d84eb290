//! [`Connector`]: opens connections: lookup, TCP, TLS, each timed.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpSocket, TcpStream};

use crate::clock;
use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::exchange::TlsFacts;
use crate::origin::{Origin, Scheme};
use crate::phase::{ConnectTimings, Phase};
#[cfg(feature = "tls")]
use crate::tls::{self, TlsClient};
use crate::wire::{Wire, WireFacts};

/// What HTTP is spoken over.
#[derive(Debug)]
pub(crate) enum Stream {
    Plain(Wire),
    #[cfg(feature = "tls")]
    Tls(Box<tokio_rustls::client::TlsStream<Wire>>),
}

impl Stream {
    /// The TCP stream beneath TLS, to be read past it when the conversation is over.
    pub(crate) fn wire_mut(&mut self) -> &mut Wire {
        match self {
            Stream::Plain(wire) => wire,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.get_mut().0,
        }
    }

    pub(crate) fn wire(&self) -> &Wire {
        match self {
            Stream::Plain(wire) => wire,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.get_ref().0,
        }
    }
}

macro_rules! either {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self {
            Stream::Plain($stream) => $call,
            #[cfg(feature = "tls")]
            Stream::Tls($stream) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wire().facts().has_heard_enough() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let result = either!(this, stream => Pin::new(stream).poll_read(cx, buf));
        let facts = this.wire().facts();
        match &result {
            Poll::Ready(Ok(())) if buf.filled().len() > before => {
                facts.add_heard(buf.filled().len() - before)
            }
            Poll::Ready(Ok(())) if buf.remaining() > 0 => facts.broke(),
            Poll::Ready(Err(_)) => facts.broke(),
            _ => {}
        }
        result
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = either!(this, stream => Pin::new(stream).poll_write(cx, bytes));
        if let Poll::Ready(Err(_)) = &result {
            this.wire().facts().broke();
        }
        result
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        either!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// An open connection that no request has used yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) wire: Arc<WireFacts>,
    pub(crate) timings: ConnectTimings,
    pub(crate) remote: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) tls: Option<TlsFacts>,
}

/// Opens connections to origins.
#[derive(Debug)]
pub(crate) struct Connector {
    #[cfg(feature = "tls")]
    pub(crate) tls: Option<TlsClient>,
}

impl Connector {
    /// Opens a connection: lookup, then the addresses in the resolver's order until one answers, then TLS, all
    /// within the connect timeout, and before `latest`.
    ///
    /// *Cancel safety.* Dropping the future closes whatever had been opened.
    pub(crate) async fn open(
        &self,
        origin: &Origin,
        config: &PoolConfig,
        latest: Option<Instant>,
    ) -> Result<Opened, Error> {
        let began = clock::now();
        let limit = config.connect_timeout.and_then(|timeout| began.checked_add(timeout));
        let limit = limit.into_iter().chain(latest).min();
        let (addresses, looked_up) = within(limit, Phase::Dns, resolve(origin, config)).await?;
        let resolved = if looked_up { clock::now() } else { began };
        let tcp = within(limit, Phase::Connect, connect_any(&addresses, config)).await?;
        let remote = tcp.peer_addr().map_err(connect_error)?;
        let local = tcp.local_addr().map_err(connect_error)?;
        let open = clock::now();
        let wire = Wire::new(tcp, open);
        let facts = Arc::clone(wire.facts());
        let mut timings =
            ConnectTimings { dns: looked_up.then(|| resolved - began), tcp: open - resolved, tls: None };
        let (stream, tls) = match origin.scheme() {
            Scheme::Http => (Stream::Plain(wire), None),
            Scheme::Https => {
                let secured = within(limit, Phase::Tls, self.secure(wire, origin)).await?;
                timings.tls = Some(clock::now() - open);
                secured
            }
        };
        Ok(Opened { stream, wire: facts, timings, remote, local, tls })
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, wire: Wire, origin: &Origin) -> Result<(Stream, Option<TlsFacts>), Error> {
        use tokio_rustls::rustls::pki_types::ServerName;
        let Some(tls) = &self.tls else {
            return Err(no_tls());
        };
        let failed = || Error::new(ErrorKind::Tls).at(Phase::Tls);
        let name =
            ServerName::try_from(origin.host().to_owned()).map_err(|source| failed().with_source(source))?;
        let stream =
            tls.connector().connect(name, wire).await.map_err(|source| failed().with_source(source))?;
        let facts = tls::facts(stream.get_ref().1);
        Ok((Stream::Tls(Box::new(stream)), Some(facts)))
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(&self, _wire: Wire, _origin: &Origin) -> Result<(Stream, Option<TlsFacts>), Error> {
        Err(no_tls())
    }
}

/// The limit is one for all phases; the error names the phase in which it was reached.
async fn within<T>(
    limit: Option<Instant>,
    phase: Phase,
    work: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    match limit {
        None => work.await,
        Some(limit) => tokio::time::timeout_at(limit.into(), work)
            .await
            .map_err(|_| Error::new(ErrorKind::ConnectTimeout).at(phase))?,
    }
}

fn no_tls() -> Error {
    let text = "https needs a TLS client: build the pool with Pool::with_tls (feature `tls`)";
    Error::new(ErrorKind::InvalidRequest).with_detail(text.into())
}

/// The addresses to try, and whether somebody had to be asked for them.
async fn resolve(origin: &Origin, config: &PoolConfig) -> Result<(Vec<SocketAddr>, bool), Error> {
    let (host, port) = (origin.host(), origin.port());
    if let Some(resolve) = config.resolve.iter().find(|resolve| resolve.host == host && resolve.port == port)
    {
        return Ok((vec![resolve.address], false));
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok((vec![SocketAddr::new(ip, port)], false));
    }
    let failed =
        || Error::new(ErrorKind::Dns).with_detail(format!("`{host}` could not be resolved")).at(Phase::Dns);
    let addresses: Vec<_> =
        tokio::net::lookup_host((host, port)).await.map_err(|source| failed().with_source(source))?.collect();
    if addresses.is_empty() {
        return Err(failed());
    }
    Ok((addresses, true))
}

async fn connect_any(addresses: &[SocketAddr], config: &PoolConfig) -> Result<TcpStream, Error> {
    let mut last = None;
    for &address in addresses {
        match connect_one(address, config).await {
            Ok(tcp) => return Ok(tcp),
            Err(error) => {
                let text = format!("{} ({address})", connect_text(&error));
                last = Some(connect_error(error).with_detail(text));
            }
        }
    }
    Err(last.unwrap_or_else(|| Error::new(ErrorKind::Connect)))
}

async fn connect_one(address: SocketAddr, config: &PoolConfig) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(local) = config.local_address.filter(|local| local.is_ipv4() == address.is_ipv4()) {
        socket.bind(SocketAddr::new(local, 0))?;
    }
    socket.set_nodelay(config.tcp_nodelay)?;
    socket.connect(address).await
}

fn connect_error(source: io::Error) -> Error {
    Error::new(ErrorKind::of_connect(&source)).at(Phase::Connect)
}

fn connect_text(error: &io::Error) -> String {
    match ErrorKind::of_connect(error) {
        ErrorKind::ConnectRefused => "connection refused: nothing listens there".into(),
        ErrorKind::NoPorts => {
            "no local port is left (EADDRNOTAVAIL): lower the rate, or widen net.ipv4.ip_local_port_range"
                .into()
        }
        ErrorKind::NoFiles => {
            "no file descriptor is left (EMFILE): raise `ulimit -n`, or lower --connections".into()
        }
        _ => format!("could not connect: {error}"),
    }
}
