//! Ends that nobody is told of, on this machine's loopback: the server's end of a connection turned into what a
//! middlebox makes of it.

#![expect(unsafe_code, reason = "socket options that no crate offers: each takes a pointer to plain data")]

use std::io;
use std::net::TcpStream;
use std::os::fd::AsRawFd;

use nix::libc;

/// From now on this end takes in nothing and acknowledges nothing: a path that drops in silence.
///
/// A socket filter (SO_ATTACH_FILTER, one instruction: keep 0 bytes) drops every segment before TCP sees it.
pub(crate) fn goes_silent(stream: &TcpStream) {
    let mut keep_nothing =
        libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut keep_nothing };
    set(stream, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program).expect("a socket takes a filter");
}

/// This end forgets the connection without a word: the next segment is answered by a RST, as by a NAT gateway that
/// has lost its state.
///
/// A socket in repair mode is closed without any segment (TCP_REPAIR, made for moving connections between machines).
pub(crate) fn is_forgotten(stream: &TcpStream) {
    let on: libc::c_int = 1;
    set(stream, libc::IPPROTO_TCP, libc::TCP_REPAIR, &on).unwrap_or_else(|error| {
        panic!("forgetting a connection needs root: run the tests as root ({error})")
    });
}

fn set<T>(stream: &TcpStream, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).expect("an option is small");
    // SAFETY: the kernel reads `length` bytes at `value`, which lives for as long as the call takes; a filter's
    // program, which `value` may point to, lives as long in the caller.
    let result =
        unsafe { libc::setsockopt(stream.as_raw_fd(), level, name, (&raw const *value).cast(), length) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
