//! Whom a client trusts and what it shows: each refusal has its own text, which tells the cure.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use keeplive::server::Behaviour;
use keeplive::{Error, ErrorKind, Phase, Pool, PoolConfig, Route, TlsConfig, TlsVersion};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::tls::configured_peer;
use super::{HI, get, send, tls_server, trusting};
use crate::support::scripted::Scripted;

/// A certificate and its key, in PEM.
struct Shown {
    pem: String,
    key_pem: String,
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    named_authority(&format!("authority {}", MADE.fetch_add(1, Relaxed)))
}

fn named_authority(name: &str) -> Authority {
    let mut parameters = CertificateParams::new([]).expect("no names");
    parameters.distinguished_name.push(DnType::CommonName, name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(parameters, KeyPair::generate().expect("a key")).expect("a certificate")
}

/// Issued by this authority.
fn issued(by: &Authority, name: &str, change: impl FnOnce(&mut CertificateParams)) -> Shown {
    let mut parameters = CertificateParams::new([name.to_owned()]).expect("a name");
    change(&mut parameters);
    let key = KeyPair::generate().expect("a key");
    let certificate = parameters.signed_by(&key, by).expect("a certificate");
    Shown { pem: certificate.pem(), key_pem: key.serialize_pem() }
}

fn chain(shown: &Shown) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let chain = vec![CertificateDer::from_pem_slice(shown.pem.as_bytes()).expect("a certificate")];
    (chain, PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).expect("a key"))
}

fn answering(config: ServerConfig) -> (Scripted, String) {
    configured_peer(config, |_, conn| {
        while conn.read_request().is_some() {
            conn.write(HI);
        }
    })
}

fn showing(shown: &Shown) -> (Scripted, String) {
    let (chain, key) = chain(shown);
    answering(ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair"))
}

fn pool(tls: &TlsConfig) -> Pool {
    let config = PoolConfig::default().max_connections_per_origin(Some(1));
    Pool::with_tls(config, tls.build().expect("settings that agree")).expect("a pool")
}

async fn refusal(tls: &TlsConfig, url: &str) -> Error {
    let pool = pool(tls);
    let error = send(&pool, url).await.expect_err("no handshake, no response");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Tls, Some(Phase::Tls)), "{error}");
    assert_eq!(pool.stats().busy, 0);
    assert!(std::error::Error::source(&error).is_some(), "what rustls said is still there");
    error
}

/// What a client that trusts the authority says of a certificate that it issued.
async fn said_of(name: &str, change: impl FnOnce(&mut CertificateParams)) -> String {
    let authority = authority();
    let (_peer, url) = showing(&issued(&authority, name, change));
    let error = refusal(&trusting(Some(&authority.pem())), &url).await;
    let opening = error.opening().expect("an opening failed");
    assert!(opening.tls.is_some() && opening.attempts == 1, "{opening:?}");
    error.to_string()
}

#[tokio::test]
async fn a_good_certificate_is_accepted() {
    let authority = authority();
    let (_peer, url) = showing(&issued(&authority, "127.0.0.1", |_| {}));
    let pool = pool(&trusting(Some(&authority.pem())));
    assert!(!get(&pool, &url).await.is_reused() && get(&pool, &url).await.is_reused());
}

#[tokio::test]
async fn an_issuer_that_nobody_trusts_is_refused() {
    let (_peer, url) = showing(&issued(&authority(), "127.0.0.1", |_| {}));
    let text = refusal(&trusting(Some(&authority().pem())), &url).await.to_string();
    assert_eq!(
        text,
        "the certificate of `127.0.0.1` was issued by nobody that is trusted: trust its issuer's root, or let the \
         server send the intermediate certificates too"
    );
}

#[tokio::test]
async fn an_issuer_that_was_made_anew_under_its_old_name_is_refused() {
    let (old, new) = (named_authority("the same"), named_authority("the same"));
    let (_peer, url) = showing(&issued(&new, "127.0.0.1", |_| {}));
    let text = refusal(&trusting(Some(&old.pem())), &url).await.to_string();
    assert!(text.contains("made anew"), "{text}");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let text = said_of("127.0.0.1", |parameters| parameters.not_after = date_time_ymd(2001, 1, 1)).await;
    assert!(text.starts_with("the certificate of `127.0.0.1` has expired, "), "{text}");
    assert!(text.ends_with(" days ago: renew it, or correct this machine's clock"), "{text}");
}

