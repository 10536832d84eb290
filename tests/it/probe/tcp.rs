//! Plain TCP: whatever a path carries.

use std::io::{Read, Write};

use super::*;
use crate::support::lost::goes_silent;

fn saying(address: SocketAddr, send: &[u8], expect: &[u8]) -> Probing {
    let mut probing = probing("tcp:");
    let url = format!("tcp://{address}");
    probing.target = ProbeTarget::Tcp { url, send: send.to_vec(), expect: expect.to_vec() };
    probing
}

/// A peer that greets, answers PING with PONG, and does this when nothing has come for `idle`.
fn pong(
    greeting: &'static str,
    idle: Duration,
    deed: impl Fn(&mut Conn) + Send + Sync + 'static,
) -> Scripted {
    Scripted::start(move |conn| {
        conn.write(greeting);
        loop {
            if conn.is_idle_for(idle) {
                return deed(conn);
            }
            match conn.tcp().read(&mut [0; 64]) {
                Ok(1..) => conn.tcp().write_all(b"PONG\n").unwrap_or_default(),
                _ => return,
            }
        }
    })
}

#[test]
fn a_server_that_greets_is_watched_without_a_word() {
    let peer = pong("SSH-2.0-test\r\n", ms(1100), |_| {});
    let findings = run(saying(peer.addr(), b"", b"SSH-2.0"));
    brackets(&findings, ms(1100), ms(0), CloseKind::Fin);
    assert_eq!(findings.target.status, None);
    assert!(tells(&findings, CaveatKind::Other), "{}", brief(&findings));
}

#[test]
fn a_path_that_drops_in_silence_is_found_by_asking() {
    let peer = pong("", ms(1300), |conn| {
        goes_silent(conn.tcp());
        conn.until_closed();
    });
    let findings = run(saying(peer.addr(), b"PING\n", b"PONG"));
    brackets(&findings, ms(1300), ms(0), CloseKind::Silent);
}
