//! The pool over TLS: what closes a connection there, and what only looks like it.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use keeplive::server::Behaviour;
use keeplive::{CloseReason, ErrorKind, Exchange, Obtained, Pool, PoolConfig};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::stale::exhaust_the_budget;
use super::{HI, assert_nothing_is_lost, get, origin, pool, post, send, tls_server};
use crate::support::certificate::Certificate;
use crate::support::gate::Gate;
use crate::support::raw::find;
use crate::support::scripted::Scripted;
use crate::support::soon;

/// One connection over TLS, as its script holds it.
pub(super) struct Secure<'a> {
    stream: StreamOwned<ServerConnection, &'a TcpStream>,
    ahead: Vec<u8>,
}

impl Secure<'_> {
    /// The next request without a body; `None` when there is none.
    pub(super) fn read_request(&mut self) -> Option<()> {
        loop {
            if let Some(end) = find(&self.ahead, b"\r\n\r\n") {
                self.ahead.drain(..end + 4);
                return Some(());
            }
            let mut part = [0; 4096];
            let length = self.stream.read(&mut part).ok().filter(|length| *length > 0)?;
            self.ahead.extend_from_slice(&part[..length]);
        }
    }

    pub(super) fn write(&mut self, bytes: &str) {
        let _ = self.stream.write_all(bytes.as_bytes());
        self.flush();
    }

    fn flush(&mut self) {
        // A client that has gone does not get them.
        while self.stream.conn.wants_write() && self.stream.conn.write_tls(&mut self.stream.sock).is_ok() {}
    }

    /// Says that it ends, and leaves the TCP connection open.
    fn say_goodbye(&mut self) {
        self.stream.conn.send_close_notify();
        self.flush();
    }

    /// Something that TLS says to itself and that carries no byte of a response, as a late session ticket does.
    fn change_keys(&mut self) {
        self.stream.conn.refresh_traffic_keys().expect("TLS 1.3");
        self.flush();
    }

    fn fin(&self) {
        let _ = self.stream.sock.shutdown(Shutdown::Write);
    }
}

fn secure_peer(script: impl Fn(usize, &mut Secure<'_>) + Send + Sync + 'static) -> (Scripted, String) {
    let shown = Certificate::new();
    let chain = vec![CertificateDer::from_pem_slice(shown.pem.as_bytes()).expect("a certificate in PEM")];
    let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).expect("a key in PEM");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key);
    configured_peer(config.expect("a key that fits its certificate"), script)
}

