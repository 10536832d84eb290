//! A host with several addresses: which one is used, how soon, and what is left of the others (RFC 8305).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener};
use std::process::Command;
use std::time::Duration;

use keeplive::server::{Behaviour, Running, Server};
use keeplive::{ErrorKind, Exchange, Phase, Pool, PoolConfig, Resolve};

use super::{get, pool, send, server};
use crate::support::deaf::Deaf;
use crate::support::link::Link;
use crate::support::{soon, until};

const DELAY: Duration = Duration::from_millis(250);
const NAME: &str = "http://many.test/";

/// A pool for which `many.test` has these addresses.
fn knowing(addresses: impl IntoIterator<Item = SocketAddr>, config: PoolConfig) -> Pool {
    let resolve = |address| Resolve { host: "many.test".into(), port: 80, address };
    pool(config.resolve(addresses.into_iter().map(resolve).collect()))
}

fn v6_server() -> Running {
    let anywhere = SocketAddr::from((Ipv6Addr::LOCALHOST, 0));
    Server::new(Behaviour::default()).listen(anywhere).start().expect("a free port of the loopback")
}

fn closed_port() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("an address")
}

fn opening(exchange: &Exchange) -> (Duration, u32) {
    let connect = exchange.timings.connect.expect("it was opened for this exchange");
    (connect.tcp, connect.attempts)
}

#[tokio::test]
async fn seven_dead_addresses_cost_seven_attempt_delays() {
    let dead: Vec<Deaf> = (0..7).map(|_| Deaf::new()).collect();
    let server = server(Behaviour::default());
    let addresses = dead.iter().map(Deaf::address).chain([server.addr()]);
    let (tcp, attempts) = opening(&get(&knowing(addresses, PoolConfig::default()), NAME).await);
    assert_eq!(attempts, 8);
    assert!((7 * DELAY..7 * DELAY + Duration::from_millis(100)).contains(&tcp), "{tcp:?}");
    assert_eq!(dead.iter().map(Deaf::knocking).sum::<usize>(), 0, "the losers are closed");
}

#[tokio::test]
async fn a_dead_address_of_ipv6_costs_one_attempt_delay() {
    let dead = Deaf::at(Ipv6Addr::LOCALHOST.into());
    let more_dead = Deaf::at(Ipv6Addr::LOCALHOST.into());
    let server = server(Behaviour::default());
    let addresses = [dead.address(), more_dead.address(), server.addr()];
    let exchange = get(&knowing(addresses, PoolConfig::default()), NAME).await;
    let (tcp, attempts) = opening(&exchange);
    assert_eq!((exchange.connection.remote, attempts), (server.addr().into(), 2));
    assert!((DELAY..Duration::from_millis(300)).contains(&tcp), "{tcp:?}");
}

#[tokio::test]
async fn an_address_that_refuses_costs_no_delay() {
    let refusing: Vec<SocketAddr> = (0..3).map(|_| closed_port()).collect();
    let server = server(Behaviour::default());
    let addresses = refusing.into_iter().chain([server.addr()]);
    let (tcp, attempts) = opening(&get(&knowing(addresses, PoolConfig::default()), NAME).await);
    assert_eq!(attempts, 4);
    assert!(tcp < DELAY, "{tcp:?}");
}

#[tokio::test]
async fn the_first_address_that_answers_is_the_only_one_asked() {
    let (first, second) = (server(Behaviour::default()), server(Behaviour::default()));
    let pool = knowing([first.addr(), second.addr()], PoolConfig::default());
    let exchange = get(&pool, NAME).await;
    assert_eq!((exchange.connection.remote, opening(&exchange).1), (first.addr().into(), 1));
    assert_eq!(second.counts().connections, 0);
}

