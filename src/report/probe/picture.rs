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
    /// Ended otherwise: a 408, other bytes, no answer, or a gateway's error.
    Other,
}

/// Every mark with its word, as the legend shows them.
pub(super) const MARKS: [(Mark, &str); 5] = [
    (Mark::Alive, "alive"),
    (Mark::Fin, "ended with a FIN"),
    (Mark::Reset, "ended with a RST"),
    (Mark::Silent, "dropped in silence"),
    (Mark::Other, "a 408, other bytes, no answer or a gateway's error"),
];

/// The mark of a sample; `None`: it tells nothing.
fn mark(sample: &Sample) -> Option<Mark> {
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

/// What part of the idle times a picture shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// All, on a logarithmic axis.
    Whole,
    /// Those around a timer that was found, on a linear one.
    AroundTheTimer,
}

/// The picture as SVG, `width` pixels wide; `None` where there is nothing to show.
pub(super) fn svg(findings: &Findings, advice: &Recommendation, view: View, width: u32) -> Option<String> {
    let axis = match view {
        View::Whole => Axis::of_all(findings)?,
        View::AroundTheTimer => Axis::around_the_timer(findings)?,
    };
    let shown: Vec<(&Sample, Mark)> =
        samples(findings).filter(|(sample, _)| axis.ends.contains(&axis.place(sample.idle))).collect();
    let mut rows: Vec<Role> = shown.iter().map(|(sample, _)| sample.role).collect();
    rows.sort_unstable();
    rows.dedup();
    if rows.is_empty() {
        return None;
    }
    let mut text = String::new();
    let height = 64 + 44 * u32::try_from(rows.len()).unwrap_or(u32::MAX);
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area, findings, advice, &rows, &shown, axis).ok()?;
        area.present().ok()?;
    }
    Some(text)
}

/// The samples that have a place in the picture. What was sent request after request has no idle time to show.
pub(super) fn samples(findings: &Findings) -> impl Iterator<Item = (&Sample, Mark)> {
    let idle = |sample: &&Sample| !matches!(sample.role, Role::Requests | Role::Lifetime);
    findings.raw.iter().filter(idle).filter_map(|sample| Some((sample, mark(sample)?)))
}

/// Idle time in seconds, or its logarithm.
#[derive(Clone)]
struct Axis {
    inner: RangedCoordf64,
    ends: Range<f64>,
    logarithmic: bool,
}

impl Axis {
    fn of_all(findings: &Findings) -> Option<Axis> {
        let idle = || samples(findings).map(|(sample, _)| sample.idle.as_secs_f64());
        let least = idle().fold(f64::INFINITY, f64::min).max(SHORTEST);
        let most =
            idle().fold(None, |most: Option<f64>, one| Some(most.map_or(one, |most| most.max(one))))?;
        Some(Axis::new((least / 1.6).log10()..(most.max(least) * 1.4).log10(), true))
    }

    /// As far to both sides as connections were tried to confirm the bracket.
    fn around_the_timer(findings: &Findings) -> Option<Axis> {
        let (lower, upper) = bracket(findings)?;
        let (lower, upper) = (lower.as_secs_f64(), upper.as_secs_f64());
        let beside = |idle: f64| (lower - idle).max(idle - upper).max(0.0);
        let confirmed = samples(findings).filter(|(sample, _)| sample.role == Role::Confirm);
        let farthest = confirmed.map(|(sample, _)| beside(sample.idle.as_secs_f64())).fold(0.0, f64::max);
        let room = (farthest * 1.3).max((upper - lower) * 2.0).clamp(0.05, lower.max(0.05));
        Some(Axis::new((lower - room).max(0.0)..upper + room, false))
    }

    fn new(ends: Range<f64>, logarithmic: bool) -> Axis {
        Axis { inner: ends.clone().into(), ends, logarithmic }
    }

    fn place(&self, idle: Duration) -> f64 {
        let seconds = idle.as_secs_f64();
        if self.logarithmic { seconds.max(SHORTEST).log10() } else { seconds }
    }
}

impl Ranged for Axis {
    type FormatOption = plotters::coord::ranged1d::NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.inner.map(value, limit)
    }

    /// On the logarithmic axis as many as have room of the ticks that are timeouts, from the greatest down.
    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if !self.logarithmic {
            return self.inner.key_points(hint);
        }
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
        let seconds = if self.logarithmic { 10f64.powf(*value) } else { *value };
        say(Duration::try_from_secs_f64(seconds).unwrap_or_default())
    }
}

type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    findings: &Findings,
    advice: &Recommendation,
    rows: &[Role],
    shown: &[(&Sample, Mark)],
    axis: Axis,
) -> Drawn {
    let (width, _) = area.dim_in_pixel();
    let narrow = width < 500;
    let font = ("sans-serif", if narrow { 12 } else { 13 });
    let (from, places) = (axis.ends.start, axis.clone());
    let mut chart = ChartBuilder::on(area)
        .margin_right(if narrow { 8 } else { 16 })
        .margin_top(22)
        .x_label_area_size(34)
        .y_label_area_size(if narrow { 84 } else { 104 })
        .build_cartesian_2d(axis, 0.0..rows.len() as f64)?;
    if let Some((lower, upper)) = bracket(findings) {
        // A bracket of milliseconds would be thinner than a pixel.
        let thinnest = (places.ends.end - places.ends.start) / 300.0;
        let lower = places.place(lower);
        let whole = [(lower, 0.0), (places.place(upper).max(lower + thinnest), rows.len() as f64)];
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
        let of_row = shown.iter().filter(|(sample, _)| sample.role == *role);
        for (place, (sample, mark)) in of_row.enumerate() {
            // The golden ratio spreads marks that would cover each other evenly over the row.
            let beside = ((place as f64 * 0.618_034).fract() - 0.5) * 0.6;
            let at = chart.backend_coord(&(places.place(sample.idle), middle + beside));
            shape(area, *mark, at)?;
        }
    }
    let client = advice.client_idle_timeout.filter(|client| places.ends.contains(&places.place(*client)));
    let Some(client) = client else { return Ok(()) };
    let at = places.place(client);
    let (top, bottom) = (chart.backend_coord(&(at, rows.len() as f64)), chart.backend_coord(&(at, 0.0)));
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
