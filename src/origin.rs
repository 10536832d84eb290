//! [`Origin`]: scheme, host and port, the key under which connections are kept.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher};
use std::net::Ipv6Addr;
use std::num::NonZeroU16;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use http::Uri;
use http::header::HeaderValue;
use http::uri::Authority;

use crate::error::{Error, ErrorKind};

/// `http` or `https`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Plain TCP; port 80 unless the URI names one.
    Http,
    /// TLS over TCP; port 443 unless the URI names one.
    Https,
}

impl Scheme {
    /// The port that a URI of this scheme means when it names none (RFC 9110, section 4.2).
    pub fn default_port(self) -> u16 {
        match self {
            Scheme::Http => 80,
            Scheme::Https => 443,
        }
    }

    /// The scheme as it stands in a URI.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// Where connections lead: scheme, host and port (RFC 9110, section 4.3.1). Two requests may share a
/// connection only when their origins are equal. The host is kept in lower case, IPv6 addresses without
/// their brackets.
#[derive(Clone, Debug, Eq, PartialOrd, Ord)]
pub struct Origin {
    scheme: Scheme,
    host: Arc<str>,
    port: u16,
    /// Of the three above, made once: a pool asks for it several times per request.
    hash: u64,
}

impl PartialEq for Origin {
    /// As a rule the two are copies of one, and no letter of their hosts is looked at.
    fn eq(&self, other: &Origin) -> bool {
        let is_copy = Arc::ptr_eq(&self.host, &other.host);
        self.hash == other.hash
            && (self.scheme, self.port) == (other.scheme, other.port)
            && (is_copy || self.host == other.host)
    }
}

impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Builds the hasher of maps whose key is an [`Origin`]: its hash is a good one already, keyed at random so that who
/// chooses the hosts cannot choose collisions.
pub(crate) type ByOrigin = BuildHasherDefault<HashedAlready>;

#[derive(Debug, Default)]
pub(crate) struct HashedAlready(u64);

impl Hasher for HashedAlready {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("an Origin writes one u64");
    }
}

impl Origin {
    /// The origin of an absolute URI.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRequest`] when the URI has no scheme or host, another scheme than `http` or
    /// `https`, a host or port that cannot be one, or user information (`user@host`), which RFC 9110, section 4.2.4, deprecates: send an
    /// `Authorization` header instead.
    pub fn from_uri(uri: &Uri) -> Result<Origin, Error> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidRequest).with_detail(text));
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            Some(other) => return invalid(format!("unknown scheme `{other}`: use http:// or https://")),
            None => return invalid(format!("`{uri}` has no scheme: write http://{uri} or https://{uri}")),
        };
        let Some(authority) = uri.authority() else {
            return invalid(format!("`{uri}` has no host"));
        };
        if authority.as_str().contains('@') {
            return invalid(
                "a URL with user information: give credentials in an Authorization header (-u user:password)"
                    .into(),
            );
        }
        let unreadable = |why: &str| {
            let text = format!("`{authority}` is no host with a port: {why}");
            Error::new(ErrorKind::InvalidRequest).with_detail(text)
        };
        let (host, port) = host_and_port(authority).map_err(unreadable)?;
        Ok(Origin::new(scheme, host.into(), port.unwrap_or(scheme.default_port())))
    }

    fn new(scheme: Scheme, host: Arc<str>, port: u16) -> Origin {
        static KEYS: OnceLock<RandomState> = OnceLock::new();
        let hash = KEYS.get_or_init(RandomState::new).hash_one((scheme, &*host, port));
        Origin { scheme, host, port, hash }
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Host name or address, lower case, IPv6 without brackets, and with its zone if it has one (`fe80::1%eth0`).
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The host as others may know it.
    pub(crate) fn host_without_zone(&self) -> &str {
        without_zone(&self.host)
    }

    /// The port, the scheme's own when the URI named none.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host and port, the scheme's own too, as CONNECT wants it.
    pub(crate) fn authority(&self) -> String {
        let host = self.host_without_zone();
        if host.contains(':') { format!("[{host}]:{}", self.port) } else { format!("{host}:{}", self.port) }
    }

    /// What the `Host` field says: the port only when it is not the scheme's own (RFC 9110, section 7.2).
    pub fn host_header(&self) -> HeaderValue {
        let text = self.authority_of(self.host_without_zone());
        HeaderValue::try_from(text).expect("a host out of a parsed URI has only visible ASCII characters")
    }

    fn authority_of(&self, host: &str) -> String {
        let bracketed = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        if self.port == self.scheme.default_port() { bracketed } else { format!("{bracketed}:{}", self.port) }
    }
}

