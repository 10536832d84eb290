//! Whatever a server answers: no panic, an end within the limits, a counted error, nothing left over, and the next
//! request gets its own response.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use keeplive::{Error, ErrorKind, Pool, PoolConfig, RequestBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// How an exchange with the hostile peer goes, from the first two bytes of the input; the rest is what the peer says.
struct Script<'a> {
    method: &'static str,
    keep_alive: bool,
    counts: bool,
    /// Whether the body is dropped as soon as the head has come.
    drops: bool,
    ending: Ending,
    /// The bytes come in pieces of this size.
    piece: usize,
    answer: &'a [u8],
}

#[derive(Clone, Copy)]
enum Ending {
    Fin,
    Reset,
    /// It waits for another request, and answers that as it should.
    Open,
}

fn script(data: &[u8]) -> Option<Script<'_>> {
    let [how, piece, answer @ ..] = data else { return None };
    Some(Script {
        method: ["GET", "HEAD", "POST", "CONNECT"][usize::from(how & 3)],
        keep_alive: how & 4 == 0,
        counts: how & 8 != 0,
        drops: how & 64 != 0,
        ending: [Ending::Fin, Ending::Open, Ending::Reset, Ending::Fin][usize::from(how >> 4 & 3)],
        piece: if *piece == 0 { usize::MAX } else { usize::from(*piece) },
        answer,
    })
}

/// Ends what a peer keeps open. A loaded machine may need as long for an honest answer: that is asked for again.
const LIMIT: Duration = Duration::from_millis(25);

pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static RUNTIME: tokio::runtime::Runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    }
    if let Some(script) = script(data) {
        RUNTIME.with(|runtime| runtime.block_on(meet(&script)));
    }
}

async fn meet(script: &Script<'_>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (said, has_said) = oneshot::channel();
    let hostile = (script.answer.to_vec(), script.piece, script.ending, said);
    let peer = tokio::spawn(peer(listener, hostile));
    let pool = Pool::with_tls(config(script), tls()).expect("a pool");
    let met = within(exchange(&pool, address, script)).await;
    if let Err(error) = met {
        assert!(is_fair(error.kind()), "{error:?}");
    }
    has_said.await.expect("the peer said what it had to say");
    let (status, body) = next(&pool, address).await;
    assert_eq!((status, &body[..]), (200, "/next"), "somebody else's response");
    // A dropped body's rest may still be read.
    let drained = within(pool.shutdown(8 * LIMIT)).await;
    assert_eq!((drained.cut, drained.held), (0, 0));
    let stats = pool.stats();
    assert_eq!((stats.busy, stats.idle, stats.waiting), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.opened, stats.closed.values().sum::<u64>(), "{stats:?}");
    peer.abort();
}

fn config(script: &Script<'_>) -> PoolConfig {
    PoolConfig::default()
        .keep_alive(script.keep_alive)
        .max_informational(script.counts.then_some(3))
        .linger(Duration::ZERO)
        .max_unread(1024)
        .unread_timeout(LIMIT)
        .response_timeout(Some(LIMIT))
        .body_idle_timeout(Some(LIMIT))
        .total_timeout(Some(8 * LIMIT))
}

fn tls() -> keeplive::TlsClient {
    thread_local! {
        static TLS: keeplive::TlsClient = {
            let mut tls = keeplive::TlsConfig::default();
            tls.verify = false;
            tls.build().expect("TLS that nobody speaks here")
        };
    }
    TLS.with(Clone::clone)
}

/// What a peer may cause. Anything else would blame somebody who did nothing.
fn is_fair(kind: ErrorKind) -> bool {
    use ErrorKind::{NoResponse, Partial, Protocol, Reset};
    kind.is_timeout() || matches!(kind, NoResponse | Partial | Protocol | Reset)
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("an end within the limits")
}

async fn exchange(pool: &Pool, address: SocketAddr, script: &Script<'_>) -> Result<(), Error> {
    let method = script.method;
    let target = if method == "CONNECT" { "test:443" } else { "/met" };
    let body = if method == "POST" { RequestBody::from("body") } else { RequestBody::empty() };
    let request = http::Request::builder().method(method).uri(target).header("host", "test");
    let request = request.body(body).expect("a request");
    let origin = format!("http://{address}/").parse().expect("an origin");
    let mut response = pool.send_to(&origin, request).await?;
    drop(response.body_mut().upgrade());
    if !script.drops {
        response.into_body().finish().await?;
    }
    Ok(())
}

async fn next(pool: &Pool, address: SocketAddr) -> (u16, String) {
    for _ in 0..50 {
        let request = http::Request::get(format!("http://{address}/next")).body(()).expect("a request");
        let answered = within(async {
            let response = pool.send(request).await?;
            let status = response.status().as_u16();
            Ok::<_, Error>((status, response.into_body().collect_all().await?.0))
        });
        match answered.await {
            Ok((status, body)) => return (status, String::from_utf8_lossy(&body).into_owned()),
            Err(error) if error.kind().is_timeout() => {}
            Err(error) => panic!("the next request paid for the last: {error:?}"),
        }
    }
    panic!("the next request was not answered");
}

type Hostile = (Vec<u8>, usize, Ending, oneshot::Sender<()>);

async fn peer(listener: TcpListener, hostile: Hostile) {
    let (mut first, _) = listener.accept().await.expect("a connection");
    tokio::spawn(async move {
        let (answer, piece, ending, said) = hostile;
        read_head(&mut first).await;
        for piece in answer.chunks(piece.min(answer.len().max(1))) {
            if first.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        match ending {
            Ending::Fin => drop(first.shutdown().await),
            Ending::Open => {}
            Ending::Reset => {
                let at_once = Some(Duration::ZERO);
                socket2::SockRef::from(&first).set_linger(at_once).expect("a socket takes SO_LINGER");
                drop(first);
                let _ = said.send(());
                return;
            }
        }
        let _ = said.send(());
        honest(first).await;
    });
    while let Ok((other, _)) = listener.accept().await {
        tokio::spawn(honest(other));
    }
}

/// Answers every request with the path that it asks for.
async fn honest(mut stream: TcpStream) {
    while let Some(head) = read_head(&mut stream).await {
        let path = head.split(' ').nth(1).unwrap_or_default();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A request's head, with what of its body came with it.
async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        let n = stream.read_buf(&mut head).await.ok()?;
        if n == 0 {
            return None;
        }
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}
