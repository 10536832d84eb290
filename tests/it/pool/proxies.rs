//! Proxies: requests that are passed on, tunnels, and what goes wrong on the way.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::header::{CONNECTION, HOST, PROXY_AUTHORIZATION};
use http::{HeaderValue, Request};
use keeplive::server::{Behaviour, Running};
use keeplive::{Error, ErrorKind, Phase, Pool, PoolConfig, Proxy, RequestBody, Resolve, Route};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{HI, answering, assert_nothing_is_lost, get, id, origin, pool, post, send, server, tls_server};
use crate::support::certificate::Certificate;
use crate::support::gate::Gate;
use crate::support::raw::find;
use crate::support::scripted::{Conn, Scripted};

const CREATED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

/// A proxy that makes a tunnel for whoever asks, and notes how it was asked.
pub(super) struct Tunneller {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunneller {
    pub(super) async fn start(tls: Option<TlsAcceptor>) -> Tunneller {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let asked = Arc::default();
        let notes = Arc::clone(&asked);
        // It ends with the test's runtime.
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let (tls, notes) = (tls.clone(), Arc::clone(&notes));
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &notes).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, &notes).await;
                            }
                        }
                    }
                });
            }
        });
        Tunneller { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A client may go at any time.
async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, notes: &Mutex<Vec<String>>) {
    let mut head = Vec::new();
    while find(&head, b"\r\n\r\n").is_none() {
        let Ok(byte) = stream.read_u8().await else { return };
        head.push(byte);
    }
    let head = String::from_utf8(head).expect("text");
    let target = head.split(' ').nth(1).expect("a target").to_owned();
    let is_tunnel = head.starts_with("CONNECT ");
    notes.lock().unwrap_or_else(PoisonError::into_inner).push(head);
    if !is_tunnel {
        let _ = stream.write_all(HI.as_bytes()).await;
        return;
    }
    if stream.write_all(CREATED.as_bytes()).await.is_err() {
        return;
    }
    // Whatever the name, it is this machine.
    let port = target.rsplit_once(':').expect("a port").1.parse().expect("a number");
    let mut target = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.expect("a target");
    let _ = copy_bidirectional(&mut stream, &mut target).await;
}

pub(super) fn by(url: &str) -> PoolConfig {
    let proxy: Proxy = url.parse().expect("a proxy's URL");
    PoolConfig::default().max_connections_per_origin(Some(1)).route(Route::Proxy(proxy))
}

pub(super) fn url_of(scheme: &str, address: SocketAddr) -> String {
    format!("{scheme}://{address}")
}

fn named(scheme: &str, server: &Running) -> String {
    format!("{scheme}://name.test:{}/p?q", server.addr().port())
}

async fn fails(pool: &Pool, url: &str) -> Error {
    let error = send(pool, url).await.expect_err("there is no tunnel");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Proxy, Some(Phase::Proxy)), "{error}");
    assert!(error.opening().expect("an opening failed").proxy.is_some());
    assert_eq!(pool.stats().busy, 0);
    error
}

