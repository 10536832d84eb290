//! Requests that are given up wherever they wait: for their turn, the lookup, an address, a proxy, the handshake, the
//! response, its body, another attempt.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use keeplive::server::Behaviour;
use keeplive::{Lease, OnMiss, Pool, PoolConfig, Resolve};

use super::limits::nobody;
use super::proxies::{Tunneller, behind_tls, by, socks, url_of};
use super::{HI, assert_nothing_is_lost, get, origin, pool, server, tls_server, url};
use crate::support::deaf::Deaf;
use crate::support::scripted::Scripted;
use crate::support::soon;

/// Polls it so many times and gives it up. Answers whether it was done by then.
async fn give_up_after<T>(polls: usize, work: impl Future<Output = T>) -> bool {
    let (mut work, mut polled) = (Box::pin(work), 0);
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(false);
        }
        polled += 1;
        work.as_mut().poll(cx).map(|_| true)
    })
    .await
}

/// Gives a request up after one poll, after two, and so on, until it is done by then. Each time nothing is lost, and the
/// only place is free. What was taken before comes back while the request waits.
async fn give_up_everywhere(config: PoolConfig, url: &str, before: impl AsyncFn(&Pool) -> Option<Lease>) {
    for polls in 1.. {
        let pool = pool(config.clone().max_connections_per_origin(Some(1)));
        let taken = before(&pool).await;
        let gives_back = async {
            tokio::task::yield_now().await;
            drop(taken);
        };
        let (done, ()) = tokio::join!(give_up_after(polls, get(&pool, url)), gives_back);
        let is_quiet = || {
            let stats = pool.stats();
            (stats.busy == 0 && stats.opening == 0 && stats.waiting == 0).then_some(())
        };
        soon("the end of it all", is_quiet).await;
        assert_nothing_is_lost(&pool);
        get(&pool, url).await;
        // How many it takes is the scheduler's choice: the steps that are taken together once may be apart in the
        // next round.
        if done && polls > 8 {
            break;
        }
    }
}

async fn nothing(_: &Pool) -> Option<Lease> {
    None
}

#[tokio::test]
async fn a_request_given_up_after_any_number_of_polls_loses_nothing() {
    let millisecond = Duration::from_millis(1);
    let server = tls_server(Behaviour::default().body(300_000).delay(millisecond));
    let url = format!("https://localhost:{}/", server.addr().port());
    for on_miss in [OnMiss::Open, OnMiss::LateBind, OnMiss::WaitThenOpen(millisecond)] {
        let config = PoolConfig::default().on_miss(on_miss);
        give_up_everywhere(config.clone(), &url, nothing).await;
        let only_one = async |pool: &Pool| Some(pool.lease(&origin(&url)).await.expect("a lease"));
        give_up_everywhere(config, &url, only_one).await;
    }
}

#[tokio::test]
async fn a_request_given_up_on_its_way_through_a_proxy_loses_nothing() {
    let target = tls_server(Behaviour::default().body(100_000));
    let url = format!("https://name.test:{}/", target.addr().port());
    let plain = Tunneller::start(None).await;
    let secret = Tunneller::start(Some(behind_tls())).await;
    let (socks, _) = socks(false, 0, Some(target.addr()));
    for way in
        [url_of("http", plain.address), url_of("https", secret.address), url_of("socks5h", socks.addr())]
    {
        give_up_everywhere(by(&way), &url, nothing).await;
    }
}

#[tokio::test]
async fn a_request_given_up_between_the_addresses_of_its_host_loses_nothing() {
    let (deaf, server) = (Deaf::new(), server(Behaviour::default()));
    let resolve = |address| Resolve { host: "many.test".into(), port: 80, address };
    let addresses = [nobody(), deaf.address(), server.addr()].map(resolve);
    let config = PoolConfig::default().resolve(addresses.to_vec());
    give_up_everywhere(config, "http://many.test/", nothing).await;
    soon("the end of every attempt", || (deaf.knocking() == 0).then_some(())).await;
}

#[tokio::test]
async fn a_request_given_up_before_during_and_after_its_second_attempt_loses_nothing() {
    // The second request of every connection finds it reset.
    let peer = Scripted::start(|conn| {
        conn.read_request();
        conn.write(HI);
        conn.read_request();
        conn.reset();
    });
    let url = url(peer.addr());
    let first_request = async |pool: &Pool| {
        get(pool, &url).await;
        None
    };
    give_up_everywhere(PoolConfig::default(), &url, first_request).await;
}
