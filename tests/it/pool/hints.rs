//! What a server's `Keep-Alive` field does to an idle connection, and what it must not touch.

use std::time::Duration;

use http::HeaderValue;
use keeplive::{CloseReason, Exchange, Hint, HintPolicy, Pool, PoolConfig};
use tokio::task::JoinSet;

use super::{HI, answering, assert_nothing_is_lost, get, pool, request, url};
use crate::support::apache::Apache;
use crate::support::nginx::Nginx;
use crate::support::node::Node;
use crate::support::scripted::Scripted;
use crate::support::soon;

fn hint(timeout: u64, max: impl Into<Option<u64>>) -> Option<Hint> {
    Some(Hint { timeout: Some(Duration::from_secs(timeout)), max: max.into() })
}

/// A response with this `Keep-Alive` field.
fn hinting(value: &str) -> Scripted {
    let head = format!("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: {value}\r\n");
    answering(format!("{head}Content-Length: 2\r\n\r\nhi").leak())
}

/// Takes so much off a hint that its timeouts can be waited for.
fn less(margin: u64) -> HintPolicy {
    HintPolicy::Honour { margin: Duration::from_millis(margin), cap: Duration::from_secs(600) }
}

/// A request that asks to be told, as Apache wants it.
async fn ask(pool: &Pool, url: &str) -> Exchange {
    let mut request = request(url);
    request.headers_mut().insert("connection", HeaderValue::from_static("keep-alive"));
    pool.send(request).await.expect("a response").into_body().finish().await.expect("a whole body")
}

#[tokio::test]
async fn a_hint_stands_in_the_record_whatever_the_policy() {
    let peer = hinting("timeout=5, max=100");
    for policy in [HintPolicy::default(), HintPolicy::Ignore] {
        let pool = pool(PoolConfig::default().hint(policy));
        assert_eq!(get(&pool, &url(peer.addr())).await.hint, hint(5, 100));
    }
    assert_eq!(get(&pool(PoolConfig::default()), &url(answering(HI).addr())).await.hint, None);
}

#[tokio::test]
async fn a_connection_that_the_server_is_about_to_close_is_not_kept() {
    for value in ["timeout=1", "timeout=0", "max=0", "timeout=75, max=0", "timeout=9, timeout=1"] {
        let peer = hinting(value);
        let pool = pool(PoolConfig::default());
        for _ in 0..2 {
            assert_eq!(get(&pool, &url(peer.addr())).await.nth, 1, "{value}");
        }
        assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::Hint, 2)], "{value}");
    }
}

#[tokio::test]
async fn what_is_no_hint_changes_nothing() {
    for value in
        ["timeout=-1", "timeout=0.5", "timeout=", "timeout", "max=-0", "", "timeout=99999999999999999999"]
    {
        let peer = hinting(value);
        let pool = pool(PoolConfig::default());
        for nth in 1..=2 {
            assert_eq!(get(&pool, &url(peer.addr())).await.nth, nth, "{value}");
        }
    }
    let peer = answering("HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\nhi");
    let pool = pool(PoolConfig::default());
    for nth in 1..=2 {
        let exchange = get(&pool, &url(peer.addr())).await;
        assert_eq!((exchange.nth, exchange.hint), (nth, None), "without the connection option");
    }
}

#[tokio::test]
async fn a_hint_shortens_the_rest_of_its_connection() {
    let peer = hinting("timeout=1");
    let pool = pool(PoolConfig::default().hint(less(900)).idle_timeout(None));
    get(&pool, &url(peer.addr())).await;
    assert_eq!(pool.stats().idle, 1);
    soon("the hint's end", || (pool.stats().idle == 0).then_some(())).await;
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::Hint, 1)]);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn a_hint_lengthens_the_rest_of_its_connection() {
    let (hinted, plain) = (hinting("timeout=75"), answering(HI));
    let pool = pool(PoolConfig::default().idle_timeout(Some(Duration::from_millis(50))));
    get(&pool, &url(hinted.addr())).await;
    get(&pool, &url(plain.addr())).await;
    soon("the idle timeout", || (pool.stats().closed.contains_key(&CloseReason::IdleTimeout)).then_some(()))
        .await;
    assert_eq!(pool.stats().idle, 1);
    assert_eq!(get(&pool, &url(hinted.addr())).await.nth, 2);
}

