//! Many targets: which are asked for, with what, how often, and over how many connections.

use std::fs;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use keeplive::server::{Behaviour, Running, Server};
use serde_json::Value;

use super::{alone, program};
use crate::support::raw::find;
use crate::support::scripted::{Conn, Scripted};

const ANSWER: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn answering(conn: &mut Conn) {
    while conn.read_request().is_some() {
        conn.write(ANSWER);
    }
}

fn load(words: &[&str]) -> Output {
    let mut command = program();
    command.args(["load", "--seed", "1", "--no-save", "--allow-invalid", "--format", "json"]);
    command.args(words).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn summary(output: &Output) -> Value {
    let said = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{said}"))
}

#[track_caller]
fn refused(words: &[&str], cure: &str) {
    let output = load(words);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains(cure), "{words:?} says {said:?}, not {cure:?}");
}

fn servers<const N: usize>() -> [Running; N] {
    std::array::from_fn(|_| Server::new(Behaviour::default()).start().unwrap())
}

fn of_each(summary: &Value, key: &str) -> Vec<u64> {
    let all = summary["targets"].as_array().unwrap_or_else(|| panic!("no targets: {summary}"));
    all.iter().map(|one| one[key].as_u64().unwrap()).collect()
}

#[test]
fn several_urls_are_asked_for_in_turn_by_their_weights_and_each_has_its_account() {
    let _alone = alone();
    let [one, two] = servers();
    let words = ["--weights", "3,1", "-n", "400", "-c", "2", "-t", "2"];
    let output = load(&[&[one.url().as_str(), &two.url()], &words[..]].concat());
    let summary = summary(&output);
    assert_eq!(of_each(&summary, "requests"), [300, 100]);
    assert_eq!(of_each(&summary, "completed"), [300, 100]);
    assert_eq!(summary["arms"][0]["requests"], 400);
    assert!(of_each(&summary, "response_p99_ns").iter().all(|&p99| p99 > 0));
    assert!(one.counts().requests >= 300 && two.counts().requests >= 100, "both were asked");
}

#[test]
fn random_targets_are_the_same_for_a_seed_and_follow_their_weights() {
    let _alone = alone();
    let [one, two] = servers();
    let words = ["--weights", "1,4", "--targets-order", "random", "-n", "2000", "-c", "1"];
    let drawn =
        || of_each(&summary(&load(&[&[one.url().as_str(), &two.url()], &words[..]].concat())), "requests");
    let first = drawn();
    assert!(first[0].abs_diff(400) < 80 && first.iter().sum::<u64>() == 2000, "{first:?}");
    assert_eq!(drawn(), first);
}

#[test]
fn a_targets_file_says_method_fields_and_bodies_and_the_command_line_says_the_rest() {
    let peer = Scripted::start(answering);
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bodies")).unwrap();
    fs::write(folder.path().join("bodies/b"), "line\r\n").unwrap();
    let url = format!("http://{}", peer.addr());
    let file = folder.path().join("targets");
    let text = format!("# two\nPUT {url}/a\nUser-Agent: own\n@bodies/b\n\nPOST {url}/b\nX-Own: 1\n");
    let json = format!(
        "{{\"method\":\"PUT\",\"url\":\"{url}/a\",\"header\":{{\"User-Agent\":[\"own\"]}},\"body\":\"bGluZQ0K\"}}\n\
         {{\"method\":\"POST\",\"url\":\"{url}/b\",\"header\":{{\"X-Own\":[\"1\"]}},\"weight\":1}}\n"
    );
    for form in [text, json] {
        fs::write(&file, form).unwrap();
        let before = peer.received().len();
        let words = ["-n", "4", "-c", "1", "-H", "X-All: 2", "-d", "z=1"];
        let output = load(&[&["--targets", file.to_str().unwrap()], &words[..]].concat());
        assert_eq!(of_each(&summary(&output), "completed"), [2, 2]);
        let received = peer.received();
        let asked = |path: &str| {
            let of = |head: &&[u8]| find(head, path.as_bytes()).is_some();
            let mut all = received[before..].iter().map(|one| one.request.as_slice());
            String::from_utf8(all.rfind(of).unwrap().to_vec()).unwrap().to_lowercase()
        };
        let first = asked("PUT /a HTTP/1.1\r\n");
        assert!(first.contains("user-agent: own\r\n") && first.contains("x-all: 2\r\n"), "{first}");
        assert!(first.contains("content-length: 6\r\n") && !first.contains("content-type"), "{first}");
        let second = asked("POST /b HTTP/1.1\r\n");
        assert!(second.contains("user-agent: keeplive") && second.contains("x-own: 1\r\n"), "{second}");
        assert!(second.contains("content-type: application/x-www-form-urlencoded\r\n"), "{second}");
        assert!(second.contains("content-length: 3\r\n"), "{second}");
    }
}

#[test]
fn connections_are_bounded_over_all_origins_and_it_is_said_what_that_costs() {
    let _alone = alone();
    let (now, peak) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peers: Vec<Scripted> = (0..4)
        .map(|_| {
            let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
            Scripted::start(move |conn| {
                peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                answering(conn);
                now.fetch_sub(1, SeqCst);
            })
        })
        .collect();
    let urls: Vec<String> = peers.iter().map(|peer| format!("http://{}/", peer.addr())).collect();
    let mut words: Vec<&str> = urls.iter().map(String::as_str).collect();
    words.extend(["-n", "300", "-c", "4", "--targets-order", "random"]);
    let summary = summary(&load(&words));
    assert_eq!(of_each(&summary, "completed").iter().sum::<u64>(), 300);
    // A peer learns of a close a moment after the pool has room again; each for itself they would be 16.
    assert!(peak.load(SeqCst) <= 9, "{peak:?}");
    assert!(summary["validity"]["notes"].to_string().contains("bound those to all origins together"));
}

#[test]
fn every_origin_is_looked_at_before_the_load_and_bad_targets_are_refused_with_their_line() {
    let [one] = servers();
    let url = one.url();
    refused(&[&url, "http://127.0.0.1:1/x"], "http://127.0.0.1:1/x");
    assert!(one.counts().requests <= 4, "no load before every origin has answered");
    refused(&[], "URL");
    refused(&[&url, &url, "--weights", "1"], "one for each");
    refused(&[&url, &url, "--weights", "1,0"], "leave the target out");
    refused(&[&url, "--targets", "x"], "cannot be used with");
    refused(&["--targets", "/nowhere/targets"], "could not read /nowhere/targets");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("targets");
    let file = file.to_str().unwrap();
    fs::write(file, format!("GET {url}\nnonsense\n")).unwrap();
    refused(&["--targets", file], &format!("{file}:2: `nonsense` is neither"));
    fs::write(file, format!("GET {url}\n\nPOST {url}\n@missing\n")).unwrap();
    refused(&["--targets", file], &format!("{file}:3: could not read"));
    fs::write(file, b"GET http://x/\n\xff").unwrap();
    refused(&["--targets", file], &format!("{file}:2: this is not UTF-8"));
}
