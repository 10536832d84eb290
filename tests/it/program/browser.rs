//! A real browser, without a window.

use std::path::Path;
use std::process::Command;

/// What a browser made of a page.
pub(super) struct Opened {
    pub(super) dom: String,
    pub(super) console: Vec<String>,
    /// Lines of its log in which the page's loader asks for something by HTTP.
    pub(super) asked_for: Vec<String>,
}

/// `blink_resource_loader` in Chromium's traffic annotations: what pages ask for, and not the browser itself.
const PAGE_LOADS: &str = "\"traffic_annotation\":101845102";

pub(super) fn open(page: &str) -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page.html");
    std::fs::write(&file, page).unwrap();
    let log = folder.path().join("network.json");
    let mut browser = browser(folder.path());
    browser.arg(format!("--log-net-log={}", log.display())).arg("--dump-dom").arg(&file);
    let output = browser.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let lines = |text: &str, all: &[&str]| {
        text.lines().filter(|line| all.iter().all(|part| line.contains(part))).map(str::to_owned).collect()
    };
    Opened {
        dom: String::from_utf8(output.stdout).unwrap(),
        console: lines(&said, &["CONSOLE"]),
        asked_for: lines(&std::fs::read_to_string(log).unwrap(), &[PAGE_LOADS, "\"url\":\"http"]),
    }
}

/// A browser with a profile of its own, whose own services find nobody to call.
fn browser(folder: &Path) -> Command {
    let mut command = crate::support::process::command(None, "chromium", "chromium");
    command.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]);
    command.args(["--disable-background-networking", "--disable-component-update", "--disable-sync"]);
    command.args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]);
    command.arg(format!("--user-data-dir={}", folder.join("profile").display()));
    command
}
