//! The scoring: what is true of a run, what a tool may be off by, and the matrix of who is not.

use std::fmt::{self, Write as _};

use super::tools::Told;

/// The latencies that are true, in milliseconds, shortest first.
#[derive(Clone, Debug)]
pub(crate) struct Truth(Vec<f64>);

/// What is asked of each tool.
pub(crate) const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)];

/// How far a count may be off: one request in a thousand.
const COUNTS: f64 = 0.001;

/// How far the rank of a quantile may be off: by as much as the count may.
const RANKS: f64 = COUNTS;

impl Truth {
    /// Of these latencies, in ms.
    pub(crate) fn of(mut all: Vec<f64>) -> Truth {
        all.sort_by(f64::total_cmp);
        Truth(all)
    }

    pub(crate) fn at(&self, q: f64) -> f64 {
        let rank = (q * self.0.len() as f64 - 1e-6).ceil() as usize;
        self.0.get(rank.clamp(1, self.0.len().max(1)) - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// The values at the ranks q ± 0.1 %. Where the truth begins to climb at a quantile (Tene's freeze is felt by just half
    /// of the requests) one request more or less in the wait is another answer, and a count may be off by as many.
    pub(crate) fn around(&self, q: f64) -> Span {
        Span { from: self.at(q - RANKS), to: self.at(q + RANKS) }
    }
}

/// Where what is told may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) from: f64,
    pub(crate) to: f64,
}

impl Span {
    pub(crate) fn only(value: f64) -> Span {
        Span { from: value, to: value }
    }

    /// Up to what the server's log shows, where that is later.
    fn or_later(self, logged: Option<f64>) -> Span {
        Span { to: logged.map_or(self.to, |logged| logged.max(self.to)), ..self }
    }

    /// Within 5 %, or half a millisecond.
    pub(crate) fn holds(self, told: f64) -> bool {
        let allowed = |truth: f64| (0.05 * truth).max(0.5);
        told >= self.from - allowed(self.from) && told <= self.to + allowed(self.to)
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Span { from, to } = self;
        if to - from < 0.01 { write!(f, "{from:.2}") } else { write!(f, "{from:.2}..{to:.2}") }
    }
}

/// Within 0.1 %.
pub(crate) fn counts(told: u64, truth: u64) -> bool {
    told.abs_diff(truth) as f64 <= COUNTS * truth as f64
}

/// What a busy machine may add to a latency, in ms. It takes nothing away.
pub(crate) const MACHINE: f64 = 10.0;

/// One thing that was asked.
struct Point {
    name: &'static str,
    told: Option<String>,
    truth: String,
    right: bool,
    /// Wrong by no more than what the machine may have added.
    near: bool,
}

/// A tool's answers to one case.
pub(crate) struct Score(Vec<Point>);

impl Score {
    /// `logged`: how long the server's log says that it held the same requests. A closed form knows no server
    /// that takes its time to answer the hundred requests that a stall has gathered; one that was answered later was
    /// slower, and nothing allows to tell less. `mean`: where the mean of a long run lies, where that is known beside
    /// the mean of this one.
    pub(crate) fn of(
        told: &Told,
        truth: &Truth,
        logged: Option<&Truth>,
        mean: Option<Span>,
        count: u64,
    ) -> Score {
        let around = |q| truth.around(q).or_later(logged.map(|logged| logged.around(q).to));
        let mut points: Vec<_> = QUANTILES
            .into_iter()
            .zip([told.p50, told.p90, told.p95, told.p99])
            .map(|((name, q), told)| point(name, told, around(q)))
            .collect();
        let whole = Span::only(truth.mean()).or_later(logged.map(Truth::mean));
        points.push(point("mean", told.mean, whole));
        // Where the mean of a long run lies has room for luck already.
        points.extend(mean.map(|span| Point { near: false, ..point("M/D/1", told.mean, span) }));
        points.push(Point {
            name: "count",
            told: told.count.map(|told| told.to_string()),
            truth: count.to_string(),
            right: told.count.is_some_and(|told| counts(told, count)),
            near: false,
        });
        Score(points)
    }

    /// What a tool does not print it does not get wrong, but it is not a pass either.
    pub(crate) fn passes(&self) -> bool {
        self.0.iter().all(|point| point.right)
    }

    pub(crate) fn misses(&self) -> usize {
        self.0.iter().filter(|point| !point.right).count()
    }

    /// Whether it is wrong somewhere, and the machine alone may be why. What is not told is another matter.
    pub(crate) fn is_near(&self) -> bool {
        let mut told = self.0.iter().filter(|point| point.told.is_some());
        self.0.iter().any(|point| point.near) && told.all(|point| point.right || point.near)
    }

    pub(crate) fn line(&self) -> String {
        let mut line = String::from(if self.passes() { "PASS" } else { "FAIL" });
        for Point { name, told, truth, right, .. } in &self.0 {
            let mark = if *right { "" } else { "!" };
            let _ = write!(line, "  {name} {}{mark} of {truth}", told.as_deref().unwrap_or("-"));
        }
        line
    }

    /// For the matrix: what is wrong, and in brackets what is not told.
    pub(crate) fn cell(&self) -> String {
        if self.passes() {
            return "PASS".into();
        }
        let names = |told: bool| {
            let of_them = self.0.iter().filter(move |point| !point.right && point.told.is_some() == told);
            of_them.map(|point| point.name).collect::<Vec<_>>().join(" ")
        };
        let (wrong, untold) = (names(true), names(false));
        let untold = if untold.is_empty() { untold } else { format!("({untold})") };
        format!("FAIL {wrong} {untold}").split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

fn point(name: &'static str, told: Option<f64>, span: Span) -> Point {
    let right = told.is_some_and(|told| span.holds(told));
    let near = !right && told.is_some_and(|told| told > span.to && told - span.to < MACHINE);
    Point { name, told: told.map(|told| format!("{told:.2}")), truth: span.to_string(), right, near }
}

/// Cases by tools. A row for each case, with a cell for each tool in the order of `tools`.
pub(crate) fn matrix(tools: &[&str], rows: &[(&str, Vec<String>)]) -> String {
    let width = |nth: usize| {
        let cells = rows.iter().map(|(_, cells)| cells[nth].len());
        cells.chain([tools[nth].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..tools.len()).map(width).collect();
    let first = rows.iter().map(|(case, _)| case.len()).max().unwrap_or(0);
    let line = |name: &str, cells: &mut dyn Iterator<Item = &str>| {
        let cells = cells.zip(&widths).map(|(cell, width)| format!("  {cell:<width$}")).collect::<String>();
        format!("{name:<first$}{cells}").trim_end().to_owned() + "\n"
    };
    let mut text = line("", &mut tools.iter().copied());
    for (case, cells) in rows {
        text += &line(case, &mut cells.iter().map(String::as_str));
    }
    text
}
