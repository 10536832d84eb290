//! What a person sees.

use super::{alone, program};
use keeplive::server::{Behaviour, Server};

#[test]
fn the_report_answers_first_fits_eighty_columns_and_is_printed_again_from_its_file() {
    let _alone = alone();
    let server = Server::new(Behaviour::default()).start().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = program()
        .args(["compare", "--rounds", "6", "--slot", "200ms", "--rate", "200", "--allow-invalid", "--out"])
        .arg(folder.path())
        .arg(server.url())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("at the median"), "{text}");
    let first: String = text.lines().take(3).collect();
    assert!(first.contains("eep-alive"), "{text}");
    for words in ["p99.9", "blocked", "receive", "on a used connection", "requests/s", "TIME_WAIT"] {
        assert!(text.contains(words), "no {words} in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "no colours where nobody looks");
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let again = program().args(["report", "--allow-invalid"]).arg(file).output().unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), text);
    assert_eq!(again.status.code(), output.status.code());
}

#[test]
fn serve_prints_its_address_and_ends_when_asked() {
    use std::io::{BufRead, BufReader};
    let mut child = program()
        .args(["serve", "--listen", "127.0.0.1:0", "--tls"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("https://127.0.0.1:"), "{line}");
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