#[tokio::test]
async fn a_hint_holds_until_the_server_gives_another() {
    let peer = Scripted::start(|conn| {
        let keep_alive = "Connection: keep-alive\r\nKeep-Alive: timeout=75\r\n";
        for fields in [keep_alive, "", "Connection: keep-alive\r\nKeep-Alive: timeout=1\r\n"] {
            conn.read_request();
            conn.write(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nhi"));
        }
        conn.until_closed();
    });
    let pool = pool(PoolConfig::default().idle_timeout(Some(Duration::from_millis(1))));
    for nth in 1..=3 {
        assert_eq!(get(&pool, &url(peer.addr())).await.nth, nth);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::Hint, 1)]);
}

#[tokio::test]
async fn a_hint_does_not_end_an_exchange_that_outlasts_it() {
    // The margin leaves a rest of 10 ms; the third response takes ten times as long.
    let peer = Scripted::start(|conn| {
        let head =
            "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nKeep-Alive: timeout=1\r\nContent-Length: 2\r\n\r\n";
        while conn.read_request().is_some() {
            conn.write(head);
            std::thread::sleep(Duration::from_millis(100));
            conn.write("hi");
        }
    });
    let pool = pool(PoolConfig::default().hint(less(990)));
    let exchange = get(&pool, &url(peer.addr())).await;
    assert!(exchange.timings.receive >= Duration::from_millis(90), "{:?}", exchange.timings);
    assert_eq!(pool.stats().idle, 1);
}

#[tokio::test]
async fn the_margin_keeps_clear_of_apaches_timeout() {
    let apache = Apache::new().keep_alive_timeout(Duration::from_secs(2)).start();
    let mut visits = JoinSet::new();
    for gap in [500, 900, 1_100, 1_500, 1_950, 1_990, 2_000, 2_010, 2_050, 2_100] {
        let (pool, url) = (pool(PoolConfig::default()), apache.url());
        visits.spawn(async move {
            assert_eq!(ask(&pool, &url).await.hint, hint(2, 100));
            tokio::time::sleep(Duration::from_millis(gap)).await;
            let second = ask(&pool, &url).await;
            assert!(second.retries.is_empty(), "{gap} ms: {:?}", second.retries);
            // Not "exactly below a second", for this machine may sleep for longer than it was told.
            assert!(gap < 1_000 || second.nth == 1, "{gap} ms");
            let closed: Vec<_> = pool.stats().closed.into_iter().collect();
            assert!(closed.is_empty() || closed == [(CloseReason::Hint, 1)], "{gap} ms: {closed:?}");
        });
    }
    visits.join_all().await;
}

#[tokio::test]
async fn no_request_fails_around_the_timeout_of_an_apache_that_was_not_asked() {
    let apache = Apache::new().keep_alive_timeout(Duration::from_secs(2)).start();
    let mut visits = JoinSet::new();
    for gap in (1_990..=2_130).step_by(10) {
        let (pool, url) = (pool(PoolConfig::default().idle_timeout(None)), apache.url());
        visits.spawn(async move {
            assert_eq!(get(&pool, &url).await.hint, None);
            tokio::time::sleep(Duration::from_millis(gap)).await;
            get(&pool, &url).await;
            assert_nothing_is_lost(&pool);
        });
    }
    visits.join_all().await;
    assert!(apache.log(30).len() >= 30);
}

#[tokio::test]
async fn apaches_count_of_requests_left_runs_down_to_its_close() {
    let apache = Apache::new().max_keep_alive_requests(2).start();
    let pool = pool(PoolConfig::default());
    let mut seen = Vec::new();
    for _ in 0..4 {
        let exchange = ask(&pool, &apache.url()).await;
        assert!(exchange.retries.is_empty());
        seen.push((exchange.nth, exchange.hint.and_then(|hint| hint.max)));
    }
    // Not 2 but 3 exchanges, the last of which says close: Apache counts those that are left after the first.
    assert_eq!(seen, [(1, Some(2)), (2, Some(1)), (3, None), (1, Some(2))]);
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::ServerClose, 1)]);
}

