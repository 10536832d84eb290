//! Tunnels through SOCKS 5 proxies (RFC 1928, RFC 1929).

use std::net::SocketAddr;

use tokio_socks::tcp::Socks5Stream;
use tokio_socks::{Error as SocksError, TargetAddr};

use super::stream::Pipe;
use super::tunnel::failed;
use crate::error::Error;
use crate::proxy::Proxy;

/// Where a tunnel shall lead.
pub(super) enum Target<'a> {
    /// Resolved here.
    Address(SocketAddr),
    /// To be resolved by the proxy.
    Name(&'a str, u16),
}

/// *Cancel safety.* Dropping the future closes the connection to the proxy.
pub(super) async fn dig(pipe: Pipe, proxy: &Proxy, target: Target<'_>) -> Result<Pipe, Error> {
    let (to, target) = match target {
        Target::Address(address) => (address.to_string(), TargetAddr::Ip(address)),
        Target::Name(host, port) => (format!("{host}:{port}"), named(host, port)?),
    };
    let dug = match &proxy.credentials {
        None => Socks5Stream::connect_with_socket(pipe, target).await,
        Some((user, password)) => {
            Socks5Stream::connect_with_password_and_socket(pipe, target, user, password).await
        }
    };
    dug.map(Socks5Stream::into_inner).map_err(|error| explain(proxy, &to, error))
}

/// One byte tells the name's length (RFC 1928, section 5). A longer one would be cut by it, and the proxy asked for
/// another host; no [`Origin`](crate::Origin) has one, and tokio-socks does not look.
fn named(host: &str, port: u16) -> Result<TargetAddr<'_>, Error> {
    if host.len() > usize::from(u8::MAX) {
        return Err(failed(format!(
            "a SOCKS proxy can be asked for a name of 255 bytes, not of {}",
            host.len()
        )));
    }
    Ok(TargetAddr::Domain(host.into(), port))
}

fn explain(proxy: &Proxy, to: &str, error: SocksError) -> Error {
    match &error {
        SocksError::Io(_) => {
            failed(format!("the proxy {proxy} ended the connection while it was asked for a tunnel to {to}"))
                .with_source(error)
        }
        SocksError::NoAcceptableAuthMethods | SocksError::AuthorizationRequired => failed(format!(
            "the proxy {proxy} wants other credentials: give user and password in its URL, or none"
        )),
        SocksError::PasswordAuthFailure(_) => {
            failed(format!("the proxy {proxy} does not accept this user and password"))
        }
        SocksError::InvalidResponseVersion => {
            failed(format!("the proxy {proxy} does not speak SOCKS 5: is it an HTTP proxy (http://)?"))
        }
        _ => failed(format!("the proxy {proxy} refused the tunnel to {to}")).with_source(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_cut_by_its_length() {
        let is_named = |length: usize| named(&"a".repeat(length), 80).is_ok();
        assert!(is_named(255) && !is_named(256) && !is_named(600));
    }
}
