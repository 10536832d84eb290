//! The server's side of TLS: which versions, which certificate, and whether sessions are resumed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ServerConfig, SupportedProtocolVersion};

use super::ServerError;

/// Sessions remembered for TLS 1.2 clients that resume by session id instead of by ticket.
const SESSIONS: usize = 10_240;

/// How a server speaks TLS. The default: 1.2 and 1.3, resumption, a certificate made at start.
#[derive(Clone, Debug)]
pub struct ServerTls {
    versions: TlsVersions,
    resumption: bool,
    certificate: Certificate,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self { versions: TlsVersions::Both, resumption: true, certificate: Certificate::SelfSigned }
    }
}

impl ServerTls {
    /// The versions that a client may choose from.
    #[must_use]
    pub fn versions(mut self, versions: TlsVersions) -> Self {
        self.versions = versions;
        self
    }

    /// Whether a client may resume an earlier session. Without, every handshake is a full one.
    #[must_use]
    pub fn resumption(mut self, resumption: bool) -> Self {
        self.resumption = resumption;
        self
    }

    /// The certificate to show.
    #[must_use]
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = certificate;
        self
    }
}

/// The versions of TLS that a server speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TlsVersions {
    /// Only TLS 1.2: a full handshake takes two round trips.
    Tls12,
    /// Only TLS 1.3: a full handshake takes one round trip.
    Tls13,
    /// Either; a client that speaks both takes 1.3.
    #[default]
    Both,
}

impl TlsVersions {
    fn supported(self) -> Vec<&'static SupportedProtocolVersion> {
        match self {
            Self::Tls12 => vec![&TLS12],
            Self::Tls13 => vec![&TLS13],
            Self::Both => vec![&TLS13, &TLS12],
        }
    }
}

/// The certificate that a server shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// Made at start for localhost, 127.0.0.1 and ::1, and signed by itself: whoever trusts
    /// [`Running::certificate_pem`](super::Running::certificate_pem) trusts this server and no other.
    #[default]
    SelfSigned,
    /// Read from PEM files.
    Files {
        /// The certificate, and after it those that lead to a trusted one.
        chain: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

/// A [`ServerTls`] made ready.
pub(super) struct Identity {
    pub(super) acceptor: TlsAcceptor,
    pub(super) certificate_pem: String,
}

impl Identity {
    pub(super) fn new(tls: &ServerTls) -> Result<Self, ServerError> {
        Self::prepare(tls).map_err(ServerError::Certificate)
    }

    fn prepare(tls: &ServerTls) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let shown = match &tls.certificate {
            Certificate::SelfSigned => Shown::self_signed()?,
            Certificate::Files { chain, key } => Shown::read(chain, key)?,
        };
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&tls.versions.supported())?
            .with_no_client_auth()
            .with_single_cert(shown.chain, shown.key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if tls.resumption {
            // Without a ticketer rustls would keep TLS 1.3 sessions in the cache alone, which forgets the oldest.
            config.ticketer = ring::Ticketer::new()?;
            config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
        } else {
            config.send_tls13_tickets = 0;
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate_pem: shown.pem })
    }
}

/// A certificate with its key, in the forms that rustls and a client's trust store want.
struct Shown {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

impl Shown {
    fn self_signed() -> Result<Self, Box<dyn Error + Send + Sync>> {
        let names = ["localhost", "127.0.0.1", "::1"].map(String::from);
        let made = rcgen::generate_simple_self_signed(names)?;
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Ok(Self { chain: vec![made.cert.der().clone()], key: key.into(), pem: made.cert.pem() })
    }

    fn read(chain: &Path, key: &Path) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let named = |path: &Path, error: &dyn Error| format!("{}: {error}", path.display());
        let pem = std::fs::read_to_string(chain).map_err(|error| named(chain, &error))?;
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| named(chain, &error))?;
        let key = PrivateKeyDer::from_pem_file(key).map_err(|error| named(key, &error))?;
        Ok(Self { chain: certificates, key, pem })
    }
}
