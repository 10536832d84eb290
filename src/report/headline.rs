//! [`headline`]: the answer in one sentence, before any table.

use super::units::{
    count, factor_range, nanoseconds, percent, percent_beside, percent_range, three_digits, time,
};
use crate::compare::{ArmSummary, Comparison, Difference, Direction, Metric, Saving, Severity};
use crate::estimate::Interval;
use crate::measurement::{Measurement, Searched};
use crate::plan::{Arm, Model};

/// What keep-alive saves, or why that cannot be said. A measurement that cannot be trusted says so first.
pub fn headline(measurement: &Measurement, comparison: &Comparison) -> String {
    let mut text = String::new();
    if let Some(reason) = comparison.validity.texts(Severity::Invalid).next() {
        text.push_str(&format!("These numbers are not to be trusted: {reason}. "));
    }
    if measurement.interrupted {
        let (complete, planned) = (comparison.complete_rounds, measurement.plan.rounds);
        if measurement.plan.arms.len() > 1 {
            text.push_str(&format!("Interrupted after {complete} of {planned} complete rounds. "));
        } else {
            text.push_str("Interrupted before its end. ");
        }
    }
    text.push_str(&answer(measurement, comparison));
    if let Some(it) = &comparison.delayed_ack {
        text.push_str(&format!(
            " {} of the responses on kept connections wait {:.0} ms for a delayed acknowledgement: set TCP_NODELAY in the \
             server.",
            percent(it.share),
            it.delay.as_secs_f64() * 1e3
        ));
    }
    text
}

fn answer(measurement: &Measurement, comparison: &Comparison) -> String {
    let bracket = measurement
        .search
        .as_ref()
        .map_or_else(String::new, |searched| bracket(searched, measurement.interrupted));
    bracket + &ran(measurement, comparison)
}

/// What the run told, which a search may have preceded.
fn ran(measurement: &Measurement, comparison: &Comparison) -> String {
    if measurement.slots.is_empty() {
        return "Nothing was measured.".into();
    }
    if comparison.arms.iter().all(|arm| arm.completed == 0) {
        return nothing_answered(&comparison.arms);
    }
    let words = Words::of(measurement);
    if words.others.is_empty() {
        return comparison.control().map_or_else(String::new, |arm| alone(measurement, arm));
    }
    if comparison.latencies_comparable { words.times(comparison) } else { words.rates(comparison) }
}

/// What one arm did, with none to set it against.
fn alone(measurement: &Measurement, arm: &ArmSummary) -> String {
    let load = match measurement.plan.model {
        Model::Closed => {
            let pause =
                measurement.plan.think.map_or(String::new(), |think| format!(", thinking for {think}"));
            format!("{} in a closed loop{pause}", connections(measurement.plan.connections))
        }
        Model::Open { rate, .. } => {
            let average = if measurement.plan.stages.is_empty() { "" } else { " on average" };
            format!("{} requests/s offered{average}", three_digits(rate))
        }
    };
    let of_all = |n: u64, what: &str| {
        let share = n as f64 / arm.requests.max(1) as f64;
        format!("{} of {} requests {what} ({})", count(n), count(arm.requests), percent(share))
    };
    let failures = match (arm.failed(), arm.censored) {
        (0, 0) => "every request had a good answer".into(),
        (failed, 0) => of_all(failed, "failed"),
        (0, censored) => of_all(censored, "were not answered by the end"),
        (failed, censored) => {
            format!("{}, and {} were not answered by the end", of_all(failed, "failed"), count(censored))
        }
    };
    let times = arm.response.map_or_else(String::new, |points| {
        let within = |least, q| if points.is_at_least(q) { time(least) + " or more" } else { time(least) };
        let parts = [
            ("half of them within", points.p50, 0.5),
            ("99 % within", points.p99, 0.99),
            ("the slowest in", points.max, 1.0),
        ];
        let told = parts.into_iter().filter(|(_, _, q)| points.reaches(*q));
        told.map(|(what, least, q)| format!(", {what} {}", within(least, q))).collect()
    });
    let rate = match arm.requests_per_s {
        0.0 => "No answer within the window".to_owned(),
        rate => format!("{} answers/s", three_digits(rate)),
    };
    format!("{rate} with {load}{times}; {failures}.")
}

