//! [`Connector`]: opens connections: lookup, TCP, TLS, each timed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::clock;
use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::exchange::TlsFacts;
use crate::origin::{Origin, Scheme};
use crate::phase::{ConnectTimings, Phase};
#[cfg(feature = "tls")]
use crate::tls::{self, TlsClient};
use crate::wire::{Wire, WireFacts};

mod lookup;
mod race;
mod socket;
mod stream;

pub(crate) use stream::Stream;

use race::Race;
use socket::Sockets;

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
    /// Opens a connection: lookup, then the first address that answers, then TLS, all within the connect timeout.
    ///
    /// *Cancel safety.* Dropping the future closes whatever had been opened.
    pub(crate) async fn open(&self, origin: &Origin, config: &PoolConfig) -> Result<Opened, Error> {
        let began = clock::now();
        let limit = config.connect_timeout.and_then(|timeout| began.checked_add(timeout));
        let (addresses, looked_up) =
            within(limit, Phase::Dns, lookup::addresses(origin.host(), origin.port(), config)).await?;
        let resolved = if looked_up { clock::now() } else { began };
        let addresses = race::interleave(addresses);
        let sockets = Sockets { config };
        let mut race = Race::new(&sockets, origin.host(), &addresses, resolved);
        let tcp = race.run(limit).await?;
        let remote = tcp.peer_addr().map_err(no_address)?;
        let local = tcp.local_addr().map_err(no_address)?;
        let open = clock::now();
        let wire = Wire::new(tcp, open);
        let facts = Arc::clone(wire.facts());
        let mut timings = ConnectTimings {
            dns: looked_up.then(|| resolved - began),
            tcp: open - resolved,
            tls: None,
            attempts: race.attempts(),
        };
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
        let name = ServerName::try_from(origin.host_without_zone().to_owned())
            .map_err(|source| failed().with_source(source))?;
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

/// A socket that has just opened and has no address has already ended.
fn no_address(source: std::io::Error) -> Error {
    Error::new(ErrorKind::Connect).at(Phase::Connect).with_source(source)
}
