//! What no input may cause, tried with the corpus and with mutations of it for a few seconds. The same functions run
//! under libFuzzer, guided by coverage and for as long as one likes: see `fuzz/README.md`.

mod hint;
mod mutation;
mod response;
mod result;
mod targets;
mod url;

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::support::now;
use mutation::Mutator;

/// How long each target is tried with mutations: `KEEPLIVE_FUZZ_SECONDS`, or 3.
fn duration() -> Duration {
    let seconds = std::env::var("KEEPLIVE_FUZZ_SECONDS").ok();
    Duration::from_secs(
        seconds.map_or(3, |text| text.parse().expect("KEEPLIVE_FUZZ_SECONDS is a whole number")),
    )
}

/// The inputs to begin with, in the order of their names.
fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fuzz/corpus").join(target);
    let mut paths: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a folder can be read").path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).expect("a file can be read"))).collect()
}

/// Says which input it was when the target panics.
struct Telltale<'a>(&'a str, &'a [u8]);

impl Drop for Telltale<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("fuzz target `{}` failed on: b\"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

fn try_all(name: &str, target: fn(&[u8]), tokens: &'static [&'static [u8]]) {
    let corpus = corpus(name);
    for (path, input) in &corpus {
        let path = path.display().to_string();
        let _tells = Telltale(&path, input);
        target(input);
    }
    let inputs = corpus.into_iter().map(|(_, input)| input).collect();
    // A seed of its own each time: over many runs much is tried. A failing input is printed whole.
    let mut mutator = Mutator::new(inputs, tokens, u64::from(std::process::id()));
    let begun = now();
    let mut tried = 0_u64;
    while begun.elapsed() < duration() {
        let input = mutator.next();
        let _tells = Telltale(name, &input);
        target(&input);
        tried += 1;
    }
    eprintln!("{name}: {tried} mutations in {:?}", begun.elapsed());
    assert!(tried > 0);
}

#[test]
fn no_hint_promises_what_was_not_said() {
    try_all(
        "hint",
        hint::run,
        &[b"timeout=", b"max=", b",", b"=", b"\"", b"\\", b"0", b"18446744073709551616", b" "],
    );
}

#[test]
fn no_response_harms_the_pool_or_the_next_request() {
    try_all(
        "response",
        response::run,
        &[
            b"\r\n",
            b"\r\n\r\n",
            b"\n",
            b"\0",
            b"0\r\n\r\n",
            b"ffffffffffffffff\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\n",
            b"HTTP/1.0 ",
            b"Content-Length: 2\r\n",
            b"Content-Length: ",
            b"Transfer-Encoding: chunked\r\n",
            b"Connection: close\r\n",
            b"Connection: keep-alive\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n",
            b"HTTP/1.1 204 No Content\r\n",
            b"Trailer: x\r\n",
        ],
    );
}

#[test]
fn no_url_asks_another_host_or_for_more_than_it_says() {
    try_all(
        "url",
        url::run,
        &[
            b"http://",
            b"https://",
            b"@",
            b":",
            b":80",
            b":443",
            b"[::1]",
            b"/",
            b"?",
            b"#",
            b"%00",
            b"..",
            b"[",
            b"]",
        ],
    );
}

#[test]
fn no_result_file_breaks_the_reader() {
    try_all(
        "result",
        result::run,
        &[
            b"null",
            b"0",
            b"-1",
            b"18446744073709551615",
            b"1e308",
            b"[]",
            b"{}",
            b"\"\"",
            b"true",
            b",",
            b"\"",
        ],
    );
}

#[test]
fn no_targets_file_breaks_the_reader() {
    try_all(
        "targets",
        targets::run,
        &[
            b"GET http://a/",
            b"\n",
            b"\r\n",
            b"\n\n",
            b"@",
            b"#",
            b": ",
            b"{\"method\":\"GET\",\"url\":\"http://a/\"}",
            b"\"weight\":",
            b"4294967296",
            b"null",
            b"[]",
            b"{}",
            b"\xef\xbb\xbf",
        ],
    );
}
