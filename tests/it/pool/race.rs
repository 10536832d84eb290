//! The race of RFC 9112, section 9.5, run ten thousand times: a server closes a connection at its idle timeout just as
//! a request is on its way over it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Method, Request};
use keeplive::{ErrorKind, Pool, PoolConfig, Resolve, Retry};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{HI, assert_nothing_is_lost, pool};
use crate::support::haproxy::Haproxy;
use crate::support::nginx::Nginx;
use crate::support::raw::{content_length, find};
use crate::support::sockets::{State, count};
use crate::support::{PATIENCE, soon};

/// The server's idle timeout.
const TIMEOUT: Duration = Duration::from_millis(200);
/// Each of these keeps a connection of its own and sends one request after another.
const VISITORS: u64 = 250;
const REQUESTS_EACH: u64 = 40;
/// By how much one request moves the next ones, in microseconds.
const STEP: i64 = 25;

/// What the server knows, by request.
#[derive(Default)]
struct Log {
    executed: HashMap<u64, u32>,
    /// Arrived when it had already decided to close, and was thrown away unread.
    refused: HashMap<u64, u32>,
    closed: u64,
}

type Book = Arc<Mutex<Log>>;

/// A server that closes a connection which has been idle for its timeout, whatever comes then.
fn strict_server() -> (SocketAddr, Book) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.set_nonblocking(true).expect("a socket can be non-blocking");
    let address = listener.local_addr().expect("an address");
    let book = Book::default();
    let log = Arc::clone(&book);
    // It ends with the tests' process.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            for nth in 0_u64.. {
                let (stream, _) = listener.accept().await.expect("a connection");
                stream.set_nodelay(true).expect("a socket takes TCP_NODELAY");
                tokio::spawn(serve(stream, Arc::clone(&log), nth.is_multiple_of(2)));
            }
        });
    });
    (address, book)
}

/// One that `looks` reads what came too late before it closes, and closes with a FIN; otherwise what came too late is
/// answered by the kernel, with an RST.
async fn serve(mut stream: TcpStream, book: Book, looks: bool) {
    let mut bytes = Vec::new();
    let mut patience = PATIENCE;
    loop {
        match tokio::time::timeout(patience, read_request(&mut stream, &mut bytes)).await {
            Ok(Some(id)) => {
                *book.lock().expect("no panic").executed.entry(id).or_default() += 1;
                if stream.write_all(HI.as_bytes()).await.is_err() {
                    return;
                }
                patience = TIMEOUT;
            }
            Ok(None) => return,
            Err(_) => break,
        }
    }
    // The decision and its execution lie apart in every server: here by as much as writing a log takes.
    std::thread::sleep(Duration::from_micros(50));
    let mut late = [0; 1024];
    let arrived = if looks { stream.try_read(&mut late).unwrap_or(0) } else { 0 };
    let mut log = book.lock().expect("no panic");
    log.closed += 1;
    if arrived > 0 {
        *log.refused.entry(id_of(&late[..arrived])).or_default() += 1;
    }
}

