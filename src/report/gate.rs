//! A gate's verdict in the forms that people and CI services read. The values were settled before.

use crate::gate::metric::Metric;
use crate::gate::result::{Gate, Judged, Method};
use crate::report::units;

pub mod html;
pub mod junit;
pub mod markdown;
pub mod terminal;

#[cfg(test)]
mod tests;

/// A metric's value: a time, a share, a number. Of a ratio of arms it is a number without a unit.
fn value(one: &Judged, value: Option<f64>) -> String {
    let Some(value) = value else { return "–".into() };
    if one.metric.contains('/') {
        return format!("{value:.3}");
    }
    let metric = one.metric.rsplit_once(':').map_or(one.metric.as_str(), |(_, metric)| metric);
    match metric.parse::<Metric>() {
        Ok(Metric::Errors | Metric::Reuse) => units::percent(value),
        Ok(Metric::Rps) => units::three_digits(value),
        Ok(Metric::Connections) => units::three_digits(value),
        _ => units::nanoseconds(value),
    }
}

/// The change for the worse with its bounds: `+3.1 % (+2.4 to +3.9)`.
fn change(one: &Judged) -> String {
    let signed = |fraction: f64| {
        let text = one.amount(fraction);
        let text = text.replace('-', "−");
        if fraction > 0.0 { format!("+{text}") } else { text }
    };
    match (one.change, one.lower.zip(one.upper)) {
        (None, _) => "–".into(),
        (Some(change), None) => signed(change),
        (Some(change), Some((lower, upper))) => {
            format!("{} ({} to {})", signed(change), signed(lower), signed(upper))
        }
    }
}

/// How it was measured, in a line.
fn how(gate: &Gate) -> String {
    match &gate.method {
        Method::Paired { rounds, planned, looks, restarted } => {
            let looks: Vec<String> = looks.iter().map(u32::to_string).collect();
            let anew = if *restarted { ", servers started anew on the way" } else { "" };
            format!("{rounds} of {planned} rounds, looks after {}{anew}", looks.join(", "))
        }
        Method::Baseline { runs } => format!("one run against {runs} saved runs"),
    }
}

/// Both targets, or the one.
fn targets(gate: &Gate) -> String {
    let plan = &gate.measurement.plan;
    let mut urls: Vec<&str> = plan.arms.iter().map(|arm| plan.target_of(arm).url.as_str()).collect();
    urls.dedup();
    urls.join(" → ")
}
