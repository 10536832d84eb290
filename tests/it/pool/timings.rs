//! What the record of an exchange says about time and bytes.

use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{Exchange, Phase, PoolConfig};

use super::{HI, answering, get, pool, send, server, tls_server, url};
use crate::support::scripted::Scripted;
use crate::support::{now, soon};

/// The clock beside the record also runs while the request is made and the body given up; and a thread may lose its core
/// in between, but not always.
const ATTEMPTS: usize = 20;
const BESIDE: Duration = Duration::from_micros(50);

#[tokio::test]
async fn the_phases_add_up_to_what_a_clock_beside_them_shows() {
    let delay = Duration::from_millis(2);
    for keep_alive in [true, false] {
        for server in [server(Behaviour::default()), server(Behaviour::default().delay(delay)), {
            tls_server(Behaviour::default().body(100_000))
        }] {
            let pool = pool(PoolConfig::default().keep_alive(keep_alive));
            get(&pool, &server.url()).await;
            let (mut total, mut beside) = (Duration::ZERO, Duration::MAX);
            for _ in 0..ATTEMPTS {
                let asked = now();
                let exchange = get(&pool, &server.url()).await;
                let whole = asked.elapsed();
                assert!(exchange.timings.total() <= whole, "{:?} > {whole:?}", exchange.timings);
                if whole - exchange.timings.total() < beside {
                    (total, beside) = (exchange.timings.total(), whole - exchange.timings.total());
                }
                assert_eq!(exchange.is_reused(), keep_alive);
            }
            assert!(
                beside <= (total / 100).max(BESIDE),
                "{beside:?} beside {total:?}: {} {keep_alive}",
                server.url()
            );
        }
    }
}

#[tokio::test]
async fn a_servers_delay_is_waiting() {
    let delay = Duration::from_millis(30);
    let server = server(Behaviour::default().delay(delay));
    let timings = get(&pool(PoolConfig::default()), &server.url()).await.timings;
    assert!(timings.wait >= delay && timings.send < delay && timings.receive < delay, "{timings:?}");
}

#[tokio::test]
async fn waiting_for_a_busy_connection_is_being_blocked() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    let busy = send(&pool, &server.url()).await.expect("a response");
    let (waiting, address) = (pool.clone(), server.url());
    let waiter = tokio::spawn(async move { get(&waiting, &address).await });
    soon("a waiter", || (pool.stats().waiting == 1).then_some(())).await;
    let waits = now();
    tokio::time::sleep(Duration::from_millis(20)).await;
    let waited = waits.elapsed();
    busy.into_body().finish().await.expect("a whole body");
    let exchange = waiter.await.expect("no panic");
    assert!(exchange.timings.blocked >= waited, "{:?}", exchange.timings);
    assert_eq!(exchange.timings.connect, None);
}

#[tokio::test]
async fn the_phases_of_opening_are_those_that_happened() {
    let shape = |exchange: &Exchange| {
        let connect = exchange.timings.connect.expect("opened for this exchange");
        (connect.dns.is_some(), connect.tls.is_some())
    };
    let pool = pool(PoolConfig::default());
    let plain = server(Behaviour::default());
    assert_eq!(shape(&get(&pool, &plain.url()).await), (false, false));
    let by_name = format!("http://localhost:{}/", plain.addr().port());
    assert_eq!(shape(&get(&pool, &by_name).await), (true, false));
    let exchange = get(&pool, &tls_server(Behaviour::default()).url()).await;
    assert_eq!(shape(&exchange), (false, true));
    assert!(exchange.timings.of(Phase::Tls) > Duration::ZERO);
}

#[tokio::test]
async fn a_body_that_trickles_in_is_receiving() {
    let pause = Duration::from_millis(30);
    let peer = Scripted::start(move |conn| {
        while conn.read_request().is_some() {
            conn.write(&HI[..HI.len() - 1]);
            std::thread::sleep(pause);
            conn.write(&HI[HI.len() - 1..]);
        }
    });
    let timings = get(&pool(PoolConfig::default()), &url(peer.addr())).await.timings;
    assert!(timings.receive >= pause / 2, "{timings:?}");
}

#[tokio::test]
async fn every_byte_is_counted_with_its_exchange() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    for _ in 0..3 {
        let exchange = get(&pool, &url(peer.addr())).await;
        let request = peer.received()[0].request.len() as u64;
        assert_eq!((exchange.bytes_out, exchange.bytes_in), (request, HI.len() as u64));
    }
}

#[tokio::test]
async fn the_record_names_both_ends() {
    let server = server(Behaviour::default());
    let exchange = get(&pool(PoolConfig::default()), &server.url()).await;
    assert_eq!(exchange.connection.remote, server.addr());
    assert!(exchange.connection.local.ip().is_some_and(|ip| ip.is_loopback()));
    assert_eq!(exchange.connection.tls, None);
}
