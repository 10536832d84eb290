//! The floor: what the system calls alone cost, of an epoll loop over 50 connections: one write and one read for each
//! request, and without keep-alive connect, write, read to the end and close. Over TLS, kept, with what rustls makes of them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio_rustls::rustls::{ClientConnection, StreamOwned};

use crate::support::now;
use crate::{CONNECTIONS, Scenario, tls};

const FOR: Duration = Duration::from_secs(2);

pub(crate) fn run(address: &str, scenario: Scenario) {
    let address: SocketAddr = address.parse().expect("an address");
    let open = || TcpStream::connect(address).expect("nginx listens");
    match scenario {
        Scenario::On => kept(address, |epoll, nth| {
            let tcp = open();
            epoll.add(&tcp, EpollEvent::new(EpollFlags::EPOLLIN, nth)).expect("it is open");
            tcp
        }),
        Scenario::TlsOn => {
            let config = tls::config();
            kept(address, |epoll, nth| {
                let session = ClientConnection::new(Arc::clone(&config), address.ip().into());
                let mut stream = StreamOwned::new(session.expect("a configuration"), open());
                while stream.conn.is_handshaking() {
                    stream.conn.complete_io(&mut stream.sock).expect("nginx shakes hands");
                }
                epoll.add(&stream.sock, EpollEvent::new(EpollFlags::EPOLLIN, nth)).expect("it is open");
                stream
            });
        }
        _ => once(address),
    }
}

fn kept<S: Read + Write>(address: SocketAddr, open: impl Fn(&Epoll, u64) -> S) {
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("an epoll");
    let mut streams: Vec<S> = (0..).take(CONNECTIONS).map(|nth| open(&epoll, nth)).collect();
    for stream in &mut streams {
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
