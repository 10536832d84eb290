//! The view for a terminal: how far, what happened in the last seconds, and a bar for each of them.

use std::time::Duration;

use super::super::page::{Paint, Style};
use super::super::plot::LEVELS;
use super::super::units::count;
use super::super::wrap::{cut, length};
use super::{Lately, Watch, about, plural, rate};
use crate::load::live::{Account, Counts};

/// What a reading does not tell.
#[derive(Clone, Debug, Default)]
pub struct Now {
    /// What is being done.
    pub doing: String,
    /// How long it will still take, if the target answers.
    pub left: Option<Duration>,
    /// How long it takes from its beginning.
    pub of: Option<Duration>,
    /// Whether the run was asked to end early.
    pub stopping: bool,
}

/// The view's lines, none wider than `style.width`, however narrow that is.
pub fn view(watch: &Watch, now: &Now, style: Style) -> Vec<String> {
    let width = usize::from(style.width);
    let mut rows = vec![heading(watch, now)];
    rows.extend(share(watch, now).map(|share| progress(share, width)));
    rows.extend(facts(watch, width));
    rows.into_iter().map(|row| row.text(style.colour, width)).collect()
}

/// One line in pieces, each painted by itself.
#[derive(Default)]
struct Row(Vec<(Paint, String)>);

impl Row {
    fn of(paint: Paint, text: impl Into<String>) -> Row {
        Row::default().and(paint, text)
    }

    fn and(mut self, paint: Paint, text: impl Into<String>) -> Row {
        self.0.push((paint, text.into()));
        self
    }

    /// Cut where the terminal ends: a line that wraps would not be drawn over.
    fn text(self, colour: bool, width: usize) -> String {
        let mut left = width;
        let mut text = String::new();
        for (paint, piece) in self.0 {
            if left == 0 {
                break;
            }
            let piece = cut(&piece, left);
            left -= length(&piece).min(left);
            text.push_str(&paint.on(&piece, colour));
        }
        text
    }
}

fn heading(watch: &Watch, now: &Now) -> Row {
    let newest = watch.readings.back();
    let far = newest.and_then(|newest| watch.how_far(newest, &newest.measured()));
    let doing = match (now.stopping, far) {
        (true, _) => "stopping".to_owned(),
        (false, Some(far)) if now.doing.is_empty() => far,
        (false, _) => now.doing.clone(),
    };
    let row = Row::of(Paint::Strong, doing);
    match now.left {
        Some(left) if !now.stopping => {
            row.and(Paint::Faint, format!(", {} s left", left.as_secs_f64().ceil()))
        }
        _ => row,
    }
}

/// The share of the run that is over.
fn share(watch: &Watch, now: &Now) -> Option<f64> {
    let share = match watch.requests {
        Some(requests) => watch.readings.back()?.measured().over() as f64 / requests as f64,
        None => 1.0 - now.left?.as_secs_f64() / now.of?.as_secs_f64(),
    };
    share.is_finite().then(|| share.clamp(0.0, 1.0))
}

fn progress(share: f64, width: usize) -> Row {
    let room = width.min(80);
    let done = (share * room as f64).floor() as usize;
    Row::of(Paint::Good, "━".repeat(done)).and(Paint::Faint, "─".repeat(room - done))
}

/// A column for names, and one for numbers.
const NAMES: usize = 11;
const NUMBERS: usize = 14;

fn facts(watch: &Watch, width: usize) -> Vec<Row> {
    let (Some(newest), Some(lately)) = (watch.readings.back(), watch.lately()) else { return Vec::new() };
    let all = newest.all();
    // Before anything is measured there is something to see, too.
    let measured = if newest.window.is_some() { newest.measured() } else { newest.all() };
    let bars = |of: fn(&Lately) -> Option<f64>| bars(watch, width.saturating_sub(NAMES + NUMBERS + 1), of);
    let in_words = |q: Option<Duration>| q.map_or_else(|| "-".to_owned(), about);
    let mut rows = vec![
        fact("requests/s", rate(lately.per_s)).and(Paint::Faint, bars(|second| Some(second.per_s))),
        fact("p50", in_words(lately.p50)).and(Paint::Faint, bars(|second| nanoseconds(second.p50))),
        fact("p99", in_words(lately.p99)).and(Paint::Faint, bars(|second| nanoseconds(second.p99))),
        in_flight(&all),
        errors(&measured),
        fact("opened", plural(measured.opened, "connection")),
    ];
    let arms: Vec<_> = newest.accounts.iter().filter(|account| account.measured).collect();
    if arms.len() > 1 {
        rows.extend(arms.into_iter().map(arm));
    }
    rows
}

fn nanoseconds(time: Option<Duration>) -> Option<f64> {
    time.map(|time| time.as_nanos() as f64)
}

fn fact(name: &str, value: String) -> Row {
    Row::of(Paint::Faint, format!("{name:<NAMES$}")).and(Paint::Plain, format!("{value:<NUMBERS$} "))
}

fn in_flight(all: &Counts) -> Row {
    let row = fact("in flight", count(all.in_flight()));
    match all.waiting() {
        0 => row,
        waiting => row.and(Paint::Bad, format!("{} waiting", count(waiting))),
    }
}

/// How many, and of which kinds, the most frequent first.
fn errors(measured: &Counts) -> Row {
    let row = fact("errors", count(measured.failed()));
    let mut kinds: Vec<_> = measured.failures().filter(|(_, n)| *n > 0).collect();
    kinds.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let kinds: Vec<_> = kinds.into_iter().map(|(kind, n)| format!("{kind} {}", count(n))).collect();
    row.and(Paint::Bad, kinds.join(", "))
}

fn arm(account: &Account) -> Row {
    let counts = &account.counts;
    let quantile = |q: f64| counts.response.quantile(q).map_or_else(|| "-".to_owned(), about);
    let row = Row::of(Paint::Faint, format!("{:<NAMES$}", account.arm));
    row.and(
        Paint::Plain,
        format!(
            "{} answered, p50 {}, p99 {}, {}, {} opened",
            count(counts.completed),
            quantile(0.5),
            quantile(0.99),
            plural(counts.failed(), "error"),
            count(counts.opened)
        ),
    )
}

/// The last seconds, as many as there is room for, to the height of the highest.
fn bars(watch: &Watch, room: usize, of: impl Fn(&Lately) -> Option<f64>) -> String {
    let skip = watch.seconds.len().saturating_sub(room);
    let values: Vec<_> = watch.seconds.iter().skip(skip).map(of).collect();
    let most = values.iter().flatten().copied().fold(0.0, f64::max);
    let level = |value: Option<f64>| match value {
        Some(value) if most > 0.0 => LEVELS[((value / most * 8.0).ceil() as usize).clamp(1, 8)],
        _ => LEVELS[0],
    };
    values.into_iter().map(level).collect()
}
