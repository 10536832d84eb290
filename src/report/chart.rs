//! What the pictures of a page have in common: axes whose ticks are round, a palette, and marks that are told apart
//! without colour. Pictures are drawn in stand-ins for what a colour means; `html/style.css` gives each the colour of
//! the reader's theme.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::units::{three_digits, tick};

pub(super) const INK: RGBColor = RGBColor(1, 1, 1);
pub(super) const LINE: RGBColor = RGBColor(2, 2, 2);
/// The interval behind the rounds.
pub(super) const BAND: RGBColor = RGBColor(9, 9, 9);
/// Text on a light part of a bar, and its edge: dark in both themes.
pub(super) const ON_LIGHT: RGBColor = RGBColor(0x31, 0x31, 0x31);

/// The two widths of every picture in pixels; the page shows the one that fits.
pub(super) const WIDE: u32 = 760;
pub(super) const NARROW: u32 = 340;

/// Five colours of Okabe and Ito's set, which most colour-blind readers can tell apart, darkened on white and
/// lightened on black until they stand out (WCAG 2.2, 1.4.11).
const ARMS: usize = 5;
/// Paul Tol's "light" scheme: nine colours that can be told apart and carry dark text.
const PARTS: usize = 9;

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// The colour of the nth arm.
pub(super) fn of_arm(nth: usize) -> RGBColor {
    grey(0x11 + nth % ARMS)
}

/// The colour of the nth part of a bar.
pub(super) fn of_part(nth: usize) -> RGBColor {
    grey(0x21 + nth % PARTS)
}

fn grey(level: usize) -> RGBColor {
    let level = u8::try_from(level).unwrap_or(u8::MAX);
    RGBColor(level, level, level)
}

/// A picture as SVG.
pub(super) fn svg(width: u32, height: u32, draw: impl FnOnce(&Area<'_>) -> Drawn) -> Option<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
        draw(&area).and_then(|()| area.present()).ok()?;
    }
    Some(text)
}

/// Whether a picture is one for a telephone.
pub(super) fn is_narrow(width: u32) -> bool {
    width < 500
}

pub(super) fn text(width: u32, colour: RGBColor, across: HPos) -> TextStyle<'static> {
    let size = if is_narrow(width) { 11 } else { 13 };
    ("sans-serif", size).into_font().color(&colour).pos(Pos::new(across, VPos::Center))
}

/// The nth arm's mark: its shape tells it as well as its colour.
pub(super) fn mark(area: &Area<'_>, nth: usize, (x, y): (i32, i32)) -> Drawn {
    let colour = of_arm(nth);
    match nth % ARMS {
        0 => area.draw(&Circle::new((x, y), 4, colour.filled())),
        1 => area.draw(&TriangleMarker::new((x, y), 6, colour.filled())),
        2 => area.draw(&Rectangle::new([(x - 4, y - 4), (x + 4, y + 4)], colour.stroke_width(2))),
        3 => area.draw(&Cross::new((x, y), 4, colour.stroke_width(2))),
        _ => {
            let diamond = vec![(x - 5, y), (x, y - 5), (x + 5, y), (x, y + 5)];
            area.draw(&Polygon::new(diamond, colour.filled()))
        }
    }
}

/// One mark alone, for the legend.
pub(super) fn legend_mark(nth: usize) -> String {
    svg(16, 16, |area| mark(area, nth, (8, 8))).expect("a string can be drawn on")
}

/// A patch of a part's colour, for the legend.
pub(super) fn legend_part(nth: usize) -> String {
    let patch = |area: &Area<'_>| {
        area.draw(&Rectangle::new([(1, 1), (15, 15)], of_part(nth).filled()))?;
        area.draw(&Rectangle::new([(1, 1), (15, 15)], ON_LIGHT.stroke_width(1)))
    };
    svg(16, 16, patch).expect("a string can be drawn on")
}

/// An axis with ticks of our own choice.
#[derive(Clone)]
pub(super) struct Axis {
    inner: RangedCoordf64,
    ends: Range<f64>,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    pub(super) fn new(ends: Range<f64>, ticks: Vec<(f64, String)>) -> Axis {
        let ticks = ticks.into_iter().filter(|(at, _)| ends.contains(at) || *at == ends.end).collect();
        Axis { inner: ends.clone().into(), ends, ticks }
    }

