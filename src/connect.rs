//! [`Connector`]: opens connections: lookup, TCP, TLS, each timed.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::net::TcpStream;

use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::exchange::{Address, TlsFacts};
use crate::origin::{Origin, Scheme};
use crate::phase::{ConnectTimings, Phase};
use crate::route::Route;
#[cfg(feature = "tls")]
use crate::tls::{self, TlsClient};
use crate::wire::{Socket, Wire, WireFacts};

mod account;
mod lookup;
mod race;
mod socket;
mod stream;
mod unix;

pub(crate) use stream::Stream;

use account::Account;
use race::Race;
use socket::Sockets;

/// An open connection that no request has used yet.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) stream: Stream,
    pub(crate) wire: Arc<WireFacts>,
    pub(crate) timings: ConnectTimings,
    pub(crate) remote: Address,
    pub(crate) local: Address,
    pub(crate) tls: Option<TlsFacts>,
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
    /// within the connect timeout. An error tells how far the time went.
    ///
    /// *Cancel safety.* Dropping the future closes whatever had been opened.
    pub(crate) async fn open(&self, origin: &Origin, config: &PoolConfig) -> Result<Opened, Error> {
        let mut account = Account::open(config);
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
        let (socket, remote, local) = match config.route_to(origin) {
            Route::Direct => {
                let tcp = self.reach(origin.host(), origin.port(), config, account).await?;
                let remote = tcp.peer_addr().map_err(no_address)?;
                let local = tcp.local_addr().map_err(no_address)?;
                (Socket::Tcp(tcp), remote.into(), local.into())
            }
            Route::UnixSocket(path) => {
                account.timings.attempts = 1;
                let what = || format!("the Unix socket {} was not connected", path.display());
                let unix = account.within(Phase::Connect, what, unix::connect(path)).await?;
                account.charge(Phase::Connect);
                (Socket::Unix(unix), Address::Unix, Address::Unix)
            }
        };
        let wire = Wire::new(socket, account.last());
        let facts = Arc::clone(wire.facts());
        let (stream, tls) = match origin.scheme() {
            Scheme::Http => (Stream::Plain(wire), None),
            Scheme::Https => {
                let what = || format!("the TLS handshake with `{}` was not done", origin.host());
                let secured = account.within(Phase::Tls, what, self.secure(wire, origin)).await?;
                account.charge(Phase::Tls);
                secured
            }
        };
        Ok(Opened { stream, wire: facts, timings: account.timings, remote, local, tls })
    }

    /// A TCP connection to a host.
    async fn reach(
        &self,
        host: &str,
        port: u16,
        config: &PoolConfig,
        account: &mut Account<'_>,
    ) -> Result<TcpStream, Error> {
        let what = || format!("`{host}` was not resolved");
        let addresses = lookup::addresses(host, port, config);
        let (addresses, looked_up) = account.within(Phase::Dns, what, addresses).await?;
        if looked_up {
            account.charge(Phase::Dns);
        }
        let sockets = Sockets { config, turn: &self.turn };
        let addresses = race::interleave(sockets.reachable(host, addresses)?);
        let mut race = Race::new(&sockets, host, &addresses, account.last());
        let tcp = race.run(account.limit(Phase::Connect).map(|limit| limit.at)).await;
        account.timings.attempts = race.attempts();
        let tcp = tcp?;
        account.charge(Phase::Connect);
        Ok(tcp)
    }

    #[cfg(feature = "tls")]
    async fn secure(&self, wire: Wire, origin: &Origin) -> Result<(Stream, Option<TlsFacts>), Error> {
        use tokio_rustls::rustls::pki_types::ServerName;
        let Some(tls) = &self.tls else {
            return Err(no_tls());
        };
        let host = origin.host_without_zone();
        let name = ServerName::try_from(host.to_owned()).map_err(|source| {
            let text =
                format!("`{host}` is no name that a certificate can be for: use a DNS name or an address");
            Error::new(ErrorKind::Tls).at(Phase::Tls).told_by(text, source)
        })?;
        let stream = tls.connector().connect(name, wire).await.map_err(|source| tls.failure(host, source))?;
        let facts = tls::facts(stream.get_ref().1);
        Ok((Stream::Tls(Box::new(stream)), Some(facts)))
    }

    #[cfg(not(feature = "tls"))]
    async fn secure(&self, _wire: Wire, _origin: &Origin) -> Result<(Stream, Option<TlsFacts>), Error> {
        Err(no_tls())
    }
}

fn no_tls() -> Error {
    let text = "https needs a TLS client: build the pool with Pool::with_tls (feature `tls`)";
    Error::new(ErrorKind::InvalidRequest).with_detail(text.into())
}

/// A socket that has just opened and has no address has already ended.
fn no_address(source: std::io::Error) -> Error {
    Error::new(ErrorKind::Connect).at(Phase::Connect).with_source(source)
}
