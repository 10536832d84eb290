//! Peers that mean harm. Whatever one says: the exchange ends within its limits, with an error that can be counted, no
//! more is read than the limits allow, and the next request gets its own response.

use std::io::Write;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use keeplive::{CloseReason, Error, ErrorKind, Pool, PoolConfig};
use proptest::prelude::*;

use super::{HI, assert_nothing_is_lost, pool, url};
use crate::support::gate::Gate;
use crate::support::scripted::{Conn, Scripted};
use crate::support::sockets::unread;
use crate::support::{now, until};

/// Ends every exchange in these tests; none may need more.
const LIMIT: Duration = Duration::from_millis(300);

/// What our kernel and the peer's hold of a stream that nobody reads any more, generously.
const IN_BUFFERS: u64 = 32 << 20;

/// A peer whose first connection is hostile, and whose others answer with the path that was asked for.
struct Hostile {
    peer: Scripted,
    done: Gate,
}

impl Hostile {
    fn start(script: impl Fn(&mut Conn) + Send + Sync + 'static) -> Hostile {
        let done = Gate::default();
        let is_done = done.clone();
        let peer = Scripted::start(move |conn| {
            if conn.number() == 1 {
                script(conn);
                is_done.open();
            }
            // The hostile connection, too, answers honestly from here on: its answers must not be mixed with the rest.
            while let Some(request) = conn.read_request() {
                let path = String::from_utf8_lossy(&request).split(' ').nth(1).unwrap_or_default().to_owned();
                conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len()));
            }
        });
        Hostile { peer, done }
    }

    /// Says this to the first request, and waits.
    fn saying(bytes: impl Into<Vec<u8>>) -> Hostile {
        let bytes = bytes.into();
        Hostile::start(move |conn| {
            conn.read_request();
            conn.write(&bytes);
        })
    }

    async fn get(&self, pool: &Pool, path: &str) -> Result<Bytes, Error> {
        let address = format!("http://{}{path}", self.peer.addr());
        let response = pool.send(Request::get(address).body(()).expect("a request")).await?;
        Ok(response.into_body().collect_all().await?.0)
    }

    /// What one request comes to; then the next one gets its own response, and nothing is left of either.
    async fn meet(&self, config: PoolConfig) -> Result<Bytes, Error> {
        let pool = super::pool(config.max_connections_per_origin(Some(1)).linger(Duration::ZERO));
        let asked = now();
        let met = self.get(&pool, "/met").await;
        assert!(asked.elapsed() < 20 * LIMIT, "{:?}", asked.elapsed());
        // What it still had to say is in our kernel now.
        self.done.wait();
        assert_eq!(self.get(&pool, "/next").await.expect("the next response"), "/next");
        pool.close();
        let stats = pool.stats();
        assert_eq!((stats.busy, stats.idle, stats.waiting), (0, 0, 0));
        assert_nothing_is_lost(&pool);
        met
    }
}

fn limited() -> PoolConfig {
    PoolConfig::default().response_timeout(Some(LIMIT)).total_timeout(Some(2 * LIMIT))
}

/// Writes the same again and again, until the client has gone. Answers with how much it took.
fn pour(conn: &mut Conn, part: &[u8]) -> u64 {
    let mut poured = 0;
    while conn.tcp().write_all(part).is_ok() {
        poured += part.len() as u64;
        assert!(poured < IN_BUFFERS, "the client reads without end");
    }
    poured
}

