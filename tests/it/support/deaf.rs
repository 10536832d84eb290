//! A peer that never accepts: its queue is full, so that the kernel drops what comes, and nobody even says no.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

pub(crate) struct Deaf {
    address: SocketAddr,
    _listener: Socket,
    _full: TcpStream,
}

impl Deaf {
    pub(crate) fn new() -> Deaf {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        listener.bind(&anywhere.into()).expect("a free port");
        listener.listen(0).expect("a listener");
        let address = listener.local_addr().expect("an address").as_socket().expect("of IPv4");
        let full = TcpStream::connect(address).expect("room for one");
        Deaf { address, _listener: listener, _full: full }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}
