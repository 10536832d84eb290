//! The floor: what the system calls alone cost, of an epoll loop over 50 connections: one write and one read for each
//! request, and without keep-alive connect, write, read to the end and close.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::CONNECTIONS;
use crate::support::now;

const FOR: Duration = Duration::from_secs(2);

pub(crate) fn run(address: &str, keeps: bool) {
    let address: SocketAddr = address.parse().expect("an address");
    if keeps { kept(address) } else { once(address) }
}

fn kept(address: SocketAddr) {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    let mut streams: Vec<TcpStream> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).expect("nginx listens")).collect();
    for (nth, stream) in (0..).zip(&mut streams) {
        epoll.add(&*stream, EpollEvent::new(EpollFlags::EPOLLIN, nth)).expect("it is open");
        stream.write_all(request.as_bytes()).expect("nginx reads");
    }
    while_time_lasts(&epoll, |nth, buffer| {
        let stream = &mut streams[nth];
        assert!(stream.read(buffer).expect("nginx answers") > 0, "nginx keeps it open");
        stream.write_all(request.as_bytes()).expect("nginx reads");
    });
}

fn once(address: SocketAddr) {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    // On loopback a connection is open when `connect` returns, which does not wait for the other process.
    let open = |nth: u64| {
        let mut stream = TcpStream::connect(address).expect("nginx listens");
        stream.write_all(request.as_bytes()).expect("nginx reads");
        epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLIN, nth)).expect("it is open");
        stream
    };
    let mut streams: Vec<TcpStream> = (0..).take(CONNECTIONS).map(open).collect();
    while_time_lasts(&epoll, |nth, buffer| {
        if streams[nth].read(buffer).expect("nginx answers") == 0 {
            streams[nth] = open(nth as u64);
        }
    });
}

/// Answers every event, with the number that its connection was given.
fn while_time_lasts(epoll: &Epoll, mut answer: impl FnMut(usize, &mut [u8])) {
    let (ends, mut buffer) = (now() + FOR, [0; 4096]);
    let mut events = vec![EpollEvent::empty(); CONNECTIONS];
    while now() < ends {
        let ready = epoll.wait(&mut events, EpollTimeout::from(1000_u16)).expect("epoll waits");
        for event in &events[..ready] {
            answer(usize::try_from(event.data()).expect("a number given above"), &mut buffer);
        }
    }
}