    /// Times on a logarithmic axis: values are decadic logarithms of nanoseconds. It spans at least a factor of 4 and
    /// shows at most so many ticks.
    pub(super) fn of_times(least_ns: f64, most_ns: f64, most_ticks: usize) -> Axis {
        let (low, high) = (least_ns.max(1.0).log10() - 0.02, most_ns.max(1.0).log10() + 0.02);
        let missing = (4_f64.log10() - (high - low)).max(0.0) / 2.0;
        let ends = low - missing..high + missing;
        let mut ticks = Vec::new();
        // Ever coarser, until they have room.
        for digits in [&[1.0, 1.5, 2.0, 3.0, 5.0, 7.0][..], &[1.0, 2.0, 5.0], &[1.0, 3.0], &[1.0]] {
            let decades = ends.start.floor() as i32..=ends.end.ceil() as i32;
            let all = decades.flat_map(|decade| digits.iter().map(move |digit| digit * 10_f64.powi(decade)));
            let whole = all.filter(|ns| ends.contains(&ns.log10()) && *ns >= 1.0 && is_said_whole(*ns));
            ticks = whole.map(|ns| (ns.log10(), tick(ns))).collect();
            if ticks.len() <= most_ticks {
                break;
            }
        }
        let every = ticks.len().div_ceil(most_ticks.max(1)).max(1);
        Axis::new(ends, ticks.into_iter().step_by(every).collect())
    }

    /// From zero, or the negative that must be shown, to what must be; about four ticks, at 1, 2 or 5 times a power of
    /// ten.
    pub(super) fn linear(least: f64, most: f64, say: impl Fn(f64) -> String) -> Axis {
        Axis::between(least.min(0.0), most.max(0.0), say)
    }

    /// The same, wherever zero is.
    pub(super) fn between(least: f64, most: f64, say: impl Fn(f64) -> String) -> Axis {
        let span = if most - least > 0.0 { most - least } else { 1.0 };
        let rough = span / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|it| it * power >= rough).unwrap_or(10.0) * power;
        let ends = (least / step).floor() * step..(((least + span) / step).ceil() * step).max(step);
        let steps = (ends.start / step).round() as i64..=(ends.end / step).round() as i64;
        let ticks = steps.map(|nth| nth as f64 * step).map(|at| (at, say(at))).collect();
        Axis::new(ends, ticks)
    }

    pub(super) fn ends(&self) -> Range<f64> {
        self.ends.clone()
    }
}

/// 1.5 ns would be said "2 ns".
fn is_said_whole(ns: f64) -> bool {
    let unit = [1e9, 1e6, 1e3, 1.0].into_iter().find(|unit| ns >= unit * 0.999).unwrap_or(1.0);
    ((ns / unit).round() - ns / unit).abs() < 1e-6
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.inner.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(at, _)| *at).collect()
    }

    fn range(&self) -> Range<f64> {
        self.ends.clone()
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(at, _)| at == value).map(|(_, text)| text.clone()).unwrap_or_default()
    }
}

/// A number on an axis: `0.5`, `20`, `1,500`.
pub(super) fn number(value: f64) -> String {
    let text = three_digits(value);
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, text)| text.as_str()).collect()
    }

    #[test]
    fn ticks_of_a_time_axis_are_round_and_never_more_than_there_is_room_for() {
        assert_eq!(said(&Axis::of_times(8e5, 3.2e6, 9)), ["1 ms", "2 ms", "3 ms"]);
        assert_eq!(said(&Axis::of_times(1e3, 1e9, 4)).len(), 4);
        for (least, most) in [(1.0, 3.6e12), (5.0, 6.0), (2.2e7, 2.3e7), (1e9, 1e12)] {
            let axis = Axis::of_times(least, most, 6);
            assert!((1..=6).contains(&axis.ticks.len()), "{least}..{most}: {:?}", said(&axis));
        }
    }

    #[test]
    fn a_linear_axis_holds_zero_and_ends_at_a_tick() {
        assert_eq!(said(&Axis::linear(0.0, 920.0, number)), ["0", "500", "1,000"]);
        assert_eq!(said(&Axis::linear(-3.0, 1.0, number)), ["−3", "−2", "−1", "0", "1"]);
        assert_eq!(said(&Axis::linear(0.0, 0.0, number)).first(), Some(&"0"));
    }
}
