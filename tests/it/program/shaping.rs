//! curl's options, seen from the other end: the exact bytes of a request, and the way it came.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixListener;
use std::process::Output;
use std::sync::{Arc, Mutex, PoisonError};

use keeplive::server::{Behaviour, Server, ServerTls};
use serde_json::Value;

use super::program;
use crate::support::raw::find;
use crate::support::scripted::{Conn, Scripted};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn answering(conn: &mut Conn) {
    while conn.read_request().is_some() {
        conn.write(ANSWER);
    }
}

/// A short run at a low rate.
fn load(url: &str, words: &[&str]) -> Output {
    let mut command = program();
    command.args(["load", url, "-r", "50", "-n", "5", "-c", "2", "--no-save", "--format", "json"]);
    command.arg("--allow-invalid");
    command.args(words).stdin(std::process::Stdio::null()).output().unwrap()
}

#[track_caller]
fn arm(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"));
    summary["arms"][0].clone()
}

#[track_caller]
fn refused(words: &[&str], cure: &str) {
    let output = load("http://127.0.0.1:1/", words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(cure), "{words:?} says {said:?}, not {cure:?}");
}

#[test]
fn every_option_that_shapes_a_request_sends_these_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    std::fs::write(&lines, "a=1\r\nb\n").unwrap();
    let lines = lines.to_str().unwrap();
    let (stripped, whole) = (format!("@{lines}"), format!("@{lines}"));
    let agent = concat!("user-agent: keeplive/", env!("CARGO_PKG_VERSION"));
    let form = "content-type: application/x-www-form-urlencoded";
    let json = ["accept: application/json", "content-type: application/json"];
    let rows: Vec<(Vec<&str>, &str, Vec<&str>, &str)> = vec![
        (vec![], "GET", vec![agent, "accept: */*"], ""),
        (vec!["-A", "me/1"], "GET", vec!["accept: */*", "user-agent: me/1"], ""),
        (vec!["-A", ""], "GET", vec!["accept: */*"], ""),
        (vec!["-H", "Accept:", "-H", "X-None;"], "GET", vec![agent, "x-none: "], ""),
        (vec!["-u", "me:secret"], "GET", vec![agent, "accept: */*", "authorization: Basic bWU6c2VjcmV0"], ""),
        (vec!["-b", "a=1", "-b", "b=2"], "GET", vec![agent, "accept: */*", "cookie: a=1; b=2"], ""),
        (
            vec!["--compressed"],
            "GET",
            vec![agent, "accept: */*", "accept-encoding: deflate, gzip, br, zstd"],
            "",
        ),
        (vec!["--json", "{}"], "POST", vec![agent, json[0], json[1], "content-length: 2"], "{}"),
        (
            vec!["-X", "PUT", "--json", "[]", "-H", "Content-Type: a/b"],
            "PUT",
            vec![agent, json[0], "content-type: a/b", "content-length: 2"],
            "[]",
        ),
        (
            vec!["-d", "a=1", "-d", "b"],
            "POST",
            vec![agent, "accept: */*", form, "content-length: 5"],
            "a=1&b",
        ),
        (vec!["-d", &stripped], "POST", vec![agent, "accept: */*", form, "content-length: 4"], "a=1b"),
        (
            vec!["--data-binary", &whole],
            "POST",
            vec![agent, "accept: */*", form, "content-length: 7"],
            "a=1\r\nb\n",
        ),
    ];
    std::thread::scope(|scope| {
        for (words, method, fields, body) in rows {
            scope.spawn(move || {
                let peer = Scripted::start(answering);
                load(&format!("http://{}/x?y", peer.addr()), &words);
                let received = peer.received();
                let request = received.first().unwrap_or_else(|| panic!("{words:?}: nothing came"));
                let request = String::from_utf8_lossy(&request.request).into_owned();
                let (head, came) = request.split_once("\r\n\r\n").unwrap();
                let host = format!("host: {}", peer.addr());
                let (mut expected, mut lines) = (fields.clone(), head.lines().collect::<Vec<_>>());
                expected.push(&host);
                assert_eq!(lines.remove(0), format!("{method} /x?y HTTP/1.1"), "{words:?}");
                expected.sort_unstable();
                lines.sort_unstable();
                assert_eq!((lines, came), (expected, body), "{words:?}");
            });
        }
    });
}

#[test]
fn options_that_contradict_each_other_are_refused_with_the_cure() {
    refused(&["-u", "me"], "USER:PASSWORD");
    refused(&["-u", "me:x", "-H", "Authorization: Basic x"], "leave one out");
    refused(&["-A", "me", "-H", "User-Agent: you"], "leave one out");
    refused(&["-b", "cookies.txt"], "NAME=VALUE");
    refused(&["--json", "{}", "-d", "x"], "cannot be used with");
    refused(&["-x", "proxy.test"], "has no port");
    refused(&["-x", "ftp://proxy.test:1"], "must begin with http://");
    refused(&["-x", "http://a:b@p.test:1", "--proxy-user", "a:b"], "leave one out");
    refused(&["--proxy-user", "a:b"], "--proxy");
    refused(&["-x", "p.test:1", "--unix-socket", "/s"], "cannot be used with");
    refused(&["--interface", "none0"], "nor an interface that has one (");
    refused(&["--connect-to", "a:1"], "HOST1:PORT1");
    refused(&["--expect-status", "ok"], "200-299");
    refused(&["--resume"], "--keep-alive off");
    refused(&["--keep-alive", "off", "--max-exchanges", "3"], "leave --max-exchanges out");
}