/// What the 255 bytes of a name in the DNS, with the length of each label and the root, leave for its text (RFC 1035,
/// section 2.3.4).
const LONGEST_NAME: usize = 253;

/// The host of a URL's authority, as an [`Origin`] keeps it, and its port if it names one; or why there is none, which
/// does not repeat the user information.
pub(crate) fn host_and_port(authority: &Authority) -> Result<(String, Option<u16>), &'static str> {
    let text = authority.as_str();
    let text = text.rsplit_once('@').map_or(text, |(_, text)| text);
    // Brackets hold an IPv6 address, and nothing but a port stands beside them (RFC 3986, section 3.2.2).
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((address, port)) => (address_with_zone(address).ok_or(NO_ADDRESS)?, port),
        None => {
            let (name, port) = text.split_at(text.find(':').unwrap_or(text.len()));
            (name_in_dns(name)?, port)
        }
    };
    Ok((host, port_behind(port)?))
}

const NO_ADDRESS: &str = "brackets are for an IPv6 address alone, as in [::1]:80";

/// Lower case but for the zone: an interface's name may have capitals. In a URI the zone stands behind `%25` (RFC 6874,
/// section 2); a bare `%` is what people write (RFC 9844).
fn address_with_zone(text: &str) -> Option<String> {
    let (address, zone) = match text.split_once("%25").or_else(|| text.split_once('%')) {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    address.parse::<Ipv6Addr>().ok()?;
    let address = address.to_ascii_lowercase();
    match zone {
        Some(zone) if zone.is_empty() || zone.contains('[') => None,
        Some(zone) => Some(format!("{address}%{zone}")),
        None => Some(address),
    }
}

fn name_in_dns(name: &str) -> Result<String, &'static str> {
    if name.is_empty() {
        return Err("it has no host");
    }
    if name.contains(['[', ']']) {
        return Err(NO_ADDRESS);
    }
    if name.strip_suffix('.').unwrap_or(name).len() > LONGEST_NAME {
        return Err("it has more than 253 bytes, and no name is as long: check what stands before the path");
    }
    Ok(name.to_ascii_lowercase())
}

/// What stands behind a host: nothing, or a colon and a port, which may be left out (RFC 3986, section 3.2.3).
fn port_behind(text: &str) -> Result<Option<u16>, &'static str> {
    if text.is_empty() || text == ":" {
        return Ok(None);
    }
    // A number's own reading would take a sign, too.
    let digits = text.strip_prefix(':').filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let port = digits.and_then(|digits| digits.parse::<NonZeroU16>().ok());
    port.map(|port| Some(port.get()))
        .ok_or("behind a host stands a port from 1 to 65535, as in host:80, or nothing")
}

/// A zone means something on this machine only (RFC 6874, section 4).
pub(crate) fn without_zone(host: &str) -> &str {
    host.split('%').next().unwrap_or(host)
}

/// What to ask an origin for: the path and query of an absolute URI (origin-form, RFC 9112, section 3.2.1). An empty
/// path is asked for as `/`, and so it is when a fragment follows the host at once.
pub(crate) fn origin_form(uri: &Uri) -> Uri {
    let asked = uri.path_and_query().cloned().map(Uri::from);
    asked.filter(|asked| !asked.path().is_empty()).unwrap_or_else(|| Uri::from_static("/"))
}

