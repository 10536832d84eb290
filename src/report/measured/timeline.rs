//! How it went over time: answers per second, p50 and p99, failures. A run of one slot is shown interval by interval, a
//! comparison slot by slot.

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::histogram::Histogram;
use crate::measurement::{Measurement, Slot};
use crate::report::chart::{
    Area, Axis, Drawn, INK, LINE, NARROW, WIDE, is_narrow, legend_mark, mark, number, of_arm, svg, text,
};
use crate::report::html::Figure;
use crate::report::table::Table;
use crate::report::units::{count, three_digits, time, time_or_more};
use crate::timeline::Timeline;

/// One arm over a stretch of time.
struct Point {
    arm: usize,
    /// Its middle, from the beginning, in seconds.
    at_s: f64,
    answers_per_s: f64,
    failed_per_s: f64,
    p50_ns: Option<f64>,
    p99_ns: Option<f64>,
    /// The share below which a quantile is known, and beyond which it is at least what is said.
    known: f64,
}

impl Point {
    fn new(
        arm: usize,
        (at_s, length_s): (f64, f64),
        completed: u64,
        failed: u64,
        (response, known): (&Histogram, f64),
    ) -> Point {
        let length_s = length_s.max(1e-9);
        let quantile = |q| response.quantile(q).map(|time| time.as_nanos() as f64);
        Point {
            arm,
            at_s: at_s + length_s / 2.0,
            answers_per_s: completed as f64 / length_s,
            failed_per_s: failed as f64 / length_s,
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            known,
        }
    }
}

/// What is plotted over time, one panel each.
struct Panel {
    name: &'static str,
    /// With the highest first, where there are several.
    of: fn(&Point) -> Option<f64>,
    is_time: bool,
}

/// The pictures, and a table of the same.
pub(super) fn figures(measurement: &Measurement) -> Option<Markup> {
    let points = points(measurement);
    if points.len() < 2 {
        return None;
    }
    let mut panels = vec![
        Panel { name: "p50", of: |point| point.p50_ns, is_time: true },
        Panel { name: "p99", of: |point| point.p99_ns, is_time: true },
        Panel { name: "answers/s", of: |point| Some(point.answers_per_s), is_time: false },
    ];
    if points.iter().any(|point| point.failed_per_s > 0.0) {
        panels.push(Panel { name: "failed/s", of: |point| Some(point.failed_per_s), is_time: false });
    }
    let joined = measurement.slots.len() == 1;
    let picture = |width| {
        let height = 40 + 120 * u32::try_from(panels.len()).ok()?;
        svg(width, height, |area| draw(area, &panels, &points, joined, width))
    };
    let says = in_words(measurement, &points, joined);
    let arms = &measurement.plan.arms;
    let legend = html! {
        @if arms.len() > 1 {
            ul.legend {
                @for (nth, arm) in arms.iter().enumerate() {
                    li { span aria-hidden="true" { (PreEscaped(legend_mark(nth))) } (arm.name) }
                }
            }
        }
    };
    Some(
        Figure {
            wide: picture(WIDE)?,
            narrow: picture(NARROW)?,
            says: &says,
            legend,
            data: Some(table(measurement, &points)),
        }
        .markup(),
    )
}

fn points(measurement: &Measurement) -> Vec<Point> {
    if let [Slot { timeline: Some(line), .. }] = measurement.slots.as_slice() {
        return intervals(line, measurement.slots[0].duration.as_secs_f64());
    }
    let begin = measurement.slots.iter().map(|slot| slot.start_unix_ns).min().unwrap_or(0);
    let place = |slot: &Slot| measurement.plan.arms.iter().position(|arm| arm.name == slot.arm);
    let washout_s = measurement.plan.washout.as_secs_f64();
    let point = |slot: &Slot| {
        let at_s = slot.start_unix_ns.saturating_sub(begin) as f64 / 1e9 + washout_s;
        let stretch = (at_s, slot.duration.as_secs_f64());
        let Slot { response, completed, .. } = slot;
        let times = (response, response.share_of(*completed));
        Some(Point::new(place(slot)?, stretch, *completed, slot.failed(), times))
    };
    measurement.slots.iter().filter_map(point).collect()
}

/// The last interval may be one that the window's end cuts short: its rate is of the part that it has.
fn intervals(line: &Timeline, whole_s: f64) -> Vec<Point> {
    let each_s = line.interval.as_secs_f64();
    let counts_answers = line.intervals.iter().any(|one| one.answered > 0);
    let stretch = |nth: usize| (nth as f64 * each_s, (whole_s - nth as f64 * each_s).min(each_s));
    let all = line.intervals.iter().enumerate().map(|(nth, one)| (stretch(nth), one));
    // A sliver tells nothing of a rate.
    all.filter(|((_, length_s), _)| *length_s > each_s / 10.0)
        .map(|(stretch, one)| {
            let answered = if counts_answers { one.answered } else { one.completed };
            let times = (&one.response, one.response.share_of(one.completed));
            Point::new(0, stretch, answered, one.failed, times)
        })
        .collect()
}

