//! What cannot work is refused with exit code 2 and a text that tells the cure, and leaves no file behind.

use std::net::TcpListener;

use keeplive::server::{Behaviour, Server, ServerTls};

use super::program;
use crate::support::scripted::Scripted;

/// What `compare` says on stderr when it refuses.
fn refusal(words: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("results");
    let output = program().arg("compare").args(words).arg("--out").arg(&out).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{words:?}: {text}");
    assert!(output.stdout.is_empty(), "{words:?}: nothing goes to stdout");
    assert!(!out.exists(), "{words:?}: nothing is saved");
    text
}

fn says(words: &[&str], cures: &[&str]) {
    let text = refusal(words);
    for cure in cures {
        assert!(text.contains(cure), "{words:?} says {text:?} and not {cure:?}");
    }
}

#[test]
fn numbers_that_cannot_work_are_refused() {
    says(&["http://127.0.0.1:1/", "--rate", "0"], &["--rate must be above 0"]);
    says(&["http://127.0.0.1:1/", "--rate", "many"], &["requests per second as a number"]);
    says(&["http://127.0.0.1:1/", "--rate", "-5"], &["--rate must be above 0"]);
    says(&["http://127.0.0.1:1/", "--rate", "nan"], &["--rate must be above 0"]);
    says(&["http://127.0.0.1:1/", "--rate", "1e9"], &["between 0.001 and 1000000"]);
    says(&["http://127.0.0.1:1/", "--rate", "1e-20"], &["between 0.001 and 1000000"]);
    says(&["http://127.0.0.1:1/", "--rounds", "4294967295"], &["--rounds is above"]);
    says(&["http://127.0.0.1:1/", "--rounds", "0"], &["--rounds is 0"]);
    says(&["http://127.0.0.1:1/", "-c", "0"], &["--connections is 0"]);
    says(&["http://127.0.0.1:1/", "--slot", "0"], &["--slot is 0"]);
    says(&["http://127.0.0.1:1/", "--threads", "0"], &["--threads"]);
    says(&["http://127.0.0.1:1/", "--max-exchanges", "0"], &["max_exchanges is 0"]);
    says(&["http://127.0.0.1:1/", "--slot", "soon"], &["is not a duration"]);
}

#[test]
fn urls_and_fields_that_cannot_work_are_refused() {
    says(&["ftp://127.0.0.1/"], &["unknown scheme", "http://"]);
    says(&["127.0.0.1:80"], &["http://127.0.0.1:80"]);
    says(&["http://127.0.0.1:1/", "-H", "nonsense"], &["Name: value"]);
    says(&["http://127.0.0.1:1/", "-H", "Connection: close"], &["leave it out"]);
    says(&["http://127.0.0.1:1/", "-H", "Content-Length: 5"], &["follows from the body"]);
    says(&["http://127.0.0.1:1/", "-d", "@does-not-exist"], &["could not read does-not-exist"]);
    says(&["https://127.0.0.1:1/", "--cert", "does-not-exist"], &["could not read does-not-exist"]);
    says(&["https://127.0.0.1:1/", "--key", "does-not-exist"], &["--cert"]);
    says(&["https://127.0.0.1:1/", "--cacert", "does-not-exist"], &["could not read does-not-exist"]);
    says(&["https://127.0.0.1:1/", "--tls-max", "1.2", "--tlsv1.3"], &["no TLS version is left"]);
}

#[test]
fn a_place_that_cannot_be_saved_to_is_refused_before_anything_is_measured() {
    says(&["http://127.0.0.1:1/", "-o", "/dev/null"], &["it is a file", "--no-save"]);
    says(&["http://127.0.0.1:1/", "--html", "/nowhere/at/all.html"], &["no folder /nowhere/at"]);
    says(&["http://127.0.0.1:1/", "--html", "/tmp"], &["name a file"]);
}

#[test]
fn a_target_that_is_not_there_is_named_with_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    says(&[&format!("http://{free}/")], &["connection refused", "start the server"]);
}

#[test]
fn a_name_that_does_not_resolve_is_named_with_what_to_do() {
    says(&["http://does-not-exist.invalid/"], &["does-not-exist.invalid", "--resolve"]);
}

#[test]
fn a_target_that_accepts_and_never_answers_is_given_up_after_max_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    says(&[&url, "--max-time", "300ms"], &["no complete response within", "300ms", "raise --max-time"]);
}

#[test]
fn a_target_that_answers_without_end_is_given_up_after_max_time() {
    let peer = Scripted::start(|connection| {
        connection.read_request();
        connection.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunks = b"1\r\nx\r\n".repeat(10_000);
        while std::io::Write::write_all(&mut connection.tcp(), &chunks).is_ok() {}
    });
    let url = format!("http://{}/", peer.addr());
    says(&[&url, "--max-time", "300ms"], &["no complete response within", "300ms", "`receive`"]);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_refused_unless_it_is_trusted() {
    let server = Server::new(Behaviour::default()).tls(ServerTls::default()).start().unwrap();
    says(&[&server.url()], &["--cacert", "-k"]);
}

#[test]
fn https_on_a_plain_port_and_http_on_a_tls_port_are_told_apart() {
    let plain = Server::new(Behaviour::default()).start().unwrap();
    says(&[&plain.url().replace("http:", "https:")], &["http://"]);
    let tls = Server::new(Behaviour::default()).tls(ServerTls::default()).start().unwrap();
    says(&[&tls.url().replace("https:", "http:")], &["https://"]);
}

#[test]
fn a_rate_beyond_the_local_ports_is_refused_before_anything_is_measured() {
    // A server that never closes leaves TIME_WAIT to the client, in numbers that no machine's ports carry.
    let peer = Scripted::start(|connection| {
        while connection.read_request().is_some() {
            connection.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let url = format!("http://{}/", peer.addr());
    says(&[&url, "--rate", "20000", "--rounds", "40"], &["port", "lower --rate"]);
}

#[test]
fn more_connections_than_descriptors_are_refused_before_they_are_opened() {
    let server = Server::new(Behaviour::default()).start().unwrap();
    let script = format!(
        "ulimit -n 256; exec '{}' compare '{}' -c 1000 --no-save",
        env!("CARGO_BIN_EXE_keeplive"),
        server.url()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("ulimit -n") || text.contains("--connections"), "{text}");
}

#[test]
fn a_file_that_is_no_result_is_refused_by_report() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("no.json");
    for (content, words) in [
        ("", "not a keeplive result"),
        ("{}", "not a keeplive result"),
        (r#"{"schema":"keeplive.result/99"}"#, "newer keeplive"),
        (r#"{"schema":"keeplive.result/1"}"#, "damaged"),
    ] {
        std::fs::write(&file, content).unwrap();
        let output = program().arg("report").arg(&file).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{content}: {text}");
        assert!(text.contains(words), "{content}: {text}");
    }
}

#[test]
fn a_file_that_outgrows_what_the_shell_allows_loses_no_report() {
    let server = Server::new(Behaviour::default()).start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let script = format!(
        "ulimit -f 1; exec '{}' load '{}' -n 2000 --allow-invalid --out '{}'",
        env!("CARGO_BIN_EXE_keeplive"),
        server.url(),
        folder.path().display()
    );
    let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
    let (text, errors) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(text.contains("p99"), "{text}");
    assert!(errors.contains("File too large"), "{errors}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "whole or not at all");
}
