//! Which connection a request goes over.

use http_body_util::BodyExt;
use keeplive::server::Behaviour;
use keeplive::{CloseReason, PoolConfig, Resolve, ReuseOrder};

use super::{HI, answering, get, id, origin, origin_form, pool, request, send, server, tls_server, url};
use crate::support::gate::Gate;
use crate::support::scripted::Scripted;
use crate::support::{now, soon};

#[tokio::test]
async fn a_second_request_goes_over_the_same_connection() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    let first_asked = now();
    let first = get(&pool, &server.url()).await;
    let first_read = now();
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let pause = first_read.elapsed();
    let second = get(&pool, &server.url()).await;
    assert_eq!((first.nth, second.nth), (1, 2));
    assert_eq!(first.connection, second.connection);
    assert!(first.timings.connect.is_some() && second.timings.connect.is_none());
    assert_eq!(first.idle_before, None);
    let idle = second.idle_before.expect("it was idle between the two");
    assert!(pause <= idle && idle <= first_asked.elapsed(), "{pause:?} <= {idle:?}");
    assert_eq!((server.counts().connections, server.counts().requests), (1, 2));
    assert_eq!((pool.stats().opened, pool.stats().reused), (1, 1));
}

#[tokio::test]
async fn sequential_requests_never_miss_the_connection() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    for nth in 1..=500 {
        assert_eq!(get(&pool, &server.url()).await.nth, nth);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequential_requests_on_many_threads_never_miss_the_connection() {
    let server = tls_server(Behaviour::default());
    let pool = pool(PoolConfig::default().max_connections_per_origin(Some(1)));
    for nth in 1..=300 {
        let (pool, url) = (pool.clone(), server.url());
        let exchange = tokio::spawn(async move { get(&pool, &url).await }).await.expect("no panic");
        assert_eq!(exchange.nth, nth);
    }
}

/// A budget that is spent feigns that the socket stirred: the minder would take the connection to look at it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_one_after_the_other_never_miss_the_connection_however_busy_their_task() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    let origin = origin(&server.url());
    get(&pool, &server.url()).await;
    let task = {
        let pool = pool.clone();
        tokio::spawn(async move {
            for _ in 0..10_000 {
                pool.lease(&origin).await.expect("an open connection").discard();
                tokio::task::coop::consume_budget().await;
            }
        })
    };
    task.await.expect("no panic");
    assert_eq!((pool.stats().opened, pool.stats().reused), (1, 10_000));
}

#[tokio::test]
async fn a_response_without_a_body_gives_the_connection_back_with_its_head() {
    for answer in [
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    ] {
        let peer = answering(answer);
        let pool = pool(PoolConfig::default());
        for _ in 0..2 {
            let _response = send(&pool, &url(peer.addr())).await.expect("a response");
            assert_eq!(pool.stats().idle, 1, "{answer}");
        }
        assert_eq!(peer.connections(), 1, "{answer}");
    }
}

#[tokio::test]
async fn the_response_to_head_has_no_body_whatever_it_says() {
    let peer = answering("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    let pool = pool(PoolConfig::default());
    for nth in 1..=2 {
        let mut head = request(&url(peer.addr()));
        *head.method_mut() = http::Method::HEAD;
        let response = pool.send(head).await.expect("a response");
        assert_eq!(response.into_body().into_exchange().expect("no body is left").nth, nth);
    }
}

#[tokio::test]
async fn trailers_are_delivered_and_the_connection_is_reused() {
    let peer = answering(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n2\r\nhi\r\n0\r\nx-sum: 7\r\n\r\n",
    );
    let pool = pool(PoolConfig::default());
    for nth in 1..=2 {
        let mut body = send(&pool, &url(peer.addr())).await.expect("a response").into_body();
        let data = body.frame().await.expect("data").expect("no error").into_data().expect("data");
        assert_eq!(data, "hi");
        let trailers = body.frame().await.expect("trailers").expect("no error").into_trailers();
        assert_eq!(trailers.expect("trailers")["x-sum"], "7");
        assert!(body.frame().await.is_none());
        assert_eq!(body.into_exchange().expect("it is over").nth, nth);
    }
}

#[tokio::test]
async fn of_three_idle_connections_the_newest_is_taken() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    let mut responses = Vec::new();
    for _ in 0..3 {
        responses.push(send(&pool, &server.url()).await.expect("a response"));
    }
    let mut ids = Vec::new();
    for response in responses {
        ids.push(id(&response.into_body().finish().await.expect("a whole body")));
    }
    assert_eq!(id(&get(&pool, &server.url()).await), ids[2]);
    assert_eq!(server.counts().connections, 3);
}

#[tokio::test]
async fn one_idle_connection_too_many_closes_the_longest_idle() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default().max_idle_per_origin(1));
    let first = send(&pool, &server.url()).await.expect("a response");
    let second = send(&pool, &server.url()).await.expect("a response");
    first.into_body().finish().await.expect("a whole body");
    let second = second.into_body().finish().await.expect("a whole body");
    assert_eq!(pool.stats().closed[&CloseReason::Evicted], 1);
    assert_eq!(id(&get(&pool, &server.url()).await), id(&second));
}

