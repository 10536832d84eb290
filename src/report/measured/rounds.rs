//! How sure a difference is: what both arms did in each round, joined, and below it the difference of each round with
//! the interval that all of them give.

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::compare::{Comparison, Difference, Metric, RoundValues};
use crate::report::chart::{
    Area, Axis, BAND, Drawn, INK, LINE, NARROW, WIDE, is_narrow, legend_mark, mark, number, of_arm, svg, text,
};
use crate::report::html::Figure;
use crate::report::table::Table;
use crate::report::units::{factor_range, nanoseconds, percent_range, three_digits};

/// One picture for each arm that the control is set against.
pub(super) fn figures(comparison: &Comparison) -> Vec<Markup> {
    let metric = if comparison.latencies_comparable { Metric::P50 } else { Metric::RequestsPerS };
    let arms = comparison.arms.iter().enumerate().skip(1);
    arms.filter_map(|(nth, arm)| figure(comparison.difference(&arm.name, metric)?, nth)).collect()
}

fn figure(difference: &Difference, nth: usize) -> Option<Markup> {
    difference.interval.filter(|_| !difference.by_round.is_empty())?;
    let picture = |width| {
        let height = if is_narrow(width) { 330 } else { 380 };
        svg(width, height, |area| draw(area, difference, nth, width))
    };
    let legend = html! {
        ul.legend {
            li { span aria-hidden="true" { (PreEscaped(legend_mark(0))) } (difference.control) }
            li { span aria-hidden="true" { (PreEscaped(legend_mark(nth))) } (difference.arm) }
        }
    };
    let says = in_words(difference);
    Some(
        Figure {
            wide: picture(WIDE)?,
            narrow: picture(NARROW)?,
            says: &says,
            legend,
            data: Some(table(difference)),
        }
        .markup(),
    )
}

fn in_words(difference: &Difference) -> String {
    let n = difference.by_round.len();
    let better = difference.by_round.iter().filter(|round| effect(difference, round) > 0.0).count();
    let (what, interval) = match difference.saving() {
        Some(saving) => (
            "median response time",
            saving.share_interval.map(|share| format!("saved, 95 % interval {}", percent_range(share))),
        ),
        None => {
            ("requests per second", difference.interval.map(|ratio| format!("{} times", factor_range(ratio))))
        }
    };
    // Where a round has too few responses for the median, several are taken together, and shown at the first.
    let (each, all) = match difference.rounds_per_block {
        1 => ("round".to_owned(), "rounds".to_owned()),
        several => (format!("block of {several} rounds"), format!("blocks of {several} rounds")),
    };
    format!(
        "Above, the {what} of {} and {} in each {each}, joined; below, the difference of each, with the 95 % \
         interval shaded. {} was the better one in {better} of {n} {all}: {}.",
        difference.control,
        difference.arm,
        difference.control,
        interval.unwrap_or_default()
    )
}

/// By how much the control is better in a round: the share of the time that it saves, or by which it makes more.
fn effect(difference: &Difference, round: &RoundValues) -> f64 {
    share(difference, round.control / round.arm)
}

fn share(difference: &Difference, ratio: f64) -> f64 {
    if difference.metric.is_time() { 1.0 - ratio } else { ratio - 1.0 }
}

fn value(metric: Metric, value: f64) -> String {
    if metric.is_time() { nanoseconds(value) } else { format!("{}/s", three_digits(value)) }
}

