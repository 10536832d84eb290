//! The report for a terminal: the answer in a sentence, then how it was found, the tables, the shapes, and what to
//! know before believing it. Plain text with or without colours, never wider than asked.

use std::io;

use super::headline::headline;
use super::page::{Page, Paint};
use super::plot;
use super::stages;
use super::tables::{connections, phases, reasons, savings, times};
use super::targets;
use super::timeline;
use super::units::{count, percent, three_digits, time};
use crate::compare::{Comparison, Severity};
use crate::measurement::{Measurement, Slot};
use crate::plan::{Arrivals, Model, Plan};

pub use super::page::Style;

/// Writes the report.
///
/// # Errors
///
/// What `out` says.
pub fn write(
    measurement: &Measurement,
    comparison: &Comparison,
    style: Style,
    out: &mut impl io::Write,
) -> io::Result<()> {
    let mut page = Page::new(style);
    page.paragraph(Paint::Strong, &headline(measurement, comparison), 0);
    page.gap();
    page.paragraph(Paint::Faint, &what_was_done(measurement), 0);
    if comparison.arms.iter().any(|arm| arm.response.is_some()) {
        page.table(&times(comparison));
        page.savings(comparison);
        page.plot(comparison);
        page.table(&phases(comparison));
    }
    page.table(&connections(comparison));
    page.stages(measurement);
    page.targets(measurement);
    page.timeline(measurement);
    page.validity(comparison);
    page.write(style, out)
}

impl Page {
    fn savings(&mut self, comparison: &Comparison) {
        let Some(control) = comparison.control().filter(|_| !comparison.differences.is_empty()) else {
            return;
        };
        self.table(&savings(control, comparison));
        for reason in reasons(comparison) {
            self.paragraph(Paint::Faint, &reason, 2);
        }
        if !comparison.latencies_comparable {
            let text = "In a closed loop every arm runs at a load of its own: response times are not comparable \
                        between arms.";
            self.paragraph(Paint::Faint, text, 2);
        }
    }

    fn plot(&mut self, comparison: &Comparison) {
        let arms: Vec<_> =
            comparison.arms.iter().map(|arm| (arm.name.as_str(), &arm.response_histogram)).collect();
        self.gap();
        self.paragraph(Paint::Strong, "Response times (logarithmic axis, each arm to its own height)", 2);
        for line in plot::histograms(&arms, self.width) {
            self.line(Paint::Plain, line);
        }
    }

    /// One slot, interval by interval; the slots of a comparison are too short for one.
    fn timeline(&mut self, measurement: &Measurement) {
        let [Slot { timeline: Some(line), .. }] = measurement.slots.as_slice() else { return };
        self.gap();
        let title = format!("Over time, {} each", time(line.interval));
        self.paragraph(Paint::Strong, &title, 2);
        for line in timeline::lines(line, self.width) {
            self.line(Paint::Plain, line);
        }
    }

    fn stages(&mut self, measurement: &Measurement) {
        let lines = stages::lines(measurement);
        if lines.is_empty() {
            return;
        }
        self.gap();
        self.paragraph(Paint::Strong, "Stage by stage", 2);
        for line in lines {
            self.line(Paint::Plain, line);
        }
    }

    fn targets(&mut self, measurement: &Measurement) {
        let lines = targets::lines(measurement);
        if lines.is_empty() {
            return;
        }
        self.gap();
        self.paragraph(Paint::Strong, "Target by target", 2);
        for line in lines {
            self.paragraph(Paint::Plain, &line, 4);
        }
    }

    fn validity(&mut self, comparison: &Comparison) {
        let validity = &comparison.validity;
        self.gap();
        let (word, paint) =
            if validity.ok { ("✓ Valid", Paint::Good) } else { ("✗ Invalid", Paint::Bad) };
        self.paragraph(paint, &format!("{word}: {}.", facts(comparison)), 2);
        for text in validity.texts(Severity::Invalid) {
            self.paragraph(Paint::Bad, &format!("✗ {text}."), 2);
        }
        for text in validity.texts(Severity::Note) {
            self.paragraph(Paint::Plain, &format!("• {text}."), 2);
        }
    }
}

