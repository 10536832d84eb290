//! Why a handshake failed, said with the cure. The library's own words stay in the error's source.

use std::io;

use tokio_rustls::rustls::pki_types::UnixTime;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as RustlsError};

use super::TlsClient;
use crate::error::{Error, ErrorKind};
use crate::phase::Phase;

impl TlsClient {
    /// The failure of a handshake with `host`.
    pub(super) fn failure(&self, host: &str, error: io::Error) -> Error {
        let text = match rustls_error(&error) {
            Some(cause) => self.explain(host, cause),
            None => match error.kind() {
                io::ErrorKind::UnexpectedEof => {
                    format!("`{host}` ended the connection in the TLS handshake: does this port speak TLS?")
                }
                io::ErrorKind::ConnectionReset => {
                    format!("`{host}` reset the connection in the TLS handshake: does this port speak TLS?")
                }
                _ => format!("the TLS handshake with `{host}` failed: {error}"),
            },
        };
        Error::new(ErrorKind::Tls).at(Phase::Tls).told_by(text, error)
    }

    fn explain(&self, host: &str, error: &RustlsError) -> String {
        match error {
            RustlsError::InvalidCertificate(fault) => self.explain_certificate(host, fault),
            RustlsError::AlertReceived(alert) => explain_alert(host, *alert, self.shows_certificate),
            RustlsError::InvalidMessage(_) => {
                format!("`{host}` does not speak TLS on this port: use http://")
            }
            RustlsError::PeerIncompatible(why) => {
                format!(
                    "`{host}` offers no TLS that we may use ({why:?}): allow other versions, or configure it anew"
                )
            }
            other => format!("the TLS handshake with `{host}` failed: {other}"),
        }
    }

    fn explain_certificate(&self, host: &str, fault: &CertificateError) -> String {
        let certificate = format!("the certificate of `{host}`");
        match fault {
            CertificateError::UnknownIssuer if self.trusts_nobody => format!(
                "{certificate} cannot be verified, for this system has no trusted roots: install its CA certificates, \
                 or set SSL_CERT_FILE"
            ),
            CertificateError::UnknownIssuer => format!(
                "{certificate} was issued by nobody that is trusted: trust its issuer's root, or let the server send \
                 the intermediate certificates too"
            ),
            CertificateError::ExpiredContext { time, not_after } => format!(
                "{certificate} has expired, {} ago: renew it, or correct this machine's clock",
                between(*not_after, *time)
            ),
            CertificateError::Expired => {
                format!("{certificate} has expired: renew it, or correct this machine's clock")
            }
            CertificateError::NotValidYetContext { time, not_before } => format!(
                "{certificate} is not valid yet, for {} more: correct this machine's clock, or wait",
                between(*time, *not_before)
            ),
            CertificateError::NotValidYet => {
                format!("{certificate} is not valid yet: correct this machine's clock, or wait")
            }
            CertificateError::NotValidForNameContext { presented, .. } => format!(
                "{certificate} is not valid for that name but for {}: ask for one of these, or have it issued for \
                 `{host}`",
                names(presented)
            ),
            CertificateError::NotValidForName => {
                format!("{certificate} is not valid for that name: have it issued for `{host}`")
            }
            CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
                format!(
                    "{certificate} is not one for TLS servers (extended key usage): have another one issued"
                )
            }
            CertificateError::BadSignature => format!(
                "{certificate} was not signed by the trusted authority whose name it bears: if that was made anew, \
                 trust the new one"
            ),
            CertificateError::Revoked => format!("{certificate} was revoked: have another one issued"),
            // rustls passes webpki's word through, in a type of its own.
            CertificateError::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => format!(
                "{certificate} is an authority's own (CA:TRUE) and no server's: let it issue one with CA:FALSE for \
                 the server to show"
            ),
            other => format!("{certificate} cannot be verified: {other:?}"),
        }
    }
}

fn explain_alert(host: &str, alert: AlertDescription, shows_certificate: bool) -> String {
    match alert {
        AlertDescription::NoApplicationProtocol => {
            format!("`{host}` does not offer HTTP/1.1 (ALPN): let it, perhaps beside HTTP/2")
        }
        AlertDescription::ProtocolVersion => {
            format!("`{host}` speaks no version of TLS that is offered: offer others, or configure it anew")
        }
        AlertDescription::UnrecognisedName => {
            format!("`{host}` does not serve that name (SNI): correct the host, or its configuration")
        }
        alert if is_about_our_certificate(alert) => refused(shows_certificate),
        AlertDescription::HandshakeFailure => format!(
            "`{host}` refused the handshake: it has no cipher suite in common with us, or demands a client \
             certificate"
        ),
        other => format!("`{host}` refused the handshake with the alert {other:?}"),
    }
}

/// In TLS 1.3 the client's part is over before the server has looked at the client's certificate: its refusal is
/// read where a response is awaited (RFC 8446, section 4.4.2.4 and appendix A).
pub(crate) fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let alert = error.downcast_ref::<io::Error>().and_then(rustls_error);
        if let Some(RustlsError::AlertReceived(alert)) = alert {
            return is_about_our_certificate(*alert)
                .then(|| refused(*alert != AlertDescription::CertificateRequired));
        }
        cause = error.source();
    }
    None
}

fn refused(shows_certificate: bool) -> String {
    match shows_certificate {
        true => {
            "the server does not accept our client certificate: show one that its authority has issued".into()
        }
        false => "the server demands a client certificate: give one (TlsConfig::client_certificate)".into(),
    }
}

/// RFC 8446, section 6.2.
fn is_about_our_certificate(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied
    )
}

fn rustls_error(error: &io::Error) -> Option<&RustlsError> {
    error.get_ref()?.downcast_ref()
}

fn between(from: UnixTime, to: UnixTime) -> String {
    let hours = to.as_secs().saturating_sub(from.as_secs()) / 3600;
    match hours {
        0 => "less than an hour".into(),
        1..48 => format!("{hours} hours"),
        _ => format!("{} days", hours / 24),
    }
}

/// `DnsName("a.test")`, `IpAddress(127.0.0.1)`: what stands between the brackets.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        format!("`{}`", inside.trim_matches('"'))
    };
    match presented {
        [] => "none at all".into(),
        some => some.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}
