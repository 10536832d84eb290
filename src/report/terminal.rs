//! The report on the terminal: the answer in the first sentence, then what it rests on.

mod headline;
mod table;

use std::io::{self, Write};

use super::plot::Axis;
use super::units::{grouped, percent, rate, time};
use crate::compare::{ArmSummary, Comparison, Difference, Metric, Missing, Severity};
use crate::measurement::{Measurement, PhaseSums};
use crate::plan::{Arrivals, Model};
use table::Table;

/// How the report is written. The numbers are the same in every style.
#[derive(Clone, Copy, Debug)]
pub struct Style {
    /// With ANSI colours.
    pub colour: bool,
    /// Columns that a line may have, at least 60.
    pub width: u16,
}

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "31";
/// One colour per arm, told apart by colour-blind readers too: green-blue, yellow, magenta, blue.
const ARMS: [&str; 4] = ["36", "33", "35", "34"];

/// A page: what is written, and how.
struct Page<'a, W> {
    out: &'a mut W,
    style: Style,
}

/// Writes the report.
///
/// # Errors
///
/// Whatever `out` says.
pub fn write(
    measurement: &Measurement,
    comparison: &Comparison,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut page = Page { out, style };
    page.paragraph(&headline::sentences(measurement, comparison), BOLD)?;
    page.blank()?;
    page.paragraph(&done(measurement), DIM)?;
    if comparison.arms.iter().any(|arm| arm.requests > 0) {
        page.response_times(comparison)?;
        page.savings(comparison)?;
        page.histograms(comparison)?;
        page.phases(comparison)?;
        page.ledger(comparison)?;
        page.errors(comparison)?;
    }
    page.validity(comparison)
}

/// What was done, in a few words.
fn done(measurement: &Measurement) -> String {
    let (plan, target) = (&measurement.plan, &measurement.target);
    let mut words = vec![format!("{} {}", plan.target.method, plan.target.url)];
    words.extend(target.tls_version.clone());
    words.extend(target.server.as_ref().map(|server| format!("server {server}")));
    words.push(match plan.model {
        Model::Closed => "closed loop".into(),
        Model::Open { rate: per_second, arrivals } => {
            let arrivals = match arrivals {
                Arrivals::Poisson => "Poisson",
                Arrivals::Constant => "constant",
            };
            let chosen = if measurement.offered.capped_by_ports {
                " (what the local ports allow)"
            } else if measurement.offered.capacity.is_empty() {
                ""
            } else {
                " (half of the smallest capacity)"
            };
            format!("open loop, {arrivals} arrivals at {} requests/s{chosen}", rate(per_second))
        }
    });
    words.push(format!("{} rounds of {} per arm", plan.rounds, time(plan.slot.as_nanos() as f64)));
    words.push(format!("{} connections, {} thread{}", plan.connections, plan.threads, plural(plan.threads)));
    words.push(format!("seed {}", plan.seed));
    let mut text = words.join(" · ");
    if !measurement.offered.capacity.is_empty() {
        let all = measurement.offered.capacity.iter();
        let all: Vec<_> = all.map(|one| format!("{} {}", one.arm, rate(one.requests_per_s))).collect();
        text += &format!(" · capacity in requests/s: {}", all.join(", "));
    }
    text
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}

const TIMES: [(Metric, &str); 6] = [
    (Metric::P50, "p50"),
    (Metric::P90, "p90"),
    (Metric::P99, "p99"),
    (Metric::P999, "p99.9"),
    (Metric::Max, "max"),
    (Metric::Mean, "mean"),
];