/// One line on what was done.
pub(super) fn what_was_done(measurement: &Measurement) -> String {
    let (plan, target) = (&measurement.plan, &measurement.target);
    let mut parts = vec![
        targets::asked(plan),
        load(measurement),
        how_long(measurement),
        format!(
            "{} on {}",
            several(plan.connections as u64, "connection"),
            several(plan.threads as u64, "thread")
        ),
        format!("seed {}", plan.seed),
    ];
    parts.extend(target.tls_version.clone());
    parts.extend(target.server.as_ref().map(|server| format!("server {server}")));
    parts.push(format!("at {}", measurement.started));
    parts.join(" · ")
}

fn how_long(measurement: &Measurement) -> String {
    let Plan { rounds, slot, arms, .. } = &measurement.plan;
    match (arms.as_slice(), measurement.slots.as_slice()) {
        ([arm], [slot]) => format!("arm `{}` for {}", arm.name, time(slot.duration)),
        _ => format!("{} × {} per arm in random order", several(u64::from(*rounds), "round"), time(*slot)),
    }
}

pub(super) fn several(n: u64, what: &str) -> String {
    format!("{} {what}{}", count(n), if n == 1 { "" } else { "s" })
}

/// The load and how it was chosen.
pub(super) fn load(measurement: &Measurement) -> String {
    let Plan { model: Model::Open { rate, arrivals }, .. } = &measurement.plan else {
        let pause = measurement.plan.think.map_or(String::new(), |think| format!(", thinking for {think}"));
        return format!("closed loop{pause}");
    };
    let arrivals = match arrivals {
        Arrivals::Poisson => "Poisson",
        Arrivals::Constant => "constant",
    };
    let capacities = &measurement.offered.capacity;
    let smallest = capacities.iter().min_by(|a, b| a.requests_per_s.total_cmp(&b.requests_per_s));
    let chosen = match smallest {
        _ if measurement.offered.capped_by_ports => ", as much as local ports allow".into(),
        _ if measurement.offered.capped_by_generator => {
            ", as much as leaves the generator time to spare".into()
        }
        Some(smallest) => {
            format!(", half of what `{}` can do ({}/s)", smallest.arm, three_digits(smallest.requests_per_s))
        }
        None => String::new(),
    };
    let stages = measurement.plan.stages.len() as u64;
    if stages > 0 {
        let stages = several(stages, "stage");
        return format!("open loop, {arrivals}, {stages}, {} requests/s on average", three_digits(*rate));
    }
    format!("open loop, {arrivals}, {} requests/s{chosen}", three_digits(*rate))
}

