//! The first sentence: what keep-alive saves, or why that cannot be said.

use super::super::units::{three_digits, time};
use crate::compare::{ArmSummary, Comparison, Difference, Metric, Severity};
use crate::measurement::Measurement;

pub(super) fn sentences(measurement: &Measurement, comparison: &Comparison) -> String {
    let answered: u64 = comparison.arms.iter().map(|arm| arm.completed).sum();
    if answered == 0 {
        return nothing(measurement, comparison);
    }
    let mut text = String::new();
    if let Some(first) =
        comparison.validity.reasons.iter().find(|reason| reason.severity == Severity::Invalid)
    {
        text += &format!("Not to be trusted: {}. ", first.text);
    }
    // The dearest first: a full handshake before a resumed one.
    let mut others: Vec<&ArmSummary> = comparison.arms.iter().skip(1).collect();
    others.reverse();
    let metric = if comparison.latencies_comparable { Metric::P50 } else { Metric::RequestsPerS };
    let differences = others.iter().filter_map(|arm| comparison.difference(&arm.name, metric));
    let clauses: Vec<String> =
        differences.enumerate().filter_map(|(nth, one)| clause(one, nth == 0)).collect();
    text + &clauses.join("; ") + "."
}

fn nothing(measurement: &Measurement, comparison: &Comparison) -> String {
    if measurement.slots.is_empty() {
        return "Nothing was measured: the run ended before its first round.".into();
    }
    let commonest = comparison.arms.iter().flat_map(|arm| &arm.errors).max_by_key(|(_, n)| **n);
    match commonest {
        Some((kind, n)) => format!("No request was answered. The commonest error was {kind} ({n} times)."),
        None => "No request was answered before the end.".into(),
    }
}

fn clause(difference: &Difference, first: bool) -> Option<String> {
    let against = match difference.arm.as_str() {
        "off-full" => "against a new connection with a full TLS handshake for every request",
        "off-resumed" if first => "against a new connection with a resumed TLS handshake for every request",
        "off-resumed" => "against a resumed one",
        _ => "against a new connection for every request",
    };
    match difference.metric {
        Metric::RequestsPerS => throughput(difference, against, first),
        _ => median(difference, against, first),
    }
}

fn median(difference: &Difference, against: &str, first: bool) -> Option<String> {
    let (saved, ratio) = (difference.saved_ns()?, difference.ratio?);
    let subject = if first { "Keep-alive " } else { "" };
    let at = if first { " at the median" } else { "" };
    if difference.is_clear() == Some(false) {
        let (low, high) = difference.saved_interval_ns()?;
        let verb = if first { "makes no measurable difference" } else { "no measurable difference" };
        let range = format!("95 % interval {} to {}", time(low), time(high));
        return Some(format!("{subject}{verb}{at} ({range}) {against}"));
    }
    let verb = match (first, saved >= 0.0) {
        (true, true) => "saves ",
        (true, false) => "costs ",
        (false, true) => "",
        (false, false) => "it costs ",
    };
    let share = 100.0 * (1.0 - ratio).abs();
    let interval = match &difference.interval {
        Ok(interval) => {
            let bounds = [1.0 - interval.upper, 1.0 - interval.lower].map(|bound| (100.0 * bound).abs());
            let (low, high) = (bounds[0].min(bounds[1]), bounds[0].max(bounds[1]));
            format!(", 95 % interval {}", range(low, high))
        }
        Err(_) => ", no interval".into(),
    };
    Some(format!(
        "{subject}{verb}{} of {}{at} ({} %{interval}) {against}",
        time(saved.abs()),
        time(difference.base),
        whole(share)
    ))
}

/// Whole percents, or one digit more where whole ones would be the same.
fn range(low: f64, high: f64) -> String {
    let (a, b) = (whole(low), whole(high));
    if a == b { format!("{low:.1}-{high:.1}") } else { format!("{a}-{b}") }
}

fn whole(percent: f64) -> String {
    format!("{percent:.0}")
}

fn throughput(difference: &Difference, against: &str, first: bool) -> Option<String> {
    let ratio = difference.ratio?;
    let subject = if first { "With keep-alive the same connections carry " } else { "" };
    let interval = match &difference.interval {
        Ok(interval) => {
            format!("95 % interval {}-{}", three_digits(interval.lower), three_digits(interval.upper))
        }
        Err(_) => "no interval".into(),
    };
    let what = if first { " the requests per second" } else { "" };
    Some(format!("{subject}{} times{what} ({interval}) {against}", three_digits(ratio)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{arms, samples};
    use crate::plan::Model;

    fn says(measurement: &Measurement) -> String {
        sentences(measurement, &arms(measurement))
    }

    #[test]
    fn the_saving_its_share_and_its_interval_come_first() {
        let text = says(&samples::run(20, 500).arm("on", 1.0).arm("off", 4.0).measurement());
        assert!(text.starts_with("Keep-alive saves 3.0"), "{text}");
        assert!(text.contains(" at the median (75 %, 95 % interval 7"), "{text}");
        assert!(text.ends_with("against a new connection for every request."), "{text}");
    }

    #[test]
    fn over_tls_the_full_handshake_is_told_before_the_resumed_one() {
        let run = samples::run(20, 500).arm("on", 1.0).arm("off-resumed", 2.0).arm("off-full", 4.0);
        let text = says(&run.measurement());
        let (full, resumed) = (text.find("full TLS").unwrap(), text.find("a resumed one").unwrap());
        assert!(full < resumed, "{text}");
    }

    #[test]
    fn no_difference_and_a_loss_are_said_as_they_are() {
        let text = says(&samples::run(20, 500).arm("on", 1.0).arm("off", 1.0).measurement());
        assert!(text.starts_with("Keep-alive makes no measurable difference at the median"), "{text}");
        let text = says(&samples::run(20, 500).arm("on", 2.0).arm("off", 1.0).measurement());
        assert!(text.starts_with("Keep-alive costs 1.0"), "{text}");
    }

    #[test]
    fn too_few_rounds_give_the_saving_without_an_interval() {
        let text = says(&samples::run(3, 500).arm("on", 1.0).arm("off", 4.0).measurement());
        assert!(text.contains("(75 %, no interval)"), "{text}");
    }

    #[test]
    fn a_closed_loop_tells_of_requests_per_second() {
        let mut measurement = samples::run(20, 500).arm("on", 1.0).arm("off", 4.0).measurement();
        measurement.plan.model = Model::Closed;
        for slot in measurement.slots.iter_mut().filter(|slot| slot.arm == "off") {
            slot.completed /= 5;
        }
        let text = says(&measurement);
        assert!(text.starts_with("With keep-alive the same connections carry 5.00 times"), "{text}");
    }

    #[test]
    fn what_is_invalid_says_so_first_and_what_is_empty_says_why() {
        let mut measurement = samples::run(8, 500).arm("on", 1.0).arm("off", 4.0).measurement();
        for slot in &mut measurement.slots {
            slot.client.cpu_ns = slot.client.wall_ns;
        }
        assert!(says(&measurement).starts_with("Not to be trusted: arm on"), "{}", says(&measurement));
        for slot in &mut measurement.slots {
            slot.completed = 0;
            slot.errors.insert("connect_refused".into(), slot.scheduled);
        }
        assert!(says(&measurement).contains("connect_refused"));
    }
}
