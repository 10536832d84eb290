//! Names into addresses: a resolver of one's own, and each way in which a lookup fails.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keeplive::server::{Behaviour, Server};
use keeplive::{Error, ErrorKind, Lookup, Phase, Pool, PoolConfig, Resolver};

use super::{get, pool, send, server, url};
use crate::support::soon;

/// Answers each lookup with the next of these, and notes what it was asked for.
#[derive(Debug, Default)]
struct Answers {
    next: AtomicUsize,
    answers: Vec<Answer>,
    asked: Mutex<Vec<(String, u16)>>,
}

#[derive(Debug)]
enum Answer {
    Addresses(Vec<SocketAddr>),
    Failure(&'static str),
    Silence,
    Panic,
}

impl Answers {
    fn of(answers: impl IntoIterator<Item = Answer>) -> Arc<Answers> {
        Arc::new(Answers { answers: answers.into_iter().collect(), ..Answers::default() })
    }
}

impl Resolver for Answers {
    fn lookup<'a>(&'a self, host: &'a str, port: u16) -> Lookup<'a> {
        self.asked.lock().expect("nobody panics here").push((host.into(), port));
        let answer = &self.answers[self.next.fetch_add(1, SeqCst)];
        Box::pin(async move {
            match answer {
                Answer::Addresses(addresses) => Ok(addresses.clone()),
                Answer::Failure(text) => Err(io::Error::other(*text)),
                Answer::Silence => std::future::pending().await,
                Answer::Panic => panic!("this panic is meant"),
            }
        })
    }
}

/// One place, so that a place that is lost is missed.
fn asking(resolver: &Arc<Answers>, config: PoolConfig) -> Pool {
    pool(config.max_connections_per_origin(Some(1)).resolver(Some(Arc::clone(resolver) as Arc<dyn Resolver>)))
}

async fn failure(answer: Answer, config: PoolConfig) -> Error {
    let pool = asking(&Answers::of([answer]), config);
    let error = send(&pool, "http://name.test/").await.expect_err("no address");
    assert_eq!((pool.stats().busy, pool.stats().failed_to_open), (0, 1));
    let opening = error.opening().expect("an opening failed");
    assert_eq!((opening.tcp, opening.attempts, opening.tls), (Duration::ZERO, 0, None));
    assert_eq!(error.phase(), Some(Phase::Dns));
    error
}

#[tokio::test]
async fn a_resolver_is_asked_once_for_every_connection_to_a_name() {
    let server = server(Behaviour::default());
    let resolver = Answers::of([Answer::Addresses(vec![server.addr()])]);
    let pool = asking(&resolver, PoolConfig::default());
    let exchange = get(&pool, "http://Name.test:81/").await;
    assert_eq!(exchange.connection.remote, server.addr());
    assert!(exchange.timings.connect.expect("opened").dns.is_some());
    get(&pool, "http://name.test:81/").await;
    get(&pool, &server.url()).await;
    assert_eq!(*resolver.asked.lock().expect("nobody panics here"), [("name.test".to_owned(), 81)]);
}

#[tokio::test]
async fn a_failed_lookup_says_what_the_resolver_said() {
    let error = failure(Answer::Failure("the server is on fire"), PoolConfig::default()).await;
    assert_eq!(error.kind(), ErrorKind::Dns);
    let text = error.to_string();
    assert!(text.contains("`name.test` could not be resolved: the server is on fire"), "{text}");
}

#[tokio::test]
async fn an_answer_without_addresses_is_no_failed_lookup() {
    let error = failure(Answer::Addresses(Vec::new()), PoolConfig::default()).await;
    assert_eq!(error.kind(), ErrorKind::Dns);
    assert!(error.to_string().contains("`name.test` has no address"), "{error}");
}

#[tokio::test]
async fn a_slow_lookup_ends_with_the_sooner_of_its_own_timeout_and_the_connect_timeout() {
    let (short, long) = (Some(Duration::from_millis(30)), Some(Duration::from_secs(20)));
    for (dns, connect, name) in [
        (short, long, "DNS timeout of 30ms"),
        (long, short, "connect timeout of 30ms"),
        (short, None, "DNS timeout"),
    ] {
        let config = PoolConfig::default().dns_timeout(dns).connect_timeout(connect);
        let error = failure(Answer::Silence, config).await;
        assert_eq!(error.kind(), ErrorKind::ConnectTimeout);
        assert!(
            error.to_string().contains(&format!("`name.test` was not resolved within the {name}")),
            "{error}"
        );
        assert!(error.opening().and_then(|opening| opening.dns) >= short, "{error:?}");
    }
}

#[tokio::test]
async fn a_lookup_that_never_ends_holds_nobody_else_up() {
    let server = server(Behaviour::default());
    let resolver = Answers::of([Answer::Silence]);
    let pool = asking(&resolver, PoolConfig::default());
    let hanging = tokio::spawn({
        let pool = pool.clone();
        async move { send(&pool, "http://name.test/").await.map(drop) }
    });
    soon("the lookup", || (resolver.next.load(SeqCst) == 1).then_some(())).await;
    get(&pool, &server.url()).await;
    assert_eq!((pool.stats().busy, pool.stats().idle), (1, 1));
    hanging.abort();
    assert!(hanging.await.expect_err("it was aborted").is_cancelled());
    assert_eq!(pool.stats().busy, 0);
}

#[tokio::test]
async fn a_resolver_that_panics_costs_no_place() {
    let server = server(Behaviour::default());
    let resolver = Answers::of([Answer::Panic, Answer::Addresses(vec![server.addr()])]);
    let pool = asking(&resolver, PoolConfig::default());
    let unlucky = tokio::spawn({
        let pool = pool.clone();
        async move { send(&pool, "http://name.test/").await.map(drop) }
    });
    assert!(unlucky.await.expect_err("the resolver panicked").is_panic());
    assert_eq!(pool.stats().busy, 0);
    assert_eq!(get(&pool, "http://name.test/").await.connection.remote, server.addr());
}

#[tokio::test]
async fn localhost_of_both_families_leads_to_the_one_that_listens() {
    for (listens, attempts) in
        [(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)), 1), ((Ipv4Addr::LOCALHOST, 0).into(), 2)]
    {
        let server = Server::new(Behaviour::default()).listen(listens).start().expect("a free port");
        let port = server.addr().port();
        let both = vec![(Ipv6Addr::LOCALHOST, port).into(), (Ipv4Addr::LOCALHOST, port).into()];
        let pool = asking(&Answers::of([Answer::Addresses(both)]), PoolConfig::default());
        let exchange = get(&pool, &format!("http://localhost:{port}/")).await;
        let connect = exchange.timings.connect.expect("opened");
        assert_eq!((exchange.connection.remote, connect.attempts), (server.addr().into(), attempts));
    }
}

#[tokio::test]
async fn a_refused_connection_tells_how_long_its_lookup_took() {
    let nobody = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let pool = asking(&Answers::of([Answer::Addresses(vec![address])]), PoolConfig::default());
    let error = send(&pool, "http://name.test/").await.expect_err("nobody listens");
    let opening = error.opening().expect("an opening failed");
    assert!(opening.dns.is_some() && opening.tcp > Duration::ZERO && opening.attempts == 1, "{opening:?}");
    assert_eq!(
        send(&pool, &url(address)).await.expect_err("nobody listens").opening().expect("again").dns,
        None
    );
}