#[tokio::test]
async fn a_host_at_which_nobody_answers_names_every_address_and_its_fate() {
    let (dead, refusing) = (Deaf::new(), closed_port());
    let untried = Deaf::new();
    let limit = Duration::from_millis(100);
    let config = PoolConfig::default().connect_timeout(Some(limit));
    let pool = knowing([refusing, dead.address(), untried.address()], config);
    let error = send(&pool, NAME).await.expect_err("nobody answers");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::ConnectTimeout, Some(Phase::Connect)));
    let text = error.to_string();
    for part in [
        "`many.test`".to_owned(),
        format!("{refusing} connection refused"),
        format!("{} gave no answer in 1", dead.address()),
        format!("{} was not tried", untried.address()),
    ] {
        assert!(text.contains(&part), "{part}: {text}");
    }
    assert_eq!(pool.stats().busy, 0);
}

#[tokio::test]
async fn a_host_whose_every_address_refuses_is_refused() {
    let refusing = [closed_port(), closed_port()];
    let error = send(&knowing(refusing, PoolConfig::default()), NAME).await.expect_err("nobody listens");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::ConnectRefused, Some(Phase::Connect)));
    let text = error.to_string();
    assert!(refusing.iter().all(|address| text.contains(&address.to_string())), "{text}");
}

#[tokio::test]
async fn a_request_that_is_given_up_closes_every_attempt() {
    let dead: Vec<Deaf> = (0..3).map(|_| Deaf::new()).collect();
    let pool = knowing(dead.iter().map(Deaf::address), PoolConfig::default());
    let knocking = || dead.iter().map(Deaf::knocking).sum::<usize>();
    {
        let mut sending = Box::pin(send(&pool, NAME));
        let all_tried = soon("three attempts", || (knocking() == 3).then_some(()));
        let both = std::pin::pin!(all_tried);
        tokio::select! {
            _ = &mut sending => panic!("nobody answers"),
            () = both => {}
        }
    }
    assert_eq!((knocking(), pool.stats().busy), (0, 0));
}

#[tokio::test]
async fn literals_of_both_families_are_reached_in_one_attempt() {
    for server in [server(Behaviour::default()), v6_server()] {
        let exchange = get(&pool(PoolConfig::default()), &server.url()).await;
        assert_eq!((exchange.connection.remote, opening(&exchange).1), (server.addr().into(), 1));
    }
}

#[tokio::test]
async fn localhost_leads_to_whichever_loopback_address_listens() {
    let four = server(Behaviour::default());
    let exchange =
        get(&pool(PoolConfig::default()), &format!("http://localhost:{}/", four.addr().port())).await;
    assert_eq!(exchange.connection.remote, four.addr());
}

#[test]
fn a_link_local_address_is_reached_by_its_zone_and_not_without() {
    let link = Link::new(Duration::ZERO).unwrap_or_else(|error| panic!("{error}"));
    link.at_client(|| {
        let added = Command::new("ip").args(["addr", "add", "fe80::77/64", "dev", "lo", "nodad"]).status();
        assert!(added.expect("ip is installed").success());
        // The loopback interface is number 1 in every network namespace of Linux.
        let listen = SocketAddrV6::new("fe80::77".parse().expect("an address"), 0, 0, 1);
        let server = Server::new(Behaviour::default()).listen(listen.into()).start().expect("a free port");
        // The kernel adds an address's route a little after the address.
        until("the route", || std::net::TcpStream::connect(server.addr()).ok());
        let at = |host: &str| {
            let url = format!("http://[{host}]:{}/", server.addr().port());
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                send(&pool(PoolConfig::default()), &url).await.map(|response| response.status())
            })
        };
        for host in ["fe80::77%25lo", "fe80::77%lo", "fe80::77%251"] {
            assert_eq!(at(host).expect("a response"), 200, "{host}");
        }
        for (host, cure) in [("fe80::77", "needs a zone"), ("fe80::77%25lost", "`lost`")] {
            let error = at(host).expect_err("on which link?");
            assert!(error.to_string().contains(cure), "{error}");
        }
    });
}
