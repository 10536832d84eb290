//! What an arm's time, or its requests, are made of: one bar for each arm, its parts side by side in one order.

use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::compare::{ArmSummary, Comparison};
use crate::measurement::Ledger;
use crate::report::chart::Area;
use crate::report::chart::{
    Axis, Drawn, INK, LINE, NARROW, ON_LIGHT, WIDE, is_narrow, legend_part, number, of_part, svg, text,
};
use crate::report::html::Figure;
use crate::report::table::Table;
use crate::report::units::{nanoseconds, percent};

/// A bar's height with the name above it.
const ROW: u32 = 56;

/// One arm's parts. All arms have the same parts, in the same order.
struct Bar<'a> {
    name: &'a str,
    parts: Vec<(&'static str, f64)>,
}

/// The mean response time by phase.
pub(super) fn phases(comparison: &Comparison) -> Option<Markup> {
    let bars: Vec<Bar<'_>> = comparison
        .arms
        .iter()
        .filter(|arm| arm.phases.requests > 0)
        .map(|arm| Bar { name: &arm.name, parts: arm.phases.mean().to_vec() })
        .collect();
    let largest: Vec<String> = bars
        .iter()
        .filter_map(|bar| {
            let (part, ns) = bar.parts.iter().max_by(|a, b| a.1.total_cmp(&b.1))?;
            let whole: f64 = bar.parts.iter().map(|(_, ns)| ns).sum();
            (whole > 0.0).then(|| {
                format!("of {}'s mean of {}, {} are {part}", bar.name, nanoseconds(whole), nanoseconds(*ns))
            })
        })
        .collect();
    let says =
        format!("Mean response time by phase; means add up, percentiles do not: {}.", largest.join("; "));
    let most = most(&bars);
    let (unit, name) = [(1e9, "s"), (1e6, "ms"), (1e3, "µs")]
        .into_iter()
        .find(|(unit, _)| most >= *unit)
        .unwrap_or((1.0, "ns"));
    figure(&bars, &says, None, &|ns| format!("{} {name}", number(ns / unit)))
}

/// Requests by what they went over, washouts included.
pub(super) fn reuse(comparison: &Comparison) -> Option<Markup> {
    let bars: Vec<Bar<'_>> = comparison
        .arms
        .iter()
        .filter_map(|arm| Some(Bar { name: &arm.name, parts: shares(&arm.connections)? }))
        .collect();
    let used: Vec<String> =
        bars.iter().map(|bar| format!("{} of {}'s", percent(bar.parts[0].1), bar.name)).collect();
    let says = format!(
        "Requests by the connection they went over, washouts included: {} went over a used one.",
        used.join(", ")
    );
    let ledger = |arm: &ArmSummary| shares(&arm.connections);
    let mut table = Table::new("Share of the requests", comparison.arms.iter().map(|arm| arm.name.clone()));
    for nth in 0..4 {
        let all: Vec<_> = comparison.arms.iter().map(|arm| ledger(arm).map(|parts| parts[nth])).collect();
        let Some((name, _)) = all.iter().flatten().next() else { continue };
        table.row(name, all.iter().map(|part| part.map_or_else(|| "–".into(), |(_, share)| percent(share))));
    }
    figure(&bars, &says, Some(table.bare()), &|share| format!("{} %", number(share * 100.0)))
}

/// How a connection was come by, as shares of all uses.
fn shares(ledger: &Ledger) -> Option<Vec<(&'static str, f64)>> {
    let &Ledger { opened, reused, handshakes_full, handshakes_resumed, .. } = ledger;
    let all = opened + reused;
    let plain = opened.saturating_sub(handshakes_full + handshakes_resumed);
    let share = |n: u64| n as f64 / all as f64;
    (all > 0).then(|| {
        vec![
            ("used connection", share(reused)),
            ("new connection", share(plain)),
            ("new, TLS resumed", share(handshakes_resumed)),
            ("new, TLS in full", share(handshakes_full)),
        ]
    })
}

fn most(bars: &[Bar<'_>]) -> f64 {
    bars.iter().map(|bar| bar.parts.iter().map(|(_, value)| value).sum()).fold(0.0, f64::max)
}

fn figure(bars: &[Bar<'_>], says: &str, data: Option<Markup>, say: &dyn Fn(f64) -> String) -> Option<Markup> {
    let most = most(bars);
    if bars.is_empty() || most <= 0.0 {
        return None;
    }
    let picture = |width| {
        let height = 40 + ROW * u32::try_from(bars.len()).ok()?;
        svg(width, height, |area| draw(area, bars, Axis::linear(0.0, most, say), width))
    };
    let shown: Vec<(usize, &str)> = (0..bars[0].parts.len())
        .filter(|&nth| bars.iter().any(|bar| bar.parts[nth].1 > 0.0))
        .map(|nth| (nth, bars[0].parts[nth].0))
        .collect();
    let legend = html! {
        ul.legend aria-label="From left to right" {
            @for (nth, name) in shown { li { span aria-hidden="true" { (PreEscaped(legend_part(nth))) } (name) } }
        }
    };
    Some(Figure { wide: picture(WIDE)?, narrow: picture(NARROW)?, says, legend, data }.markup())
}

fn draw(area: &Area<'_>, bars: &[Bar<'_>], axis: Axis, width: u32) -> Drawn {
    let right = if is_narrow(width) { 20 } else { 26 };
    let mut chart = ChartBuilder::on(area)
        .margin_left(14)
        .margin_right(right)
        .x_label_area_size(34)
        .build_cartesian_2d(axis, 0.0..bars.len() as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .light_line_style(TRANSPARENT)
        .bold_line_style(LINE)
        .axis_style(LINE)
        .x_label_style(text(width, INK, HPos::Center))
        .draw()?;
    for (row, bar) in bars.iter().enumerate() {
        let (_, top) = chart.backend_coord(&(0.0, (bars.len() - row) as f64));
        let (from, to) = (top + 24, top + 48);
        let mut sum = 0.0;
        area.draw_text(
            bar.name,
            &text(width, INK, HPos::Left),
            (chart.backend_coord(&(0.0, 0.0)).0, top + 13),
        )?;
        for (nth, (name, value)) in bar.parts.iter().enumerate().filter(|(_, (_, value))| *value > 0.0) {
            let place = |at| chart.backend_coord(&(at, 0.0)).0;
            let (left, right) = (place(sum), place(sum + value));
            sum += value;
            let corners = [(left, from), (right, to)];
            area.draw(&Rectangle::new(corners, of_part(nth).filled()))?;
            area.draw(&Rectangle::new(corners, ON_LIGHT.stroke_width(1)))?;
            // About seven pixels for each letter.
            if right - left > 7 * i32::try_from(name.len()).unwrap_or(i32::MAX / 7) + 6 {
                area.draw_text(
                    name,
                    &text(width, ON_LIGHT, HPos::Center),
                    ((left + right) / 2, (from + to) / 2),
                )?;
            }
        }
    }
    Ok(())
}