/// What the rules of validity looked at, at its worst over the arms.
pub(super) fn facts(comparison: &Comparison) -> String {
    let facts = &comparison.validity.facts;
    let worst = |values: Vec<Option<f64>>| values.into_iter().flatten().max_by(f64::total_cmp);
    let mut parts = vec![several(comparison.complete_rounds as u64, "complete round")];
    if let Some(late) = facts.iter().filter_map(|arm| arm.lag_p99).max() {
        parts.push(format!("generator late by {} at p99", time(late)));
    }
    if let Some(busy) = worst(facts.iter().map(|arm| arm.busy).collect()) {
        parts.push(format!("sending threads {} busy", percent(busy)));
    }
    if let Some(waited) = worst(facts.iter().map(|arm| arm.run_queue).collect()) {
        parts.push(format!("{} of the time without a processor", percent(waited)));
    }
    let time_wait = facts.iter().map(|arm| arm.time_wait).max().unwrap_or(0);
    parts.push(format!("{} in TIME_WAIT", several(time_wait, "socket")));
    let impure: usize = comparison.arms.iter().map(|arm| arm.slots.impure).sum();
    parts.push(format!("{} impure", several(impure as u64, "slot")));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::compare::{self, samples};
    use crate::histogram::Histogram;
    use crate::measurement::{Capacity, Slot};
    use crate::phase::Phase;
    use crate::report::wrap::length;

    /// Three arms over TLS, with all that a real run has.
    fn three_arms() -> Measurement {
        let run = samples::run(40, 500).arm("on", 21.8).arm("off-resumed", 61.9).arm("off-full", 63.0);
        let mut measurement = run.measurement();
        measurement.target.tls_version = Some("TLSv1.3".into());
        measurement.target.server = Some("nginx/1.26.2".into());
        for (arm, requests_per_s) in [("on", 31_200.0), ("off-resumed", 5_100.0), ("off-full", 2_050.0)] {
            measurement.offered.capacity.push(Capacity { arm: arm.into(), requests_per_s });
        }
        measurement.slots.iter_mut().for_each(lifelike);
        measurement
    }

    /// A bell over the logarithm of the time with a longer right side, somewhere else in every round; handshakes
    /// where connections are not kept.
    fn lifelike(slot: &mut Slot) {
        let (median_ms, wobble) = match slot.arm.as_str() {
            "on" => (21.8, 7),
            "off-resumed" => (42.1, 11),
            _ => (63.0, 13),
        };
        let round = 1.0 + f64::from(slot.round * wobble % 9) * 0.004;
        slot.response = Histogram::new();
        for nth in 0..slot.scheduled {
            let rank = (nth as f64 + 0.5) / slot.scheduled as f64;
            let z = (rank / (1.0 - rank)).ln() / 1.7;
            let spread = if z > 0.0 { 0.25 } else { 0.12 };
            slot.response.record(Duration::from_secs_f64(median_ms / 1000.0 * round * (z * spread).exp()));
        }
        slot.service = slot.response.clone();
        let total = slot.response.mean().unwrap_or_default().as_nanos() as u64 * slot.scheduled;
        slot.phases.wait_ns = total - slot.phases.lag_ns;
        if slot.arm == "on" {
            return;
        }
        let tls_us = if slot.arm == "off-full" { 21_700 } else { 1_100 };
        for (phase, us) in [(Phase::Connect, 19_200), (Phase::Tls, tls_us)] {
            *slot.phases.sum_mut(phase) = us * 1_000 * slot.scheduled;
            slot.phases.wait_ns -= us * 1_000 * slot.scheduled;
        }
        slot.client.cpu_ns = if slot.arm == "off-full" { 255_000_000 } else { 155_000_000 };
        slot.connections.handshakes_full = if slot.arm == "off-full" { 600 } else { 1 };
        slot.connections.handshakes_resumed = 600 - slot.connections.handshakes_full;
        slot.connections.closed.insert("keep_alive_off".into(), 600);
    }

    fn two_arms() -> Measurement {
        let mut measurement = samples::run(20, 500).arm("on", 1.0).arm("off", 4.0).measurement();
        measurement.plan.target.url = "http://example.test/".into();
        measurement
    }

    fn text(measurement: &Measurement, style: Style) -> String {
        written(measurement, &compare::arms(measurement), style)
    }

    fn written(measurement: &Measurement, comparison: &Comparison, style: Style) -> String {
        let mut out = Vec::new();
        write(measurement, comparison, style, &mut out).expect("memory takes everything");
        String::from_utf8(out).expect("the report is text")
    }

    fn plain(measurement: &Measurement) -> String {
        text(measurement, Style { colour: false, width: 80 })
    }

    fn one_line(text: &str) -> String {
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// No line is longer than asked, and none ends in blanks.
    #[track_caller]
    fn fits(measurement: &Measurement) {
        let comparison = compare::arms(measurement);
        for width in [40, 60, 80, 100] {
            for line in written(measurement, &comparison, Style { colour: false, width }).lines() {
                assert!(length(line) <= usize::from(width), "{width}: {} {line}", length(line));
                assert_eq!(line.trim_end(), line);
            }
        }
    }

    /// A whole report, to be read: `terminal/three_arms.txt`. When it is to change, the failure shows the new one.
    #[test]
    fn the_report_of_three_arms_reads_as_in_the_file() {
        let text = plain(&three_arms());
        assert!(text == include_str!("terminal/three_arms.txt"), "{text}");
    }

    #[test]
    fn two_and_three_arms_fit_every_width() {
        fits(&two_arms());
        fits(&three_arms());
    }

    #[test]
    fn extreme_values_fit_too() {
        let mut measurement = three_arms();
        measurement.target.server = Some("x".repeat(300));
        measurement.plan.target.url = format!("https://{}/", "long.".repeat(60));
        measurement.notes.push("y".repeat(200));
        for (nth, slot) in measurement.slots.iter_mut().enumerate() {
            slot.response.record(Duration::from_nanos(3));
            slot.response.record(Duration::from_secs(5000));
            slot.scheduled = u64::MAX / 1_000;
            slot.connections.reused = u64::MAX / 1_000;
            slot.client.cpu_ns = u64::MAX / 1_000;
            slot.client.wall_ns = 1;
            slot.phases.wait_ns = u64::MAX / 10_000;
            for kind in 0..12 {
                slot.errors.insert(format!("a_rather_long_kind_of_error_{kind}_{}", nth % 3), 1_000_000_000);
                slot.connections.closed.insert(format!("reason_{kind}"), 1_000_000_000);
            }
        }
        fits(&measurement);
    }

    #[test]
    fn many_arms_stand_in_tables_one_below_the_other() {
        let mut run = samples::run(6, 100);
        for nth in 0..7 {
            run = run.arm(&format!("an arm with a rather long name {nth}"), 1.0 + f64::from(nth));
        }
        fits(&run.measurement());
    }

    #[test]
    fn colours_change_no_character_of_the_text() {
        let coloured = text(&three_arms(), Style { colour: true, width: 80 });
        let without: String = coloured
            .split('\x1b')
            .enumerate()
            .map(
                |(nth, part)| if nth == 0 { part } else { part.split_once('m').map_or("", |(_, rest)| rest) },
            )
            .collect();
        assert!(coloured.contains("\x1b[32m✓"));
        assert_eq!(without, plain(&three_arms()));
    }

    #[test]
    fn a_closed_loop_shows_no_saved_response_time() {
        let mut measurement = two_arms();
        measurement.plan.model = Model::Closed;
        let text = plain(&measurement);
        assert!(
            text.contains("closed loop") && one_line(&text).contains("are not comparable between arms"),
            "{text}"
        );
        let savings = text.split("Saved by `on`").nth(1).and_then(|rest| rest.split("Response times").next());
        assert!(!savings.expect("there is a table of savings").contains("p50"), "{text}");
    }

    #[test]
    fn an_invalid_measurement_shows_why_and_no_check_mark() {
        let mut measurement = two_arms();
        measurement.slots.iter_mut().for_each(|slot| slot.client.cpu_ns = slot.client.wall_ns);
        let text = plain(&measurement);
        assert!(text.contains("✗ the sending threads were 100 % busy") && !text.contains('✓'), "{text}");
        fits(&measurement);
    }

    #[test]
    fn a_run_without_a_slot_is_still_a_report() {
        let mut measurement = three_arms();
        measurement.slots.clear();
        measurement.interrupted = true;
        fits(&measurement);
        assert!(!plain(&measurement).contains("Response time"));
    }

    #[test]
    fn errors_stand_by_their_kind_and_only_where_there_were_any() {
        let mut measurement = two_arms();
        let fail = |slot: &mut Slot| slot.errors.insert("timeout".into(), 1_234);
        assert_eq!(fail(&mut measurement.slots[1]), None);
        let text = plain(&measurement);
        let line = text.lines().find(|line| line.contains("error: timeout")).expect("there is a row for it");
        assert_eq!(line.split_whitespace().collect::<Vec<_>>(), ["error:", "timeout", "–", "1,234"]);
    }
}