impl<W: Write> Page<'_, W> {
    fn response_times(&mut self, comparison: &Comparison) -> io::Result<()> {
        let title = if comparison.latencies_comparable {
            "Response time, from when a request was due"
        } else {
            "Response time (closed loop: arms ran at different loads, do not compare)"
        };
        let mut table = self.arms_table(title, comparison);
        for (metric, name) in TIMES {
            table.row(name, comparison.arms.iter().map(|arm| response(arm, metric)));
        }
        self.table(&table)
    }

    fn savings(&mut self, comparison: &Comparison) -> io::Result<()> {
        let others = &comparison.arms[1.min(comparison.arms.len())..];
        let names = others.iter().map(|arm| format!("of {}", arm.name));
        let mut table = Table::new("Saved by keep-alive [95 % interval]", names);
        if comparison.latencies_comparable {
            for (metric, name) in TIMES {
                table.row(name, others.iter().map(|arm| saved(comparison.difference(&arm.name, metric))));
            }
        }
        table.row(
            "client CPU",
            others.iter().map(|arm| saved(comparison.difference(&arm.name, Metric::ClientCpu))),
        );
        if !comparison.latencies_comparable {
            let times = |arm: &ArmSummary| factor(comparison.difference(&arm.name, Metric::RequestsPerS));
            table.row("requests/s", others.iter().map(times));
        }
        self.table(&table)?;
        self.why_no_interval(comparison)
    }

    /// Says once for each metric why it has no interval; too few rounds are one reason for all.
    fn why_no_interval(&mut self, comparison: &Comparison) -> io::Result<()> {
        let shown = |metric: Metric| match metric {
            Metric::Max => false,
            Metric::ClientCpu => true,
            Metric::RequestsPerS => !comparison.latencies_comparable,
            _ => comparison.latencies_comparable,
        };
        let mut said: Vec<String> = Vec::new();
        for metric in Metric::ALL.into_iter().filter(|&metric| shown(metric)) {
            let mut missing = comparison.differences.iter().filter(|one| one.metric == metric);
            let Some(why) = missing.find_map(|one| one.interval.as_ref().err()) else { continue };
            let text = match why {
                Missing::Rounds { .. } => format!("no interval: {why}"),
                _ => format!("no interval for {}: {why}", metric.as_str().replace("99_9", "99.9")),
            };
            if !said.contains(&text) {
                said.push(text);
            }
        }
        said.iter().try_for_each(|text| self.paragraph(&format!("  {text}"), DIM))
    }

    fn histograms(&mut self, comparison: &Comparison) -> io::Result<()> {
        let arms: Vec<_> = comparison.arms.iter().filter(|arm| !arm.response.is_empty()).collect();
        let columns = usize::from(self.style.width) - 2;
        let Some(axis) = Axis::around(arms.iter().map(|arm| &arm.response), columns) else { return Ok(()) };
        self.blank()?;
        self.line("Response times over one logarithmic axis", BOLD)?;
        for (arm, colour) in arms.iter().zip(ARMS.iter().cycle()) {
            let median = arm.response.quantile(0.5).map_or(0.0, |median| median.as_nanos() as f64);
            let mark = axis.mark(median, &format!("{}: median {}", arm.name, time(median)));
            self.line(&format!("  {mark}"), colour)?;
            for bar in axis.bars(&arm.response, 3) {
                self.line(&format!("  {bar}"), colour)?;
            }
        }
        for line in axis.lines() {
            self.line(&format!("  {line}"), DIM)?;
        }
        Ok(())
    }

    fn phases(&mut self, comparison: &Comparison) -> io::Result<()> {
        let mut table = self.arms_table("Where the mean goes", comparison);
        for (place, (name, _)) in PhaseSums::default().parts().iter().enumerate() {
            table.row(name, comparison.arms.iter().map(|arm| time(arm.phases.mean()[place].1)));
        }
        table.row("= mean", comparison.arms.iter().map(|arm| response(arm, Metric::Mean)));
        self.table(&table)?;
        self.paragraph("  lag is the generator's own lateness; means add up, percentiles do not", DIM)
    }

    fn ledger(&mut self, comparison: &Comparison) -> io::Result<()> {
        let mut table = self.arms_table("Connections and cost", comparison);
        let arms = &comparison.arms;
        let control = comparison.control();
        table.row("requests", arms.iter().map(|arm| grouped(arm.requests)));
        table.row("requests/s", arms.iter().map(|arm| rate(arm.requests_per_s())));
        table.row("reuse ratio", arms.iter().map(|arm| arm.reuse_ratio().map_or("-".into(), percent)));
        table.row("connections opened", arms.iter().map(|arm| grouped(arm.connections.opened)));
        if arms.iter().any(|arm| arm.connections.handshakes_full + arm.connections.handshakes_resumed > 0) {
            table.row("TLS handshakes full", arms.iter().map(|arm| grouped(arm.connections.handshakes_full)));
            table.row(
                "TLS handshakes resumed",
                arms.iter().map(|arm| grouped(arm.connections.handshakes_resumed)),
            );
        }
        let avoided = |arm: &ArmSummary| {
            let saved = control.map_or(0.0, |control| arm.connects_per_s() - control.connects_per_s());
            if arm.keep_alive { "-".to_owned() } else { rate(saved.max(0.0)) }
        };
        table.row("handshakes avoided/s", arms.iter().map(avoided));
        table.row(
            "client CPU/request",
            arms.iter()
                .map(|arm| arm.cpu_per_request().map_or("-".into(), |cpu| time(cpu.as_nanos() as f64))),
        );
        self.table(&table)?;
        for arm in arms {
            let closed: Vec<_> =
                arm.connections.closed.iter().map(|(why, n)| format!("{why} {}", grouped(*n))).collect();
            if !closed.is_empty() {
                self.paragraph(
                    &format!("  {} closed its connections for: {}", arm.name, closed.join(", ")),
                    DIM,
                )?;
            }
        }
        self.paragraph("  connections, handshakes and closes are of whole slots, washouts included", DIM)
    }

    fn errors(&mut self, comparison: &Comparison) -> io::Result<()> {
        self.blank()?;
        let failing: Vec<_> = comparison.arms.iter().filter(|arm| arm.failed() + arm.censored > 0).collect();
        if failing.is_empty() {
            return self.line("Errors: none", BOLD);
        }
        self.line("Errors", BOLD)?;
        for arm in failing {
            let mut kinds: Vec<_> =
                arm.errors.iter().map(|(kind, n)| format!("{kind} {}", grouped(*n))).collect();
            if arm.censored > 0 {
                kinds.push(format!("never answered {}", grouped(arm.censored)));
            }
            self.paragraph(&format!("  {}: {}", arm.name, kinds.join(", ")), RED)?;
        }
        Ok(())
    }

    fn validity(&mut self, comparison: &Comparison) -> io::Result<()> {
        self.blank()?;
        let validity = &comparison.validity;
        let worst = comparison.arms.iter().map(|arm| arm.lag.quantile(0.99).unwrap_or_default()).max();
        let busiest = comparison.arms.iter().map(ArmSummary::client_busy).fold(0.0, f64::max);
        let time_wait = comparison.arms.iter().map(|arm| arm.time_wait).max().unwrap_or(0);
        let pure = comparison.arms.iter().all(|arm| arm.impure_slots == 0);
        let facts = format!(
            "lag p99 {}, sending threads at most {} busy, {} sockets in TIME_WAIT, arms {}",
            time(worst.unwrap_or_default().as_nanos() as f64),
            percent(busiest),
            grouped(time_wait),
            if pure { "pure" } else { "not all pure" },
        );
        let (word, colour) = if validity.ok { ("✓ valid", ARMS[0]) } else { ("✗ INVALID", RED) };
        self.paragraph(&format!("{word}: {facts}"), colour)?;
        for reason in &validity.reasons {
            match reason.severity {
                Severity::Invalid => self.paragraph(&format!("  ✗ {}", reason.text), RED)?,
                Severity::Note => self.paragraph(&format!("  · {}", reason.text), "")?,
            }
        }
        Ok(())
    }

    fn arms_table(&self, title: &str, comparison: &Comparison) -> Table {
        Table::new(title, comparison.arms.iter().map(|arm| arm.name.clone()))
    }

    fn table(&mut self, table: &Table) -> io::Result<()> {
        self.blank()?;
        let mut lines = table.lines(usize::from(self.style.width)).into_iter();
        if let Some(head) = lines.next() {
            self.line(&head, BOLD)?;
        }
        lines.try_for_each(|line| self.line(&line, ""))
    }

    fn blank(&mut self) -> io::Result<()> {
        writeln!(self.out)
    }

    fn line(&mut self, text: &str, colour: &str) -> io::Result<()> {
        if self.style.colour && !colour.is_empty() && !text.is_empty() {
            writeln!(self.out, "\u{1b}[{colour}m{text}\u{1b}[0m")
        } else {
            writeln!(self.out, "{text}")
        }
    }

    /// Text broken at blanks, its later lines indented as its first and a little more.
    fn paragraph(&mut self, text: &str, colour: &str) -> io::Result<()> {
        for line in wrapped(text, usize::from(self.style.width)) {
            self.line(&line, colour)?;
        }
        Ok(())
    }
}