impl FromStr for Origin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Origin, Error> {
        let uri: Uri = text.parse().map_err(|source| {
            let zone = text.split_once('[').is_some_and(|(_, host)| host.contains('%'));
            // RFC 9844, section 6: a zone is for people and interfaces, and no part of a URI any more.
            let cure =
                if zone { ": an IPv6 zone stands in an override's address, not in the URL" } else { "" };
            Error::new(ErrorKind::InvalidRequest)
                .with_detail(format!("`{text}` is not a URL{cure}"))
                .with_source(source)
        })?;
        Origin::from_uri(&uri)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With its zone: two origins that differ in it alone are two.
        let host = self.host.replacen('%', "%25", 1);
        write!(f, "{}://{}", self.scheme.as_str(), self.authority_of(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_case_and_a_default_port_make_no_difference() {
        let same: Origin = "http://EXAMPLE.test:80/a".parse().unwrap();
        assert_eq!(same, "http://example.test/b".parse().unwrap());
        assert_ne!(same, "https://example.test:80/".parse().unwrap());
        assert_ne!(same, "http://example.test:81/".parse().unwrap());
    }

    #[test]
    fn an_empty_path_is_asked_for_as_the_root() {
        for (text, path) in
            [("http://h", "/"), ("http://h#x", "/"), ("http://h?q", "/?q"), ("http://h/a?b#c", "/a?b")]
        {
            assert_eq!(origin_form(&text.parse().unwrap()).to_string(), path, "{text}");
        }
    }

    #[test]
    fn an_ipv6_host_loses_its_brackets_inside_and_wears_them_outside() {
        let origin: Origin = "http://[::1]:8080/".parse().unwrap();
        assert_eq!(origin.host(), "::1");
        assert_eq!(origin.host_header(), "[::1]:8080");
    }

    #[test]
    fn a_zone_stays_on_this_machine_and_keeps_its_case() {
        for text in ["http://[FE80::1%25Eth0]:8080/", "http://[fe80::1%Eth0]:8080/"] {
            let origin: Origin = text.parse().unwrap();
            assert_eq!(origin.host(), "fe80::1%Eth0");
            assert_eq!(origin.host_header(), "[fe80::1]:8080");
        }
    }

    #[test]
    fn whatever_an_origin_is_its_host_field_can_be_an_authority() {
        for text in ["http://h:/", "http://[::1]:/", "http://[::ffff:1.2.3.4]/", "http://[fe80::1%25:]:8080/"]
        {
            let origin: Origin = text.parse().unwrap();
            assert!(Authority::try_from(origin.host_header().as_bytes()).is_ok(), "{origin:?}");
        }
    }

    #[test]
    fn a_host_is_no_longer_than_a_name_can_be() {
        let host = |length: usize| format!("http://{}/", "a".repeat(length)).parse::<Origin>();
        assert_eq!(host(253).unwrap().host().len(), 253);
        assert!(format!("http://{}./", "a".repeat(253)).parse::<Origin>().is_ok(), "the root's dot");
        for length in [254, 256, 600] {
            let error = host(length).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidRequest);
            assert!(error.to_string().contains("more than 253 bytes"), "{error}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_a_cure() {
        for (text, hint) in [
            ("ftp://example.test/", "use http://"),
            ("example.test/path", "not a URL"),
            ("/only/a/path", "has no scheme"),
            ("http://user:secret@example.test/", "-u user:password"),
            ("http://example.test:0/", "from 1 to 65535"),
            ("http://example.test:99999/", "from 1 to 65535"),
            ("http://example.test:+80/", "from 1 to 65535"),
            ("http://[::1]x/", "from 1 to 65535"),
            ("http://[::1]80/", "from 1 to 65535"),
            ("http://h[::1]:80/", "brackets"),
            ("http://[abc]/", "brackets"),
            ("http://[%:]/", "brackets"),
            ("http://[%25:]/", "brackets"),
            ("http://[fe80::1%25]/", "brackets"),
        ] {
            let error = text.parse::<Origin>().unwrap_err();
            assert!(error.to_string().contains(hint), "{text}: {error}");
        }
    }
}
