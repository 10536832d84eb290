//! What a request does that finds no idle connection: open one, race for one, or wait first.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{CloseReason, ErrorKind, Obtained, OnMiss, Phase, PoolConfig};

use super::limits::{begin, many_rounds_with_random_cancels, nobody};
use super::{HI, answering, assert_nothing_is_lost, get, pool, send, server, tls_server, url};
use crate::support::deaf::Deaf;
use crate::support::gate::Gate;
use crate::support::scripted::{Conn, Scripted};
use crate::support::{now, soon};

fn with(on_miss: OnMiss) -> PoolConfig {
    PoolConfig::default().on_miss(on_miss)
}

/// A way to a TLS server on which every connection but the first is held up, in the middle of its handshake, until
/// the gate opens.
fn narrow(server: SocketAddr, gate: &Gate) -> Scripted {
    let gate = gate.clone();
    Scripted::start(move |conn| {
        if conn.number() > 1 {
            gate.wait();
        }
        forward(conn, server);
    })
}

fn forward(conn: &Conn, server: SocketAddr) {
    let there = TcpStream::connect(server).expect("the server listens");
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut conn.tcp(), &mut &there);
            let _ = there.shutdown(Shutdown::Write);
        });
        let _ = std::io::copy(&mut &there, &mut conn.tcp());
        let _ = conn.tcp().shutdown(Shutdown::Write);
    });
}

fn https(peer: &Scripted) -> String {
    format!("https://{}/", peer.addr())
}

#[tokio::test]
async fn a_request_that_opens_uses_what_it_opened_whatever_comes_back_meanwhile() {
    let (server, gate) = (tls_server(Behaviour::default()), Gate::default());
    let way = narrow(server.addr(), &gate);
    let pool = pool(with(OnMiss::Open));
    let busy = send(&pool, &https(&way)).await.expect("a response");
    let mut second = Box::pin(get(&pool, &https(&way)));
    begin(&mut second).await;
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!((pool.stats().opening, pool.stats().idle), (1, 1));
    gate.open();
    let exchange = second.await;
    assert_eq!((exchange.obtained, exchange.nth), (Obtained::Opened, 1));
    assert!(exchange.timings.connect.is_some());
    assert_eq!((pool.stats().opened, pool.stats().late_bound), (2, 0));
}

