//! What the kernel says about a TCP connection over IPv4, from /proc/net/tcp.

use std::net::SocketAddr;

use keeplive::Address;

/// A connection's state at its local end, as far as tests ask for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Established,
    /// We closed first and remember it for a minute.
    TimeWait,
    /// The peer has closed and we have not.
    CloseWait,
    Other(u8),
}

/// The state of the connection from `local` to `remote`; `None` when the kernel has forgotten it.
pub(crate) fn state(local: impl Into<Address>, remote: impl Into<Address>) -> Option<State> {
    let (Address::Ip(local), Address::Ip(remote)) = (local.into(), remote.into()) else {
        panic!("a Unix socket is no TCP connection")
    };
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its TCP connections");
    let row = format!("{} {} ", address(local), address(remote));
    table.lines().find_map(|line| line.split_once(&row)).map(|(_, rest)| state_at(rest))
}

/// How many connections to `remote` are in that state at their local ends.
pub(crate) fn count(remote: SocketAddr, sought: State) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its TCP connections");
    // The local address ends with its port, before a blank.
    let to_remote = format!(" {} ", address(remote));
    let rows = table.lines().filter_map(|line| line.split_once(": ")?.1.split_once(&to_remote));
    rows.filter(|(_, rest)| state_at(rest) == sought).count()
}

fn state_at(rest: &str) -> State {
    match u8::from_str_radix(&rest[..2], 16).expect("a state is two hexadecimal digits") {
        1 => State::Established,
        6 => State::TimeWait,
        8 => State::CloseWait,
        other => State::Other(other),
    }
}

/// How many connections to `remote` wait for an answer to their SYN.
pub(crate) fn knocking(remote: SocketAddr) -> usize {
    let table = if remote.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let table = std::fs::read_to_string(table).expect("Linux shows its TCP connections");
    let row = format!(" {} 02 ", address(remote));
    table.lines().filter(|line| line.contains(&row)).count()
}

/// How many bytes lie at the connection's local end that nobody has read; `None` when the kernel has forgotten it.
pub(crate) fn unread(local: SocketAddr, remote: SocketAddr) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux shows its TCP connections");
    let row = format!("{} {} ", address(local), address(remote));
    let rest = table.lines().find_map(|line| line.split_once(&row))?.1;
    // State, then what waits to be sent, then what waits to be read.
    let queue = rest.get(12..20).expect("the queues are eight hexadecimal digits each");
    Some(u64::from_str_radix(queue, 16).expect("a queue is a hexadecimal number"))
}

fn address(address: SocketAddr) -> String {
    let words: String = match address {
        SocketAddr::V4(address) => format!("{:08X}", u32::from_ne_bytes(address.ip().octets())),
        SocketAddr::V6(address) => {
            let octets = address.ip().octets();
            let words = octets.chunks_exact(4).map(|word| u32::from_ne_bytes(word.try_into().expect("four")));
            words.map(|word| format!("{word:08X}")).collect()
        }
    };
    format!("{words}:{:04X}", address.port())
}

#[test]
fn both_ends_of_an_open_connection_are_established() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    let client = std::net::TcpStream::connect(listener.local_addr().expect("an address")).expect("a peer");
    let (local, remote) = (client.local_addr().expect("an address"), client.peer_addr().expect("an address"));
    assert_eq!(state(local, remote), Some(State::Established));
    assert_eq!(state(remote, local), Some(State::Established));
    assert_eq!((count(remote, State::Established), count(remote, State::CloseWait)), (1, 0));
    drop((client, listener));
}
