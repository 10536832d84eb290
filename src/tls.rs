//! [`TlsClient`]: how TLS handshakes are made: whom to trust, which versions, and whether to resume.

use std::fmt;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::{ClientSessionStore, Resumption};
use tokio_rustls::rustls::crypto;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{
    self, ClientConfig, ClientConnection, HandshakeKind, RootCertStore, SupportedProtocolVersion,
};

use crate::error::{Error, ErrorKind};
use crate::exchange::TlsFacts;
use crate::phase::Phase;

mod anyone;
mod failure;
mod sessions;

pub(crate) use failure::refusal;

use anyone::TrustAnyone;
use sessions::Sessions;

/// A version of TLS that a handshake may agree on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
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
    /// Whether `http/1.1` is asked for (ALPN, RFC 7301). Default: yes. Off only for a server that chokes on being
    /// asked.
    pub alpn: bool,
    /// What this client shows to a server that demands a certificate; `None`: nothing. Default: `None`.
    pub client_certificate: Option<ClientCertificate>,
}

/// A client's certificate and its key, in PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    chain_pem: Vec<u8>,
    key_pem: Vec<u8>,
}

impl ClientCertificate {
    /// The certificate, then those that lead from it to one that the server trusts; and the key in PKCS #8, PKCS #1
    /// or SEC 1, unencrypted. Both may be the same file. They are read by [`TlsConfig::build`].
    pub fn from_pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> ClientCertificate {
        ClientCertificate { chain_pem: chain.into(), key_pem: key.into() }
    }

    fn read(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), Error> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.chain_pem).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| invalid("the client certificate is not PEM that can be read"))?;
        let key = PrivateKeyDer::from_pem_slice(&self.key_pem).map_err(|_| {
            invalid("the client certificate's key is not PEM that can be read; an encrypted one must be decrypted first")
        })?;
        Ok((chain, key))
    }
}

impl fmt::Debug for ClientCertificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCertificate").finish_non_exhaustive()
    }
}

impl Default for TlsConfig {
    fn default() -> TlsConfig {
        TlsConfig {
            verify: true,
            roots_pem: None,
            min_version: TlsVersion::Tls12,
            max_version: TlsVersion::Tls13,
            resume: true,
            alpn: true,
            client_certificate: None,
        }
    }
}

impl TlsConfig {
    /// Sets the certificate to show, [`ClientCertificate::from_pem`].
    #[must_use]
    pub fn client_certificate(
        mut self,
        chain_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> TlsConfig {
        self.client_certificate = Some(ClientCertificate::from_pem(chain_pem, key_pem));
        self
    }

    /// Builds the client: reads the system's roots unless others are given.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] when no version is left to offer, or a certificate or key cannot be read or
    /// used.
    pub fn build(&self) -> Result<TlsClient, Error> {
        let provider = Arc::new(crypto::ring::default_provider());
        let versions = self.versions()?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|source| Error::new(ErrorKind::InvalidRequest).with_source(source))?;
        let (builder, trusts_nobody) = if self.verify {
            let roots = self.roots()?;
            let trusts_nobody = roots.is_empty();
            (builder.with_root_certificates(roots), trusts_nobody)
        } else {
            let anyone = Arc::new(TrustAnyone::with(provider));
            (builder.dangerous().with_custom_certificate_verifier(anyone), false)
        };
        let sessions = Arc::new(Sessions::new(self.resume));
        let (config, to_proxy) = match &self.client_certificate {
            None => {
                let config = Arc::new(self.finish(builder.with_no_client_auth(), &sessions));
                (Arc::clone(&config), config)
            }
            Some(shown) => {
                let (chain, key) = shown.read()?;
                let unusable = "the client certificate and its key do not belong together, or cannot be used";
                let config = builder
                    .clone()
                    .with_client_auth_cert(chain, key)
                    .map_err(|source| invalid(unusable).with_source(source))?;
                // A session is resumed with the identity that it began with.
                let others = Arc::new(Sessions::new(self.resume));
                let to_proxy = self.finish(builder.with_no_client_auth(), &others);
                (Arc::new(self.finish(config, &sessions)), Arc::new(to_proxy))
            }
        };
        let shows_certificate = self.client_certificate.is_some();
        Ok(TlsClient { config, to_proxy, sessions, trusts_nobody, shows_certificate })
    }

    fn finish(&self, mut config: ClientConfig, sessions: &Arc<Sessions>) -> ClientConfig {
        if self.alpn {
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
        }
        config.resumption = Resumption::store(Arc::clone(sessions) as Arc<dyn ClientSessionStore>);
        config
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
    /// Without the client certificate, which is for the target.
    to_proxy: Arc<ClientConfig>,
    sessions: Arc<Sessions>,
    /// The system had no roots.
    trusts_nobody: bool,
    shows_certificate: bool,
}

impl TlsClient {
    /// How many TLS 1.3 tickets are at hand; each is used once (RFC 8446, appendix C.4).
    pub fn tickets(&self) -> usize {
        self.sessions.tickets()
    }

    pub(crate) fn connector(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.config))
    }

    pub(crate) fn connector_to_proxy(&self) -> TlsConnector {
        TlsConnector::from(Arc::clone(&self.to_proxy))
    }

    /// Over any stream; an error tells the cure.
    pub(crate) async fn shake_hands<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        host: &str,
        connector: TlsConnector,
        stream: S,
    ) -> Result<TlsStream<S>, Error> {
        let name = ServerName::try_from(host.to_owned()).map_err(|source| {
            let text =
                format!("`{host}` is no name that a certificate can be for: use a DNS name or an address");
            Error::new(ErrorKind::Tls).at(Phase::Tls).told_by(text, source)
        })?;
        connector.connect(name, stream).await.map_err(|source| self.failure(host, source))
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
        alpn: connection.alpn_protocol().map(|protocol| String::from_utf8_lossy(protocol).into_owned()),
        resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
    }
}