/// Units that stay on the line of their number.
const UNITS: [&str; 3] = ["%", "ms", "µs"];
const GLUE: char = '\u{a0}';

fn wrapped(text: &str, width: usize) -> Vec<String> {
    let indent = text.chars().take_while(|&c| c == ' ').count();
    let hang = if indent > 0 { indent + 2 } else { 0 };
    let mut lines = Vec::new();
    let mut line = " ".repeat(indent);
    let mut is_empty = true;
    let glued = UNITS
        .iter()
        .fold(text.to_owned(), |text, unit| text.replace(&format!(" {unit}"), &format!("{GLUE}{unit}")));
    let mut words: Vec<String> =
        glued.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).rev().collect();
    while let Some(word) = words.pop() {
        let space = usize::from(!is_empty);
        let left = width.saturating_sub(line.chars().count() + space);
        if word.chars().count() <= left {
            line.push_str(&" ".repeat(space));
            line.push_str(&word);
            is_empty = false;
        } else if is_empty {
            // A word longer than a line, such as a URL, is cut.
            let cut = word.char_indices().nth(left).map_or(word.len(), |(at, _)| at);
            line.push_str(&word[..cut]);
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            words.push(word[cut..].to_owned());
        } else {
            lines.push(std::mem::replace(&mut line, " ".repeat(hang)));
            is_empty = true;
            words.push(word);
        }
    }
    if !is_empty {
        lines.push(line);
    }
    lines.iter().map(|line| line.replace(GLUE, " ")).collect()
}

