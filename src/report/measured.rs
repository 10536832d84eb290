//! What was measured as one HTML file: the answer, where the times lie, how sure the difference is, where the time went,
//! how it went over time, and how connections were used.

use maud::{Markup, html};

use super::headline;
use super::html::{Page, section, unbroken};
use super::tables;
use super::terminal::{facts, what_was_done};
use crate::compare::{Comparison, Severity};
use crate::measurement::Measurement;

mod bars;
pub(super) mod distribution;
mod rounds;
mod timeline;

/// The whole file.
pub fn page(measurement: &Measurement, comparison: &Comparison) -> String {
    Page {
        title: format!("{} {}", measurement.plan.target.method, measurement.plan.target.url),
        answer: headline(measurement, comparison),
        about: what_was_done(measurement),
        body: sections(measurement, comparison),
        made_by: format!(
            "{} {} · plan {} · {}",
            measurement.tool.name, measurement.tool.version, measurement.plan_id, measurement.started
        ),
    }
    .into_text()
}

/// All that stands below the answer.
pub(super) fn sections(measurement: &Measurement, comparison: &Comparison) -> Markup {
    let answered = comparison.arms.iter().any(|arm| arm.response.is_some());
    html! {
        (section("Can it be trusted?", &validity(comparison)))
        @if answered {
            (section("Response times", &html! {
                @if let Some(figure) = distribution::histograms(&comparison.arms) { (figure) }
                @if let Some(figure) = distribution::percentiles(&comparison.arms) { (figure) }
                (tables::times(comparison).markup())
            }))
            @if !comparison.differences.is_empty() {
                (section("How sure is the difference?", &differences(comparison)))
            }
            (section("Where the time goes", &html! {
                @if let Some(figure) = bars::phases(comparison) { (figure) }
                (tables::phases(comparison).markup())
            }))
            @if let Some(figures) = timeline::figures(measurement) { (section("Over time", &figures)) }
        }
        (section("Connections", &html! {
            @if let Some(figure) = bars::reuse(comparison) { (figure) }
            (tables::connections(comparison).markup())
        }))
        (section("How it was measured", &surroundings(measurement)))
    }
}

fn validity(comparison: &Comparison) -> Markup {
    let validity = &comparison.validity;
    let (class, sign, word) =
        if validity.ok { ("holds", "✓", "Valid") } else { ("fails", "✗", "Invalid") };
    html! {
        p { span class={ "sign " (class) } { (sign) } (word) ": " (unbroken(&facts(comparison))) "." }
        ul {
            @for text in validity.texts(Severity::Invalid) { li.fails { (unbroken(text)) "." } }
            @for text in validity.texts(Severity::Note) { li { (unbroken(text)) "." } }
        }
    }
}

fn differences(comparison: &Comparison) -> Markup {
    html! {
        @for figure in rounds::figures(comparison) { (figure) }
        @if let Some(control) = comparison.control() {
            (tables::savings(control, comparison).markup())
        }
        @for reason in tables::reasons(comparison) { p.about { (reason) } }
        @if !comparison.latencies_comparable {
            p.about {
                "In a closed loop every arm runs at a load of its own: response times are not comparable between arms."
            }
        }
    }
}

fn surroundings(measurement: &Measurement) -> Markup {
    let (machine, target) = (&measurement.machine, &measurement.target);
    let facts = [
        ("Command", Some(measurement.command.join(" "))),
        ("Address", Some(target.address.clone())),
        ("Server", target.server.clone()),
        (
            "TLS",
            target.tls_version.clone().map(|version| {
                target
                    .tls_cipher_suite
                    .as_ref()
                    .map_or(version.clone(), |suite| format!("{version}, {suite}"))
            }),
        ),
        ("Machine", Some(machine.os.clone())),
        ("Kernel", machine.kernel.clone()),
        ("Processor", machine.cpu_model.clone()),
        ("Processors", Some(machine.cpus.to_string())),
        ("Clock", machine.clocksource.clone()),
        ("CI service", machine.ci.clone()),
    ];
    html! {
        dl {
            @for (name, value) in facts {
                @if let Some(value) = value.filter(|value| !value.is_empty()) { dt { (name) } dd { (value) } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{arms, samples};
    use crate::plan::Model;

    fn of(measurement: &Measurement) -> String {
        page(measurement, &arms(measurement))
    }

    fn measured() -> Measurement {
        samples::run(8, 500).arm("on", 1.0).arm("off-resumed", 3.0).arm("off-full", 4.0).measurement()
    }

    #[test]
    fn it_opens_with_the_answer_and_has_every_picture_in_both_widths() {
        let page = of(&measured());
        assert!(page.contains("<h1>Keep-alive saves 3.01\u{a0}ms of 4.02\u{a0}ms at the median"));
        assert_eq!(page.matches("class=\"picture wide\"").count(), 7);
        assert_eq!(page.matches("class=\"picture narrow\"").count(), 7);
    }

    #[test]
    fn nothing_of_a_run_without_a_slot_is_drawn_and_the_page_still_stands() {
        let mut measurement = measured();
        measurement.slots.clear();
        let page = of(&measurement);
        assert!(page.contains("Nothing was measured") && page.ends_with("</html>"));
        assert!(!page.contains("role=\"img\""));
    }

    #[test]
    fn in_a_closed_loop_the_rounds_show_requests_per_second() {
        let mut measurement = measured();
        measurement.plan.model = Model::Closed;
        let page = of(&measurement);
        assert!(page.contains("the requests per second of on and off-resumed"), "{page}");
        assert!(page.contains("not comparable between arms"));
    }

    #[test]
    fn what_comes_from_outside_is_escaped_in_text_and_in_pictures() {
        let evil = "<script>alert(1)</script>";
        let mut measurement = measured();
        measurement.plan.target.url = evil.into();
        measurement.target.server = Some(evil.into());
        measurement.plan.arms[1].name = evil.into();
        measurement
            .slots
            .iter_mut()
            .filter(|slot| slot.arm == "off-resumed")
            .for_each(|slot| slot.arm = evil.into());
        assert!(!of(&measurement).contains("<script"));
    }

    /// Numbers at their ends must neither hang nor panic.
    #[test]
    fn extreme_values_are_drawn_too() {
        let mut measurement = measured();
        for slot in &mut measurement.slots {
            slot.response.record(std::time::Duration::from_nanos(3));
            slot.response.record(std::time::Duration::from_secs(5000));
            slot.phases.wait_ns = u64::MAX / 10_000;
            slot.start_unix_ns = u64::MAX;
            slot.connections.opened = u64::MAX / 1_000;
        }
        assert!(of(&measurement).ends_with("</html>"));
    }
}
