//! What an exchange tells of itself, fact by fact, and that its observer hears the same.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{
    ConnectionId, ErrorKind, Event, Exchange, Hint, Lookup, Obtained, PoolConfig, Resolver, TlsFacts,
};

use super::{HI, answering, get, pool, post, server, tls_server, url};
use crate::support::gate::Gate;
use crate::support::now;
use crate::support::scripted::Scripted;

/// Leads every name to the loopback.
#[derive(Debug)]
struct Loopback;

impl Resolver for Loopback {
    fn lookup<'a>(&'a self, _: &'a str, port: u16) -> Lookup<'a> {
        Box::pin(async move { Ok(vec![([127, 0, 0, 1], port).into()]) })
    }
}

fn is_whole(tls: &TlsFacts, resumed: bool) {
    assert_eq!((tls.version.as_str(), tls.resumed), ("TLSv1.3", resumed));
    assert!(tls.cipher_suite.starts_with("TLS13_"), "{}", tls.cipher_suite);
    assert_eq!(tls.alpn.as_deref(), Some("http/1.1"));
}

#[tokio::test]
async fn every_exchange_tells_all_about_its_connection_its_time_and_its_bytes() {
    let server = tls_server(Behaviour::default());
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let hears = Arc::clone(&told);
    let pool = pool(PoolConfig::default().resolver(Some(Arc::new(Loopback))))
        .observed_by(move |event: &Event<'_>| {
            if let Event::Exchanged { exchange, .. } = event {
                hears.lock().unwrap().push(format!("{exchange:?}"));
            }
        })
        .expect("its first observer");
    let address = format!("https://name.test:{}/", server.addr().port());

    let first = get(&pool, &address).await;
    let facts = &first.connection;
    assert_eq!((facts.id, first.nth, first.obtained), (ConnectionId(1), 1, Obtained::Opened));
    assert_eq!((first.idle_before, first.retries.len(), first.hint), (None, 0, None));
    assert_eq!(facts.remote, server.addr());
    assert!(facts.local.ip() == facts.remote.ip() && facts.local.port() != facts.remote.port());
    is_whole(facts.tls.as_ref().expect("TLS"), false);
    let opening = first.timings.connect.expect("opened for it");
    assert!(opening.dns.is_some() && opening.tcp > Duration::ZERO && opening.attempts == 1, "{opening:?}");
    assert!(opening.tls.is_some_and(|took| took > Duration::ZERO) && opening.proxy.is_none());
    assert!(first.timings.wait > Duration::ZERO && first.bytes_out > 0 && first.bytes_in > 0);

    let rests = now();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let rested = rests.elapsed();
    let second = get(&pool, &address).await;
    assert_eq!((second.connection.id, second.nth, second.obtained), (facts.id, 2, Obtained::Reused));
    let idle = second.idle_before.expect("it rested");
    assert!(idle >= rested - Duration::from_millis(1) && idle <= rests.elapsed() + Duration::from_millis(1));
    assert!(second.age >= rested && second.age > first.age, "{:?}", second.age);
    assert_eq!(second.timings.connect, None);
    // No handshake is in them.
    assert!(second.bytes_out <= first.bytes_out && second.bytes_in <= first.bytes_in);

    // Two at once: the second of them needs a connection of its own, and its session is an old one.
    let (one, other) = tokio::join!(get(&pool, &address), get(&pool, &address));
    let fresh = if one.nth == 1 { one } else { other };
    assert_eq!(fresh.connection.id, ConnectionId(2));
    is_whole(fresh.connection.tls.as_ref().expect("TLS"), true);

    let told = told.lock().unwrap();
    assert_eq!(told[..2], [format!("{first:?}"), format!("{second:?}")]);
}

#[tokio::test]
async fn a_second_attempt_tells_of_the_first_with_its_class_and_its_idle_age() {
    let (go, done) = (Gate::default(), Gate::default());
    let (gone, has_done) = (go.clone(), done.clone());
    let keep = "Connection: keep-alive\r\nKeep-Alive: timeout=60, max=9\r\n";
    let hinting = format!("HTTP/1.1 200 OK\r\n{keep}Content-Length: 2\r\n\r\nhi");
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(&hinting);
        if conn.number() == 1 {
            gone.wait();
            conn.close();
            has_done.open();
        }
        conn.read_request();
    });
    let pool = pool(PoolConfig::default());
    let first = get(&pool, &url(peer.addr())).await;
    let hint: Option<Hint> = first.hint;
    let hint = hint.expect("the server gave one");
    assert_eq!((hint.timeout, hint.max), (Some(Duration::from_secs(60)), Some(9)));
    tokio::time::sleep(Duration::from_millis(20)).await;
    go.open();
    done.wait();
    let second = get(&pool, &url(peer.addr())).await;
    assert_eq!((second.nth, second.obtained), (1, Obtained::Opened));
    let [retry] = second.retries[..] else { panic!("{:?}", second.retries) };
    assert_eq!(retry.kind, ErrorKind::NotSent);
    assert!(retry.idle_before >= Duration::from_millis(20), "{retry:?}");
    assert_eq!(second.timings.blocked, second.queued() + retry.took);
}