#[tokio::test]
async fn a_connection_that_comes_back_before_the_opening_ends_is_used_and_the_opened_one_rests() {
    let (server, gate) = (tls_server(Behaviour::default()), Gate::default());
    let way = narrow(server.addr(), &gate);
    let pool = pool(with(OnMiss::LateBind));
    let busy = send(&pool, &https(&way)).await.expect("a response");
    let mut second = Box::pin(get(&pool, &https(&way)));
    begin(&mut second).await;
    assert_eq!((pool.stats().opening, pool.stats().waiting), (1, 0));
    busy.into_body().finish().await.expect("a whole body");
    let late = second.await;
    assert_eq!((late.obtained, late.nth, late.timings.connect), (Obtained::LateBound, 2, None));
    assert_eq!((pool.stats().opening, pool.stats().late_bound), (1, 1));
    gate.open();
    soon("the opened connection", || (pool.stats().idle == 2).then_some(())).await;
    let both = [send(&pool, &https(&way)).await, send(&pool, &https(&way)).await];
    let mut seen = Vec::new();
    for response in both {
        let exchange = response.expect("a response").into_body().finish().await.expect("a whole body");
        assert!(exchange.idle_before.is_some() && exchange.timings.connect.is_none());
        seen.push((exchange.obtained, exchange.nth));
    }
    assert_eq!(seen, [(Obtained::Spare, 1), (Obtained::Reused, 3)]);
    assert_eq!(pool.stats().opened, 2);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn an_opening_that_ends_first_is_used_by_who_began_it() {
    let server = server(Behaviour::default());
    let pool = pool(with(OnMiss::LateBind));
    let busy = send(&pool, &server.url()).await.expect("a response");
    let exchange = get(&pool, &server.url()).await;
    assert_eq!((exchange.obtained, exchange.nth, exchange.idle_before), (Obtained::Opened, 1, None));
    let connect = exchange.timings.connect.expect("opened for it");
    assert!(exchange.timings.total() >= connect.total());
    drop(busy);
    assert_eq!((pool.stats().opened, pool.stats().late_bound, pool.stats().reused), (2, 0, 0));
}

#[tokio::test]
async fn what_was_opened_for_one_who_has_gone_goes_to_the_next_or_rests() {
    let (server, gate) = (tls_server(Behaviour::default()), Gate::default());
    let way = narrow(server.addr(), &gate);
    let pool = pool(with(OnMiss::LateBind).max_connections_per_origin(Some(2)));
    let busy = send(&pool, &https(&way)).await.expect("a response");
    let mut gone = Box::pin(get(&pool, &https(&way)));
    begin(&mut gone).await;
    let mut next = Box::pin(get(&pool, &https(&way)));
    begin(&mut next).await;
    assert_eq!((pool.stats().opening, pool.stats().waiting), (1, 1));
    drop(gone);
    assert_eq!((pool.stats().opening, pool.stats().waiting), (1, 1), "the opening goes on");
    gate.open();
    let exchange = next.await;
    assert_eq!((exchange.obtained, exchange.nth), (Obtained::Spare, 1));
    assert_eq!(pool.stats().idle, 1);
    drop(busy);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_failed_opening_fails_only_who_began_it_and_the_next_opens() {
    let pool = pool(with(OnMiss::LateBind).max_connections_per_origin(Some(1)));
    let url = url(nobody());
    let mut both: Vec<_> = (0..2).map(|_| Box::pin(send(&pool, &url))).collect();
    for request in &mut both {
        begin(request).await;
    }
    for (request, failed) in both.into_iter().zip(1..) {
        let error = request.await.expect_err("nobody listens");
        assert_eq!((error.kind(), error.phase()), (ErrorKind::ConnectRefused, Some(Phase::Connect)));
        assert_eq!(pool.stats().failed_to_open, failed);
    }
    let stats = pool.stats();
    assert_eq!((stats.opening, stats.busy, stats.waiting, stats.origins), (0, 0, 0, 0));
}

#[tokio::test]
async fn a_request_that_was_served_meanwhile_does_not_hear_of_its_openings_failure() {
    let gate = Gate::default();
    let server = tls_server(Behaviour::default());
    let (held, address) = (gate.clone(), server.addr());
    let way = Scripted::start(move |conn| match conn.number() {
        1 => forward(conn, address),
        _ => held.wait(),
    });
    let pool = pool(with(OnMiss::LateBind));
    let busy = send(&pool, &https(&way)).await.expect("a response");
    let mut second = Box::pin(get(&pool, &https(&way)));
    begin(&mut second).await;
    soon("the second connection", || (way.connections() == 2).then_some(())).await;
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(second.await.obtained, Obtained::LateBound);
    gate.open();
    soon("the failure", || (pool.stats().failed_to_open == 1).then_some(())).await;
    assert_eq!((pool.stats().busy, pool.stats().idle), (0, 1));
}

#[tokio::test]
async fn a_place_that_a_served_request_has_not_heard_of_goes_to_the_next() {
    // What the second connection answers has no end, so that giving it up closes it.
    let peer = Scripted::start(|conn| {
        while conn.read_request().is_some() {
            conn.write(if conn.number() == 1 { HI } else { &HI[..HI.len() - 1] });
        }
    });
    let url = url(peer.addr());
    let config = with(OnMiss::LateBind).max_connections_per_origin(Some(2)).max_opening_per_origin(1);
    let pool = pool(config.unread_timeout(Duration::ZERO));
    let busy = send(&pool, &url).await.expect("a response");
    let other = send(&pool, &url).await.expect("a response");
    let mut waiter = Box::pin(get(&pool, &url));
    begin(&mut waiter).await;
    drop(other);
    assert_eq!((pool.stats().opening, pool.stats().waiting), (1, 0), "a place is reserved for the waiter");
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(pool.stats().opening, 0, "and given up, for it has a connection");
    assert_eq!(waiter.await.obtained, Obtained::Reused);
    assert_eq!((pool.stats().opened, pool.stats().idle, pool.stats().busy), (2, 1, 0));
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn openings_beside_requests_are_bounded_as_well() {
    let deaf = Deaf::new();
    let limit = Duration::from_millis(100);
    let pool = pool(with(OnMiss::LateBind).max_opening_per_origin(3).connect_timeout(Some(limit)));
    let mut asking: Vec<_> = (0..10).map(|_| Box::pin(send(&pool, &url(deaf.address())))).collect();
    for request in &mut asking {
        begin(request).await;
    }
    assert_eq!((pool.stats().opening, pool.stats().waiting), (3, 7));
    drop(asking);
    assert_eq!((pool.stats().opening, pool.stats().waiting), (3, 0), "they go on, for a limited time");
    soon("the connect timeout", || (pool.stats().origins == 0).then_some(())).await;
    assert_eq!((pool.stats().busy, pool.stats().failed_to_open), (0, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rounds_of_late_binding_and_cancels_leak_no_place() {
    let pool = pool(with(OnMiss::LateBind).max_connections_per_origin(Some(2)));
    many_rounds_with_random_cancels(&pool, &url(nobody()), 1_000).await;
    assert!(pool.stats().failed_to_open > 0);
    assert_eq!(pool.stats().origins, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_rounds_of_late_binding_answers_and_cancels_lose_no_connection() {
    for server in [server(Behaviour::default()), tls_server(Behaviour::default())] {
        let pool = pool(with(OnMiss::LateBind).max_connections_per_origin(Some(3)));
        many_rounds_with_random_cancels(&pool, &server.url(), 300).await;
        assert!(pool.stats().reused > 0);
        get(&pool, &server.url()).await;
    }
}

#[tokio::test]
async fn a_closed_pool_keeps_nothing_of_what_is_still_being_opened() {
    let (server, gate) = (tls_server(Behaviour::default()), Gate::default());
    let way = narrow(server.addr(), &gate);
    let pool = pool(with(OnMiss::LateBind));
    let busy = send(&pool, &https(&way)).await.expect("a response");
    let mut second = Box::pin(send(&pool, &https(&way)));
    begin(&mut second).await;
    pool.close();
    assert_eq!(second.await.expect_err("the pool is closed").kind(), ErrorKind::Closed);
    gate.open();
    soon("the close", || (pool.stats().closed.get(&CloseReason::Shutdown) == Some(&1)).then_some(())).await;
    drop(busy);
    assert_eq!((pool.stats().busy, pool.stats().origins), (0, 0));
    assert_nothing_is_lost(&pool);
}

#[test]
fn an_opening_whose_runtime_ends_leaves_no_place_taken() {
    let deaf = Deaf::new();
    let pool = pool(with(OnMiss::LateBind).max_connections_per_origin(Some(1)));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime().block_on(async {
        begin(&mut Box::pin(send(&pool, &url(deaf.address())))).await;
        assert_eq!(pool.stats().opening, 1);
    });
    assert_eq!((pool.stats().opening, pool.stats().busy, pool.stats().origins), (0, 0, 0));
    let server = server(Behaviour::default());
    runtime().block_on(get(&pool, &server.url()));
}

const LONG: OnMiss = OnMiss::WaitThenOpen(Duration::from_secs(20));

#[tokio::test]
async fn who_waits_first_takes_what_comes_back_and_opens_nothing() {
    let server = server(Behaviour::default());
    let pool = pool(with(LONG));
    let busy = send(&pool, &server.url()).await.expect("a response");
    let mut second = Box::pin(get(&pool, &server.url()));
    begin(&mut second).await;
    assert_eq!((pool.stats().waiting, pool.stats().opening), (1, 0));
    busy.into_body().finish().await.expect("a whole body");
    let exchange = second.await;
    assert_eq!((exchange.obtained, exchange.nth), (Obtained::Reused, 2));
    assert_eq!(pool.stats().opened, 1);
}

#[tokio::test]
async fn who_has_waited_long_enough_opens() {
    let patience = Duration::from_millis(30);
    let server = server(Behaviour::default());
    let pool = pool(with(OnMiss::WaitThenOpen(patience)));
    let busy = send(&pool, &server.url()).await.expect("a response");
    let asked = now();
    let exchange = get(&pool, &server.url()).await;
    assert!(asked.elapsed() >= patience && exchange.timings.blocked >= patience);
    assert_eq!((exchange.obtained, exchange.nth), (Obtained::Opened, 1));
    drop(busy);
}

#[tokio::test]
async fn where_nothing_can_come_back_nobody_waits() {
    let server = server(Behaviour::default());
    let pool = pool(with(LONG));
    assert_eq!(get(&pool, &server.url()).await.obtained, Obtained::Opened);
}

#[tokio::test]
async fn when_the_last_connection_ends_whoever_was_patient_opens_at_once() {
    let pool = pool(with(LONG));
    let peer = answering("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi");
    let busy = send(&pool, &url(peer.addr())).await.expect("a response");
    let mut second = Box::pin(get(&pool, &url(peer.addr())));
    begin(&mut second).await;
    busy.into_body().finish().await.expect("a whole body");
    assert_eq!(second.await.obtained, Obtained::Opened);
}

#[tokio::test]
async fn a_full_queue_makes_whoever_may_open_do_so() {
    let peer = answering(HI);
    let pool = pool(with(LONG).max_waiting_per_origin(Some(0)));
    let busy = send(&pool, &url(peer.addr())).await.expect("a response");
    assert_eq!(get(&pool, &url(peer.addr())).await.obtained, Obtained::Opened);
    drop(busy);
}
