//! [`Connector`]: opens connections: lookup, TCP, TLS, each timed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use tokio::net::TcpStream;

use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::exchange::{Address, TlsFacts};
use crate::heads::HeadLimits;
#[cfg(feature = "tls")]
use crate::observer::Step;
use crate::observer::{Steps, Watched};
use crate::origin::{Origin, Scheme};
use crate::phase::{ConnectTimings, Phase};
use crate::proxy::{Proxy, ProxyScheme};
use crate::route::Route;
#[cfg(feature = "tls")]
use crate::tls::{self, TlsClient};
use crate::wire::{Socket, Wire, WireFacts};

mod account;
mod forward;
mod lookup;
mod race;
mod socket;
#[cfg(feature = "socks")]
mod socks;
mod stream;
mod tunnel;
mod unix;

pub(crate) use forward::{Addressed, Forward};
pub(crate) use stream::Stream;

use account::Account;
use race::Race;
use socket::Sockets;
use stream::Pipe;

/// An open connection that no request has used yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) wire: Arc<WireFacts>,
    pub(crate) timings: ConnectTimings,
    pub(crate) remote: Address,
    pub(crate) local: Address,
    pub(crate) tls: Option<TlsFacts>,
    /// Where the peer is a proxy that passes requests on.
    pub(crate) forward: Option<Forward>,
}

/// Opens connections to origins.
#[derive(Debug)]
pub(crate) struct Connector {
    #[cfg(feature = "tls")]
    tls: Option<TlsClient>,
    /// Counts attempts, so that local addresses take turns.
    turn: AtomicUsize,
}

