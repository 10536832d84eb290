//! [`Diag`]: what the kernel knows of a TCP connection (`TCP_INFO`), asked over netlink.
//!
//! *Design.* `getsockopt(TCP_INFO)` has no safe form in the crates that the library stands on. The kernel tells the
//! same structure to anybody who asks for a connection by its addresses (sock_diag(7), as `ss -i` does), in plain
//! bytes over a plain socket: no unsafe code, no further dependency. Other systems answer `None`, and the findings
//! say so.

use crate::findings::TcpFacts;

/// What the kernel tells of one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    pub(super) facts: TcpFacts,
    /// Segments that came, keepalive probes among them (RFC 4898, `tcpEStatsPerfSegsIn`).
    pub(super) segments_in: u32,
}

#[cfg(target_os = "linux")]
mod sys {
    use std::net::{IpAddr, SocketAddr};
    use std::os::fd::OwnedFd;
    use std::sync::Arc;

    use rustix::net::netlink::{self, SocketAddrNetlink};
    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
    };

    use super::Told;
    use crate::findings::TcpFacts;

    /// linux/sock_diag.h, linux/inet_diag.h, linux/netlink.h.
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST: u16 = 1;
    const INET_DIAG_INFO: u16 = 2;
    const IPPROTO_TCP: u8 = 6;
    const NO_COOKIE: [u8; 8] = [0xff; 8];

    /// Lengths of `nlmsghdr`, `inet_diag_req_v2` and `inet_diag_msg`.
    const HEADER: usize = 16;
    const REQUEST: usize = 56;
    const MESSAGE: usize = 72;

    #[derive(Clone, Debug)]
    pub(in crate::probe) struct Diag(Arc<OwnedFd>);

    impl Diag {
        pub(in crate::probe) fn new() -> Option<Diag> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let protocol = Some(netlink::SOCK_DIAG);
            socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, protocol)
                .ok()
                .map(|socket| Diag(Arc::new(socket)))
        }

        pub(in crate::probe) fn ask(&self, local: SocketAddr, remote: SocketAddr) -> Option<Told> {
            let mut answer = [0_u8; 4096];
            // What an earlier question left is not the answer to this one.
            while recv(&*self.0, &mut answer[..], RecvFlags::DONTWAIT).is_ok() {}
            let request = request(local, remote);
            sendto(&*self.0, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).ok()?;
            // The kernel has answered when sendto returns.
            let (length, _) = recv(&*self.0, &mut answer[..], RecvFlags::DONTWAIT).ok()?;
            read(&answer[..length])
        }
    }

    fn request(local: SocketAddr, remote: SocketAddr) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + REQUEST);
        bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
        bytes.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes.extend(NLM_F_REQUEST.to_ne_bytes());
        bytes.extend([0; 8]); // sequence number, port id
        let family = if local.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        bytes.extend([family.as_raw() as u8, IPPROTO_TCP, 1 << (INET_DIAG_INFO - 1), 0]);
        bytes.extend(u32::MAX.to_ne_bytes()); // any state
        bytes.extend(local.port().to_be_bytes());
        bytes.extend(remote.port().to_be_bytes());
        bytes.extend(sixteen(local.ip()));
        bytes.extend(sixteen(remote.ip()));
        bytes.extend(0_u32.to_ne_bytes()); // any interface
        bytes.extend(NO_COOKIE);
        bytes
    }

    fn sixteen(ip: IpAddr) -> [u8; 16] {
        match ip {
            IpAddr::V6(ip) => ip.octets(),
            IpAddr::V4(ip) => {
                let mut octets = [0; 16];
                octets[..4].copy_from_slice(&ip.octets());
                octets
            }
        }
    }

    fn read(message: &[u8]) -> Option<Told> {
        let kind = u16::from_ne_bytes(message.get(4..6)?.try_into().ok()?);
        if kind != SOCK_DIAG_BY_FAMILY {
            return None;
        }
        let mut rest = message.get(HEADER + MESSAGE..)?;
        loop {
            let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
            let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
            let value = rest.get(4..length)?;
            if kind == INET_DIAG_INFO {
                return tcp_info(value);
            }
            rest = rest.get(length.next_multiple_of(4)..)?;
        }
    }

    /// `struct tcp_info` of linux/tcp.h, whose fields keep their places.
    fn tcp_info(bytes: &[u8]) -> Option<Told> {
        let word = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let facts = TcpFacts {
            state: *bytes.first()?,
            retransmits: *bytes.get(2)?,
            unacked: word(24)?,
            last_data_recv_ms: word(52)?,
            last_ack_recv_ms: word(56)?,
            rtt_us: word(68)?,
        };
        Some(Told { facts, segments_in: word(140).unwrap_or(0) })
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::net::SocketAddr;

    use super::Told;

    #[derive(Clone, Debug)]
    pub(in crate::probe) struct Diag;

    impl Diag {
        pub(in crate::probe) fn new() -> Option<Diag> {
            None
        }

        pub(in crate::probe) fn ask(&self, _local: SocketAddr, _remote: SocketAddr) -> Option<Told> {
            None
        }
    }
}

pub(super) use sys::Diag;

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_tells_of_a_connection_by_its_addresses_and_of_no_other() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut server, _) = listener.accept().unwrap();
            let (local, remote) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
            let diag = Diag::new().unwrap();
            let before = diag.ask(local, remote).unwrap();
            assert_eq!((before.facts.state, before.facts.unacked), (1, 0));
            client.write_all(b"hello").unwrap();
            server.read_exact(&mut [0; 5]).unwrap();
            server.write_all(b"hello").unwrap();
            client.read_exact(&mut [0; 5]).unwrap();
            assert!(diag.ask(local, remote).unwrap().segments_in > before.segments_in);
            drop(server);
            client.read_exact(&mut [0; 1]).unwrap_err();
            assert_eq!(diag.ask(local, remote).unwrap().facts.state, 8, "close-wait");
            drop(listener);
            let nobody: SocketAddr = "127.0.0.1:9".parse().unwrap();
            assert!(diag.ask("127.0.0.1:1".parse().unwrap(), nobody).is_none());
        }
    }
}
