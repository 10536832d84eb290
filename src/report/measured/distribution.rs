//! Where response times lie: all arms' histograms over one axis, and their percentiles to the far tail.

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::compare::ArmSummary;
use crate::histogram::Histogram;
use crate::report::chart::{
    Area, Axis, Drawn, INK, LINE, NARROW, WIDE, is_narrow, legend_mark, mark, of_arm, svg, text,
};
use crate::report::html::Figure;
use crate::report::table::Table;
use crate::report::units::{count, time, time_or_more};

/// The height of one arm's histogram in pixels.
const ROW: u32 = 92;
/// The percentiles that stand at a tick, with how many samples in so many lie above.
const NAMED: [(f64, &str); 6] =
    [(0.0, "0"), (0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99.9"), (0.9999, "p99.99")];
/// A percentile with fewer samples above it is drawn thin: it is little more than where those few fell.
const TAIL: f64 = 10.0;

/// Arms that have an answer, with their place in the plan.
fn measured(all: &[ArmSummary]) -> Vec<(usize, &ArmSummary)> {
    let arms = all.iter().enumerate();
    arms.filter(|(_, arm)| !arm.response_histogram.is_empty()).collect()
}

/// The least and the most of all arms in nanoseconds.
fn ends(arms: &[(usize, &ArmSummary)]) -> Option<(f64, f64)> {
    let ns = |time: std::time::Duration| time.as_nanos() as f64;
    let least = arms.iter().filter_map(|(_, arm)| arm.response_histogram.min()).min()?;
    let most = arms.iter().filter_map(|(_, arm)| arm.response_histogram.max()).max()?;
    Some((ns(least), ns(most)))
}

/// Histograms one above the other, over one logarithmic axis.
pub(in crate::report) fn histograms(all: &[ArmSummary]) -> Option<Markup> {
    let arms = measured(all);
    let (least, most) = ends(&arms)?;
    let picture = |width| {
        let height = 34 + ROW * u32::try_from(arms.len()).ok()?;
        let axis = Axis::of_times(least, most, if is_narrow(width) { 4 } else { 9 });
        svg(width, height, |area| draw_histograms(area, &arms, &axis, width))
    };
    let medians: Vec<String> = arms
        .iter()
        .filter_map(|(_, arm)| Some(format!("{} has its median at {}", arm.name, time(arm.response?.p50))))
        .collect();
    let says = format!(
        "Histograms of the response times on one logarithmic axis, each to its own height; the line is the median: {}.",
        medians.join(", ")
    );
    Some(
        Figure {
            wide: picture(WIDE)?,
            narrow: picture(NARROW)?,
            says: &says,
            legend: html! {},
            data: Some(bins(&arms)),
        }
        .markup(),
    )
}

fn draw_histograms(area: &Area<'_>, arms: &[(usize, &ArmSummary)], axis: &Axis, width: u32) -> Drawn {
    let rows = area.margin(0, 34, 0, 0).split_evenly((arms.len(), 1));
    let (left, right) = (8, 16);
    for ((nth, arm), row) in arms.iter().zip(&rows) {
        let mut chart = ChartBuilder::on(row)
            .margin_left(left)
            .margin_right(right)
            .margin_top(22)
            .build_cartesian_2d(axis.clone(), 0.0..1.0)?;
        let outline = outline(&arm.response_histogram, axis, (width / 3) as usize);
        let colour = of_arm(*nth);
        let closed = [outline.first(), outline.last()].map(|end| (end.map_or(0.0, |(x, _)| *x), 0.0));
        let shape: Vec<(f64, f64)> =
            [closed[0]].into_iter().chain(outline.iter().copied()).chain([closed[1]]).collect();
        chart.draw_series([Polygon::new(shape, colour.mix(0.3))])?;
        chart.draw_series([PathElement::new(outline, colour.stroke_width(2))])?;
        let ends = axis.ends();
        chart.draw_series([PathElement::new(
            vec![(ends.start, 0.0), (ends.end, 0.0)],
            LINE.stroke_width(1),
        )])?;
        let Some(points) = arm.response else { continue };
        let median = (points.p50.as_nanos() as f64).max(1.0).log10();
        let (foot, head) = (chart.backend_coord(&(median, 0.0)), chart.backend_coord(&(median, 1.0)));
        area.draw(&PathElement::new(vec![foot, (head.0, head.1 - 4)], INK.stroke_width(1)))?;
        let name = format!("{}, median {}", arm.name, time(points.p50));
        // To that side of its line on which there is more room.
        let in_the_left = f64::from(head.0) < f64::from(width) * 0.55;
        let (at, across) = if in_the_left { (head.0 + 4, HPos::Left) } else { (head.0 - 4, HPos::Right) };
        area.draw_text(&name, &text(width, INK, across), (at, head.1 - 10))?;
    }
    let bottom = area.margin(i32::try_from(area.dim_in_pixel().1).unwrap_or(34) - 34, 0, 0, 0);
    ChartBuilder::on(&bottom)
        .margin_left(left)
        .margin_right(right)
        .x_label_area_size(33)
        .build_cartesian_2d(axis.clone(), 0.0..1.0)?
        .configure_mesh()
        .disable_mesh()
        .disable_y_axis()
        .axis_style(LINE)
        .x_label_style(text(width, INK, HPos::Center))
        .draw()
}

/// The shape of a histogram: how many lie in each of so many columns, the highest being 1.
fn outline(histogram: &Histogram, axis: &Axis, columns: usize) -> Vec<(f64, f64)> {
    let ends = axis.ends();
    let span = ends.end - ends.start;
    let mut counts = vec![0_u64; columns];
    for bucket in histogram.counts().iter_recorded() {
        let at = ((bucket.value_iterated_to().max(1) as f64).log10() - ends.start) / span;
        let column = ((at * columns as f64).max(0.0) as usize).min(columns - 1);
        counts[column] += bucket.count_since_last_iteration();
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1) as f64;
    let place = |nth: usize| ends.start + span * (nth as f64 + 0.5) / columns as f64;
    counts.iter().enumerate().map(|(nth, &n)| (place(nth), n as f64 / most)).collect()
}

/// The counts in coarser steps, as a table.
fn bins(arms: &[(usize, &ArmSummary)]) -> Markup {
    let Some((least, most)) = ends(arms) else { return html! {} };
    const STEPS: usize = 16;
    let edge = |nth: usize| least * (most * 1.001 / least).powf(nth as f64 / STEPS as f64);
    let duration = |ns: f64| std::time::Duration::from_nanos(ns as u64);
    let mut table = Table::new("Response times", arms.iter().map(|(_, arm)| arm.name.clone()));
    for nth in 0..STEPS {
        // The first step begins below the least, the last ends beyond the most.
        let low = if nth == 0 { 0.0 } else { edge(nth) };
        let high = if nth + 1 == STEPS { u64::MAX as f64 } else { edge(nth + 1) };
        let n = |arm: &ArmSummary| count(arm.response_histogram.count_between(duration(low), duration(high)));
        let name = format!("{} to {}", time(duration(edge(nth))), time(duration(edge(nth + 1).min(most))));
        table.row(&name, arms.iter().map(|(_, arm)| n(arm)));
    }
    table.bare()
}

/// The place of a quantile on the tail axis: each nine takes as much room.
fn place(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// Percentiles on a logarithmic tail axis.
pub(in crate::report) fn percentiles(all: &[ArmSummary]) -> Option<Markup> {
    let arms = measured(all);
    let (least, most) = ends(&arms)?;
    let picture = |width| {
        let height = if is_narrow(width) { 280 } else { 340 };
        svg(width, height, |area| draw_percentiles(area, &arms, (least, most), width))
    };
    let far: Vec<String> = arms
        .iter()
        .filter_map(|(_, arm)| {
            let points = arm.response?;
            Some(format!(
                "{} goes from {} at p50 to {} at p99 and {} at most",
                arm.name,
                time_or_more(points.p50, points.is_at_least(0.5)),
                time_or_more(points.p99, points.is_at_least(0.99)),
                time_or_more(points.max, points.is_at_least(1.0))
            ))
        })
        .collect();
    let says = format!(
        "Response time by percentile; every further nine takes the same room. {}. Thin where fewer than ten samples lie \
         beyond.",
        far.join("; ")
    );
    let legend = html! {
        ul.legend {
            @for (nth, arm) in &arms {
                li { span aria-hidden="true" { (PreEscaped(legend_mark(*nth))) } (arm.name) }
            }
        }
    };
    Some(
        Figure {
            wide: picture(WIDE)?,
            narrow: picture(NARROW)?,
            says: &says,
            legend,
            data: Some(quantiles(&arms)),
        }
        .markup(),
    )
}

fn draw_percentiles(
    area: &Area<'_>,
    arms: &[(usize, &ArmSummary)],
    (least, most): (f64, f64),
    width: u32,
) -> Drawn {
    let ticks = NAMED.iter().map(|(q, name)| (place(*q), (*name).to_owned())).collect();
    let mut chart = ChartBuilder::on(area)
        .margin_right(24)
        .margin_top(10)
        .x_label_area_size(30)
        .y_label_area_size(if is_narrow(width) { 54 } else { 66 })
        .build_cartesian_2d(Axis::new(0.0..4.0, ticks), Axis::of_times(least, most, 8))?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE)
        .axis_style(LINE)
        .x_label_style(text(width, INK, HPos::Center))
        .y_label_style(text(width, INK, HPos::Right))
        .draw()?;
    for (nth, arm) in arms {
        let colour = of_arm(*nth);
        let (thick, thin) = curve(&arm.response_histogram);
        chart.draw_series([PathElement::new(thick, colour.stroke_width(3))])?;
        chart.draw_series([PathElement::new(thin, colour.stroke_width(1))])?;
        for (quantile, _) in &NAMED[1..] {
            if above(&arm.response_histogram, *quantile) < 1.0 {
                continue;
            }
            let Some(at) = arm.response_histogram.quantile(*quantile) else { continue };
            mark(area, *nth, chart.backend_coord(&(place(*quantile), logarithm(at))))?;
        }
    }
    Ok(())
}

fn logarithm(time: std::time::Duration) -> f64 {
    (time.as_nanos() as f64).max(1.0).log10()
}

/// How many samples lie above a quantile.
fn above(histogram: &Histogram, quantile: f64) -> f64 {
    histogram.len() as f64 * (1.0 - quantile) + 1e-6
}

/// The curve as far as its tail holds enough, and the rest as far as there is a sample.
type Curve = Vec<(f64, f64)>;
fn curve(histogram: &Histogram) -> (Curve, Curve) {
    let (mut thick, mut thin) = (Vec::new(), Vec::new());
    for nth in 0..=200 {
        let x = f64::from(nth) / 50.0;
        let quantile = 1.0 - 10_f64.powf(-x);
        let above = above(histogram, quantile);
        let Some(at) = histogram.quantile(quantile).filter(|_| above >= 1.0) else { break };
        let point = (x, logarithm(at));
        if above >= TAIL {
            // The thin line goes on where the thick one ends.
            thick.push(point);
            thin = vec![point];
        } else {
            thin.push(point);
        }
    }
    (thick, thin)
}

fn quantiles(arms: &[(usize, &ArmSummary)]) -> Markup {
    let mut table = Table::new("Percentile", arms.iter().map(|(_, arm)| arm.name.clone()));
    for (quantile, name) in NAMED {
        let name = if quantile == 0.0 { "least" } else { name };
        let value = |arm: &ArmSummary| {
            let histogram = &arm.response_histogram;
            let at = if quantile == 0.0 { histogram.min() } else { histogram.quantile(quantile) };
            at.filter(|_| above(histogram, quantile) >= 1.0).map_or_else(|| "–".into(), time)
        };
        table.row(name, arms.iter().map(|(_, arm)| value(arm)));
    }
    table.row(
        "max",
        arms.iter().map(|(_, arm)| arm.response_histogram.max().map_or_else(|| "–".into(), time)),
    );
    table.bare()
}
