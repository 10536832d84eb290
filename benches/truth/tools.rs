//! The load testers that are held against the truth: how each is called, and how its report is read.

use std::process::Command;

/// What a case asks of a tool.
pub(crate) struct Ask<'a> {
    pub(crate) url: &'a str,
    pub(crate) rate: u64,
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
    /// What asks it for its version; nothing where it knows none.
    pub(crate) version: &'static [&'static str],
    /// Whether it can be told a rate. The others run a closed loop, and how many requests that makes is theirs.
    pub(crate) paced: bool,
    /// `None`: it cannot do what is asked.
    pub(crate) words: fn(&Ask<'_>) -> Option<Vec<String>>,
    /// Of what it writes to stdout, and then to stderr.
    pub(crate) parse: fn(&str) -> Told,
}

/// Every other tool that is known how to be called.
pub(crate) const OTHERS: [Tool; 6] = [
    Tool { name: "wrk", version: &["-v"], paced: false, words: wrk_words, parse: wrk },
    Tool { name: "wrk2", version: &["-v"], paced: true, words: wrk2_words, parse: wrk2 },
    Tool { name: "ab", version: &["-V"], paced: false, words: ab_words, parse: ab },
    Tool { name: "h2load", version: &["--version"], paced: false, words: h2load_words, parse: h2load },
    Tool { name: "hey", version: &[], paced: false, words: hey_words, parse: hey },
    Tool { name: "oha", version: &["--version"], paced: true, words: oha_words, parse: oha },
];

impl Tool {
    /// The first line in which it names its version, or nothing where it is not installed.
    pub(crate) fn installed(&self) -> Option<String> {
        let output = Command::new(self.name).args(self.version).output().ok()?;
        if self.version.is_empty() {
            return Some(self.packaged().unwrap_or_else(|| "it does not tell its version".into()));
        }
        let text = [output.stdout, output.stderr].concat();
        Some(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().trim().to_owned())
    }
}

impl Tool {
    /// What the package manager calls it, for one that does not say it itself.
    fn packaged(&self) -> Option<String> {
        let query =
            Command::new("dpkg-query").args(["-W", "-f=${Package} ${Version}", self.name]).output().ok()?;
        query.status.success().then(|| String::from_utf8_lossy(&query.stdout).trim().to_owned())
    }
}

fn words(text: String) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

fn wrk_words(ask: &Ask<'_>) -> Option<Vec<String>> {
    let line = format!("-t1 -c{} -d{}s --timeout 60s --latency {}", ask.connections, ask.seconds, ask.url);
    let mut words = words(line);
    if !ask.keep_alive {
        words.splice(0..0, ["-H".to_owned(), "Connection: close".to_owned()]);
    }
    Some(words)
}

/// As wrk, with a rate. Built from its source it is called wrk, too: here it is to be found as `wrk2`.
fn wrk2_words(ask: &Ask<'_>) -> Option<Vec<String>> {
    let mut words = wrk_words(ask)?;
    words.splice(0..0, ["-R".to_owned(), ask.rate.to_string()]);
    Some(words)
}

fn ab_words(ask: &Ask<'_>) -> Option<Vec<String>> {
    let keep = if ask.keep_alive { "-k " } else { "" };
    // -t alone would stop at 50,000 requests.
    Some(words(format!("-q {keep}-s 60 -c {} -t {} -n 10000000 {}", ask.connections, ask.seconds, ask.url)))
}

/// It prints no quantiles, but writes each request's time to a log; here to stderr, which has nothing else.
fn h2load_words(ask: &Ask<'_>) -> Option<Vec<String>> {
    let log = "--log-file=/dev/stderr";
    let line = format!("--h1 -t 1 -c {} -D {} {log} {}", ask.connections, ask.seconds, ask.url);
    ask.keep_alive.then(|| words(line))
}

/// Its -q is by worker, and what a worker has missed is left out.
fn hey_words(ask: &Ask<'_>) -> Option<Vec<String>> {
    let keep = if ask.keep_alive { "" } else { "-disable-keepalive " };
    Some(words(format!("-z {}s -c {} -t 60 {keep}{}", ask.seconds, ask.connections, ask.url)))
}