/// A peer that speaks TLS as this says.
pub(super) fn configured_peer(
    config: ServerConfig,
    script: impl Fn(usize, &mut Secure<'_>) + Send + Sync + 'static,
) -> (Scripted, String) {
    let config = Arc::new(config);
    let peer = Scripted::start(move |conn| {
        let session = ServerConnection::new(Arc::clone(&config)).expect("settings that agree");
        let stream = StreamOwned::new(session, conn.tcp());
        script(conn.number(), &mut Secure { stream, ahead: Vec::new() });
    });
    let url = format!("https://{}/", peer.addr());
    (peer, url)
}

/// Answers one request, then makes trouble behind our back on the first connection, and goes on answering. The
/// answer to the next request tells on which connection and after how many attempts it came.
async fn after_trouble(trouble: impl Fn(&mut Secure<'_>) + Send + Sync + 'static) -> (Pool, u32, usize) {
    let (go, done) = (Gate::default(), Gate::default());
    let (gone, has_done) = (go.clone(), done.clone());
    let (_peer, url) = secure_peer(move |number, conn| {
        if conn.read_request().is_some() {
            conn.write(HI);
        }
        if number == 1 {
            gone.wait();
            trouble(conn);
            has_done.open();
        }
        while conn.read_request().is_some() {
            conn.write(HI);
        }
    });
    let pool = pool(PoolConfig::default());
    get(&pool, &url).await;
    go.open();
    // The reactor does not run meanwhile.
    done.wait();
    let response = pool.send(post(&url, ())).await.expect("a response");
    let (body, exchange) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!(body, "hi");
    assert_nothing_is_lost(&pool);
    let attempts = 1 + exchange.retries.len();
    assert!(exchange.retries.iter().all(|retry| retry.kind == ErrorKind::NotSent));
    (pool, exchange.nth, attempts)
}

fn closed(pool: &Pool) -> Vec<(CloseReason, u64)> {
    pool.stats().closed.into_iter().collect()
}

#[tokio::test]
async fn a_close_notify_that_the_reactor_has_not_seen_is_found_before_writing() {
    let (pool, nth, attempts) = after_trouble(|conn| conn.say_goodbye()).await;
    assert_eq!((nth, attempts, closed(&pool)), (1, 2, vec![(CloseReason::PeerFin, 1)]));
}

#[tokio::test]
async fn a_close_notify_and_a_fin_are_found_before_writing() {
    let trouble = |conn: &mut Secure<'_>| {
        conn.say_goodbye();
        conn.fin();
    };
    let (pool, nth, attempts) = after_trouble(trouble).await;
    assert_eq!((nth, attempts, closed(&pool)), (1, 2, vec![(CloseReason::PeerFin, 1)]));
}

#[tokio::test]
async fn a_fin_without_close_notify_is_found_before_writing() {
    let (pool, nth, attempts) = after_trouble(|conn| conn.fin()).await;
    assert_eq!((nth, attempts, closed(&pool)), (1, 2, vec![(CloseReason::PeerFin, 1)]));
}

#[tokio::test]
async fn what_tls_says_to_itself_leaves_a_connection_usable() {
    let (pool, nth, attempts) = after_trouble(|conn| conn.change_keys()).await;
    assert_eq!((nth, attempts, closed(&pool)), (2, 1, vec![]));
}

/// A connection that was opened and not used, of whose handshake the server sends its session tickets only now (RFC
/// 8446, section 4.6.1), and then does this. The kernel has them, and the reactor does not know.
async fn with_tickets_in_the_kernel(
    then: impl Fn(&mut Secure<'_>) + Send + Sync + 'static,
) -> (Pool, String, Scripted) {
    let (go, done) = (Gate::default(), Gate::default());
    let (gone, has_done) = (go.clone(), done.clone());
    let (peer, url) = secure_peer(move |number, conn| {
        let stream = &mut conn.stream;
        // The hello comes and is answered; the client needs no more than that to be done.
        while !stream.conn.wants_write() {
            stream.conn.read_tls(&mut stream.sock).expect("a hello");
            stream.conn.process_new_packets().expect("a hello");
        }
        conn.flush();
        if number == 1 {
            gone.wait();
        }
        while conn.stream.conn.is_handshaking() {
            conn.stream.conn.read_tls(&mut conn.stream.sock).expect("the client's part");
            conn.stream.conn.process_new_packets().expect("the client's part");
        }
        assert!(conn.stream.conn.wants_write(), "there are tickets to be sent");
        conn.flush();
        if number == 1 {
            then(conn);
            has_done.open();
        }
        while conn.read_request().is_some() {
            conn.write(HI);
        }
    });
    let pool = pool(PoolConfig::default());
    pool.lease(&origin(&url)).await.expect("a connection").discard();
    go.open();
    // The reactor does not run meanwhile.
    done.wait();
    (pool, url, peer)
}

/// A POST, whose first poll has no budget if it is spent.
async fn post_with(pool: &Pool, url: &str, budget_is_spent: bool) -> Exchange {
    let mut sending = pin!(pool.send(post(url, ())));
    if budget_is_spent {
        poll_fn(|cx| {
            exhaust_the_budget(cx);
            assert!(sending.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
    }
    sending.await.expect("a response").into_body().finish().await.expect("a whole body")
}

#[tokio::test]
async fn tickets_that_the_reactor_has_not_seen_leave_a_connection_usable() {
    for budget_is_spent in [false, true] {
        let (pool, url, peer) = with_tickets_in_the_kernel(|_| {}).await;
        let exchange = post_with(&pool, &url, budget_is_spent).await;
        assert_eq!((exchange.obtained, exchange.retries.len()), (Obtained::Spare, 0));
        assert_eq!((peer.connections(), closed(&pool)), (1, vec![]));
    }
}

#[tokio::test]
async fn a_fin_behind_tickets_that_the_reactor_has_not_seen_is_found_before_writing() {
    for budget_is_spent in [false, true] {
        let (pool, url, peer) = with_tickets_in_the_kernel(|conn| conn.fin()).await;
        let exchange = post_with(&pool, &url, budget_is_spent).await;
        assert!(exchange.retries.iter().all(|retry| retry.kind == ErrorKind::NotSent), "{exchange:?}");
        assert_eq!((exchange.nth, peer.connections()), (1, 2));
        assert_eq!(closed(&pool), [(CloseReason::PeerFin, 1)]);
    }
}

#[tokio::test]
async fn a_fin_behind_what_tls_says_to_itself_is_found_before_writing() {
    let trouble = |conn: &mut Secure<'_>| {
        conn.change_keys();
        conn.fin();
    };
    let (pool, nth, attempts) = after_trouble(trouble).await;
    assert_eq!((nth, attempts, closed(&pool)), (1, 2, vec![(CloseReason::PeerFin, 1)]));
}

#[tokio::test]
async fn a_response_that_nobody_asked_for_is_found_before_writing() {
    let (pool, nth, attempts) = after_trouble(|conn| conn.write(HI)).await;
    assert_eq!((nth, attempts, closed(&pool)), (1, 2, vec![(CloseReason::Unsolicited, 1)]));
}

#[tokio::test]
async fn bytes_that_are_not_tls_are_found_before_writing() {
    // rustls answers them with an alert: bytes are written then, and still none of the request.
    let trouble = |conn: &mut Secure<'_>| {
        conn.stream.sock.write_all(b"this is not a TLS record").expect("the client takes bytes");
    };
    let (pool, nth, attempts) = after_trouble(trouble).await;
    assert_eq!((nth, attempts, closed(&pool)), (1, 2, vec![(CloseReason::Unsolicited, 1)]));
}

#[tokio::test]
async fn what_happens_to_a_connection_that_was_opened_and_not_used_is_noticed() {
    type End = fn(&mut Secure<'_>);
    let goodbye: End = |conn| {
        conn.say_goodbye();
        conn.fin();
    };
    let (fin, words): (End, End) = (|conn| conn.fin(), |conn| conn.write(HI));
    for (end, reason) in
        [(goodbye, CloseReason::PeerFin), (fin, CloseReason::PeerFin), (words, CloseReason::Unsolicited)]
    {
        let go = Gate::default();
        let gone = go.clone();
        let (_peer, url) = secure_peer(move |_, conn| {
            conn.stream.conn.complete_io(&mut conn.stream.sock).expect("a handshake");
            gone.wait();
            end(conn);
            conn.read_request();
        });
        let pool = pool(PoolConfig::default().idle_timeout(None));
        pool.lease(&origin(&url)).await.expect("a connection").discard();
        assert_eq!(pool.stats().idle, 1);
        go.open();
        soon("its end", || (pool.stats().idle == 0).then_some(())).await;
        assert_eq!(closed(&pool), [(reason, 1)]);
    }
}

#[tokio::test]
async fn tickets_are_no_beginning_of_a_response() {
    let (_peer, url) = secure_peer(|_, conn| {
        conn.read_request();
        conn.flush();
        conn.say_goodbye();
        conn.fin();
    });
    let error = send(&pool(PoolConfig::default()), &url).await.expect_err("no response");
    assert_eq!(error.kind(), ErrorKind::NoResponse, "{error}");
}

#[tokio::test]
async fn a_body_without_a_length_needs_a_close_notify_to_be_whole() {
    for (says_goodbye, is_whole) in [(true, true), (false, false)] {
        let (_peer, url) = secure_peer(move |_, conn| {
            conn.read_request();
            conn.write("HTTP/1.1 200 OK\r\n\r\nall of it?");
            if says_goodbye {
                conn.say_goodbye();
            }
            conn.fin();
        });
        let pool = pool(PoolConfig::default());
        let response = send(&pool, &url).await.expect("a response");
        match response.into_body().collect_all().await {
            Ok((body, _)) => assert!(is_whole && body == "all of it?"),
            Err(error) => assert!(!is_whole && error.kind() == ErrorKind::Partial, "{error}"),
        }
        assert_eq!((pool.stats().idle, pool.stats().busy), (0, 0));
    }
}

#[tokio::test]
async fn the_servers_own_tickets_leave_its_connections_usable() {
    let server = tls_server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    for nth in 1..=50 {
        assert_eq!(get(&pool, &server.url()).await.nth, nth);
        tokio::task::yield_now().await;
    }
    assert_eq!(server.counts().connections, 1);
}

#[tokio::test]
async fn a_second_connection_resumes_the_first_ones_session() {
    let server = tls_server(Behaviour::default());
    let pool = pool(PoolConfig::default().keep_alive(false));
    let resumed = |exchange: &keeplive::Exchange| exchange.connection.tls.as_ref().expect("TLS").resumed;
    assert!(!resumed(&get(&pool, &server.url()).await));
    assert!(resumed(&get(&pool, &server.url()).await));
    let stats = pool.stats();
    assert_eq!((stats.handshakes_full, stats.handshakes_resumed), (1, 1));
    let counts = server.counts();
    assert_eq!((counts.handshakes_full, counts.handshakes_resumed), (1, 1));
}