fn response(arm: &ArmSummary, metric: Metric) -> String {
    let value = match metric {
        Metric::Max => arm.response.max(),
        Metric::Mean => arm.response.mean(),
        _ => metric.quantile().and_then(|q| arm.response.quantile(q)),
    };
    value.map_or("-".into(), |value| time(value.as_nanos() as f64))
}

/// A saving with its share, and the interval of the share: `1.13 ms  87 % [86, 88]`.
fn saved(difference: Option<&Difference>) -> String {
    let Some((difference, ns, ratio)) =
        difference.and_then(|difference| Some((difference, difference.saved_ns()?, difference.ratio?)))
    else {
        return "-".into();
    };
    let share = 100.0 * (1.0 - ratio);
    let digits = |value: f64| if value.abs() < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
    let interval = match &difference.interval {
        Ok(interval) => {
            let (low, high) = (100.0 * (1.0 - interval.upper), 100.0 * (1.0 - interval.lower));
            // As many digits as tell the bounds apart.
            if high - low < 1.0 {
                format!("[{low:.1}, {high:.1}]")
            } else {
                format!("[{}, {}]", digits(low), digits(high))
            }
        }
        Err(_) => "[-]".into(),
    };
    format!("{}  {} % {interval}", time(ns), digits(share))
}

/// How many times as much: `10.2 x [9.9, 10.6]`.
fn factor(difference: Option<&Difference>) -> String {
    let Some((difference, ratio)) = difference.and_then(|difference| Some((difference, difference.ratio?)))
    else {
        return "-".into();
    };
    let times = |value: f64| super::units::three_digits(value);
    match &difference.interval {
        Ok(interval) => format!("{} x [{}, {}]", times(ratio), times(interval.lower), times(interval.upper)),
        Err(_) => format!("{} x [-]", times(ratio)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{arms, samples};

    fn printed(measurement: &Measurement, colour: bool, width: u16) -> String {
        let mut out = Vec::new();
        write(measurement, &arms(measurement), Style { colour, width }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn three() -> Measurement {
        samples::run(8, 500).arm("on", 1.0).arm("off-resumed", 3.0).arm("off-full", 4.0).measurement()
    }

    #[test]
    fn no_line_is_wider_than_the_page_whatever_the_numbers() {
        let mut extreme = samples::run(8, 500)
            .arm("on", 0.000_05)
            .arm("off-resumed", 5e4)
            .arm("off-full", 9e5)
            .measurement();
        extreme.target.server = Some("a server whose name goes on and on and on ".repeat(4));
        extreme.plan.target.url = format!("https://example.test/{}", "x".repeat(300));
        for slot in &mut extreme.slots {
            slot.scheduled = 123_456_789_012;
            for kind in
                ["connect_refused", "connect_timeout", "no_response", "status_5xx", "reset", "timeout"]
            {
                slot.errors.insert(kind.into(), 1_234_567_890);
            }
            slot.connections.closed.insert("keep_alive_off".into(), 98_765_432_100);
        }
        for measurement in [three(), extreme] {
            for width in [80, 100] {
                for line in printed(&measurement, false, width).lines() {
                    assert!(line.chars().count() <= usize::from(width), "{line:?}");
                }
            }
        }
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let coloured = printed(&three(), true, 80);
        assert!(coloured.contains("\u{1b}["));
        let mut plain = String::new();
        for (nth, part) in coloured.split('\u{1b}').enumerate() {
            plain.push_str(if nth == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(plain, printed(&three(), false, 80));
    }

    #[test]
    fn long_words_are_cut_and_later_lines_are_indented() {
        assert_eq!(wrapped("  one two three", 9), ["  one two", "    three"]);
        assert_eq!(wrapped("abcdefgh ij", 5), ["abcde", "fgh", "ij"]);
        assert_eq!(wrapped("it took 12 ms", 11), ["it took", "12 ms"]);
    }

    #[test]
    fn a_measurement_without_any_slot_is_still_a_report() {
        let mut nothing = three();
        nothing.slots.clear();
        nothing.interrupted = true;
        assert!(printed(&nothing, false, 80).contains("Nothing was measured"));
    }
}
