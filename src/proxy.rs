//! [`Proxy`]: a proxy and how it is spoken to, read from a URL.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use http::Uri;

use crate::error::{Error, ErrorKind};
use crate::origin::{Origin, Scheme, host_and_port};

/// A proxy, read from a URL such as `http://user:password@proxy.test:3128`.
///
/// | URL | how the proxy is spoken to | port without one |
/// |---|---|---|
/// | `http://` | HTTP/1.1 | 80 |
/// | `https://` | HTTP/1.1 over TLS, made by the pool's TLS client, but never with its client certificate | 443 |
/// | `socks5://` | SOCKS 5 (RFC 1928); the target's name is resolved here | 1080 |
/// | `socks5h://` | SOCKS 5; the proxy resolves the target's name | 1080 |
///
/// An HTTP proxy is asked for `http://` targets in absolute-form (RFC 9112, section 3.2.2; whatever it answers is the
/// response, a 407 too) and makes a tunnel to others (CONNECT, RFC 9110, section 9.3.6). A tunnel is a connection
/// like others: it is kept for its origin, and reused. `OPTIONS *` that is not tunnelled is asked of the proxy itself.
///
/// User and password are sent as they are: in Basic authentication (RFC 7617), or in that of SOCKS (RFC 1929). In
/// the URL, characters other than letters and digits are written as `%` and two hexadecimal digits.
///
/// ```
/// use keeplive::{PoolConfig, Proxy, Route};
///
/// let proxy: Proxy = "http://proxy.test:3128".parse()?;
/// let config = PoolConfig::default()
///     .route(Route::Proxy(proxy))
///     .routes(vec![("http://not-by-proxy.test".parse()?, Route::Direct)]);
/// # Ok::<_, keeplive::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    pub(crate) scheme: ProxyScheme,
    pub(crate) host: Arc<str>,
    pub(crate) port: u16,
    pub(crate) credentials: Option<(Arc<str>, Arc<str>)>,
    pub(crate) tunnels_all: bool,
}

/// How a proxy is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyScheme {
    Http,
    Https,
    Socks5,
    Socks5h,
}

impl ProxyScheme {
    fn as_str(self) -> &'static str {
        match self {
            ProxyScheme::Http => "http",
            ProxyScheme::Https => "https",
            ProxyScheme::Socks5 => "socks5",
            ProxyScheme::Socks5h => "socks5h",
        }
    }

    fn default_port(self) -> u16 {
        match self {
            ProxyScheme::Http => 80,
            ProxyScheme::Https => 443,
            ProxyScheme::Socks5 | ProxyScheme::Socks5h => 1080,
        }
    }

    pub(crate) fn is_http(self) -> bool {
        matches!(self, ProxyScheme::Http | ProxyScheme::Https)
    }
}

impl Proxy {
    /// Whether an HTTP proxy makes a tunnel to `http://` targets as well, as curl's `--proxytunnel`. Default: no.
    #[must_use]
    pub fn tunnels_all(mut self, tunnels_all: bool) -> Proxy {
        self.tunnels_all = tunnels_all;
        self
    }

    /// Whether requests to this origin are given to the proxy in absolute-form, instead of through a tunnel.
    pub(crate) fn forwards(&self, origin: &Origin) -> bool {
        self.scheme.is_http() && !self.tunnels_all && origin.scheme() == Scheme::Http
    }

    /// The host as the proxy itself may know it.
    #[cfg(feature = "tls")]
    pub(crate) fn host_without_zone(&self) -> &str {
        crate::origin::without_zone(&self.host)
    }