#[tokio::test]
async fn a_certificate_of_the_future_is_refused() {
    let text = said_of("127.0.0.1", |parameters| parameters.not_before = date_time_ymd(3000, 1, 1)).await;
    assert!(text.starts_with("the certificate of `127.0.0.1` is not valid yet, for "), "{text}");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_refused() {
    let text = said_of("other.test", |_| {}).await;
    assert_eq!(
        text,
        "the certificate of `127.0.0.1` is not valid for that name but for `other.test`: ask for one of these, or \
         have it issued for `127.0.0.1`"
    );
}

#[tokio::test]
async fn a_certificate_for_clients_is_refused_from_a_server() {
    let clients = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let text = said_of("127.0.0.1", |parameters| parameters.extended_key_usages = clients).await;
    assert!(text.contains("is not one for TLS servers"), "{text}");
}

#[tokio::test]
async fn an_authoritys_own_certificate_is_refused() {
    let mut parameters = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let pem = parameters.self_signed(&key).expect("a certificate").pem();
    let shown = Shown { pem, key_pem: key.serialize_pem() };
    let (_peer, url) = showing(&shown);
    let text = refusal(&trusting(Some(&shown.pem)), &url).await.to_string();
    assert!(text.contains("is an authority's own (CA:TRUE) and no server's"), "{text}");
}

#[tokio::test]
async fn a_server_without_http_1_is_refused() {
    let authority = authority();
    let (chain, key) = chain(&issued(&authority, "127.0.0.1", |_| {}));
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (_peer, url) = answering(config);
    let mut tls = trusting(Some(&authority.pem()));
    let text = refusal(&tls, &url).await.to_string();
    assert_eq!(text, "`127.0.0.1` does not offer HTTP/1.1 (ALPN): let it, perhaps beside HTTP/2");
    // A server that is not asked does not say no.
    tls.alpn = false;
    get(&pool(&tls), &url).await;
}

#[tokio::test]
async fn a_server_of_another_tls_version_is_refused() {
    let authority = authority();
    let (chain, key) = chain(&issued(&authority, "127.0.0.1", |_| {}));
    let builder = ServerConfig::builder_with_protocol_versions(&[&TLS12]).with_no_client_auth();
    let (_peer, url) = answering(builder.with_single_cert(chain, key).expect("a pair"));
    let mut tls = trusting(Some(&authority.pem()));
    tls.min_version = TlsVersion::Tls13;
    let text = refusal(&tls, &url).await.to_string();
    assert!(text.contains("speaks no version of TLS that is offered"), "{text}");
}

/// Lets in whom `members` has issued a certificate.
fn demanding(
    members: &Authority,
    of: &Authority,
    version: &'static SupportedProtocolVersion,
) -> (Scripted, String) {
    let mut trusted = RootCertStore::empty();
    trusted.add(members.der().clone()).expect("an authority");
    let verifier = WebPkiClientVerifier::builder(Arc::new(trusted)).build().expect("a verifier");
    let (chain, key) = chain(&issued(of, "127.0.0.1", |_| {}));
    let builder =
        ServerConfig::builder_with_protocol_versions(&[version]).with_client_cert_verifier(verifier);
    answering(builder.with_single_cert(chain, key).expect("a pair"))
}

/// A server that lets in members alone, and what shows that one is: certificate and key in one file.
pub(crate) struct Demanding {
    pub(crate) url: String,
    pub(crate) member_pem: String,
    _peer: Scripted,
}

pub(crate) fn demanding_members() -> Demanding {
    let members = authority();
    let member = issued(&members, "member", |_| {});
    let (peer, url) = demanding(&members, &members, &TLS13);
    Demanding { url, member_pem: member.pem + &member.key_pem, _peer: peer }
}

#[tokio::test]
async fn a_server_that_demands_a_client_certificate_is_shown_ours() {
    let (authority, members) = (authority(), authority());
    let member = issued(&members, "member", |_| {});
    let stranger = issued(&authority, "stranger", |_| {});
    for version in [&TLS12, &TLS13] {
        let (_peer, url) = demanding(&members, &authority, version);
        let nobody = trusting(Some(&authority.pem()));
        let shows =
            |shown: &Shown| nobody.clone().client_certificate(shown.pem.clone(), shown.key_pem.clone());
        let pool = pool(&shows(&member));
        assert!(!get(&pool, &url).await.is_reused() && get(&pool, &url).await.is_reused());
        let text = refusal(&shows(&stranger), &url).await.to_string();
        assert!(text.contains("does not accept our client certificate"), "{version:?}: {text}");
        let text = refusal(&nobody, &url).await.to_string();
        assert!(text.contains("a client certificate"), "{version:?}: {text}");
    }
}

#[tokio::test]
async fn a_client_certificate_is_not_shown_to_a_proxy() {
    let (authority, members) = (authority(), authority());
    let member = issued(&members, "member", |_| {});
    let (_peer, url) = demanding(&members, &authority, &TLS12);
    let shown = trusting(Some(&authority.pem())).client_certificate(member.pem, member.key_pem);
    let shown = shown.build().expect("settings that agree");
    let through = |route| Pool::with_tls(PoolConfig::default().route(route), shown.clone()).expect("a pool");
    get(&through(Route::Direct), &url).await;
    let pool = through(Route::Proxy(url.parse().expect("a proxy's URL")));
    let error = send(&pool, "http://name.test/").await.expect_err("it demands one");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Tls, Some(Phase::Proxy)), "{error}");
}

#[test]
fn a_client_certificate_that_cannot_be_used_is_refused_before_any_handshake() {
    let authority = authority();
    let (one, other) = (issued(&authority, "one", |_| {}), issued(&authority, "other", |_| {}));
    for (chain, key, text) in [
        ("", one.key_pem.as_str(), "the client certificate is not PEM"),
        (&one.pem, "", "key is not PEM"),
        (&one.pem, &other.key_pem, "do not belong together"),
    ] {
        let error =
            TlsConfig::default().client_certificate(chain, key).build().expect_err("it cannot be used");
        assert!(error.kind() == ErrorKind::InvalidRequest && error.to_string().contains(text), "{error}");
    }
}

#[test]
fn a_key_is_never_printed() {
    let shown = TlsConfig::default().client_certificate("chain", "secret");
    assert!(format!("{shown:?}").contains("ClientCertificate { .. }"), "{shown:?}");
}

#[tokio::test]
async fn the_systems_roots_do_not_vouch_for_a_server_of_ours() {
    // Where the system has no roots the text says that instead.
    let server = tls_server(Behaviour::default());
    let text = refusal(&TlsConfig::default(), &server.url()).await.to_string();
    assert!(text.contains("issued by nobody that is trusted") || text.contains("no trusted roots"), "{text}");
}