#[tokio::test]
async fn a_plain_request_is_given_to_the_proxy_in_absolute_form() {
    let proxy = answering(HI);
    let pool = pool(by(&format!("http://me:p%40ss@{}", proxy.addr())));
    let first = get(&pool, "http://name.test/p?q").await;
    let second = get(&pool, "http://name.test:81/").await;
    let third = get(&pool, "http://name.test/p?q").await;
    assert_eq!((id(&first), third.nth, second.nth), (id(&third), 2, 1), "a connection for each origin");
    assert_eq!(first.connection.remote, proxy.addr());
    let connect = first.timings.connect.expect("opened");
    assert_eq!((connect.dns, connect.proxy), (None, None), "nobody was asked for name.test");
    let requests: Vec<String> =
        proxy.received().iter().map(|one| String::from_utf8_lossy(&one.request).into_owned()).collect();
    assert!(requests[0].starts_with("GET http://name.test/p?q HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[1].starts_with("GET http://name.test:81/ HTTP/1.1\r\n"), "{}", requests[1]);
    for request in requests {
        assert!(request.contains("host: name.test"), "{request}");
        assert!(request.contains("proxy-authorization: Basic bWU6cEBzcw==\r\n"), "{request}");
    }
}

/// A pool whose requests go to a proxy that has answered one and ended its connection, which the reactor has not seen.
async fn abandoned(url: impl Fn(SocketAddr) -> String) -> (Pool, Scripted) {
    let (close, closed) = (Gate::default(), Gate::default());
    let (may_close, has_closed) = (close.clone(), closed.clone());
    let proxy = Scripted::start(move |conn: &mut Conn| {
        conn.read_request();
        conn.write(HI);
        if conn.number() == 1 {
            may_close.wait();
            conn.close();
            has_closed.open();
        }
        conn.until_closed();
    });
    let pool = pool(by(&url(proxy.addr())).max_exchanges(Some(2)));
    get(&pool, "http://name.test/").await;
    close.open();
    // The reactor does not run meanwhile.
    closed.wait();
    (pool, proxy)
}

#[tokio::test]
async fn a_plain_request_that_comes_back_unsent_is_addressed_once() {
    let (pool, proxy) = abandoned(|address| url_of("http", address)).await;
    let response = pool.send(post("http://name.test/x", "once")).await.expect("a response");
    assert_eq!(response.into_body().finish().await.expect("a whole body").retries.len(), 1);
    let request = String::from_utf8_lossy(&proxy.received()[1].request).into_owned();
    assert!(request.starts_with("POST http://name.test/x HTTP/1.1\r\n"), "{request}");
}

#[tokio::test]
async fn a_request_that_comes_back_unsent_is_what_its_caller_gave() {
    let plain = http::HeaderMap::from_iter([(HOST, HeaderValue::from_static("name.test"))]);
    let mut own = plain.clone();
    own.insert(PROXY_AUTHORIZATION, HeaderValue::from_static("Bearer mine"));
    own.append(CONNECTION, HeaderValue::from_static("te"));
    own.append(CONNECTION, HeaderValue::from_static("x-mine"));
    for headers in [plain, own] {
        // On its last exchange, and in the proxy's form, with the proxy's password.
        let (pool, _proxy) = abandoned(|address| format!("http://me:secret@{address}")).await;
        let lease = pool.lease(&origin("http://name.test/")).await.expect("a lease");
        let mut request = Request::get("/p?q").body(RequestBody::empty()).expect("a request");
        *request.headers_mut() = headers.clone();
        let mut error = lease.exchange(request).await.expect_err("the connection had ended");
        let (request, _) = error.take_retry().expect("nothing of it was sent");
        assert_eq!((request.uri().to_string().as_str(), request.headers()), ("/p?q", &headers));
    }
}

#[tokio::test]
async fn what_a_proxy_says_to_a_plain_request_is_the_response() {
    let proxy = answering("HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n");
    let pool = pool(by(&url_of("http", proxy.addr())));
    assert_eq!(send(&pool, "http://name.test/").await.expect("a response").status(), 407);
}

#[tokio::test]
async fn a_tunnel_is_reused_for_its_target_and_for_no_other() {
    let (one, other) = (tls_server(Behaviour::default()), tls_server(Behaviour::default()));
    let proxy = Tunneller::start(None).await;
    let pool = pool(by(&format!("http://me:secret@{}", proxy.address)));
    let first = get(&pool, &named("https", &one)).await;
    assert!(get(&pool, &named("https", &one)).await.is_reused());
    assert!(!get(&pool, &named("https", &other)).await.is_reused());
    assert_eq!((one.counts().connections, one.counts().requests), (1, 2));
    assert_eq!(first.connection.remote, proxy.address);
    let connect = first.timings.connect.expect("opened");
    assert!(connect.proxy.is_some() && connect.tls.is_some() && connect.dns.is_none(), "{connect:?}");
    assert_eq!(
        Phase::ALL.iter().map(|&phase| first.timings.of(phase)).sum::<Duration>(),
        first.timings.total()
    );
    let asked = proxy.asked();
    let port = one.addr().port();
    assert_eq!(
        asked[0],
        format!(
            "CONNECT name.test:{port} HTTP/1.1\r\nhost: name.test:{port}\r\n\
             proxy-authorization: Basic bWU6c2VjcmV0\r\n\r\n"
        )
    );
    assert_eq!(asked.len(), 2);
    assert_nothing_is_lost(&pool);
}

#[tokio::test]
async fn whatever_stands_in_a_2xx_head_the_tunnel_begins_behind_it() {
    let server = tls_server(Behaviour::default());
    let target = server.addr();
    for answer in [
        "HTTP/1.0 200 Connection established\r\nProxy-agent: old\r\n\r\n",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        // RFC 9110, section 9.3.6: to be ignored.
        "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n",
        "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let proxy = Scripted::start(move |conn| {
            conn.read_request();
            conn.write(answer);
            conn.relay(target);
        });
        let pool = pool(by(&url_of("http", proxy.addr())));
        assert!(!get(&pool, &named("https", &server)).await.is_reused(), "{answer}");
        assert!(get(&pool, &named("https", &server)).await.is_reused(), "{answer}");
    }
}

