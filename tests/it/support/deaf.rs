//! An address at which nobody answers and nobody says no.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

/// A listener whose queue is full, so that the kernel drops every further SYN: to a client it is a black hole.
pub(crate) struct Deaf {
    address: SocketAddr,
    _listener: Socket,
    _full: TcpStream,
}

impl Deaf {
    pub(crate) fn new() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    /// At a free port of a loopback address.
    pub(crate) fn at(ip: IpAddr) -> Self {
        let anywhere = SocketAddr::new(ip, 0);
        let listener = Socket::new(Domain::for_address(anywhere), Type::STREAM, None).expect("a socket");
        listener.bind(&anywhere.into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("an address").as_socket().expect("of IP");
        let full = TcpStream::connect(address).expect("room for one");
        Self { address, _listener: listener, _full: full }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Connections to it that are being opened now, and will not be: their SYNs are out.
    pub(crate) fn knocking(&self) -> usize {
        super::sockets::knocking(self.address)
    }
}

#[test]
fn a_deaf_peer_neither_answers_nor_refuses() {
    let deaf = Deaf::new();
    let short = std::time::Duration::from_millis(50);
    let error = TcpStream::connect_timeout(&deaf.address(), short).expect_err("nobody answers");
    assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(deaf.knocking(), 0);
}