#[test]
fn connect_to_and_a_unix_socket_change_the_way_and_not_the_host() {
    let peer = Scripted::start(answering);
    let to = format!("somewhere.test:81:127.0.0.1:{}", peer.addr().port());
    let ran = arm(&load("http://somewhere.test:81/", &["--connect-to", &to]));
    assert_eq!(ran["errors"], serde_json::json!({}));
    assert!(find(&peer.received()[0].request, b"host: somewhere.test:81\r\n").is_some());

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    // The thread ends with the test.
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut part = [0; 4096];
                while stream.read(&mut part).is_ok_and(|n| n > 0) {
                    assert!(find(&part, b"host: somewhere.test\r\n").is_some());
                    let _ = stream.write_all(ANSWER.as_bytes());
                }
            });
        }
    });
    let ran = arm(&load("http://somewhere.test/", &["--unix-socket", path.to_str().unwrap()]));
    assert_eq!((&ran["completed"], &ran["errors"]), (&ran["requests"], &serde_json::json!({})));
}

#[test]
fn a_proxy_is_asked_as_curl_asks_it() {
    // A proxy that answers by itself what it is asked in absolute-form, and makes tunnels.
    let server = Server::new(Behaviour::default()).tls(ServerTls::default()).start().unwrap();
    let target = server.addr();
    let proxy = Scripted::start(move |conn| {
        while let Some(request) = conn.read_request() {
            match request.starts_with(b"CONNECT ") {
                true => {
                    conn.write("HTTP/1.1 200 Connection established\r\n\r\n");
                    return conn.relay(target);
                }
                false => conn.write(ANSWER),
            }
        }
    });
    let address = proxy.addr().to_string();
    let who = ["-x", &address, "--proxy-user", "me:p@ss:%"];
    let basic = b"proxy-authorization: Basic bWU6cEBzczol\r\n";
    assert_eq!(arm(&load("http://somewhere.test/a", &who))["errors"], serde_json::json!({}));
    let plain = proxy.received()[0].request.clone();
    assert!(plain.starts_with(b"GET http://somewhere.test/a HTTP/1.1\r\n"));
    assert!(find(&plain, b"host: somewhere.test\r\n").is_some());
    let said = String::from_utf8_lossy(&plain).to_lowercase();
    assert!(said.contains(&String::from_utf8_lossy(basic).to_lowercase()), "{said}");

    let before = proxy.received().len();
    let url = format!("https://somewhere.test:{}/", target.port());
    let ran = arm(&load(&url, &["-k", who[0], who[1], who[2], who[3]]));
    assert_eq!(ran["errors"], serde_json::json!({}));
    let tunnel = proxy.received()[before].request.clone();
    assert!(tunnel.starts_with(format!("CONNECT somewhere.test:{} HTTP/1.1\r\n", target.port()).as_bytes()));
}

#[test]
fn a_socks_proxy_is_given_the_name() {
    let target = Server::new(Behaviour::default()).start().unwrap();
    let address = target.addr();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&asked);
    let proxy = Scripted::start(move |conn| {
        conn.read_some();
        conn.write([5, 0]);
        notes.lock().unwrap_or_else(PoisonError::into_inner).push(conn.read_some());
        conn.write([5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        conn.relay(address);
    });
    let by = format!("socks5h://{}", proxy.addr());
    assert_eq!(arm(&load("http://somewhere.test/", &["-x", &by]))["errors"], serde_json::json!({}));
    let name = [&[5, 1, 0, 3, 14][..], b"somewhere.test", &[0, 80]].concat();
    assert_eq!(asked.lock().unwrap_or_else(PoisonError::into_inner)[0], name);
}

#[test]
fn several_local_addresses_are_used_in_turn() {
    let from: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
    let seen = Arc::clone(&from);
    let peer = Scripted::start(move |conn| {
        let peer = conn.tcp().peer_addr().unwrap();
        seen.lock().unwrap_or_else(PoisonError::into_inner).push(peer);
        answering(conn);
    });
    let url = format!("http://{}/", peer.addr());
    load(&url, &["--local-addr", "127.0.0.2,127.0.0.3", "--keep-alive", "1"]);
    // An interface stands for its addresses.
    let of_both = from.lock().unwrap_or_else(PoisonError::into_inner).len();
    load(&url, &["--interface", "lo"]);
    let mut from = from.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(from.drain(of_both..).all(|peer| peer.ip() == IpAddr::from([127, 0, 0, 1])));
    let count = |address: &str| {
        let address: IpAddr = address.parse().unwrap();
        from.iter().filter(|peer| peer.ip() == address).count()
    };
    let (second, third) = (count("127.0.0.2"), count("127.0.0.3"));
    // Five requests, and the first look's four, each on a connection of its own.
    assert_eq!((second, third, from.len()), (5, 4, 9), "{from:?}");
}

#[test]
fn a_status_that_was_not_expected_is_an_error_of_its_own_kind() {
    let peer = Scripted::start(|conn| {
        while conn.read_request().is_some() {
            conn.write(ANSWER.replace("200 OK", "404 Not Found"));
        }
    });
    let url = format!("http://{}/", peer.addr());
    let errors = |words: &[&str]| arm(&load(&url, words))["errors"].clone();
    assert!(errors(&[])["status_4xx"].as_u64().is_some());
    let unexpected = errors(&["--expect-status", "2xx,304"]);
    assert!(unexpected["unexpected_status"].as_u64().is_some() && unexpected["status_4xx"].is_null());
    assert_eq!(errors(&["--expect-status", "404"]), serde_json::json!({}));
}
