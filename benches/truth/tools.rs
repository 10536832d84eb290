//! The load testers that are held against the truth: how each is called, and how its report is read.

use std::process::Command;

/// What a case asks of a tool.
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a str,
    pub(crate) seconds: u64,
    pub(crate) connections: u64,
    pub(crate) keep_alive: bool,
}

/// What a tool told, in milliseconds; `None` where it does not tell it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Told {
    pub(crate) count: Option<u64>,
    pub(crate) p50: Option<f64>,
    pub(crate) p90: Option<f64>,
    pub(crate) p95: Option<f64>,
    pub(crate) p99: Option<f64>,
    pub(crate) mean: Option<f64>,
}

/// One tool: a pure command line and a pure parser.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) version: &'static [&'static str],
    pub(crate) words: fn(&Ask<'_>) -> Vec<String>,
    pub(crate) parse: fn(&str) -> Told,
}

/// Every other tool that is known how to be called. Neither can be told a rate: both run a closed loop.
pub(crate) const OTHERS: [Tool; 2] = [
    Tool { name: "wrk", version: &["-v"], words: wrk_words, parse: wrk },
    Tool { name: "ab", version: &["-V"], words: ab_words, parse: ab },
];

impl Tool {
    /// The first line in which it names its version, or nothing where it is not installed.
    pub(crate) fn installed(&self) -> Option<String> {
        let output = Command::new(self.name).args(self.version).output().ok()?;
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
    }
}

fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn wrk_words(ask: &Ask<'_>) -> Vec<String> {
    let line = format!("-t1 -c{} -d{}s --timeout 60s --latency {}", ask.connections, ask.seconds, ask.url);
    let mut words = words(line);
    if !ask.keep_alive {
        words.splice(0..0, ["-H".to_owned(), "Connection: close".to_owned()]);
    }
    words
}

fn ab_words(ask: &Ask<'_>) -> Vec<String> {
    let keep = if ask.keep_alive { "-k " } else { "" };
    // -t alone would stop at 50,000 requests.
    words(format!("-q {keep}-s 60 -c {} -t {} -n 10000000 {}", ask.connections, ask.seconds, ask.url))
}

/// `wrk --latency`: it prints no p95.
fn wrk(text: &str) -> Told {
    let after = |label: &str| {
        text.lines()
            .find_map(|line| line.trim().strip_prefix(label))
            .and_then(|rest| rest.split_whitespace().next().and_then(millis))
    };
    let count = text
        .lines()
        .find(|line| line.contains(" requests in "))
        .and_then(|line| line.split_whitespace().next()?.parse().ok());
    Told {
        count,
        p50: after("50%"),
        p90: after("90%"),
        p95: None,
        p99: after("99%"),
        mean: after("Latency   "),
    }
}

/// `ab`: whole milliseconds, the mean from the row `Total:`.
fn ab(text: &str) -> Told {
    let after = |label: &str, nth: usize| {
        let line = text.lines().find_map(|line| line.trim().strip_prefix(label))?;
        line.split_whitespace().nth(nth)?.parse::<f64>().ok()
    };
    Told {
        count: after("Complete requests:", 0).map(|n| n as u64),
        p50: after("50%", 0),
        p90: after("90%", 0),
        p95: after("95%", 0),
        p99: after("99%", 0),
        mean: after("Total:", 1),
    }
}

/// `1.49ms`, `760.91us`, `1.20s` in milliseconds.
fn millis(text: &str) -> Option<f64> {
    let (number, factor) = if let Some(number) = text.strip_suffix("us") {
        (number, 1e-3)
    } else if let Some(number) = text.strip_suffix("ms") {
        (number, 1.0)
    } else if let Some(number) = text.strip_suffix('m') {
        (number, 60e3)
    } else {
        (text.strip_suffix('s')?, 1e3)
    };
    Some(number.parse::<f64>().ok()? * factor)
}
