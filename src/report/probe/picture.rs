//! The picture of a probe: every connection over its idle time, by what it was for, alive or dead, and how it died.
//! Shapes tell as much as colours do.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::words;
use crate::advice::Recommendation;
use crate::duration::say;
use crate::findings::{CloseKind, Fate, Findings, Role, Sample, Verdict};
use std::ops::Range;
use std::time::Duration;

/// Stand-ins for what a colour means; the page's style gives each the colour of its theme.
const INK: RGBColor = RGBColor(1, 1, 1);
const LINE: RGBColor = RGBColor(2, 2, 2);
const ALIVE: RGBColor = RGBColor(3, 3, 3);
const FIN: RGBColor = RGBColor(4, 4, 4);
const RESET: RGBColor = RGBColor(5, 5, 5);
const SILENT: RGBColor = RGBColor(6, 6, 6);
const OTHER: RGBColor = RGBColor(7, 7, 7);
const ADVICE: RGBColor = RGBColor(8, 8, 8);
const BRACKET: RGBColor = RGBColor(9, 9, 9);

/// Shorter idle times stand at this one: a logarithmic axis has no zero.
const SHORTEST: f64 = 0.05;
/// Ticks that a reader knows as timeouts.
const TICKS: [f64; 16] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 36_000.0];

/// What a mark means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mark {
    /// Answered, or open at the end.
    Alive,
    /// Ended with a FIN, or a request met the end on its way.
    Fin,
    /// Ended with a RST, while idle or on the next packet.
    Reset,
    /// Dropped in silence.
    Silent,
    /// Ended otherwise: a 408, other bytes, or a gateway's error.
    Other,
}

/// Every mark with its word, as the legend shows them.
pub(super) const MARKS: [(Mark, &str); 5] = [
    (Mark::Alive, "alive"),
    (Mark::Fin, "ended with a FIN"),
    (Mark::Reset, "ended with a RST"),
    (Mark::Silent, "dropped in silence"),
    (Mark::Other, "a 408, other bytes or a gateway's error"),
];

/// The mark of a sample; `None`: it tells nothing.
pub(super) fn mark(sample: &Sample) -> Option<Mark> {
    match (sample.fate, sample.close) {
        (Fate::Late | Fate::Abandoned, _) => None,
        (Fate::Alive, _) => Some(Mark::Alive),
        (Fate::GatewayError, _) => Some(Mark::Other),
        (Fate::Dead, Some(CloseKind::Fin | CloseKind::Race)) => Some(Mark::Fin),
        (Fate::Dead, Some(CloseKind::Reset | CloseKind::ResetOnSend)) => Some(Mark::Reset),
        (Fate::Dead, Some(CloseKind::Silent)) => Some(Mark::Silent),
        (Fate::Dead, _) => Some(Mark::Other),
    }
}

/// The roles that have a place in the picture, in its order from the top. What was sent request after request has no
/// idle time to show.
pub(super) fn rows(findings: &Findings) -> Vec<Role> {
    let mut roles: Vec<Role> = findings
        .raw
        .iter()
        .filter(|sample| mark(sample).is_some() && !matches!(sample.role, Role::Requests | Role::Lifetime))
        .map(|sample| sample.role)
        .collect();
    roles.sort_unstable();
    roles.dedup();
    roles
}

/// The picture as SVG, `width` pixels wide; `None` where there is nothing to show.
pub(super) fn svg(findings: &Findings, advice: &Recommendation, width: u32) -> Option<String> {
    let rows = rows(findings);
    let shown = |sample: &&Sample| rows.contains(&sample.role) && mark(sample).is_some();
    let longest = findings.raw.iter().filter(shown).map(|sample| sample.idle).max()?;
    let mut text = String::new();
    let height = 64 + 44 * u32::try_from(rows.len()).unwrap_or(u32::MAX);
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        let axis = Axis::to(longest);
        draw(&area, findings, advice, &rows, axis).ok()?;
        area.present().ok()?;
    }
    Some(text)
}

/// Idle time, logarithmic.
#[derive(Clone)]
struct Axis {
    log: RangedCoordf64,
    ends: Range<f64>,
}

impl Axis {
    fn to(longest: Duration) -> Axis {
        let ends = SHORTEST.log10()..(longest.as_secs_f64().max(1.0) * 1.4).log10();
        Axis { log: ends.clone().into(), ends }
    }
}

fn log(idle: Duration) -> f64 {
    idle.as_secs_f64().max(SHORTEST).log10()
}