#[tokio::test]
async fn what_never_ends_is_cut_at_the_limit_of_a_head() {
    for (begin, part) in [
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 OK\r\nX: ", "yyyyyyyy"),
        ("HTTP/1.1 200 ", "OK OK OK OK "),
        ("HTTP/1.1 200 OK\r\nX", "XXXXXXXX"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
        ("", "HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4;", "extension"),
    ] {
        let hostile = Hostile::start(move |conn| {
            conn.read_request();
            conn.write(begin);
            pour(conn, part.repeat(64).as_bytes());
        });
        // The limit of time is far away: it is the size that ends it.
        let far = Some(Duration::from_secs(15));
        let met = hostile.meet(PoolConfig::default().total_timeout(far)).await;
        let error = met.expect_err("no response");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{begin:?} {part:?}: {error}");
    }
}

#[tokio::test]
async fn what_never_ends_and_takes_no_room_is_cut_at_the_limit_of_time() {
    // Zeros are digits of a chunk's size for as long as somebody sends them.
    let hostile = Hostile::start(|conn| {
        conn.read_request();
        conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while conn.tcp().write_all(&[b'0'; 4096]).is_ok() {}
    });
    let error =
        hostile.meet(PoolConfig::default().body_idle_timeout(Some(LIMIT))).await.expect_err("no body");
    assert_eq!(error.kind(), ErrorKind::BodyIdleTimeout, "{error}");
}

#[tokio::test]
async fn a_slow_drip_is_cut_at_the_limit_of_time() {
    for (begin, drip, kind) in [
        ("", "HTTP/1.1 200 OK\r\nX: y\r\n", ErrorKind::ResponseTimeout),
        ("", "HTTP/1.1 100 Continue\r\n\r\n", ErrorKind::ResponseTimeout),
        ("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", "x", ErrorKind::Timeout),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nx\r\n", ErrorKind::Timeout),
    ] {
        let hostile = Hostile::start(move |conn| {
            conn.read_request();
            conn.write(begin);
            for byte in drip.bytes().cycle() {
                if conn.tcp().write_all(&[byte]).is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let error = hostile.meet(limited()).await.expect_err("no response in time");
        assert_eq!(error.kind(), kind, "{begin:?} {drip:?}: {error}");
    }
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let field = |field: &str| format!("HTTP/1.1 200 OK\r\n{field}\r\nContent-Length: 2\r\n\r\nhi");
    for answer in [
        field("X: a\0b"),
        field("X\0: y"),
        field("X : y"),
        field("X: y\r\n folded"),
        field("X: a\rb"),
        field("\rX: y"),
        field("no colon"),
        field(": no name"),
        field("X\u{e9}: y"),
        field("Content-Length: 3"),
        field("Content-Length: +2"),
        field("Transfer-Encoding: chunked"),
        "\0HTTP/1.1 200 OK\r\n\r\n".into(),
        "HTTP/1.1\x00200 OK\r\n\r\n".into(),
        "HTTP/1.1 200 O\0K\r\n\r\n".into(),
        "HTTP/1.1 20 OK\r\n\r\n".into(),
        "HTTP/1.1 2000 OK\r\n\r\n".into(),
        "HTTP/1.1 -20 OK\r\n\r\n".into(),
        "HTTP/1.2 200 OK\r\n\r\n".into(),
        "HTTP/11 200 OK\r\n\r\n".into(),
        "http/1.1 200 OK\r\n\r\n".into(),
        "ICY 200 OK\r\n\r\n".into(),
        "GET / HTTP/1.1\r\n\r\n".into(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
        "\u{15}\u{3}\u{1}\0\u{2}\u{2}\n".into(),
        "<html>hello</html>\r\n\r\n".into(),
    ] {
        let error = Hostile::saying(answer.clone()).meet(limited()).await.expect_err("no response");
        assert_eq!(error.kind(), ErrorKind::Protocol, "{answer:?}: {error}");
    }
}

#[tokio::test]
async fn oddities_that_rfc_9112_lets_a_client_accept_are_accepted() {
    for answer in [
        // Section 2.2: a recipient may take a single LF for the end of a line.
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
        // Section 4: the reason phrase may be missing; and empty lines before the status line are robustness.
        "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nhi",
        "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi",
        // Section 6.3: the same length twice.
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
        "HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nhi",
        // Section 7.1.1: chunk extensions are ignored; leading zeros are digits.
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0002;a=b\r\nhi\r\n0\r\n\r\n",
    ] {
        let met = Hostile::saying(answer).meet(limited()).await;
        assert_eq!(met.unwrap_or_else(|error| panic!("{answer:?}: {error}")), "hi");
    }
}

#[tokio::test]
async fn what_comes_behind_a_response_is_nobodys() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for more in [poison, "\r\n", "x", "\0", "HTTP/1.1 100 Continue\r\n\r\n"] {
        for answer in [
            HI,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        ] {
            for at_once in [true, false] {
                let hostile = Hostile::start(move |conn| {
                    conn.read_request();
                    if at_once {
                        conn.write(format!("{answer}{more}"));
                    } else {
                        conn.write(answer);
                        conn.write(more);
                    }
                });
                let met = hostile.meet(limited()).await.expect("a response");
                assert!(met.is_empty() || met == "hi", "{met:?}");
                assert_eq!(hostile.peer.connections(), 2, "{answer:?} {more:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_response_before_the_request_answers_nothing_that_comes_after() {
    let hostile = Hostile::start(|conn| {
        conn.write(HI);
        conn.write(HI);
    });
    // Whether our kernel has it before the request is written is a race; neither end of it may poison the next request.
    match hostile.meet(limited()).await {
        Ok(body) => assert_eq!(body, "hi"),
        Err(error) => assert_eq!(error.kind(), ErrorKind::NotSent, "{error}"),
    }
}

#[tokio::test]
async fn a_length_that_nobody_could_send_takes_no_room() {
    for length in ["9223372036854775807", "18446744073709551613", "1000000000000"] {
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nx");
        let hostile = Hostile::start(move |conn| {
            conn.read_request();
            conn.write(&answer);
            conn.close();
        });
        let error = hostile.meet(limited()).await.expect_err("half a body");
        assert_eq!(error.kind(), ErrorKind::Partial, "{error}");
        assert!(error.to_string().contains(&format!("1 of {length} bytes")), "{error}");
    }
    let chunk = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nx";
    let hostile = Hostile::start(move |conn| {
        conn.read_request();
        conn.write(chunk);
        conn.close();
    });
    assert_eq!(hostile.meet(limited()).await.expect_err("half a chunk").kind(), ErrorKind::Partial);
}

/// Everything that may stand in a response: informational ones before it, chunks, an extension, trailers.
const WHOLE: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\
                     Trailer: x\r\n\r\n5\r\nwhole\r\n9;ext=\"1\"\r\n response\r\n0\r\nX: y\r\n\r\n";

/// Answers the first request in pieces, each of which the client has read before the next one is written.
fn in_pieces(cuts: Vec<usize>) -> Hostile {
    Hostile::start(move |conn| {
        conn.read_request();
        let (us, client) = (conn.tcp().local_addr().unwrap(), conn.tcp().peer_addr().unwrap());
        let ends = cuts.iter().copied().chain([WHOLE.len()]);
        let begins = [0].into_iter().chain(cuts.iter().copied());
        for (begin, end) in begins.zip(ends) {
            conn.write(&WHOLE[begin..end]);
            until("the client has read", || (unread(client, us) == Some(0)).then_some(()));
        }
    })
}

#[tokio::test]
async fn a_response_may_be_split_at_every_byte() {
    for cut in 1..WHOLE.len() {
        let hostile = in_pieces(vec![cut]);
        let met = hostile.meet(PoolConfig::default()).await.unwrap_or_else(|error| panic!("{cut}: {error}"));
        assert_eq!((&met[..], hostile.peer.connections()), (&b"whole response"[..], 1), "{cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_response_may_come_in_any_pieces(cuts in proptest::collection::btree_set(1..WHOLE.len(), 0..12)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let hostile = in_pieces(cuts.into_iter().collect());
        let met = runtime.block_on(hostile.meet(PoolConfig::default())).expect("a response");
        prop_assert_eq!((&met[..], hostile.peer.connections()), (&b"whole response"[..], 1));
    }
}

#[tokio::test]
async fn a_response_cut_off_at_every_byte_is_an_error_and_nobody_elses_beginning() {
    for cut in 0..WHOLE.len() {
        let hostile = Hostile::start(move |conn| {
            conn.read_request();
            conn.write(&WHOLE[..cut]);
            conn.close();
        });
        let error = hostile.meet(limited()).await.expect_err("no whole response");
        let kind = if cut == 0 { ErrorKind::NoResponse } else { ErrorKind::Partial };
        assert_eq!(error.kind(), kind, "{cut}: {error}");
    }
}

#[tokio::test]
async fn a_hostile_connection_is_counted_by_what_it_did() {
    let hostile = Hostile::saying(format!("{HI}junk"));
    let pool = pool(PoolConfig::default());
    super::get(&pool, &url(hostile.peer.addr())).await;
    assert_eq!(pool.stats().closed.into_iter().collect::<Vec<_>>(), [(CloseReason::Unsolicited, 1)]);
}