/// Between which rates the highest lies that holds a goal.
/// `stopped`: somebody ended the search, or the run at the rate that it found, so that this passed perhaps once.
fn bracket(searched: &Searched, stopped: bool) -> String {
    let goal = &searched.goal;
    let rate = |rate: f64| format!("{} requests/s", three_digits(rate));
    match (searched.passes_at, &searched.ceiling) {
        (Some(low), high) if stopped => {
            let failed =
                high.as_ref().map_or(String::new(), |high| format!(", and did not at {}", rate(high.rate)));
            format!("{goal} held at {} in the search{failed}; what would confirm it was stopped. ", rate(low))
        }
        (Some(low), high) if searched.unmet.is_some() => {
            let above =
                high.as_ref().map_or(String::new(), |high| format!("; it fails at {}", rate(high.rate)));
            format!(
                "{goal} held at {} for as long as a look lasts, and not in the run that followed ({}){above}. ",
                rate(low),
                searched.unmet.as_deref().unwrap_or_default()
            )
        }
        (Some(low), Some(high)) if high.generator => format!(
            "{goal} holds at {} at least; above, at {}, the generator was the limit ({}). ",
            rate(low),
            rate(high.rate),
            high.why
        ),
        (Some(low), Some(high)) => {
            format!("{goal}: passes at {}, fails at {} ({}). ", rate(low), rate(high.rate), high.why)
        }
        (Some(low), None) => format!("{goal} holds at {} at least; the search went no further. ", rate(low)),
        (None, Some(high)) => {
            format!("{goal} held at no rate that was tried, down to {} ({}). ", rate(high.rate), high.why)
        }
        (None, None) => format!("{goal}: the search was stopped before it had an answer. "),
    }
}

fn connections(n: usize) -> String {
    if n == 1 { "one connection".into() } else { format!("{} connections", count(n as u64)) }
}

/// Every request failed: how, and what to do about it.
fn nothing_answered(arms: &[ArmSummary]) -> String {
    let requests: u64 = arms.iter().map(|arm| arm.requests).sum();
    let mut kinds: Vec<(&str, u64)> = Vec::new();
    for (kind, n) in arms.iter().flat_map(|arm| &arm.errors) {
        match kinds.iter_mut().find(|(known, _)| known == kind) {
            Some((_, sum)) => *sum += n,
            None => kinds.push((kind, *n)),
        }
    }
    let Some((kind, n)) = kinds.into_iter().max_by_key(|(_, n)| *n) else {
        if arms.iter().any(|arm| arm.requests_per_s > 0.0) {
            return format!(
                "None of the {} requests that were due was answered by the end; what was answered meanwhile had been due \
                 before: lower --rate.",
                count(requests)
            );
        }
        return format!("None of {} requests was answered: is the target overloaded?", count(requests));
    };
    format!(
        "None of {} requests was answered; {} failed with `{kind}`: {}.",
        count(requests),
        count(n),
        cure(kind)
    )
}

fn cure(kind: &str) -> &'static str {
    match kind {
        "dns" => "correct the host name",
        "connect_refused" => "start the server, or correct host and port",
        "connect" | "connect_timeout" => "check the address and what filters the way to it",
        "no_ports" => "lower --rate, or widen net.ipv4.ip_local_port_range",
        "no_files" => "raise `ulimit -n`, or lower --connections",
        "proxy" => "check the proxy, its URL and what it allows",
        "tls" => "check which TLS versions the port speaks, and its certificate",
        "timeout" | "acquire_timeout" => "lower --rate, or raise --max-time",
        "protocol" => "check that the port speaks HTTP/1.1",
        _ => "look into the server's log",
    }
}

/// How this plan's arms are called in a sentence.
struct Words<'a> {
    subject: String,
    connections: usize,
    /// The arms but the control, full handshakes first: they are what most clients without keep-alive do.
    others: Vec<&'a Arm>,
    https: bool,
}