#[tokio::test]
async fn a_plain_request_goes_through_a_tunnel_if_all_shall() {
    let server = server(Behaviour::default());
    let proxy = Tunneller::start(None).await;
    let route: Proxy = format!("http://me:secret@{}", proxy.address).parse().expect("a proxy");
    let pool = pool(PoolConfig::default().route(Route::Proxy(route.tunnels_all(true))));
    assert!(get(&pool, &named("http", &server)).await.timings.connect.expect("opened").proxy.is_some());
    assert!(get(&pool, &named("http", &server)).await.is_reused());
    assert!(proxy.asked()[0].starts_with("CONNECT "), "{:?}", proxy.asked());
}

#[tokio::test]
async fn an_exception_is_reached_directly() {
    let server = server(Behaviour::default());
    let nobody = by("http://127.0.0.1:1").routes(vec![(origin(&server.url()), Route::Direct)]);
    assert_eq!(get(&pool(nobody), &server.url()).await.connection.remote, server.addr());
}

#[tokio::test]
async fn a_proxy_that_wants_credentials_says_so() {
    let proxy = answering(
        "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n",
    );
    let address = proxy.addr();
    let error = fails(&pool(by(&url_of("http", address))), "https://name.test/").await;
    assert_eq!(
        error.to_string(),
        format!(
            "the proxy http://{address} wants credentials (407, Basic realm=\"x\"): give them in the proxy's URL, \
             http://user:password@host:port"
        )
    );
    let error = fails(&pool(by(&format!("http://me:secret@{address}"))), "https://name.test/").await;
    assert!(error.to_string().ends_with("it does not accept this user and password"), "{error}");
    assert!(!format!("{error:?}").contains("secret"));
}

#[tokio::test]
async fn a_proxy_that_makes_no_tunnel_says_why() {
    let closing = |conn: &mut Conn| {
        conn.read_request();
        conn.close();
    };
    for (answer, text) in [
        (
            Some("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nno!"),
            "refused the tunnel to name.test:443: 502",
        ),
        (
            Some("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
            "refused the tunnel to name.test:443: 302",
        ),
        (Some("220 smtp.test ESMTP\r\n"), "gave no answer to CONNECT name.test:443"),
        (Some("HTTP/1.1 200 OK\r\n\r\nGET"), "sent 3 bytes through its tunnel"),
        (Some("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"), "sent 3 bytes through its tunnel"),
        (None, "gave no answer to CONNECT name.test:443"),
    ] {
        let proxy = match answer {
            Some(answer) => answering(answer),
            None => Scripted::start(closing),
        };
        let error = fails(&pool(by(&url_of("http", proxy.addr()))), "https://name.test/").await;
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
}

#[tokio::test]
async fn a_proxy_that_talks_without_end_is_cut_at_the_limits_of_a_head() {
    let config = |proxy: &Scripted| by(&url_of("http", proxy.addr()));
    for (begin, part) in [
        ("HTTP/1.1 200 OK\r\n", "X: y\r\n"),
        ("HTTP/1.1 200 OK\r\nX: ", "yyyyyyyy"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let proxy = Scripted::start(move |conn| {
            conn.read_request();
            conn.write(begin);
            let part = part.repeat(64);
            while conn.tcp().write_all(part.as_bytes()).is_ok() {}
        });
        // No limit of time: it is the size that ends it.
        let error = fails(&pool(config(&proxy).connect_timeout(None)), "https://name.test/").await;
        assert!(error.to_string().contains("said too much to CONNECT name.test:443"), "{error}");
    }
    let chatty = Scripted::start(|conn| {
        conn.read_request();
        conn.write(format!("{}{CREATED}", "HTTP/1.1 102 Processing\r\n\r\n".repeat(3)));
        conn.until_closed();
    });
    let error = fails(&pool(config(&chatty).max_informational(Some(2))), "https://name.test/").await;
    assert!(error.to_string().contains("more than 2 informational"), "{error}");
}

#[tokio::test]
async fn a_proxy_that_stalls_ends_with_the_connect_timeout_and_in_its_phase() {
    let limit = Duration::from_millis(50);
    let proxy = Scripted::start(Conn::until_closed);
    let pool = pool(by(&url_of("http", proxy.addr())).connect_timeout(Some(limit)));
    let error = send(&pool, "https://name.test/").await.expect_err("no tunnel");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::ConnectTimeout, Some(Phase::Proxy)));
    assert!(error.to_string().contains("made no tunnel within the connect timeout of 50ms"), "{error}");
    assert!(error.opening().and_then(|opening| opening.proxy) > Some(limit / 2), "{error:?}");
    assert_eq!(pool.stats().busy, 0);
}

#[tokio::test]
async fn a_proxy_that_is_not_there_refuses_as_a_server_does() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let error = send(&pool(by(&url_of("http", port))), "https://name.test/").await.expect_err("no proxy");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::ConnectRefused, Some(Phase::Connect)));
}

