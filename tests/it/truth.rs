//! The embedded server with profiles does what they say, and its log is exact.

use std::time::Duration;

use keeplive::server::{Behaviour, Profile, Running, Server, ServerTls};

use crate::support::raw::{Ending, Raw, trusting};
use crate::support::{now, until};

const CLOSING: &str = "GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

fn serving(profiles: &[&str]) -> Running {
    Server::new(behaviour(profiles)).start().expect("a free port of the loopback")
}

fn behaviour(profiles: &[&str]) -> Behaviour {
    let profiles = profiles.iter().map(|text| text.parse::<Profile>().expect("a profile"));
    profiles.fold(Behaviour::default(), Behaviour::profile)
}

fn truth(server: &Running) -> serde_json::Value {
    let answer = Raw::connect(server.addr()).get("/__truth");
    serde_json::from_slice(&answer.body).expect("the truth is JSON")
}

#[track_caller]
fn takes(expected: Duration, act: impl FnOnce()) {
    let before = now();
    act();
    let took = now() - before;
    // Never early; how late is up to whoever else uses the machine.
    assert!(took >= expected && took < expected + Duration::from_millis(500), "{took:?}, not {expected:?}");
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

#[test]
fn every_kth_request_of_the_server_is_slow_and_the_log_has_each() {
    let server = serving(&["kth:3,1ms,30ms"]);
    let mut client = Raw::connect(server.addr());
    for nth in 1..=6 {
        takes(if nth % 3 == 0 { ms(30) } else { ms(1) }, || drop(client.get("/")));
    }
    let log = String::from_utf8(client.get("/__truth/log").body).expect("CSV is text");
    let holds: Vec<u64> =
        log.lines().skip(1).map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert_eq!(holds.len(), 6, "{log}");
    for (at, hold) in holds.into_iter().enumerate() {
        assert!(hold >= if at % 3 == 2 { 30_000_000 } else { 1_000_000 }, "{log}");
    }
    let truth = truth(&server);
    assert_eq!((truth["requests"].as_u64(), truth["answered"].as_u64()), (Some(6), Some(6)), "{truth}");
    assert_eq!(server.counts().requests, 6, "asking for the truth is no request");
}

#[test]
fn a_stall_holds_every_connection_and_none_waits_for_another() {
    let server = serving(&["once:0s,150ms"]);
    let clients: Vec<_> = (0..8).map(|_| Raw::connect(server.addr())).collect();
    takes(ms(150), || {
        let threads = clients.into_iter().map(|mut client| std::thread::spawn(move || drop(client.get("/"))));
        for thread in threads.collect::<Vec<_>>() {
            thread.join().expect("every client is answered");
        }
    });
    assert_eq!(truth(&server)["answered"], 8);
}

#[test]
fn a_capped_rate_serves_one_after_the_other() {
    let server = serving(&["rate-cap:100"]);
    let clients: Vec<_> = (0..10).map(|_| Raw::connect(server.addr())).collect();
    takes(ms(100), || {
        let threads = clients.into_iter().map(|mut client| std::thread::spawn(move || drop(client.get("/"))));
        for thread in threads.collect::<Vec<_>>() {
            thread.join().expect("every client is answered");
        }
    });
}

#[test]
fn a_slow_accept_delays_the_first_response_of_a_connection_only() {
    let server = serving(&["slow-accept:60ms"]);
    let mut client = Raw::connect(server.addr());
    takes(ms(60), || drop(client.get("/")));
    let before = now();
    client.get("/");
    assert!(now() - before < ms(60));
    let log = server.log().expect("a server with a profile");
    let first = str::from_utf8(&log).expect("CSV is text").lines().nth(1).expect("a request");
    let age: u64 = first.rsplit(',').next().and_then(|age| age.parse().ok()).expect("the connection's age");
    assert!(age >= 60_000_000, "the log has what came before the request: {first}");
}

#[test]
fn a_tls_handshake_costs_what_it_is_told_to() {
    let server = Server::new(behaviour(&["tls-cost:60ms"]))
        .tls(ServerTls::default())
        .start()
        .expect("a free port of the loopback");
    let config = trusting(server.certificate_pem().expect("a certificate"), true);
    takes(ms(60), || drop(Raw::connect_tls(server.addr(), &config).get("/")));
}

#[test]
fn a_dribbled_body_comes_whole_with_its_pauses() {
    let server = serving(&["dribble:4,10ms"]);
    let mut client = Raw::connect(server.addr());
    takes(ms(40), || assert_eq!(client.get("/").body, b"Hello, world!"));
}

#[test]
fn head_and_body_in_two_writes_are_one_response() {
    let server = serving(&["two-write:20ms"]);
    let mut client = Raw::connect(server.addr());
    takes(ms(20), || assert_eq!(client.get("/").body, b"Hello, world!"));
    assert_eq!(client.get("/").body, b"Hello, world!");
}

#[test]
fn a_truncated_response_announces_more_than_it_sends() {
    let server = serving(&["truncate:2"]);
    let mut client = Raw::connect(server.addr());
    assert_eq!(client.get("/").body, b"Hello, world!");
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let sent = client.until_end();
    let text = String::from_utf8_lossy(&sent).to_ascii_lowercase();
    assert!(text.contains("content-length: 13\r\n") && text.ends_with("\r\n\r\nhello,"), "{text}");
    assert_eq!(truth(&server)["truncated"], 1);
}

#[test]
fn every_kth_response_is_an_error() {
    let server = serving(&["error:2"]);
    let mut client = Raw::connect(server.addr());
    let heads: Vec<_> = (0..4).map(|_| client.get("/").head[9..12].to_owned()).collect();
    assert_eq!(heads, ["200", "500", "200", "500"]);
    assert_eq!(truth(&server)["errors"], 2);
}

#[test]
fn a_server_that_ignores_close_keeps_the_connection_and_says_nothing_of_it() {
    let server = serving(&["ignore-close"]);
    let mut client = Raw::connect(server.addr());
    for _ in 0..3 {
        client.send(CLOSING);
        assert!(!client.answer().says_close());
    }
    assert_eq!(server.counts().connections, 1);
}

#[test]
fn the_nth_response_is_announced_as_the_last_and_counted_so() {
    let server = serving(&["close-after:2"]);
    let mut client = Raw::connect(server.addr());
    assert!(!client.get("/").says_close());
    assert!(client.get("/").says_close());
    assert_eq!(client.ending(), Ending::Orderly);
    until("the end is counted", || {
        (truth(&server)["connections"]["ended_after_response"] == 1).then_some(())
    });
}

#[test]
fn an_idle_connection_is_ended_as_the_profile_says() {
    for (profile, ending) in [("idle-close:80ms", Ending::Orderly), ("idle-reset:80ms", Ending::Reset)] {
        let server = serving(&[profile]);
        let mut client = Raw::connect(server.addr());
        client.get("/");
        takes(ms(80), || assert_eq!(client.ending(), ending, "{profile}"));
        until("the end is counted", || (truth(&server)["connections"]["ended_idle"] == 1).then_some(()));
    }
}

#[test]
fn an_idle_connection_gets_a_408_that_nobody_asked_for() {
    let server = serving(&["idle-408:80ms"]);
    let mut client = Raw::connect(server.addr());
    client.get("/");
    takes(ms(80), || assert!(client.answer().head.starts_with("http/1.1 408 ")));
    assert_eq!(client.ending(), Ending::Orderly);
}

#[test]
fn a_connection_that_fell_silent_stays_open_and_answers_nothing() {
    let server = serving(&["idle-silence:80ms"]);
    let mut client = Raw::connect(server.addr());
    client.get("/");
    assert!(client.is_quiet(ms(250)), "no end");
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    assert!(client.is_quiet(ms(250)), "no answer");
    assert_eq!(truth(&server)["requests"], 1);
}

#[test]
fn the_log_begins_anew_when_asked_to() {
    let server = serving(&["const:0"]);
    let mut client = Raw::connect(server.addr());
    client.get("/");
    client.send("POST /__truth HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
    client.answer();
    assert_eq!(truth(&server)["requests"], 0);
    assert!(truth(&server)["epoch_unix_ns"].is_null());
}

#[test]
fn a_profile_given_twice_is_refused() {
    let error = Server::new(behaviour(&["const:1ms", "const:2ms"])).start().unwrap_err();
    assert!(error.to_string().contains("`const` is given twice"), "{error}");
}
