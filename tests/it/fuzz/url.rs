//! Whatever somebody writes for a URL: it is refused, or its origin reads the same when it is written and read again,
//! and what goes out asks that host for that path and says nothing else.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use http::Uri;
use keeplive::{ErrorKind, Origin, Pool, PoolConfig, Route, Scheme};

pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(uri) = text.parse::<Uri>() else {
        assert!(text.parse::<Origin>().is_err());
        return;
    };
    match Origin::from_uri(&uri) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::InvalidRequest),
        Ok(origin) => {
            check(&origin);
            if origin.scheme() == Scheme::Http
                && origin.host().parse::<IpAddr>().is_err()
                && !origin.host().contains(':')
            {
                send(&uri, &origin);
            }
        }
    }
}

fn check(origin: &Origin) {
    let host = origin.host();
    // An interface's name may have capitals.
    let name = host.split('%').next().unwrap_or(host);
    assert!(!host.is_empty() && name == name.to_ascii_lowercase() && origin.port() != 0, "{origin:?}");
    assert!(!host.contains(['@', '/', '[', ']', '\r', '\n', ' ']), "{origin:?}");
    assert_eq!(origin.to_string().parse::<Origin>().as_ref().ok(), Some(origin));
    let _ = origin.host_header();
}

/// Over a Unix socket, for thousands of connections a second would use the local ports up.
fn send(uri: &Uri, origin: &Origin) {
    static NTH: AtomicUsize = AtomicUsize::new(0);
    let name = format!("keeplive-fuzz-{}-{}", std::process::id(), NTH.fetch_add(1, Relaxed));
    let path = std::env::temp_dir().join(name);
    let listener = UnixListener::bind(&path).expect("a socket in the temporary folder");
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut part = [0; 4096];
            match stream.read(&mut part) {
                Ok(n @ 1..) => head.extend_from_slice(&part[..n]),
                _ => break,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        head
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut tls = keeplive::TlsConfig::default();
    tls.verify = false;
    let config = PoolConfig::default().route(Route::UnixSocket(path.clone()));
    let pool = Pool::with_tls(config, tls.build().expect("TLS that nobody speaks here")).expect("a pool");
    let request = http::Request::get(uri.clone()).body(()).expect("a request");
    runtime.block_on(pool.send(request)).expect("a response");
    std::fs::remove_file(path).expect("it was made above");
    let head = String::from_utf8(peer.join().expect("no panic")).expect("a request is ASCII");
    let host = origin.host_header();
    // RFC 9112, section 3.2.1: an empty path is asked for as `/`.
    let path = if uri.path().is_empty() { "/" } else { uri.path() };
    assert!(path.starts_with('/'), "{uri}: asks for {path}");
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let expected =
        format!("GET {path}{query} HTTP/1.1\r\nhost: {}\r\n\r\n", host.to_str().expect("visible ASCII"));
    assert_eq!(head, expected);
}
