//! Several measurements side by side, and first whether setting them against each other would mislead.

use std::io::{self, Write};

use maud::html;
use serde::Serialize;

use super::export::escape;
use super::html::{Page, section, unbroken};
use super::json::{self, Summary};
use super::measured::distribution;
use super::page::{Page as Lines, Paint, Style};
use super::table::Table;
use super::tables::{POINTS, label, saved, shown};
use super::units::{count, percent, three_digits, time};
use super::withheld;
use crate::compare::side_by_side::{Differing, Kind, differing};
use crate::compare::{self, ArmSummary, Comparison};
use crate::measurement::Measurement;

/// The version of the JSON form.
pub const SCHEMA: &str = "keeplive.side_by_side/1";
/// What stands where there is no value.
const NOTHING: &str = "–";

/// Several measurements with their names.
pub struct SideBySide {
    all: Vec<One>,
    differing: Vec<Differing>,
}

struct One {
    name: String,
    measurement: Measurement,
    comparison: Comparison,
    /// It is invalid, so its numbers are not shown.
    withheld: bool,
}

impl One {
    fn new((name, measurement): (String, Measurement), allow_invalid: bool) -> One {
        let mut comparison = compare::arms(&measurement);
        let withheld = withheld::is_withheld(&measurement, &comparison, allow_invalid);
        if withheld {
            (comparison.arms, comparison.differences) = (Vec::new(), Vec::new());
        }
        One { name, measurement, comparison, withheld }
    }

    fn headline(&self) -> String {
        if self.withheld {
            withheld::HEADLINE.into()
        } else {
            super::headline(&self.measurement, &self.comparison)
        }
    }

    fn summary(&self) -> Summary<'_> {
        let of = if self.withheld { json::withheld } else { json::summary };
        of(&self.measurement, &self.comparison)
    }
}

impl SideBySide {
    /// Sets measurements side by side, each under a name. Those that are invalid show no numbers, unless that is allowed.
    pub fn new(all: Vec<(String, Measurement)>, allow_invalid: bool) -> SideBySide {
        let differing = differing(&all.iter().map(|(_, measurement)| measurement).collect::<Vec<_>>());
        SideBySide { all: all.into_iter().map(|one| One::new(one, allow_invalid)).collect(), differing }
    }

    /// Whether each of them can be trusted by itself.
    pub fn is_valid(&self) -> bool {
        self.all.iter().all(|one| one.comparison.validity.ok)
    }

    /// Whether they may be set against each other, in a sentence.
    pub fn headline(&self) -> String {
        let n = self.all.len();
        let invalid = self.all.iter().filter(|one| !one.comparison.validity.ok);
        let (withheld, shown): (Vec<&One>, Vec<&One>) = invalid.partition(|one| one.withheld);
        let of = |said: &str, all: &[&One]| {
            let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
            if names.is_empty() { String::new() } else { format!(" {said}: {}.", names.join(", ")) }
        };
        let distrust = of("Not to be trusted by themselves", &shown)
            + &of("Invalid, and shown without numbers unless --allow-invalid is given", &withheld);
        let mut kinds: Vec<Kind> = self.differing.iter().map(|one| one.kind).collect();
        kinds.dedup();
        let is_meant = |kind: &Kind| *kind == Kind::Target;
        let names: Vec<&str> =
            kinds.iter().filter(|kind| !is_meant(kind)).map(|kind| kind.as_str()).collect();
        let found = match (names.as_slice(), kinds.iter().any(is_meant)) {
            ([], false) => format!("{n} results of one plan against one target on one machine, not paired."),
            ([], true) => format!("{n} results that differ in their target alone, not paired."),
            (names, _) => format!(
                "To set these {n} results against each other would mislead: they differ in {}.",
                names.join(" and ")
            ),
        };
        found + &distrust
    }

    /// What differs, name by name.
    fn warnings(&self) -> Table {
        let mut table = Table::new("Differs", self.names());
        for one in &self.differing {
            table.row(&format!("  {}", one.key), one.values.iter().cloned());
        }
        table
    }

    fn names(&self) -> impl Iterator<Item = String> {
        self.all.iter().map(|one| one.name.clone())
    }

    /// Every arm that occurs, once.
    fn arms(&self) -> Vec<&str> {
        let mut arms: Vec<&str> = Vec::new();
        for arm in self.all.iter().flat_map(|one| &one.comparison.arms) {
            if !arms.contains(&arm.name.as_str()) {
                arms.push(&arm.name);
            }
        }
        arms
    }