/// The number of the next request, once it is there as a whole; `None`: the client has left.
async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<u64> {
    loop {
        if let Some(head) = find(bytes, b"\r\n\r\n").map(|end| end + 4) {
            let length = head + content_length(&String::from_utf8_lossy(&bytes[..head]));
            if bytes.len() >= length {
                let id = id_of(bytes);
                bytes.drain(..length);
                return Some(id);
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

fn id_of(request: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(request);
    let id = text.lines().find_map(|line| line.strip_prefix("x-id: ")).expect("every request has its number");
    id.trim().parse().expect("a number")
}

/// What became of one request, as its sender knows it.
struct Outcome {
    id: u64,
    method: Method,
    /// How it failed, if it did.
    failed: Option<ErrorKind>,
    /// How often something of it was written.
    written: u32,
    /// Whether its first attempt went over a connection that had been used.
    met: bool,
}

fn written(retries: &[Retry]) -> u32 {
    retries.iter().filter(|retry| retry.kind != ErrorKind::NotSent).count() as u32
}

async fn send(pool: &Pool, url: &str, id: u64) -> Outcome {
    // As if by a coin: visitors keep step, and every second request of theirs may have the same fate.
    let heads = id.wrapping_mul(0xd1b5_4a32_d192_ed03) >> 63 == 0;
    let method = if heads { Method::GET } else { Method::POST };
    // The POST's body could be sent again; that it could be processed again is what nobody knows.
    let body = if method == Method::POST { "order" } else { "" };
    let request =
        Request::builder().method(method.clone()).uri(url).header("x-id", id.to_string()).body(body);
    let ended = match pool.send(request.expect("a request")).await {
        Ok(response) => response.into_body().finish().await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(exchange) => {
            let met = exchange.is_reused() || !exchange.retries.is_empty();
            Outcome { id, method, failed: None, written: 1 + written(&exchange.retries), met }
        }
        Err(error) => {
            assert!(error.idle_before().is_some(), "{error}");
            let wrote = u32::from(error.bytes_out().is_some_and(|bytes| bytes > 0));
            Outcome {
                id,
                method,
                failed: Some(error.kind()),
                written: wrote + written(error.retries()),
                met: true,
            }
        }
    }
}

/// By how much the server's timeout ends later for its clients than it was set, in microseconds. What both threads and
/// the timers add changes with the machine's load, so it is followed: half of the requests meet a connection that is
/// open still.
type Lateness = Arc<AtomicI64>;

async fn visit(pool: Pool, url: String, visitor: u64, lateness: Lateness) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    // Not all at once.
    tokio::time::sleep(TIMEOUT * visitor as u32 / VISITORS as u32).await;
    for nth in 0..REQUESTS_EACH {
        let id = visitor * REQUESTS_EACH + nth;
        let outcome = send(&pool, &url, id).await;
        if nth > 0 {
            lateness.fetch_add(if outcome.met { STEP } else { -STEP }, Relaxed);
        }
        outcomes.push(outcome);
        // From 2 ms before the server's timeout to 2 ms after it.
        let offset = (id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) as i64 % 4_000 - 2_000;
        let gap = TIMEOUT.as_micros() as i64 + offset + lateness.load(Relaxed);
        tokio::time::sleep(Duration::from_micros(gap.max(0) as u64)).await;
    }
    outcomes
}

#[tokio::test]
async fn of_ten_thousand_requests_around_a_servers_idle_timeout_no_get_fails_and_no_post_is_executed_twice() {
    let (address, book) = strict_server();
    let host = |visitor| format!("visitor-{visitor}.test");
    let resolve = |visitor| Resolve { host: host(visitor), port: address.port(), address };
    let config = PoolConfig::default().idle_timeout(None).resolve((0..VISITORS).map(resolve).collect());
    let pool = pool(config);
    let lateness = Lateness::default();
    let mut visits = JoinSet::new();
    for visitor in 0..VISITORS {
        let url = format!("http://{}:{}/", host(visitor), address.port());
        visits.spawn(visit(pool.clone(), url, visitor, Arc::clone(&lateness)));
    }
    let outcomes: Vec<_> = visits.join_all().await.into_iter().flatten().collect();
    let log = std::mem::take(&mut *book.lock().expect("no panic"));
    let seen = |by: &HashMap<u64, u32>, id| by.get(&id).copied().unwrap_or(0);
    let (mut retried, mut failed) = (0, 0);
    for Outcome { id, method, failed: kind, written, .. } in &outcomes {
        let (executed, refused) = (seen(&log.executed, *id), seen(&log.refused, *id));
        // Every send that the server knows of stands in the record.
        assert!(executed + refused <= *written, "{method} {id}: {executed} + {refused} <= {written}");
        match (method.clone(), kind) {
            (_, None) => assert!(executed >= 1, "{method} {id} was answered"),
            (Method::POST, Some(ErrorKind::NoResponse | ErrorKind::Reset)) => failed += 1,
            (_, Some(kind)) => panic!("{method} {id}: {kind:?}"),
        }
        if *method == Method::POST {
            assert!(executed <= 1, "POST {id} was executed {executed} times");
            assert_eq!(*written, 1, "POST {id} was written {written} times");
        }
        retried += written - 1;
    }
    assert_eq!(outcomes.len() as u64, VISITORS * REQUESTS_EACH);
    soon("the end of every idle connection", || (pool.stats().idle == 0).then_some(())).await;
    assert_eq!(count(address, State::CloseWait), 0, "what the server closed is closed by us as well");
    assert_nothing_is_lost(&pool);
    let stats = pool.stats();
    println!(
        "{retried} sent again, {failed} POSTs failed, {} closes, {lateness:?} us late, {stats:?}",
        log.closed
    );
    // The race was run: connections were reused and were closed, and some requests came in between.
    assert!(stats.reused > 1_000 && log.closed > 1_000 && retried > 0 && failed > 0, "{stats:?}");
}

/// Visitors of a real server, each of whom comes back when its connection is about to be closed.
async fn visitors_find_an_answer(server: SocketAddr, timeout: Duration) {
    let mut visits = JoinSet::new();
    for visitor in 0..60_u32 {
        visits.spawn(async move {
            let (pool, url) = (pool(PoolConfig::default().idle_timeout(None)), format!("http://{server}/"));
            for nth in 0..5 {
                let exchange = super::get(&pool, &url).await;
                assert!(exchange.retries.len() <= 1, "{:?}", exchange.retries);
                // From 10 ms before the timeout to 10 ms after it: some servers look at their clocks now and then.
                let offset = Duration::from_micros(u64::from((visitor * 5 + nth) * 7_919 % 20_000));
                tokio::time::sleep(timeout - Duration::from_millis(10) + offset).await;
            }
            assert_nothing_is_lost(&pool);
        });
    }
    visits.join_all().await;
}

#[tokio::test]
async fn no_request_fails_around_the_idle_timeout_of_nginx() {
    let timeout = Duration::from_millis(300);
    let nginx = Nginx::new().keepalive_timeout(timeout).start();
    visitors_find_an_answer(nginx.addr(), timeout).await;
    assert!(nginx.log(300).len() >= 300);
}

#[tokio::test]
async fn no_request_fails_around_the_idle_timeout_of_haproxy() {
    let timeout = Duration::from_millis(300);
    let haproxy = Haproxy::new().keep_alive_timeout(timeout).start();
    visitors_find_an_answer(haproxy.addr(), timeout).await;
    assert!(haproxy.counts().requests >= 300);
}
