//! An invalid measurement without its numbers: that it is invalid, why, and how to see them all the same.

use std::io::{self, Write};

use maud::html;

use super::export::escape;
use super::html::{Page, section, unbroken};
use super::measured::{made_by, surroundings};
use super::page::{Page as TextPage, Paint, Style};
use super::targets;
use super::terminal::what_was_done;
use crate::compare::{Comparison, Severity};
use crate::measurement::Measurement;

/// What stands in place of the answer.
pub const HEADLINE: &str =
    "Invalid: what was measured cannot be said to be the target's doing, so no number is shown.";

/// How to see the numbers all the same.
pub const CURE: &str = "--allow-invalid prints them, marked as invalid; `keeplive report --allow-invalid FILE` does so with a saved result";

/// Whether an invalid measurement's numbers stay unsaid. Of one that was interrupted all that there is is shown, marked.
pub fn is_withheld(measurement: &Measurement, comparison: &Comparison, allow_invalid: bool) -> bool {
    !comparison.validity.ok && !measurement.interrupted && !allow_invalid
}

/// For a terminal.
///
/// # Errors
///
/// What `out` says.
pub fn write(
    measurement: &Measurement,
    comparison: &Comparison,
    style: Style,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut page = TextPage::new(style);
    page.paragraph(Paint::Strong, HEADLINE, 0);
    page.gap();
    page.paragraph(Paint::Faint, &what_was_done(measurement), 0);
    page.gap();
    for text in comparison.validity.texts(Severity::Invalid) {
        page.paragraph(Paint::Bad, &format!("✗ {text}."), 2);
    }
    page.paragraph(Paint::Plain, &format!("• {CURE}."), 2);
    page.write(style, out)
}

/// For a pull request.
///
/// # Errors
///
/// What `out` says.
pub fn markdown(comparison: &Comparison, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "**{HEADLINE}**\n")?;
    for text in comparison.validity.texts(Severity::Invalid) {
        writeln!(out, "- {}", escape(text))?;
    }
    writeln!(out, "\n{CURE}.")
}

/// As one HTML file.
pub fn page(measurement: &Measurement, comparison: &Comparison) -> String {
    let why = html! {
        ul { @for text in comparison.validity.texts(Severity::Invalid) { li.fails { (unbroken(text)) "." } } }
        p { (CURE) "." }
    };
    Page {
        title: targets::asked(&measurement.plan),
        answer: HEADLINE.into(),
        about: what_was_done(measurement),
        body: html! {
            (section("Why it cannot be trusted", &why))
            (section("How it was measured", &surroundings(measurement)))
        },
        made_by: made_by(measurement),
    }
    .into_text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::{arms, samples};

    fn invalid() -> Measurement {
        let mut measurement = samples::run(8, 517).arm("on", 1.0).arm("off", 3.0).measurement();
        measurement.slots.iter_mut().for_each(|slot| slot.pure = false);
        measurement
    }

    #[test]
    fn it_says_why_and_how_to_see_the_numbers_and_tells_none() {
        let measurement = invalid();
        let comparison = arms(&measurement);
        assert!(!comparison.validity.ok);
        let why = comparison.validity.texts(Severity::Invalid).next().unwrap().to_owned();
        let (mut text, mut markdown_text) = (Vec::new(), Vec::new());
        write(&measurement, &comparison, Style { colour: false, width: 2_000 }, &mut text).unwrap();
        markdown(&comparison, &mut markdown_text).unwrap();
        let page = page(&measurement, &comparison);
        let json = serde_json::to_string(&super::super::json::withheld(&measurement, &comparison)).unwrap();
        for text in [String::from_utf8(text).unwrap(), String::from_utf8(markdown_text).unwrap()] {
            assert!(text.starts_with(HEADLINE) || text[2..].starts_with(HEADLINE), "{text}");
            assert!(text.replace('\\', "").contains(&why) && text.contains("--allow-invalid"), "{text}");
        }
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&value["valid"], &value["arms"]), (&false.into(), &serde_json::json!([])));
        assert_eq!((&value["differences"], &value["headline"]), (&serde_json::json!([]), &HEADLINE.into()));
        assert_eq!(value["validity"]["reasons"][0], why);
        assert!(page.contains("--allow-invalid") && !page.contains("p99") && !json.contains("p99"), "{page}");
    }
}
