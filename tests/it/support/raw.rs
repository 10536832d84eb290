//! A client without a library: bytes out, bytes in, and how the connection ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, StreamOwned,
};

use super::PATIENCE;

/// One connection, plain or over TLS.
pub(crate) struct Raw<S> {
    stream: S,
    /// Bytes of the next response that came with the last.
    ahead: Vec<u8>,
}

/// A response as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Status line and header fields, lower case.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn says_close(&self) -> bool {
        self.head.contains("connection: close")
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// A FIN; over TLS, announced by close_notify.
    Orderly,
    /// A FIN without close_notify: over TLS, what an attacker could have made.
    Truncated,
    Reset,
}

impl Raw<TcpStream> {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
        Self { stream, ahead: Vec::new() }
    }
}

impl Raw<TcpStream> {
    /// Everything until the connection's end.
    pub(crate) fn until_end(&mut self) -> Vec<u8> {
        let mut bytes = std::mem::take(&mut self.ahead);
        self.stream.read_to_end(&mut bytes).expect("the connection ends in order");
        bytes
    }

    /// Whether neither a byte nor an end comes for so long.
    pub(crate) fn is_quiet(&mut self, patience: Duration) -> bool {
        self.stream.set_read_timeout(Some(patience)).expect("a socket takes a timeout");
        let quiet = self.stream.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a timeout");
        quiet
    }
}

impl Raw<StreamOwned<ClientConnection, TcpStream>> {
    /// A connection over TLS whose handshake is done when the first response is read.
    pub(crate) fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>) -> Self {
        let name = address.ip().into();
        let session = ClientConnection::new(Arc::clone(config), name).expect("the TLS settings agree");
        let tcp = Raw::connect(address).stream;
        Self { stream: StreamOwned::new(session, tcp), ahead: Vec::new() }
    }

    pub(crate) fn handshake(&self) -> HandshakeKind {
        self.stream.conn.handshake_kind().expect("the handshake is done")
    }

    pub(crate) fn version(&self) -> ProtocolVersion {
        self.stream.conn.protocol_version().expect("the handshake is done")
    }
}

/// A TLS client that trusts this certificate and remembers its sessions, or does not.
pub(crate) fn trusting(certificate_pem: &str, resumption: bool) -> Arc<ClientConfig> {
    let certificate =
        CertificateDer::from_pem_slice(certificate_pem.as_bytes()).expect("a certificate in PEM");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a certificate that can be trusted");
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    if !resumption {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

impl<S: Read + Write> Raw<S> {
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the connection takes bytes");
    }

    /// One GET, and its response.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        self.answer()
    }

    /// The next response, whose body's length is given by Content-Length or is none.
    pub(crate) fn answer(&mut self) -> Answer {
        let head_length = loop {
            match find(&self.ahead, b"\r\n\r\n") {
                Some(end) => break end + 4,
                None => self.read_more(),
            }
        };
        let head = String::from_utf8_lossy(&self.ahead[..head_length]).to_lowercase();
        let length = head_length + content_length(&head);
        while self.ahead.len() < length {
            self.read_more();
        }
        let rest = self.ahead.split_off(length);
        let body = std::mem::replace(&mut self.ahead, rest).split_off(head_length);
        Answer { head, body }
    }

    /// Waits for the end of the connection, which must come before any further byte.
    pub(crate) fn ending(&mut self) -> Ending {
        assert_eq!(String::from_utf8_lossy(&self.ahead), "", "bytes after the last response");
        match self.stream.read(&mut [0; 64]) {
            Ok(0) => Ending::Orderly,
            Ok(length) => panic!("{length} bytes instead of an end"),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ending::Truncated,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ending::Reset,
            Err(error) => panic!("neither bytes nor an end: {error}"),
        }
    }

    fn read_more(&mut self) {
        let mut part = [0; 16 * 1024];
        let length = self.stream.read(&mut part).expect("the server answers");
        assert_ne!(length, 0, "closed after {:?}", String::from_utf8_lossy(&self.ahead));
        self.ahead.extend_from_slice(&part[..length]);
    }
}

/// Where a sequence of bytes begins in others.
pub(crate) fn find(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    bytes.windows(sought.len()).position(|window| window == sought)
}

/// The length that a head announces, 0 without.
pub(crate) fn content_length(head: &str) -> usize {
    let value = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    value.map_or(0, |value| value.trim().parse().expect("Content-Length is a number"))
}