    fn tables(&self) -> Vec<Table> {
        let arms = self.arms();
        let of_each = arms.iter().map(|arm| self.of_arm(arm));
        let savings = arms.iter().map(|arm| self.savings(arm)).filter(|table| !table.is_empty());
        of_each.chain(savings).collect()
    }

    /// One arm in every measurement.
    fn of_arm(&self, arm: &str) -> Table {
        let mut table = Table::new(&format!("Arm `{arm}`"), self.names());
        let mut row = |name: &str, of: &dyn Fn(&ArmSummary) -> Option<String>| {
            let value = |it: &Comparison| it.arm(arm).and_then(of).unwrap_or_else(|| NOTHING.into());
            table.row(name, self.all.iter().map(|one| value(&one.comparison)));
        };
        for point in POINTS.iter().filter(|point| point.name != "mean") {
            row(&format!("  {}", point.name), &|arm| point.of(arm));
        }
        row("  requests/s", &|arm| Some(three_digits(arm.requests_per_s)));
        row("  client CPU/request", &|arm| arm.client_cpu_per_request.map(time));
        row("  on a used connection", &|arm| arm.reuse_ratio.map(percent));
        row("  connections opened", &|arm| Some(count(arm.connections.opened)));
        row("  failed", &|arm| Some(count(arm.failed())));
        table
    }

    /// What the control saves against an arm, with its interval, in every measurement.
    fn savings(&self, arm: &str) -> Table {
        let mut table = Table::new(&format!("Saved against `{arm}` [95 %]"), self.names());
        for metric in crate::compare::Metric::ALL {
            let value = |it: &Comparison| {
                shown(it).find(|one| *one == metric)?;
                it.difference(arm, metric).and_then(saved)
            };
            let values: Vec<_> = self.all.iter().map(|one| value(&one.comparison)).collect();
            if values.iter().any(Option::is_some) {
                let shown = values.into_iter().map(|value| value.unwrap_or_else(|| NOTHING.into()));
                table.row(&format!("  {}", label(metric)), shown);
            }
        }
        table
    }

    /// For a terminal.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write_text(&self, style: Style, out: &mut impl Write) -> io::Result<()> {
        let mut page = Lines::new(style);
        page.paragraph(Paint::Strong, &self.headline(), 0);
        if !self.differing.is_empty() {
            page.table(&self.warnings());
        }
        self.tables().iter().for_each(|table| page.table(table));
        page.write(style, out)
    }

    /// As GitHub-flavoured Markdown.
    ///
    /// # Errors
    ///
    /// What `out` says.
    pub fn write_markdown(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "### keeplive: {}\n", escape(&self.headline()))?;
        if !self.differing.is_empty() {
            write!(out, "{}", self.warnings().markdown())?;
        }
        self.tables().iter().try_for_each(|table| write!(out, "{}", table.markdown()))
    }

    /// As one HTML file.
    pub fn page(&self) -> String {
        let body = html! {
            @if !self.differing.is_empty() {
                (section("What differs", &self.warnings().markup()))
            }
            @for arm in self.arms() {
                (section(&format!("Arm {arm}"), &html! {
                    @let same = self.same(arm);
                    @if let Some(figure) = distribution::histograms(&same) { (figure) }
                    @if let Some(figure) = distribution::percentiles(&same) { (figure) }
                    (self.of_arm(arm).markup())
                    @let savings = self.savings(arm);
                    @if !savings.is_empty() { (savings.markup()) }
                }))
            }
            (section("The results", &html! {
                dl {
                    @for one in &self.all {
                        dt { (one.name) ", " (one.measurement.started) }
                        dd { (unbroken(&one.headline())) }
                    }
                }
            }))
        };
        let names: Vec<String> = self.names().collect();
        Page {
            title: names.join(" · "),
            answer: self.headline(),
            about: "Runs at different times share no rounds: a difference between them has no interval."
                .into(),
            body,
            made_by: format!("keeplive {}", env!("CARGO_PKG_VERSION")),
        }
        .into_text()
    }

    /// One arm of all measurements, under the names of the measurements.
    fn same(&self, arm: &str) -> Vec<ArmSummary> {
        let named = |one: &One| {
            one.comparison.arm(arm).map(|summary| ArmSummary { name: one.name.clone(), ..summary.clone() })
        };
        self.all.iter().filter_map(named).collect()
    }

    /// As JSON.
    pub fn document(&self) -> Document<'_> {
        Document {
            schema: SCHEMA,
            headline: self.headline(),
            differs: self
                .differing
                .iter()
                .map(|one| Differs { kind: one.kind.as_str(), key: &one.key, values: &one.values })
                .collect(),
            results: self.all.iter().map(|one| Named { name: &one.name, summary: one.summary() }).collect(),
        }
    }
}