fn in_words(measurement: &Measurement, points: &[Point], joined: bool) -> String {
    let each = if joined { "interval" } else { "slot" };
    let range = |arm: usize| {
        let all = || points.iter().filter(move |point| point.arm == arm).filter_map(|point| point.p50_ns);
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
        let name = &measurement.plan.arms.get(arm)?.name;
        let ns = |ns: f64| time(std::time::Duration::from_nanos(ns as u64));
        (most > 0.0).then(|| format!("{name} between {} and {}", ns(least), ns(most)))
    };
    let ranges: Vec<String> = (0..measurement.plan.arms.len()).filter_map(range).collect();
    format!(
        "Response times on a logarithmic axis and answers per second, {each} by {each}, over the seconds since the \
         beginning. The median was, for {}.",
        ranges.join("; for ")
    )
}

fn draw(area: &Area<'_>, panels: &[Panel], points: &[Point], joined: bool, width: u32) -> Drawn {
    let end = points.iter().map(|point| point.at_s).fold(0.0, f64::max);
    let x = Axis::linear(0.0, end * 1.02, |at| format!("{} s", number(at)));
    let x = Axis::new(0.0..end * 1.02, seconds(&x));
    let arms = points.iter().map(|point| point.arm).max().unwrap_or(0) + 1;
    let mut rest = area.clone();
    for (nth, panel) in panels.iter().enumerate() {
        let is_last = nth + 1 == panels.len();
        let (own, others) = rest.split_vertically(if is_last { 160 } else { 120 });
        rest = others;
        let values = || points.iter().filter_map(|point| (panel.of)(point));
        let (least, most) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
        let y = if panel.is_time { Axis::of_times(least, most, 4) } else { Axis::linear(0.0, most, number) };
        let scaled = |value: f64| if panel.is_time { value.max(1.0).log10() } else { value };
        let mut chart = ChartBuilder::on(&own)
            .margin_right(22)
            .margin_top(24)
            .x_label_area_size(if is_last { 34 } else { 4 })
            .y_label_area_size(if is_narrow(width) { 54 } else { 66 })
            .build_cartesian_2d(x.clone(), y)?;
        let (left, top) = own.get_base_pixel();
        area.draw_text(panel.name, &text(width, INK, HPos::Left), (left + 6, top + 12))?;
        let mut mesh = chart.configure_mesh();
        mesh.light_line_style(TRANSPARENT).bold_line_style(LINE).axis_style(LINE);
        mesh.x_label_style(text(width, INK, HPos::Center)).y_label_style(text(width, INK, HPos::Right));
        if !is_last {
            mesh.disable_x_axis();
        }
        mesh.draw()?;
        for arm in 0..arms {
            let own = points.iter().filter(|point| point.arm == arm);
            let line: Vec<(f64, f64)> =
                own.filter_map(|point| Some((point.at_s, scaled((panel.of)(point)?)))).collect();
            if joined {
                chart.draw_series([PathElement::new(line.clone(), of_arm(arm).stroke_width(2))])?;
            }
            // Beyond that marks would hide each other, and a joined line needs none.
            if !joined || line.len() <= 60 {
                for at in &line {
                    mark(area, arm, chart.backend_coord(at))?;
                }
            }
        }
    }
    Ok(())
}

fn seconds(axis: &Axis) -> Vec<(f64, String)> {
    use plotters::coord::ranged1d::{BoldPoints, Ranged, ValueFormatter};
    axis.key_points(BoldPoints(9)).into_iter().map(|at| (at, axis.format_ext(&at))).collect()
}

fn table(measurement: &Measurement, points: &[Point]) -> Markup {
    let names = ["arm", "p50", "p99", "answers/s", "failed"].map(str::to_owned);
    let mut table = Table::new("At", names);
    let ns = |value: Option<f64>, is_at_least: bool| {
        value.map_or_else(
            || "–".into(),
            |ns| time_or_more(std::time::Duration::from_nanos(ns as u64), is_at_least),
        )
    };
    for point in points {
        let arm = measurement.plan.arms.get(point.arm).map_or_else(String::new, |arm| arm.name.clone());
        let failed = count(point.failed_per_s.round() as u64);
        let row = [
            arm,
            ns(point.p50_ns, 0.5 > point.known),
            ns(point.p99_ns, 0.99 > point.known),
            three_digits(point.answers_per_s),
            failed,
        ];
        table.row(&format!("{} s", number((point.at_s * 10.0).round() / 10.0)), row);
    }
    table.bare()
}