#[tokio::test]
async fn a_callers_own_connection_close_is_kept_even_if_the_server_ignores_it() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    for _ in 0..2 {
        let mut closing = request(&url(peer.addr()));
        closing.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
        let response = pool.send(closing).await.expect("a response");
        assert_eq!(response.into_body().finish().await.expect("a whole body").nth, 1);
    }
    assert_eq!(peer.connections(), 2);
}

#[tokio::test]
async fn another_port_or_host_is_another_connection_and_the_case_of_a_host_is_not() {
    let (here, there) = (server(Behaviour::default()), server(Behaviour::default()));
    let port = here.addr().port();
    let named = Resolve { host: "name.test".into(), port, address: here.addr() };
    let pool = pool(PoolConfig::default().resolve(vec![named]));
    let first = get(&pool, &here.url()).await;
    assert_ne!(first.connection, get(&pool, &there.url()).await.connection);
    let by_name = get(&pool, &format!("http://name.test:{port}/")).await;
    assert_ne!(first.connection, by_name.connection);
    let again = get(&pool, &format!("http://NAME.Test:{port}/")).await;
    assert_eq!(again.connection, by_name.connection);
}

#[tokio::test]
async fn another_scheme_is_another_connection() {
    let server = tls_server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    get(&pool, &server.url()).await;
    assert!(send(&pool, &url(server.addr())).await.is_err(), "plain HTTP is no TLS handshake");
    assert_eq!(server.counts().connections, 2);
    assert_eq!(get(&pool, &server.url()).await.nth, 2);
}

#[tokio::test]
async fn a_request_asks_for_its_path_and_names_its_host() {
    let peer = answering(HI);
    let pool = pool(PoolConfig::default());
    get(&pool, &format!("{}path?query", url(peer.addr()))).await;
    let expected = format!("GET /path?query HTTP/1.1\r\nhost: {}\r\n\r\n", peer.addr());
    assert_eq!(String::from_utf8_lossy(&peer.received()[0].request), expected);
}

#[tokio::test]
async fn a_lease_that_was_not_used_goes_back() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    let origin = origin(&server.url());
    pool.lease(&origin).await.expect("a lease").discard();
    drop(pool.lease(&origin).await.expect("a lease"));
    assert_eq!((pool.stats().idle, pool.stats().opened), (1, 1));
    let exchange = get(&pool, &server.url()).await;
    assert_eq!((id(&exchange), exchange.nth), (1, 1));
}

#[tokio::test]
async fn a_connection_that_was_never_used_is_watched_as_well() {
    let left = Gate::default();
    let leave = left.clone();
    let peer = Scripted::start(move |_| leave.wait());
    let pool = pool(PoolConfig::default());
    pool.lease(&origin(&url(peer.addr()))).await.expect("a lease").discard();
    assert_eq!(pool.stats().idle, 1);
    left.open();
    soon("the end of an idle connection", || (pool.stats().idle == 0).then_some(())).await;
    assert_eq!(pool.stats().closed[&CloseReason::PeerFin], 1);
}

#[tokio::test]
async fn giving_a_lease_back_does_not_make_its_connection_younger() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    get(&pool, &server.url()).await;
    let read = now();
    let lease = pool.lease(&origin(&server.url())).await.expect("a lease");
    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    let held = read.elapsed();
    lease.discard();
    let idle = get(&pool, &server.url()).await.idle_before.expect("it was idle");
    assert!(idle >= held, "{idle:?} >= {held:?}");
}

#[tokio::test]
async fn a_lease_is_one_exchange() {
    let server = server(Behaviour::default());
    let pool = pool(PoolConfig::default());
    let lease = pool.lease(&origin(&server.url())).await.expect("a lease");
    assert!(!lease.is_reused());
    let response = lease.exchange(origin_form()).await.expect("a response");
    assert_eq!(pool.stats().busy, 1);
    let (body, exchange) = response.into_body().collect_all().await.expect("a whole body");
    assert_eq!((&body[..], exchange.nth, pool.stats().busy), (&b"Hello, world!"[..], 1, 0));
    assert!(pool.lease(&origin(&server.url())).await.expect("a lease").is_reused());
}

#[tokio::test]
async fn the_newest_idle_connection_is_reused_first_or_the_oldest_as_asked() {
    for (order, expected) in [(ReuseOrder::Lifo, [3, 2, 1]), (ReuseOrder::Fifo, [1, 2, 3])] {
        let server = server(Behaviour::default());
        let pool = pool(PoolConfig::default().reuse_order(order));
        let mut opened = Vec::new();
        for _ in 0..3 {
            opened.push(send(&pool, &server.url()).await.expect("a response"));
        }
        for response in opened {
            response.into_body().finish().await.expect("a whole body");
        }
        let mut reused = Vec::new();
        for _ in 0..3 {
            reused.push(send(&pool, &server.url()).await.expect("a response"));
        }
        let mut ids = Vec::new();
        for response in reused {
            ids.push(id(&response.into_body().finish().await.expect("a whole body")));
        }
        assert_eq!(ids, expected, "{order:?}");
    }
}