/// The JSON form: the summaries, and what they do not have in common.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Document<'a> {
    schema: &'static str,
    headline: String,
    differs: Vec<Differs<'a>>,
    results: Vec<Named<'a>>,
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Differs<'a> {
    kind: &'static str,
    key: &'a str,
    values: &'a [String],
}

#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Named<'a> {
    name: &'a str,
    summary: Summary<'a>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::samples;
    use crate::report::wrap::length;

    fn two(change: impl Fn(&mut Measurement)) -> SideBySide {
        let run = || samples::run(8, 200).arm("on", 1.0).arm("off", 4.0).measurement();
        let mut other = run();
        change(&mut other);
        SideBySide::new(vec![("before".into(), run()), ("after".into(), other)], false)
    }

    #[test]
    fn an_invalid_one_shows_no_numbers_unless_that_is_allowed() {
        let run = || samples::run(8, 200).arm("on", 1.0).arm("off", 4.0).measurement();
        let invalid = || {
            let mut measurement = run();
            measurement.slots.iter_mut().for_each(|slot| slot.pure = false);
            measurement
        };
        let text = |all: &SideBySide| {
            let mut text = Vec::new();
            all.write_markdown(&mut text).unwrap();
            String::from_utf8(text).unwrap()
        };
        let both =
            |allowed| SideBySide::new(vec![("good".into(), run()), ("bad".into(), invalid())], allowed);
        let withheld = both(false);
        assert!(
            withheld.headline().ends_with("unless --allow-invalid is given: bad."),
            "{}",
            withheld.headline()
        );
        let p50 = |text: String| text.lines().find(|line| line.contains("p50")).unwrap().to_owned();
        assert!(p50(text(&withheld)).ends_with("| – |"), "{}", text(&withheld));
        let json = serde_json::to_value(withheld.document()).unwrap();
        assert_eq!(json["results"][1]["summary"]["arms"], serde_json::json!([]));
        assert!(!withheld.is_valid() && withheld.page().contains(withheld::HEADLINE));
        let allowed = both(true);
        assert!(
            allowed.headline().ends_with("Not to be trusted by themselves: bad."),
            "{}",
            allowed.headline()
        );
        assert!(!p50(text(&allowed)).contains('–'), "{}", text(&allowed));
    }

    #[test]
    fn what_would_mislead_is_said_first_and_exactly() {
        let both = two(|it| {
            it.machine.kernel = Some("7.0".into());
            it.plan.connections = 64;
        });
        let mut text = Vec::new();
        both.write_text(Style { colour: false, width: 80 }, &mut text).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(
            text.starts_with(
                "To set these 2 results against each other would mislead: they differ in machine"
            )
        );
        assert!(text.contains("machine.kernel") && text.contains("plan.connections"), "{text}");
        assert!(text.lines().all(|line| length(line) <= 80), "{text}");
        assert!(both.page().contains("would mislead") && both.page().contains("plan.connections"));
    }

    #[test]
    fn another_target_may_be_what_is_compared() {
        let both = two(|it| it.target.server = Some("Caddy".into()));
        assert_eq!(both.headline(), "2 results that differ in their target alone, not paired.");
        assert_eq!(
            two(|_| {}).headline(),
            "2 results of one plan against one target on one machine, not paired."
        );
    }

    #[test]
    fn every_form_has_every_result_with_its_intervals() {
        let both = two(|_| {});
        let mut markdown = Vec::new();
        both.write_markdown(&mut markdown).unwrap();
        let markdown = String::from_utf8(markdown).unwrap();
        assert!(markdown.contains("| before | after |") && markdown.contains("75"), "{markdown}");
        let json = serde_json::to_value(both.document()).unwrap();
        assert_eq!(json["results"][1]["name"], "after");
        assert_eq!(json["results"][1]["summary"]["schema"], "keeplive.summary/1");
        assert_eq!(both.page().matches("class=\"picture wide\"").count(), 4);
    }
}