impl Ranged for Axis {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.log.map(value, limit)
    }

    /// As many ticks as have room, from the greatest down: where timeouts are.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        let within: Vec<f64> =
            TICKS.iter().map(|tick| tick.log10()).filter(|tick| self.ends.contains(tick)).collect();
        let every = within.len().div_ceil(hint.max_num_points().max(1));
        within.into_iter().rev().step_by(every.max(1)).collect()
    }

    fn range(&self) -> Range<f64> {
        self.ends.clone()
    }
}

impl plotters::coord::ranged1d::ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        say(Duration::from_secs_f64(10f64.powf(*value)))
    }
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    findings: &Findings,
    advice: &Recommendation,
    rows: &[Role],
    axis: Axis,
) -> Drawn {
    let (width, _) = area.dim_in_pixel();
    let narrow = width < 500;
    let font = ("sans-serif", if narrow { 12 } else { 13 });
    let from = axis.ends.start;
    let mut chart = ChartBuilder::on(area)
        .margin_right(if narrow { 8 } else { 16 })
        .margin_top(22)
        .x_label_area_size(34)
        .y_label_area_size(if narrow { 84 } else { 104 })
        .build_cartesian_2d(axis, 0.0..rows.len() as f64)?;
    if let Some((lower, upper)) = bracket(findings) {
        // A bracket of milliseconds would be thinner than a pixel.
        let upper = log(upper).max(log(lower) + 0.012);
        let whole = [(log(lower), 0.0), (upper, rows.len() as f64)];
        chart.draw_series([Rectangle::new(whole, BRACKET.filled())])?;
    }
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE)
        .axis_style(LINE)
        .x_labels(if narrow { 5 } else { 11 })
        .x_label_style(font.into_font().color(&INK))
        .draw()?;
    for (nth, role) in rows.iter().enumerate() {
        let middle = rows.len() as f64 - nth as f64 - 0.5;
        let at = chart.backend_coord(&(from, middle));
        let style = font.into_font().color(&INK).pos(right_of_text());
        area.draw_text(words::role(*role), &style, (at.0 - 8, at.1))?;
        for (place, sample) in findings.raw.iter().filter(|sample| sample.role == *role).enumerate() {
            let Some(mark) = mark(sample) else { continue };
            // The golden ratio spreads marks that would cover each other evenly over the row.
            let beside = ((place as f64 * 0.618_034).fract() - 0.5) * 0.6;
            let at = chart.backend_coord(&(log(sample.idle), middle + beside));
            shape(area, mark, at)?;
        }
    }
    let Some(client) = advice.client_idle_timeout else { return Ok(()) };
    let (top, bottom) =
        (chart.backend_coord(&(log(client), rows.len() as f64)), chart.backend_coord(&(log(client), 0.0)));
    area.draw(&PathElement::new(vec![top, bottom], ADVICE.stroke_width(2)))?;
    let style = font.into_font().color(&ADVICE).pos(right_of_text());
    area.draw_text(&format!("set {}", say(client)), &style, (top.0 + 4, top.1 - 10))
}

/// Text that ends at its point, and has it at half of its height.
fn right_of_text() -> plotters::style::text_anchor::Pos {
    use plotters::style::text_anchor::{HPos, Pos, VPos};
    Pos::new(HPos::Right, VPos::Center)
}

fn bracket(findings: &Findings) -> Option<(Duration, Duration)> {
    let idle = &findings.idle_timeout;
    idle.upper.filter(|_| idle.verdict == Verdict::Found).map(|upper| (idle.lower, upper))
}

fn shape(area: &DrawingArea<SVGBackend<'_>, Shift>, mark: Mark, (x, y): (i32, i32)) -> Drawn {
    match mark {
        Mark::Alive => area.draw(&Circle::new((x, y), 4, ALIVE.stroke_width(2))),
        Mark::Fin => area.draw(&TriangleMarker::new((x, y), 6, FIN.filled())),
        Mark::Reset => area.draw(&Cross::new((x, y), 4, RESET.stroke_width(2))),
        Mark::Silent => area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], SILENT.filled())),
        Mark::Other => {
            let diamond = vec![(x - 5, y), (x, y - 5), (x + 5, y), (x, y + 5)];
            area.draw(&Polygon::new(diamond, OTHER.filled()))
        }
    }
}

/// One mark alone, for the legend.
pub(super) fn legend(mark: Mark) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (16, 16)).into_drawing_area();
        shape(&area, mark, (8, 8)).and_then(|()| area.present()).expect("a string can be drawn on");
    }
    text
}