    /// Host and port, as a URI has them.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host.replacen('%', "%25", 1), self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for Proxy {
    type Err = Error;

    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`], with the cure.
    fn from_str(text: &str) -> Result<Proxy, Error> {
        // The text may hold a password: it is not repeated.
        let invalid =
            |why: &str| Error::new(ErrorKind::InvalidRequest).with_detail(format!("the proxy's URL {why}"));
        let uri: Uri = text.parse().map_err(|_| invalid("cannot be read: write http://proxy:3128"))?;
        let scheme = match uri.scheme_str() {
            Some("http") => ProxyScheme::Http,
            Some("https") => ProxyScheme::Https,
            Some("socks5") => ProxyScheme::Socks5,
            Some("socks5h") => ProxyScheme::Socks5h,
            _ => return Err(invalid("must begin with http://, https://, socks5:// or socks5h://")),
        };
        if !scheme.is_http() && cfg!(not(feature = "socks")) {
            return Err(invalid("asks for SOCKS, which this build lacks: turn the feature `socks` on"));
        }
        if scheme == ProxyScheme::Https && cfg!(not(feature = "tls")) {
            return Err(invalid("asks for TLS, which this build lacks: turn the feature `tls` on"));
        }
        let authority = uri.authority().ok_or_else(|| invalid("has no host"))?;
        let (host, port) =
            host_and_port(authority).map_err(|why| invalid(&format!("has no host with a port: {why}")))?;
        let port = port.unwrap_or(scheme.default_port());
        let credentials = authority.as_str().rsplit_once('@').map(|(info, _)| credentials(info));
        let credentials = credentials.transpose().map_err(invalid)?;
        if !scheme.is_http() && credentials.as_ref().is_some_and(|(user, _)| user.is_empty()) {
            return Err(invalid("has a password without a user"));
        }
        Ok(Proxy { scheme, host: host.into(), port, credentials, tunnels_all: false })
    }
}

/// `user:password`; without a colon there is no password.
fn credentials(info: &str) -> Result<(Arc<str>, Arc<str>), &'static str> {
    let (user, password) = info.split_once(':').unwrap_or((info, ""));
    let bad = "has a % in user or password that two hexadecimal digits do not follow: write it as %25";
    let user = decoded(user).ok_or(bad)?;
    if user.contains(':') {
        return Err("has a user with a colon, which Basic authentication cannot carry (RFC 7617, section 2)");
    }
    Ok((user.into(), decoded(password).ok_or(bad)?.into()))
}

/// Without percent-encoding (RFC 3986, section 2.1).
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

impl fmt::Display for Proxy {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let password = if self.credentials.is_some() { ", with credentials" } else { "" };
        write!(f, "Proxy({self}{password})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap()
    }

    #[test]
    fn a_url_names_scheme_host_port_and_who_asks() {
        let plain = proxy("http://Proxy.test:3128");
        assert_eq!((plain.scheme, &*plain.host, plain.port), (ProxyScheme::Http, "proxy.test", 3128));
        assert_eq!(plain.credentials, None);
        assert_eq!(proxy("http://[::1]").authority(), "[::1]:80");
        for zoned in ["http://[FE80::1%25Lo]:3128", "http://me@[fe80::1%Lo]:3128"] {
            assert_eq!(
                (&*proxy(zoned).host, proxy(zoned).authority().as_str()),
                ("fe80::1%Lo", "[fe80::1%25Lo]:3128")
            );
        }
        let (user, password) = proxy("http://me:p%40ss%3a%25@p.test").credentials.unwrap();
        assert_eq!((&*user, &*password), ("me", "p@ss:%"));
        assert_eq!(proxy("http://me@p.test").credentials.unwrap().1.as_ref(), "");
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_proxy_over_tls_has_its_own_default_port() {
        assert_eq!(proxy("https://p.test").port, 443);
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_repeating_a_password() {
        for (text, cure) in [
            ("proxy.test:3128", "must begin with http://"),
            ("http://a b", "write http://"),
            ("ftp://secret:secret@p.test", "must begin with http://"),
            ("http://secret:secret%4@p.test", "write it as %25"),
            ("http://secret%3a:secret@p.test", "a colon"),
            ("/path", "must begin with"),
            ("http://secret:secret@p.test:99999", "from 1 to 65535"),
            ("http://secret:secret@p.test:x1", "from 1 to 65535"),
            ("http://secret:secret@p.test:0", "from 1 to 65535"),
            ("http://secret:secret@[::1]x:80", "from 1 to 65535"),
            ("http://secret:secret@[%:]:80", "brackets"),
        ] {
            let said = text.parse::<Proxy>().unwrap_err().to_string();
            assert!(said.contains(cure) && !said.contains("secret"), "{text}: {said}");
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let proxy = proxy("http://user:secret@p.test:1");
        assert_eq!(proxy.to_string(), "http://p.test:1");
        assert!(!format!("{proxy:?}").contains("secret"));
    }
}
