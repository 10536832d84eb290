//! [`TlsClient`]: how TLS handshakes are made: whom to trust, which versions, and whether to resume.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::{
    ClientSessionStore, Resumption, Tls12ClientSessionValue, Tls13ClientSessionValue,
};
use tokio_rustls::rustls::crypto::{self, CryptoProvider};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, NamedGroup, RootCertStore,
    SignatureScheme, SupportedProtocolVersion,
};

use crate::error::{Error, ErrorKind};
use crate::exchange::TlsFacts;

/// A version of TLS that a handshake may agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246): a full handshake takes two round trips, a resumed one takes one.
    Tls12,
    /// TLS 1.3 (RFC 8446): one round trip, full or resumed.
    Tls13,
}

/// What handshakes may do. Plain data; [`TlsConfig::build`] makes a [`TlsClient`] of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsConfig {
    /// Whether the server's certificate is verified. Default: yes. Off only as curl's `-k`.
    pub verify: bool,
    /// Root certificates in PEM that replace the system's; `None`: the system's. Default: `None`.
    pub roots_pem: Option<Vec<u8>>,
    /// Lowest version offered. Default: TLS 1.2.
    pub min_version: TlsVersion,
    /// Highest version offered. Default: TLS 1.3.
    pub max_version: TlsVersion,
    /// Whether a new connection resumes an earlier session when it can (RFC 8446, section 2.2; RFC 5077 and
    /// session ids for TLS 1.2). Default: yes.
    pub resume: bool,
}

impl Default for TlsConfig {
    fn default() -> TlsConfig {
        TlsConfig {
            verify: true,
            roots_pem: None,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            resume: true,
        }
    }
}

impl TlsConfig {
    /// Builds the client: reads the system's roots unless others are given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] when no version is left to offer or a root certificate cannot be read.
    pub fn build(&self) -> Result<TlsClient, Error> {
        let provider = Arc::new(crypto::ring::default_provider());
        let versions = self.versions()?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|source| Error::new(ErrorKind::InvalidRequest).with_source(source))?;
        let mut config = if self.verify {
            builder.with_root_certificates(self.roots()?).with_no_client_auth()
        } else {
            let anyone = Arc::new(TrustAnyone(provider));
            builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth()
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let sessions = Arc::new(Sessions::new(self.resume));
        config.resumption = Resumption::store(Arc::clone(&sessions) as Arc<dyn ClientSessionStore>);
        Ok(TlsClient { config: Arc::new(config), sessions })
    }

    fn versions(&self) -> Result<Vec<&'static SupportedProtocolVersion>, Error> {
        let all =
            [(TlsVersion::Tls12, &rustls::version::TLS12), (TlsVersion::Tls13, &rustls::version::TLS13)];
        let allowed = self.min_version..=self.max_version;
        let versions: Vec<_> = all
            .iter()
            .filter(|(version, _)| allowed.contains(version))
            .map(|&(_, supported)| supported)
            .collect();
        if versions.is_empty() {
            let text = "no TLS version is left: the lowest allowed is above the highest allowed";
            return Err(Error::new(ErrorKind::InvalidRequest).with_detail(text.into()));
        }
        Ok(versions)
    }

    fn roots(&self) -> Result<RootCertStore, Error> {
        let mut store = RootCertStore::empty();
        match &self.roots_pem {
            Some(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let bad = "the root certificates are not PEM that can be read";
                    let certificate = certificate.map_err(|_| invalid(bad))?;
                    store.add(certificate).map_err(|source| invalid(bad).with_source(source))?;
                }
                if store.is_empty() {
                    return Err(invalid("no certificate stands in the file of root certificates"));
                }
            }
            None => {
                // Some of the system's roots may be malformed; the rest still serve, as in curl and reqwest.
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        Ok(store)
    }
}

fn invalid(text: &str) -> Error {
    Error::new(ErrorKind::InvalidRequest).with_detail(text.into())
}

/// Makes TLS handshakes; cheap to clone. Clones, and pools that share one, share remembered sessions.
#[derive(Clone)]
pub struct TlsClient {
    config: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
}

impl TlsClient {
    /// How many TLS 1.3 tickets are at hand; each is used once (RFC 8446, appendix C.4).
    pub fn tickets(&self) -> usize {
        self.sessions.lock().values().map(|known| known.tickets.len()).sum()
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.config))
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").field("tickets", &self.tickets()).finish_non_exhaustive()
    }
}

pub(crate) fn facts(connection: &ClientConnection) -> TlsFacts {
    let version = match connection.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2".into(),
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3".into(),
        other => format!("{other:?}"),
    };
    let suite = connection.negotiated_cipher_suite();
    TlsFacts {
        version,
        cipher_suite: suite.map(|suite| format!("{:?}", suite.suite())).unwrap_or_default(),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}

/// Sessions to resume, per server name.
///
/// *Design.* rustls' own store keeps 8 tickets per name; with more handshakes at a time than that, resumption
/// silently turns into full handshakes, and a measurement of it would be a lie. The newest ticket is taken
/// first, so that old ones run out unused. With `resume` off only the key-exchange hint is kept: without it
/// a server that prefers another group would cost a HelloRetryRequest, a round trip more, at every handshake.
#[derive(Debug)]
struct Sessions {
    resume: bool,
    known: Mutex<HashMap<ServerName<'static>, Known>>,
}

/// More than any run has handshakes in flight; a ticket is some 1.5 kB.
const MAX_TICKETS: usize = 4096;

#[derive(Debug, Default)]
struct Known {
    group: Option<NamedGroup>,
    tls12: Option<Tls12ClientSessionValue>,
    tickets: std::collections::VecDeque<Tls13ClientSessionValue>,
}

impl Sessions {
    fn new(resume: bool) -> Sessions {
        Sessions { resume, known: Mutex::new(HashMap::new()) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ServerName<'static>, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientSessionStore for Sessions {
    fn set_kx_hint(&self, server_name: ServerName<'static>, group: NamedGroup) {
        self.lock().entry(server_name).or_default().group = Some(group);
    }

    fn kx_hint(&self, server_name: &ServerName<'_>) -> Option<NamedGroup> {
        self.lock().get(server_name).and_then(|known| known.group)
    }

    fn set_tls12_session(&self, server_name: ServerName<'static>, value: Tls12ClientSessionValue) {
        if self.resume {
            self.lock().entry(server_name).or_default().tls12 = Some(value);
        }
    }

    fn tls12_session(&self, server_name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.lock().get(server_name).and_then(|known| known.tls12.clone())
    }

    fn remove_tls12_session(&self, server_name: &ServerName<'static>) {
        if let Some(known) = self.lock().get_mut(server_name) {
            known.tls12 = None;
        }
    }

    fn insert_tls13_ticket(&self, server_name: ServerName<'static>, value: Tls13ClientSessionValue) {
        if !self.resume {
            return;
        }
        let mut known = self.lock();
        let tickets = &mut known.entry(server_name).or_default().tickets;
        if tickets.len() == MAX_TICKETS {
            tickets.pop_front();
        }
        tickets.push_back(value);
    }

    fn take_tls13_ticket(&self, server_name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.lock().get_mut(server_name).and_then(|known| known.tickets.pop_back())
    }
}

/// `-k`: any certificate passes; signatures are still checked, so that what is measured is a whole handshake.
#[derive(Debug)]
struct TrustAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for TrustAnyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