#[tokio::test]
async fn the_margin_keeps_clear_of_nodes_timeout_and_its_constant_count_is_no_end() {
    let node = Node::new().keep_alive_timeout(Duration::from_secs(2)).max_requests(3).start();
    let mut visits = JoinSet::new();
    for gap in [100, 500, 1_100, 1_900, 2_000, 2_100, 2_990, 3_000, 3_010, 3_100] {
        let (pool, url) = (pool(PoolConfig::default()), url(node.addr()));
        visits.spawn(async move {
            for nth in 1..=3 {
                let exchange = get(&pool, &url).await;
                let expected = if nth < 3 { hint(2, 3) } else { None };
                assert_eq!((exchange.nth, exchange.hint), (nth, expected));
            }
            get(&pool, &url).await;
            tokio::time::sleep(Duration::from_millis(gap)).await;
            let after = get(&pool, &url).await;
            assert!(after.retries.is_empty(), "{gap} ms: {:?}", after.retries);
            assert!(gap < 1_000 || after.nth == 1, "{gap} ms");
        });
    }
    visits.join_all().await;
}

/// Node closes an idle connection a second after what it hints ("keepAliveTimeoutBuffer", since 24.6), or at once.
#[tokio::test]
async fn no_request_fails_around_nodes_own_close_when_its_hint_is_ignored() {
    let node = Node::new().keep_alive_timeout(Duration::from_secs(1)).start();
    let mut visits = JoinSet::new();
    for gap in [950, 990, 1_000, 1_010, 1_050, 1_950, 1_990, 2_000, 2_010, 2_050, 2_300, 2_600] {
        let config = PoolConfig::default().idle_timeout(None).hint(HintPolicy::Ignore);
        let (pool, url) = (pool(config), url(node.addr()));
        visits.spawn(async move {
            assert_eq!(get(&pool, &url).await.hint, hint(1, None));
            tokio::time::sleep(Duration::from_millis(gap)).await;
            let after = get(&pool, &url).await;
            assert_nothing_is_lost(&pool);
            (gap, after.nth, pool.stats().closed.contains_key(&CloseReason::PeerFin))
        });
    }
    for (gap, nth, was_closed) in visits.join_all().await {
        // Node looks at its connections at times of its own; by then it has closed.
        assert!(gap < 2_600 || (nth == 1 && was_closed), "{gap} ms: request {nth} of its connection");
    }
}

#[tokio::test]
async fn the_margin_keeps_clear_of_nginxs_timeout() {
    let nginx = Nginx::new().keepalive_timeout(Duration::from_secs(2)).hint(2).start();
    let mut visits = JoinSet::new();
    for gap in [500, 900, 1_100, 1_500, 1_950, 1_990, 2_000, 2_010, 2_050, 2_100] {
        let (pool, url) = (pool(PoolConfig::default()), url(nginx.addr()));
        visits.spawn(async move {
            assert_eq!(get(&pool, &url).await.hint, hint(2, None));
            tokio::time::sleep(Duration::from_millis(gap)).await;
            let second = get(&pool, &url).await;
            assert!(second.retries.is_empty(), "{gap} ms: {:?}", second.retries);
            assert!(gap < 1_000 || second.nth == 1, "{gap} ms");
            let closed: Vec<_> = pool.stats().closed.into_iter().collect();
            assert!(closed.is_empty() || closed == [(CloseReason::Hint, 1)], "{gap} ms: {closed:?}");
        });
    }
    visits.join_all().await;
}

#[tokio::test]
async fn the_last_of_nginxs_keepalive_requests_says_close_and_costs_no_request() {
    let nginx = Nginx::new().keepalive_requests(3).start();
    let pool = pool(PoolConfig::default());
    let mut seen = Vec::new();
    for _ in 0..7 {
        let exchange = get(&pool, &url(nginx.addr())).await;
        assert!(exchange.retries.is_empty());
        seen.push(exchange.nth);
    }
    assert_eq!(seen, [1, 2, 3, 1, 2, 3, 1]);
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::ServerClose, 2)]);
    assert_eq!(nginx.log(7).iter().map(|line| line.nth).collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3, 1]);
}
