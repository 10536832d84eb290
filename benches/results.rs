//! Where results are written, and what every result says of itself: commit, date, machine.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The commit that is measured; a result of changes that nobody can look up is worth little.
pub(crate) fn commit() -> String {
    let dirty = output("git", &["status", "--porcelain", "src", "benches", "Cargo.toml", "Cargo.lock"]);
    assert!(dirty.is_empty(), "commit first: {dirty}");
    output("git", &["rev-parse", "HEAD"])
}

/// `results/DATE-COMMIT`, made.
pub(crate) fn folder(commit: &str) -> PathBuf {
    let folder = PathBuf::from(format!("results/{}-{}", output("date", &["-u", "+%Y-%m-%d"]), &commit[..7]));
    fs::create_dir_all(&folder).expect("results/ can be written");
    folder
}

/// The date and time, in UTC.
pub(crate) fn date() -> String {
    output("date", &["-u", "+%Y-%m-%d %H:%M UTC"])
}

/// Processors and kernel.
pub(crate) fn machine() -> String {
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model =
        processors.lines().find(|line| line.starts_with("model name")).and_then(|line| line.split_once(": "));
    format!(
        "{} x {}, Linux {}",
        std::thread::available_parallelism().map_or(1, usize::from),
        model.map_or("processor", |(_, model)| model),
        output("uname", &["-r"]),
    )
}

/// Replaces what stands between `<!-- BEGIN name -->` and `<!-- END name -->`.
pub(crate) fn write_block(file: &str, name: &str, block: &str) {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let (begin, end) = (format!("<!-- BEGIN {name} -->\n"), format!("<!-- END {name} -->"));
    let (head, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file}: no {begin}"));
    let (_, tail) = rest.split_once(&end).unwrap_or_else(|| panic!("{file}: no {end}"));
    fs::write(file, format!("{head}{begin}{block}{end}{tail}"))
        .unwrap_or_else(|error| panic!("{file}: {error}"));
}

fn output(program: &str, words: &[&str]) -> String {
    let output =
        Command::new(program).args(words).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
