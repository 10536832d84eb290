//! Over Unix sockets the pool's rules are the same.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use keeplive::{Address, CloseReason, ErrorKind, Phase, Pool, PoolConfig, Route};
use tempfile::TempDir;

use super::{HI, assert_nothing_is_lost, get, id, origin, pool, post, send};
use crate::support::gate::Gate;
use crate::support::raw::find;
use crate::support::soon;

/// A peer that answers with HI as many requests as it is told to on each connection, and then closes.
struct Peer {
    folder: TempDir,
    requests: Arc<Mutex<Vec<String>>>,
}

impl Peer {
    fn new(answers: usize) -> Peer {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("s")).expect("a short path");
        let requests = Arc::default();
        let heard = Arc::clone(&requests);
        // The thread ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, heard) = (stream.expect("a connection"), Arc::clone(&heard));
                std::thread::spawn(move || answer(stream, answers, &heard));
            }
        });
        Peer { folder, requests }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn answer(mut stream: UnixStream, answers: usize, heard: &Mutex<Vec<String>>) {
    for _ in 0..answers {
        let mut request = Vec::new();
        let mut part = [0; 4096];
        while find(&request, b"\r\n\r\n").is_none() {
            match stream.read(&mut part) {
                Ok(length) if length > 0 => request.extend_from_slice(&part[..length]),
                _ => return,
            }
        }
        let request = String::from_utf8(request).expect("a head is text");
        heard.lock().unwrap_or_else(PoisonError::into_inner).push(request);
        let _ = stream.write_all(HI.as_bytes());
    }
}

fn through(path: &Path) -> PoolConfig {
    PoolConfig::default().route(Route::UnixSocket(path.to_owned()))
}

#[tokio::test]
async fn connections_over_a_unix_socket_are_reused_and_the_host_stays() {
    let peer = Peer::new(usize::MAX);
    let pool = pool(through(&peer.path()));
    let first = get(&pool, "http://somewhere.test:81/a").await;
    let second = get(&pool, "http://somewhere.test:81/b").await;
    assert_eq!((first.nth, second.nth, id(&first)), (1, 2, id(&second)));
    assert_eq!((first.connection.remote, first.connection.local), (Address::Unix, Address::Unix));
    let connect = first.timings.connect.expect("opened");
    assert!(connect.dns.is_none() && connect.tcp > Duration::ZERO && connect.attempts == 1, "{connect:?}");
    assert_eq!(second.bytes_in, HI.len() as u64);
    let requests = peer.requests();
    assert!(requests[1].starts_with("GET /b HTTP/1.1\r\n"), "{}", requests[1]);
    assert!(requests[1].contains("host: somewhere.test:81\r\n"), "{}", requests[1]);
}

#[tokio::test]
async fn each_socket_and_each_host_has_its_own_connections() {
    let (one, other) = (Peer::new(usize::MAX), Peer::new(usize::MAX));
    let exception = (origin("http://other.test"), Route::UnixSocket(other.path()));
    let pool = pool(through(&one.path()).routes(vec![exception]));
    for url in ["http://a.test/", "http://b.test/", "http://other.test/"] {
        assert!(!get(&pool, url).await.is_reused());
        assert!(get(&pool, url).await.is_reused());
    }
    assert_eq!((one.requests().len(), other.requests().len(), pool.stats().idle), (4, 2, 3));
}

/// A peer that answers one request, closes when it is told to, says so, and answers one on another connection.
struct Closing {
    folder: TempDir,
    close: Gate,
    closed: Gate,
    ended: JoinHandle<usize>,
}

impl Closing {
    fn new() -> Closing {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listener = UnixListener::bind(folder.path().join("s")).expect("a short path");
        let (close, closed) = (Gate::default(), Gate::default());
        let (may_close, has_closed) = (close.clone(), closed.clone());
        let ended = std::thread::spawn(move || {
            let heard = Mutex::default();
            let (first, _) = listener.accept().expect("a connection");
            let end = first.try_clone().expect("a descriptor");
            answer(first, 1, &heard);
            may_close.wait();
            end.shutdown(Shutdown::Both).expect("an open socket");
            has_closed.open();
            answer(listener.accept().expect("another connection").0, 1, &heard);
            heard.into_inner().expect("nobody panicked").len()
        });
        Closing { folder, close, closed, ended }
    }

    fn pool(&self) -> Pool {
        pool(through(&self.folder.path().join("s")))
    }
}

#[tokio::test]
async fn a_close_that_the_reactor_has_not_seen_is_found_before_writing() {
    let peer = Closing::new();
    let pool = peer.pool();
    get(&pool, "http://a.test/").await;
    peer.close.open();
    // The reactor does not run meanwhile.
    peer.closed.wait();
    let response = pool.send(post("http://a.test/", "once")).await.expect("a response");
    let exchange = response.into_body().finish().await.expect("a whole body");
    let retried: Vec<_> = exchange.retries.iter().map(|retry| retry.kind).collect();
    assert_eq!((exchange.nth, retried), (1, vec![ErrorKind::NotSent]));
    assert_eq!(peer.ended.join().expect("no panic"), 2);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn an_idle_connection_that_its_peer_closes_leaves_the_pool() {
    let peer = Closing::new();
    let pool = peer.pool();
    get(&pool, "http://a.test/").await;
    peer.close.open();
    soon("its end", || (pool.stats().idle == 0).then_some(())).await;
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::PeerFin, 1)]);
    get(&pool, "http://a.test/").await;
    peer.ended.join().expect("no panic");
}

#[tokio::test]
async fn off_waits_for_the_peer_to_close_first() {
    let peer = Peer::new(1);
    let pool = pool(through(&peer.path()).keep_alive(false));
    get(&pool, "http://a.test/").await;
    soon("the peer's end", || (pool.stats().peer_closed_first == 1).then_some(())).await;
    assert!(peer.requests()[0].contains("connection: close\r\n"));
}

async fn fails(pool: &Pool, kind: ErrorKind, text: &str) {
    let error = send(pool, "http://a.test/").await.expect_err("nobody is there");
    assert_eq!((error.kind(), error.phase()), (kind, Some(Phase::Connect)), "{error}");
    assert!(error.to_string().contains(text), "{error}");
    assert_eq!(pool.stats().busy, 0);
}

#[tokio::test]
async fn a_socket_that_is_not_there_and_one_at_which_nobody_listens_say_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("s");
    let pool = pool(through(&path));
    fails(&pool, ErrorKind::ConnectRefused, "there is no Unix socket").await;
    drop(UnixListener::bind(&path).expect("a short path"));
    fails(&pool, ErrorKind::ConnectRefused, "nothing listens at the Unix socket").await;
}

#[tokio::test]
async fn a_socket_whose_queue_is_full_is_waited_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("s");
    let listener =
        socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).expect("a socket");
    listener.bind(&socket2::SockAddr::unix(&path).expect("a short path")).expect("a free path");
    listener.listen(0).expect("a listener");
    let _first = UnixStream::connect(&path).expect("room for one");
    let short = through(&path).connect_timeout(Some(Duration::from_millis(50)));
    fails(&pool(short), ErrorKind::ConnectTimeout, "was not connected within the connect timeout of 50ms")
        .await;
    let patient = pool(through(&path));
    let listener = UnixListener::from(std::os::fd::OwnedFd::from(listener));
    let peer = std::thread::spawn(move || {
        drop(listener.accept().expect("the first"));
        answer(listener.accept().expect("the second").0, 1, &Mutex::default());
    });
    get(&patient, "http://a.test/").await;
    peer.join().expect("no panic");
}