fn draw(area: &Area<'_>, difference: &Difference, nth: usize, width: u32) -> Drawn {
    let height = area.dim_in_pixel().1;
    let (above, below) = area.split_vertically(height * 45 / 100);
    let rounds = &difference.by_round;
    let last = rounds.iter().map(|round| round.round).max().unwrap_or(0);
    let ticks = round_ticks(last + 1, if is_narrow(width) { 5 } else { 10 });
    let axis = Axis::new(0.0..f64::from(last) + 2.0, ticks);
    let place = |round: &RoundValues| f64::from(round.round) + 1.0;
    let all = || rounds.iter().flat_map(|round| [round.control, round.arm]);
    let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let left = if is_narrow(width) { 58 } else { 70 };
    let is_time = difference.metric.is_time();
    let values = if is_time { Axis::of_times(least, most, 4) } else { Axis::linear(0.0, most, number) };
    let scaled = |value: f64| if is_time { value.max(1.0).log10() } else { value };
    let mut chart = ChartBuilder::on(&above)
        .margin_right(12)
        .margin_top(10)
        .margin_bottom(4)
        .y_label_area_size(left)
        .build_cartesian_2d(axis.clone(), values)?;
    mesh(&mut chart, width, "")?;
    for round in rounds {
        let (control, arm) = (
            chart.backend_coord(&(place(round), scaled(round.control))),
            chart.backend_coord(&(place(round), scaled(round.arm))),
        );
        area.draw(&PathElement::new(vec![control, arm], LINE.stroke_width(2)))?;
        mark(area, nth, arm)?;
        mark(area, 0, control)?;
    }
    let effects = || rounds.iter().map(|round| effect(difference, round));
    let bounds = difference.interval.map(|it| (share(difference, it.lower), share(difference, it.upper)));
    let seen = || effects().chain(bounds.into_iter().flat_map(|(one, other)| [one, other]));
    let (low, high) = (seen().fold(f64::INFINITY, f64::min), seen().fold(f64::NEG_INFINITY, f64::max));
    // Far from "no difference" the spread of the rounds would be a line: then zero is off the axis.
    let far = low * high > 0.0 && high - low < low.abs().min(high.abs()) / 2.0;
    let axis_of = if far { Axis::between } else { Axis::linear };
    let shares = axis_of(low, high, |share| format!("{} %", number(share * 100.0)));
    let mut chart = ChartBuilder::on(&below)
        .margin_right(12)
        .margin_top(8)
        .x_label_area_size(44)
        .y_label_area_size(left)
        .build_cartesian_2d(axis.clone(), shares)?;
    let ends = axis.ends();
    if let Some((one, other)) = bounds {
        let corners = [(ends.start, one), (ends.end, other)];
        chart.draw_series([Rectangle::new(corners, BAND.filled())])?;
        // An interval may be thinner than a pixel.
        for bound in [one, other] {
            chart.draw_series([PathElement::new(
                vec![(ends.start, bound), (ends.end, bound)],
                INK.stroke_width(1),
            )])?;
        }
    }
    mesh(&mut chart, width, "round")?;
    if !far {
        chart
            .draw_series([PathElement::new(vec![(ends.start, 0.0), (ends.end, 0.0)], INK.stroke_width(2))])?;
    }
    for round in rounds {
        let at = chart.backend_coord(&(place(round), effect(difference, round)));
        area.draw(&Circle::new(at, 3, of_arm(nth).filled()))?;
    }
    Ok(())
}

fn mesh(
    chart: &mut ChartContext<'_, SVGBackend<'_>, Cartesian2d<Axis, Axis>>,
    width: u32,
    x_name: &str,
) -> Drawn {
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE)
        .axis_style(LINE)
        .x_label_style(text(width, INK, HPos::Center))
        .y_label_style(text(width, INK, HPos::Right))
        .x_desc(x_name)
        .axis_desc_style(text(width, INK, HPos::Center))
        .draw()
}

/// Rounds are counted from 1 for readers.
fn round_ticks(rounds: u32, most: u32) -> Vec<(f64, String)> {
    let rough = rounds.div_ceil(most).max(1);
    let step = [1, 2, 5, 10, 20, 50, 100, 200, 500].into_iter().find(|step| *step >= rough).unwrap_or(rough);
    (1..=rounds)
        .filter(|round| round % step == 0 || *round == 1)
        .map(|round| (f64::from(round), round.to_string()))
        .collect()
}

fn table(difference: &Difference) -> Markup {
    let names = [difference.control.clone(), difference.arm.clone(), "difference".to_owned()];
    let mut table = Table::new("Round", names);
    for round in &difference.by_round {
        let metric = difference.metric;
        let effect = format!("{} %", number(effect(difference, round) * 100.0));
        let row = [value(metric, round.control), value(metric, round.arm), effect];
        table.row(&(round.round + 1).to_string(), row);
    }
    table.bare()
}
