//! TLS as load testers speak it: whose certificate it is does not matter, that its owner signed does.

use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::crypto;

// keeplive's own `-k`: what is set beside it checks as much.
#[path = "../../src/tls/anyone.rs"]
mod anyone;

/// It resumes no session.
pub(crate) fn config() -> Arc<ClientConfig> {
    let provider = Arc::new(crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider));
    let builder = builder.with_safe_default_protocol_versions().expect("versions that ring has");
    let anyone = Arc::new(anyone::TrustAnyone::with(provider));
    let mut config = builder.dangerous().with_custom_certificate_verifier(anyone).with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.into()
}
