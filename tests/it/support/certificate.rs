//! What a real server needs to speak TLS, made for the test.

use super::link;

/// How a real server speaks TLS.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tls {
    pub(crate) version: Version,
    /// Whether it lets clients resume sessions, by ticket or by id.
    pub(crate) resumption: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Version {
    Tls12,
    Tls13,
}

impl Version {
    /// As nginx, HAProxy and OpenSSL call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        }
    }
}

/// A certificate signed by itself, for every address that a test's server has, and its key.
pub(crate) struct Certificate {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let names = ["localhost", "127.0.0.1", "::1", &link::SERVER_IP.to_string()].map(String::from);
        let made = rcgen::generate_simple_self_signed(names).expect("names that a certificate may have");
        Self { pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
    }
}