fn oha_words(ask: &Ask<'_>) -> Option<Vec<String>> {
    let keep = if ask.keep_alive { "" } else { "--disable-keepalive " };
    let how = format!("--no-tui --output-format json --insecure --latency-correction {keep}");
    let Ask { url, rate, seconds, connections, .. } = ask;
    Some(words(format!("{how}-q {rate} -c {connections} -z {seconds}s {url}")))
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

/// `wrk2 --latency`: quantiles as in `50.000%  760.00us`, among them no p95; that, with the mean, stands in milliseconds in
/// the spectrum behind them. Its count is of what was answered.
fn wrk2(text: &str) -> Told {
    let lines = || text.lines().map(str::trim);
    let first = |line: &str| line.split_whitespace().next().map(str::to_owned);
    let at = |label: &str| lines().find_map(|line| millis(line.strip_prefix(label)?.trim()));
    let in_spectrum = |line: &str| {
        let mut fields = line.split_whitespace();
        let value = fields.next()?.parse().ok()?;
        (fields.next()? == "0.950000").then_some(value)
    };
    Told {
        count: lines()
            .find(|line| line.contains(" requests in "))
            .and_then(first)
            .and_then(|n| n.parse().ok()),
        p50: at("50.000%"),
        p90: at("90.000%"),
        p95: lines().find_map(in_spectrum),
        p99: at("99.000%"),
        mean: lines().find_map(|line| {
            let mean = line.strip_prefix("#[Mean")?.trim_start().strip_prefix('=')?;
            mean.split(',').next()?.trim().parse().ok()
        }),
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

/// `h2load --log-file`: a line for each request, of its start and its time in microseconds and the status between.
fn h2load(text: &str) -> Told {
    let count = text
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))
        .and_then(|line| line.split(", ").find_map(|part| part.strip_suffix(" done")?.parse().ok()));
    let time = |line: &str| {
        let mut fields = line.split('\t').map(|field| field.parse::<u64>().ok());
        let (_, _, time) = (fields.next()??, fields.next()??, fields.next()??);
        Some(time as f64 / 1e3)
    };
    let mut times: Vec<f64> = text.lines().filter_map(time).collect();
    times.sort_by(f64::total_cmp);
    let at = |q: f64| times.get(((q * times.len() as f64).ceil() as usize).saturating_sub(1)).copied();
    let mean = (!times.is_empty()).then(|| times.iter().sum::<f64>() / times.len() as f64);
    Told { count, p50: at(0.5), p90: at(0.9), p95: at(0.95), p99: at(0.99), mean }
}

/// `hey`: in seconds; the count is of answers.
fn hey(text: &str) -> Told {
    let number = |line: &str, at: usize| line.split_whitespace().nth(at)?.parse::<f64>().ok();
    let starting = |label: &str| text.lines().find(|line| line.trim().starts_with(label));
    let at = |label: &str| Some(number(starting(label)?, 2)? * 1e3);
    let answers = text.lines().filter(|line| line.ends_with(" responses"));
    let answers: Vec<u64> = answers.filter_map(|line| Some(number(line, 1)? as u64)).collect();
    Told {
        count: (!answers.is_empty()).then(|| answers.iter().sum()),
        p50: at("50% in"),
        p90: at("90% in"),
        p95: at("95% in"),
        p99: at("99% in"),
        mean: starting("Average:").and_then(|line| Some(number(line, 1)? * 1e3)),
    }
}

/// `oha --output-format json`: in seconds.
fn oha(text: &str) -> Told {
    let json = serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>().next();
    let Some(Ok(report)) = json else { return Told::default() };
    let at = |label: &str| Some(report["latencyPercentiles"][label].as_f64()? * 1e3);
    let statuses = report["statusCodeDistribution"].as_object();
    Told {
        count: statuses.map(|all| all.values().filter_map(serde_json::Value::as_u64).sum()),
        p50: at("p50"),
        p90: at("p90"),
        p95: at("p95"),
        p99: at("p99"),
        mean: report["summary"]["average"].as_f64().map(|seconds| seconds * 1e3),
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