impl Connector {
    #[cfg(feature = "tls")]
    pub(crate) fn with_tls(tls: TlsClient) -> Connector {
        Connector { tls: Some(tls), turn: AtomicUsize::new(0) }
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn without_tls() -> Connector {
        Connector { turn: AtomicUsize::new(0) }
    }

    /// Opens a connection: lookup, then the first address that answers, then TLS, each within its timeout and all
    /// within the connect timeout, and before `latest`, where the request's whole time is over. An error tells how far
    /// the time went; `watched` hears of each step.
    ///
    /// *Cancel safety.* Dropping the future closes whatever had been opened.
    pub(crate) async fn open(
        &self,
        origin: &Origin,
        config: &PoolConfig,
        latest: Option<Instant>,
        watched: &Watched,
    ) -> Result<Opened, Error> {
        let mut account = Account::open(config, latest, Steps { watched, origin });
        match self.walk(origin, config, &mut account).await {
            Ok(opened) => Ok(opened),
            Err(error) => Err(account.close(error)),
        }
    }

    async fn walk(
        &self,
        origin: &Origin,
        config: &PoolConfig,
        account: &mut Account<'_>,
    ) -> Result<Opened, Error> {
        let route = config.route_to(origin);
        let (socket, remote, local) = self.socket(route, origin, config, account).await?;
        let wire = Wire::new(socket, account.last());
        let facts = Arc::clone(wire.facts());
        let mut pipe = Pipe::Plain(wire);
        let mut forward = None;
        if let Route::Proxy(proxy) = route {
            // In a box, as all that a plain opening does without: it would have to carry it.
            pipe = Box::pin(self.pass(proxy, pipe, origin, config, account)).await?;
            forward = proxy.forwards(origin).then(|| Forward::new(proxy, origin));
        }
        let (pipe, tls) = match origin.scheme() {
            Scheme::Http => (pipe, None),
            Scheme::Https => {
                let what = || format!("the TLS handshake with `{}` was not done", origin.host());
                let securing = Box::pin(self.secure(pipe, origin, account.steps));
                let secured = account.within(Phase::Tls, what, securing).await?;
                account.charge(Phase::Tls);
                secured
            }
        };
        let timings = account.timings;
        let mut stream = Stream(pipe);
        stream.wire_mut().end_opening();
        Ok(Opened { stream, wire: facts, timings, remote, local, tls, forward })
    }

    /// A socket that is connected to the next hop, and its two ends.
    async fn socket(
        &self,
        route: &Route,
        origin: &Origin,
        config: &PoolConfig,
        account: &mut Account<'_>,
    ) -> Result<(Socket, Address, Address), Error> {
        let (host, port) = match route {
            Route::Direct => (origin.host(), origin.port()),
            Route::Proxy(proxy) => (&*proxy.host, proxy.port),
            Route::UnixSocket(path) => {
                account.timings.attempts = 1;
                let what = || format!("the Unix socket {} was not connected", path.display());
                let unix = account.within(Phase::Connect, what, unix::connect(path)).await?;
                account.charge(Phase::Connect);
                return Ok((Socket::Unix(unix), Address::Unix, Address::Unix));
            }
        };
        let (tcp, mut remote) = self.reach(host, port, config, account).await?;
        if remote.ip().is_unspecified() {
            // Who connects to no address in particular is connected to one.
            remote = tcp.peer_addr().map_err(no_address)?;
        }
        let local = tcp.local_addr().map_err(no_address)?;
        Ok((Socket::Tcp(tcp), remote.into(), local.into()))
    }

    /// What leads through the proxy, or to the proxy where that passes requests on.
    async fn pass(
        &self,
        proxy: &Proxy,
        pipe: Pipe,
        origin: &Origin,
        config: &PoolConfig,
        account: &mut Account<'_>,
    ) -> Result<Pipe, Error> {
        let what = || format!("the proxy {proxy} made no tunnel");
        let heads = HeadLimits::of(config);
        let passed = match proxy.scheme {
            ProxyScheme::Http if proxy.forwards(origin) => return Ok(pipe),
            ProxyScheme::Http => {
                let target = origin.authority();
                account.within(Phase::Proxy, what, tunnel::dig(pipe, proxy, &target, heads)).await
            }
            ProxyScheme::Https => {
                let digging = async {
                    let pipe = self.greet(pipe, proxy, account.steps).await?;
                    match proxy.forwards(origin) {
                        true => Ok(pipe),
                        false => tunnel::dig(pipe, proxy, &origin.authority(), heads).await,
                    }
                };
                account.within(Phase::Proxy, what, digging).await
            }
            ProxyScheme::Socks5 | ProxyScheme::Socks5h => {
                self.socks(proxy, pipe, origin, config, account).await
            }
        };
        let passed = passed?;
        account.charge(Phase::Proxy);
        Ok(passed)
    }

    #[cfg(feature = "socks")]
    async fn socks(
        &self,
        proxy: &Proxy,
        pipe: Pipe,
        origin: &Origin,
        config: &PoolConfig,
        account: &mut Account<'_>,
    ) -> Result<Pipe, Error> {
        let (host, port) = (origin.host(), origin.port());
        let target = match lookup::literal(host, port)? {
            Some(address) => socks::Target::Address(address),
            None if proxy.scheme == ProxyScheme::Socks5h => socks::Target::Name(host, port),
            None => {
                // The proxy dials one: there is nothing to race.
                socks::Target::Address(addresses(host, port, config, account).await?[0])
            }
        };
        let what = || format!("the proxy {proxy} made no tunnel");
        account.within(Phase::Proxy, what, socks::dig(pipe, proxy, target)).await
    }

    #[cfg(not(feature = "socks"))]
    async fn socks(
        &self,
        _: &Proxy,
        _: Pipe,
        _: &Origin,
        _: &PoolConfig,
        _: &mut Account<'_>,
    ) -> Result<Pipe, Error> {
        unreachable!("a proxy's URL that asks for SOCKS is refused without the feature")
    }

    /// A TCP connection to a host, and at which of its addresses.
    async fn reach(
        &self,
        host: &str,
        port: u16,
        config: &PoolConfig,
        account: &mut Account<'_>,
    ) -> Result<(TcpStream, SocketAddr), Error> {
        let addresses = addresses(host, port, config, account).await?;
        let sockets = Sockets { config, turn: &self.turn };
        let addresses = race::interleave(sockets.reachable(host, addresses)?);
        let mut race = Race::new(&sockets, host, &addresses, account.last(), account.steps);
        let tcp = race.run(account.limit(Phase::Connect).map(|limit| limit.at)).await;
        account.timings.attempts = race.attempts();
        let tcp = tcp?;
        account.charge(Phase::Connect);
        Ok(tcp)
    }

    #[cfg(feature = "tls")]
    async fn secure(
        &self,
        pipe: Pipe,
        origin: &Origin,
        steps: Steps<'_>,
    ) -> Result<(Pipe, Option<TlsFacts>), Error> {
        let Some(tls) = &self.tls else {
            return Err(no_tls());
        };
        let host = origin.host_without_zone();
        let step = steps.begin(Step::Handshake { host });
        let shaken = tls.shake_hands(host, tls.connector(), pipe).await;
        step.end_with(&shaken);
        let stream = shaken?;
        let facts = tls::facts(stream.get_ref().1);
        Ok((Pipe::Tls(Box::new(stream)), Some(facts)))
    }

    /// TLS to the proxy itself.
    #[cfg(feature = "tls")]
    async fn greet(&self, pipe: Pipe, proxy: &Proxy, steps: Steps<'_>) -> Result<Pipe, Error> {
        let Some(tls) = &self.tls else {
            return Err(no_tls());
        };
        let host = proxy.host_without_zone();
        let step = steps.begin(Step::Handshake { host });
        let shaken = tls.shake_hands(host, tls.connector_to_proxy(), pipe).await;
        step.end_with(&shaken);
        Ok(Pipe::Tls(Box::new(shaken.map_err(|error| error.at(Phase::Proxy))?)))
    }

    #[cfg(not(feature = "tls"))]
    async fn greet(&self, _pipe: Pipe, _proxy: &Proxy, _: Steps<'_>) -> Result<Pipe, Error> {
        Err(no_tls())
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(
        &self,
        _pipe: Pipe,
        _origin: &Origin,
        _: Steps<'_>,
    ) -> Result<(Pipe, Option<TlsFacts>), Error> {
        Err(no_tls())
    }
}

/// The addresses of a host. Those that nobody need be asked for cost no time and no timer.
async fn addresses(
    host: &str,
    port: u16,
    config: &PoolConfig,
    account: &mut Account<'_>,
) -> Result<Vec<SocketAddr>, Error> {
    if let Some(known) = lookup::known(host, port, config)? {
        return Ok(known);
    }
    let what = || format!("`{host}` was not resolved");
    let asking = Box::pin(lookup::ask(host, port, config, account.steps));
    let addresses = account.within(Phase::Dns, what, asking).await?;
    account.charge(Phase::Dns);
    Ok(addresses)
}

fn no_tls() -> Error {
    let text = "https needs a TLS client: build the pool with Pool::with_tls (feature `tls`)";
    Error::new(ErrorKind::InvalidRequest).with_detail(text.into())
}

/// A socket that has just opened and has no address has already ended.
fn no_address(source: std::io::Error) -> Error {
    Error::new(ErrorKind::Connect).at(Phase::Connect).with_source(source)
}