/// What a proxy shows that is spoken to over TLS.
pub(super) fn behind_tls() -> TlsAcceptor {
    let shown = Certificate::new();
    let chain = vec![CertificateDer::from_pem_slice(shown.pem.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(shown.key_pem.as_bytes()).expect("a key");
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).expect("a pair");
    TlsAcceptor::from(Arc::new(config))
}

#[tokio::test]
async fn a_proxy_behind_tls_passes_on_and_makes_tunnels() {
    let proxy = Tunneller::start(Some(behind_tls())).await;
    let target = tls_server(Behaviour::default());
    let pool = pool(by(&url_of("https", proxy.address)));
    let exchange = get(&pool, &named("https", &target)).await;
    let connect = exchange.timings.connect.expect("opened");
    assert!(connect.proxy.is_some() && connect.tls.is_some(), "{connect:?}");
    assert!(get(&pool, &named("https", &target)).await.is_reused());
    assert_eq!(target.counts().requests, 2);
    assert!(get(&pool, "http://name.test/").await.timings.connect.expect("opened").tls.is_none());
    assert!(proxy.asked()[1].starts_with("GET http://name.test/ HTTP/1.1\r\n"), "{:?}", proxy.asked());
}

#[tokio::test]
async fn a_proxy_that_speaks_no_tls_is_not_taken_for_the_target() {
    let proxy = Scripted::start(|conn| conn.write("HTTP/1.1 400 Bad Request\r\n\r\n"));
    let error =
        send(&pool(by(&url_of("https", proxy.addr()))), "https://name.test/").await.expect_err("no TLS");
    assert_eq!((error.kind(), error.phase()), (ErrorKind::Tls, Some(Phase::Proxy)), "{error}");
}

/// How a SOCKS proxy was asked: the greeting, who asked, and for what.
pub(super) type Asked = Arc<Mutex<Vec<Vec<u8>>>>;

/// A SOCKS 5 proxy that wants a user and a password, or does not, and answers with this reply.
pub(super) fn socks(wants_password: bool, reply: u8, target: Option<SocketAddr>) -> (Scripted, Asked) {
    let asked = Asked::default();
    let notes = Arc::clone(&asked);
    let proxy = Scripted::start(move |conn| {
        let note = |bytes: &[u8]| notes.lock().unwrap_or_else(PoisonError::into_inner).push(bytes.to_vec());
        let greeting = conn.read_some();
        if greeting.is_empty() {
            // The client has gone.
            return;
        }
        note(&greeting);
        let method = if wants_password { 2 } else { 0 };
        if !greeting[2..].contains(&method) {
            return conn.write([5, 0xff]);
        }
        conn.write([5, method]);
        if wants_password {
            let who = conn.read_some();
            conn.write([1, u8::from(!who.ends_with(b"secret"))]);
            note(&who);
        }
        let request = conn.read_some();
        note(&request);
        conn.write([5, reply, 0, 1, 0, 0, 0, 0, 0, 0]);
        if let Some(target) = target.filter(|_| reply == 0) {
            conn.relay(target);
        }
    });
    (proxy, asked)
}

fn asked_for(asked: &Asked) -> Vec<u8> {
    asked.lock().unwrap_or_else(PoisonError::into_inner).last().expect("it was asked").clone()
}

#[tokio::test]
async fn socks5h_leaves_the_name_to_the_proxy() {
    let server = server(Behaviour::default());
    let port = server.addr().port();
    let (proxy, asked) = socks(true, 0, Some(server.addr()));
    let pool = pool(by(&format!("socks5h://me:secret@{}", proxy.addr())));
    let exchange = get(&pool, &named("http", &server)).await;
    let connect = exchange.timings.connect.expect("opened");
    assert!(connect.proxy.is_some() && connect.dns.is_none(), "{connect:?}");
    assert!(get(&pool, &named("http", &server)).await.is_reused());
    let name = [&[5, 1, 0, 3, 9][..], b"name.test", &port.to_be_bytes()].concat();
    assert_eq!(asked_for(&asked), name);
}

#[tokio::test]
async fn a_host_too_long_for_its_length_byte_is_asked_of_no_proxy() {
    let (proxy, asked) = socks(false, 0, None);
    let pool = pool(by(&url_of("socks5h", proxy.addr())));
    // Of 269 bytes a byte tells the first 13.
    for host in [format!("internal.host{}.good.test", "a".repeat(246)), "b".repeat(600)] {
        let error = send(&pool, &format!("http://{host}/")).await.expect_err("no name is as long");
        assert_eq!(error.kind(), ErrorKind::InvalidRequest, "{error}");
    }
    assert_eq!((asked.lock().expect("no script panics").len(), pool.stats().busy), (0, 0));
}

#[tokio::test]
async fn socks5_resolves_the_name_here() {
    let server = server(Behaviour::default());
    let (proxy, asked) = socks(false, 0, Some(server.addr()));
    let resolve = Resolve { host: "name.test".into(), port: server.addr().port(), address: server.addr() };
    let pool = pool(by(&url_of("socks5", proxy.addr())).resolve(vec![resolve]));
    get(&pool, &named("http", &server)).await;
    let address = [&[5, 1, 0, 1, 127, 0, 0, 1][..], &server.addr().port().to_be_bytes()].concat();
    assert_eq!(asked_for(&asked), address);
}

#[tokio::test]
async fn tls_goes_through_a_socks_tunnel_to_the_target_and_its_connection_is_reused() {
    let server = tls_server(Behaviour::default());
    let (proxy, asked) = socks(false, 0, Some(server.addr()));
    let pool = pool(by(&url_of("socks5h", proxy.addr())));
    let first = get(&pool, &named("https", &server)).await;
    let connect = first.timings.connect.expect("opened");
    assert!(connect.proxy.is_some() && connect.tls.is_some(), "{connect:?}");
    assert!(first.connection.tls.is_some());
    assert_eq!(first.connection.remote, proxy.addr());
    assert!(get(&pool, &named("https", &server)).await.is_reused());
    let name = [&[5, 1, 0, 3, 9][..], b"name.test", &server.addr().port().to_be_bytes()].concat();
    assert_eq!((asked_for(&asked), proxy.connections()), (name, 1));
}

#[tokio::test]
async fn a_socks_proxy_that_makes_no_tunnel_says_why() {
    for (wants_password, credentials, reply, text) in [
        (false, "", 5, "refused the tunnel to name.test:80: Connection refused"),
        (false, "", 4, "refused the tunnel to name.test:80: Host unreachable"),
        (true, "", 0, "wants other credentials"),
        (true, "me:wrong@", 0, "does not accept this user and password"),
    ] {
        let (proxy, _) = socks(wants_password, reply, None);
        let error =
            fails(&pool(by(&format!("socks5h://{credentials}{}", proxy.addr()))), "http://name.test/").await;
        assert!(error.to_string().contains(text), "{text}: {error}");
    }
    let http = Scripted::start(|conn| {
        conn.read_some();
        conn.write("HTTP/1.1 400 Bad Request\r\n\r\n");
        conn.until_closed();
    });
    let error = fails(&pool(by(&url_of("socks5h", http.addr()))), "http://name.test/").await;
    assert!(error.to_string().contains("does not speak SOCKS 5"), "{error}");
}