impl<'a> Words<'a> {
    fn of(measurement: &'a Measurement) -> Words<'a> {
        let plan = &measurement.plan;
        let mut others: Vec<&Arm> = plan.arms.iter().skip(1).collect();
        others.sort_by_key(|arm| arm.resume);
        let against_none = plan.arms.first().is_some_and(|control| control.keep_alive)
            && others.iter().all(|arm| !arm.keep_alive);
        let control = plan.arms.first().map(|arm| arm.name.as_str()).unwrap_or_default();
        let subject = if against_none { "Keep-alive".into() } else { format!("Arm `{control}`") };
        let https = plan.target.url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
        Words { subject, connections: plan.connections, others, https }
    }

    /// What an arm does, as something to be set against; shorter when a handshake was named before.
    fn name(&self, arm: &Arm, nth: usize) -> String {
        if self.subject != "Keep-alive" {
            return format!("arm `{}`", arm.name);
        }
        match (self.https, arm.resume, nth) {
            (false, ..) => "a new connection per request".into(),
            (true, true, 0) => "a resumed TLS handshake per request".into(),
            (true, true, _) => "a resumed one".into(),
            (true, false, _) => "a full TLS handshake per request".into(),
        }
    }

    /// An open loop: time saved at the median.
    fn times(&self, comparison: &Comparison) -> String {
        let mut verb = String::new();
        let clauses: Vec<String> = self
            .others
            .iter()
            .enumerate()
            .map(|(nth, arm)| {
                let against = self.name(arm, nth);
                let difference = comparison.difference(&arm.name, Metric::P50);
                let Some((difference, saving)) = difference.and_then(|it| Some((it, it.saving()?))) else {
                    let it = if nth == 0 { "" } else { "it " };
                    return format!("{it}cannot be set against {against}: one of them has no response");
                };
                self.time(nth, difference, saving, &against, &mut verb)
            })
            .collect();
        format!("{} {}.", self.subject, clauses.join("; "))
    }

    /// One arm's clause. A verb that was just said is not said again.
    fn time(&self, nth: usize, it: &Difference, saving: Saving, against: &str, said: &mut String) -> String {
        let direction = it.direction();
        if direction == Direction::Level {
            said.clear();
            let range = saving.share_interval.map(percent_range).unwrap_or_default();
            let it = if nth == 0 { "" } else { "it " };
            return format!(
                "{it}saves nothing measurable at the median against {against} (95 % interval {range}, which \
                 contains 0)"
            );
        }
        let saves = saving.ns >= 0;
        let about = if direction == Direction::Unsure { " about" } else { "" };
        let verb = format!("{}{about} ", if saves { "saves" } else { "costs" });
        let first = *said != verb;
        let opening = match (first, nth) {
            (false, _) => String::new(),
            (true, 0) => verb.clone(),
            (true, _) => format!("it {verb}"),
        };
        *said = verb;
        let of = if saves { "of" } else { "on top of" };
        let at = if first { " at the median" } else { "" };
        let sure = sureness(
            share(saving, saves),
            saving.share_interval.map(|share| facing(share, saves)),
            it,
            first,
        );
        let (ns, base) = (nanoseconds(saving.ns.unsigned_abs() as f64), it.arm_value.unwrap_or_default());
        format!("{opening}{ns} {of} {}{at} ({sure}) against {against}", nanoseconds(base))
    }

    /// A closed loop: requests per second, and the client's processor time.
    fn rates(&self, comparison: &Comparison) -> String {
        let clauses: Vec<String> = self
            .others
            .iter()
            .enumerate()
            .map(|(nth, arm)| match comparison.difference(&arm.name, Metric::RequestsPerS) {
                Some(difference) => rate(nth, difference, &self.name(arm, nth)),
                None => String::new(),
            })
            .collect();
        let with = if self.subject == "Keep-alive" { "keep-alive" } else { "the control" };
        let connections = connections(self.connections);
        let rates = format!("With {with}, {connections} make {}.", clauses.join("; "));
        match self.others.first().and_then(|arm| self.processor(comparison, arm)) {
            Some(processor) => format!("{rates} {processor}"),
            None => rates,
        }
    }

    fn processor(&self, comparison: &Comparison, arm: &Arm) -> Option<String> {
        let difference = comparison.difference(&arm.name, Metric::ClientCpu)?;
        let saving = difference.saving()?;
        if difference.direction() == Direction::Level {
            return Some("Client CPU per request does not differ measurably.".into());
        }
        let saves = saving.ns >= 0;
        let verb = if saves { "saves" } else { "costs" };
        let interval = saving.share_interval.map(|share| facing(share, saves));
        let sure = sureness(share(saving, saves), interval, difference, false);
        let ns = nanoseconds(saving.ns.unsigned_abs() as f64);
        Some(format!("It {verb} {ns} of client CPU per request ({sure}) against {}.", self.name(arm, 0)))
    }
}

fn rate(nth: usize, difference: &Difference, against: &str) -> String {
    let Some(ratio) = difference.ratio else {
        return format!("no number of requests per second that can be set against {against}");
    };
    let what = if nth == 0 { " the requests per second" } else { "" };
    let label = if nth == 0 { "95 % interval " } else { "" };
    let interval = match (difference.interval, &difference.reason) {
        (Some(interval), _) => format!("{label}{}", factor_range(interval)),
        (None, Some(reason)) if nth == 0 => format!("no interval: {reason}"),
        (None, _) => "no interval".into(),
    };
    match difference.direction() {
        Direction::Level => format!(
            "no measurable difference in requests per second against {against} ({interval} times, which contains 1)"
        ),
        _ => format!("{} times{what} ({interval}) against {against}", three_digits(ratio)),
    }
}

/// The share with its interval, or with why there is none; the first time in full.
fn sureness(share: f64, interval: Option<Interval>, difference: &Difference, name_it: bool) -> String {
    let share = percent_beside(share, interval);
    match (interval, &difference.reason) {
        (Some(interval), _) if name_it => format!("{share}, 95 % interval {}", percent_range(interval)),
        (Some(interval), _) => format!("{share}, {}", percent_range(interval)),
        (None, Some(reason)) if name_it => format!("{share}, no interval: {reason}"),
        (None, _) => format!("{share}, no interval"),
    }
}

/// A loss is told as a positive number under the verb "costs".
fn share(saving: Saving, saves: bool) -> f64 {
    if saves { saving.share } else { -saving.share }
}

fn facing(share: Interval, saves: bool) -> Interval {
    if saves { share } else { Interval { lower: -share.upper, upper: -share.lower, ..share } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{self, samples};
    use crate::plan::Model;

    fn said(measurement: &Measurement) -> String {
        headline(measurement, &compare::arms(measurement))
    }

    fn plain(rounds: u32, on_ms: f64, off_ms: f64) -> Measurement {
        let mut measurement = samples::run(rounds, 500).arm("on", on_ms).arm("off", off_ms).measurement();
        measurement.plan.target.url = "http://example.test/".into();
        measurement
    }

    fn tls(on_ms: f64, resumed_ms: f64, full_ms: f64) -> Measurement {
        samples::run(20, 500)
            .arm("on", on_ms)
            .arm("off-resumed", resumed_ms)
            .arm("off-full", full_ms)
            .measurement()
    }

    fn closed(mut measurement: Measurement, times: u64) -> Measurement {
        measurement.plan.model = Model::Closed;
        for slot in measurement.slots.iter_mut().filter(|slot| slot.arm == "on") {
            slot.completed *= times;
        }
        measurement
    }

    #[test]
    fn what_keep_alive_saves_is_said_against_the_full_handshake_first() {
        let text = said(&tls(21.8, 61.9, 63.0));
        assert!(
            text.starts_with(
                "Keep-alive saves 41.4 ms of 63.3 ms at the median (65.4 %, 95 % interval 65.4 %)"
            ),
            "{text}"
        );
        assert!(
            text.contains("%) against a full TLS handshake per request; 40.3 ms of 62.2 ms (64.8 %, 64.8 %)"),
            "{text}"
        );
        assert!(text.ends_with("%) against a resumed one."), "{text}");
    }

    #[test]
    fn a_time_among_those_that_had_no_answer_is_that_or_more() {
        let mut measurement = samples::run(1, 500).arm("on", 1.0).measurement();
        let slot = &mut measurement.slots[0];
        (slot.completed, slot.answered_within) = (480, Some(480));
        slot.errors.insert("timeout".into(), 20);
        let text = said(&measurement);
        let (half, rest) = text.split_once(", 99 % within").expect("a sentence");
        assert!(half.contains("half of them within") && !half.contains("or more"), "{text}");
        assert!(
            rest.matches("or more").count() == 2 && rest.contains("20 of 500 requests failed (4 %)"),
            "{text}"
        );
        measurement.slots[0].answered_within = Some(0);
        assert!(
            said(&measurement).starts_with("No answer within the window with "),
            "{}",
            said(&measurement)
        );
    }

    #[test]
    fn over_plain_http_it_is_against_a_new_connection() {
        let text = said(&plain(20, 1.0, 4.0));
        assert!(
            text.starts_with("Keep-alive saves 3.01 ms of 4.02 ms at the median (75.0 %, 95 % interval "),
            "{text}"
        );
        assert!(text.ends_with("against a new connection per request."), "{text}");
    }

    #[test]
    fn what_cannot_be_measured_is_said_to_be_nothing_measurable() {
        let mut measurement = plain(20, 1.0, 1.0);
        for slot in &mut measurement.slots {
            // as many rounds speak for one as for the other
            let millis = if (slot.round % 2 == 0) == (slot.arm == "on") { 3 } else { 4 };
            slot.response = crate::histogram::Histogram::new();
            (0..500).for_each(|_| slot.response.record(std::time::Duration::from_millis(millis)));
        }
        let text = said(&measurement);
        assert!(
            text.starts_with(
                "Keep-alive saves nothing measurable at the median against a new connection per request"
            ),
            "{text}"
        );
        assert!(text.contains("95 % interval −") && text.contains("contains 0"), "{text}");
    }

    #[test]
    fn where_keep_alive_is_slower_it_costs() {
        let text = said(&plain(20, 4.0, 1.0));
        assert!(
            text.starts_with(
                "Keep-alive costs 3.01 ms on top of 1.00 ms at the median (299.9 %, 95 % interval "
            ),
            "{text}"
        );
        assert!(!text.contains('−'), "{text}");
    }

    #[test]
    fn one_arm_may_be_slower_and_the_other_faster() {
        let text = said(&tls(2.0, 1.0, 4.0));
        assert!(
            text.contains("Keep-alive saves 2.01 ms") && text.contains("; it costs 1.00 ms on top of"),
            "{text}"
        );
    }

    #[test]
    fn without_an_interval_it_is_about_so_much_and_why() {
        let text = said(&plain(3, 1.0, 4.0));
        assert_eq!(
            text,
            "Keep-alive saves about 3.01 ms of 4.01 ms at the median (75 %, no interval: only 3 complete rounds: at \
             least 6 needed) against a new connection per request."
        );
    }

    #[test]
    fn a_closed_loop_is_told_by_requests_per_second_and_processor_time() {
        // The same processor time for four times the answers.
        let text = said(&closed(tls(1.0, 2.0, 3.0), 4));
        assert!(
            text.starts_with("With keep-alive, 16 connections make 4.00 times the requests per second ("),
            "{text}"
        );
        assert!(text.contains("against a full TLS handshake per request; 4.00 times ("), "{text}");
        assert!(text.contains("It saves 150 µs of client CPU per request (75.0 %"), "{text}");
        let level = said(&closed(plain(20, 1.0, 1.0), 1));
        assert!(level.contains("no measurable difference in requests per second"), "{level}");
        assert!(level.ends_with("Client CPU per request does not differ measurably."), "{level}");
    }

    #[test]
    fn an_invalid_measurement_says_so_first() {
        let mut measurement = plain(20, 1.0, 4.0);
        measurement.slots.iter_mut().for_each(|slot| slot.client.cpu_ns = slot.client.wall_ns);
        let text = said(&measurement);
        assert!(
            text.starts_with("These numbers are not to be trusted: the sending threads were 100 % busy"),
            "{text}"
        );
        assert!(text.contains("Keep-alive saves"), "{text}");
    }

    #[test]
    fn an_interrupted_run_says_how_far_it_came() {
        let mut measurement = plain(20, 1.0, 4.0);
        measurement.slots.truncate(15);
        measurement.interrupted = true;
        let text = said(&measurement);
        assert!(text.starts_with("Interrupted after 7 of 20 complete rounds. Keep-alive saves"), "{text}");
        measurement.slots.clear();
        assert!(said(&measurement).ends_with("Nothing was measured."));
    }

    #[test]
    fn when_every_request_failed_the_commonest_error_is_named_with_its_cure() {
        let mut measurement = plain(6, 1.0, 4.0);
        for slot in &mut measurement.slots {
            slot.completed = 0;
            slot.errors = [("connect_refused".to_owned(), 480), ("reset".to_owned(), 20)].into();
        }
        let text = said(&measurement);
        assert!(
            text.ends_with(
                "None of 6,000 requests was answered; 5,760 failed with `connect_refused`: start the server, or \
                 correct host and port."
            ),
            "{text}"
        );
    }

    #[test]
    fn arms_that_differ_otherwise_go_by_their_names() {
        let mut measurement = plain(20, 1.0, 4.0);
        measurement.plan.arms[1].keep_alive = true;
        let text = said(&measurement);
        assert!(text.starts_with("Arm `on` saves") && text.ends_with("against arm `off`."), "{text}");
    }
}