#[tokio::test]
async fn the_time_of_an_attempt_that_was_given_up_is_no_queueing() {
    let pause = Duration::from_millis(50);
    let peer = Scripted::start(move |conn| {
        conn.read_request();
        conn.write(HI);
        if conn.number() == 1 {
            conn.read_request();
            std::thread::sleep(pause);
            return conn.reset();
        }
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default());
    get(&pool, &url(peer.addr())).await;
    let exchange = get(&pool, &url(peer.addr())).await;
    let [retry] = exchange.retries[..] else { panic!("{:?}", exchange.retries) };
    assert!(retry.kind == ErrorKind::Reset && retry.took >= pause, "{retry:?}");
    assert_eq!(exchange.timings.blocked, exchange.queued() + retry.took);
    assert!(exchange.queued() < pause / 2, "{:?}: nobody else was there", exchange.queued());
}

/// Requests by several tasks at once, each read to its end.
async fn requests(url: &str, tasks: usize, each: usize) -> (keeplive::Pool, Vec<Exchange>) {
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(tasks / 2)));
    let mut visits = tokio::task::JoinSet::new();
    for _ in 0..tasks {
        let (pool, url) = (pool.clone(), url.to_owned());
        visits.spawn(async move {
            let mut exchanges = Vec::new();
            for _ in 0..each {
                exchanges.push(get(&pool, &url).await);
            }
            exchanges
        });
    }
    (pool, visits.join_all().await.into_iter().flatten().collect())
}

#[tokio::test]
async fn the_sums_over_all_exchanges_are_what_the_server_saw() {
    let peer = answering(HI);
    let (pool, exchanges) = requests(&url(peer.addr()), 8, 50).await;
    let received = peer.received();
    let arrived: usize = received.iter().map(|received| received.request.len()).sum();
    let sum = |bytes: fn(&Exchange) -> u64| exchanges.iter().map(bytes).sum::<u64>();
    assert_eq!((exchanges.len(), received.len()), (400, 400));
    assert_eq!(sum(|exchange| exchange.bytes_out), arrived as u64);
    assert_eq!(sum(|exchange| exchange.bytes_in), 400 * HI.len() as u64);
    // Connections opened at once may be accepted in another order than they are numbered.
    let per_connection = |of: &dyn Fn(usize) -> usize| {
        let mut counts: Vec<_> = (1..=peer.connections()).map(of).collect();
        counts.sort_unstable();
        counts
    };
    let here = |id| exchanges.iter().filter(|exchange| exchange.connection.id.0 == id as u64).count();
    let there = |number| received.iter().filter(|received| received.connection == number).count();
    assert_eq!(per_connection(&here), per_connection(&there));
    assert_eq!(pool.stats().opened, peer.connections() as u64);
    assert_eq!(pool.stats().opened + pool.stats().reused, 400);

    let server = server(Behaviour::default().close_after(7));
    let (pool, exchanges) = requests(&server.url(), 6, 70).await;
    let counts = server.counts();
    assert_eq!((exchanges.len() as u64, counts.requests), (420, 420));
    assert_eq!(counts.connections, pool.stats().opened);
    let fresh = exchanges.iter().filter(|exchange| exchange.nth == 1).count() as u64;
    assert_eq!(fresh, counts.connections, "each connection was somebody's first");
}

#[tokio::test]
async fn however_an_exchange_fails_its_error_tells_what_was_written_of_the_request() {
    const HALF: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe";
    const TWO_LENGTHS: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n";
    let (config, soon) = (PoolConfig::default, Some(Duration::from_millis(200)));
    for (says, ends, config, kind) in [
        ("", false, config().response_timeout(soon), ErrorKind::ResponseTimeout),
        ("", false, config().total_timeout(soon), ErrorKind::Timeout),
        (HALF, false, config().total_timeout(soon), ErrorKind::Timeout),
        (HALF, false, config().body_idle_timeout(soon), ErrorKind::BodyIdleTimeout),
        (HALF, true, config(), ErrorKind::Partial),
        (TWO_LENGTHS, false, config(), ErrorKind::Protocol),
        ("HTTP/1.1 103 x\r\n\r\n", false, config().max_informational(Some(0)), ErrorKind::Protocol),
        ("no response\r\n\r\n", false, config(), ErrorKind::Protocol),
        ("", true, config(), ErrorKind::NoResponse),
    ] {
        let peer = Scripted::start(move |conn| {
            conn.read_request();
            conn.write(HI);
            conn.read_request();
            conn.write(says);
            if ends {
                conn.close();
            }
            conn.until_closed();
        });
        let pool = pool(config);
        get(&pool, &url(peer.addr())).await;
        let failing = async { pool.send(post(&url(peer.addr()), "hello")).await?.into_body().finish().await };
        let error = failing.await.expect_err("no whole response");
        let written = peer.received()[1].request.len() as u64;
        let so_far = error.exchange().expect("an exchange had begun");
        assert_eq!((error.kind(), error.bytes_out(), so_far.bytes_out), (kind, Some(written), written));
        assert!(error.idle_before().is_some() && error.idle_before() == so_far.idle_before, "{error:?}");
    }
}
