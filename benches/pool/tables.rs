//! Rounds of visits, and the table of what they found.

use std::fmt;

use serde::Serialize;

use crate::usage::Cpu;

/// One comparison.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    title: String,
    unit: &'static str,
    against: String,
    rows: Vec<Measured>,
}

/// One contender's visits, in the order of the rounds.
#[derive(Debug, Serialize)]
struct Measured {
    name: String,
    total: Vec<f64>,
    user: Vec<f64>,
}

/// Visits everybody once a round, each round beginning with another.
pub(crate) fn rounds<V: Fn() -> Cpu>(
    title: String,
    unit: &'static str,
    scale: f64,
    rounds: usize,
    against: &str,
    visits: Vec<(&str, V)>,
) -> Table {
    let name = |(name, _): &(&str, V)| Measured { name: (*name).to_owned(), total: vec![], user: vec![] };
    let mut rows: Vec<Measured> = visits.iter().map(name).collect();
    for round in 0..rounds {
        for place in 0..visits.len() {
            let place = (round + place) % visits.len();
            let used = (visits[place].1)();
            rows[place].total.push(used.total * scale);
            rows[place].user.push(used.user * scale);
        }
    }
    Table { title, unit, against: against.to_owned(), rows }
}

/// Median, lowest, highest.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = (sorted[(sorted.len() - 1) / 2] + sorted[sorted.len() / 2]) / 2.0;
    (middle, sorted[0], sorted[sorted.len() - 1])
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.rows.iter().find(|row| row.name == self.against).expect("one of them");
        writeln!(f, "{} ({}, {} rounds)\n", self.title, self.unit, base.total.len())?;
        let ratio = format!("x {}", self.against);
        writeln!(
            f,
            "{:<38} {:>7} {:>7} {:>7}  {:>17}  {ratio}",
            "", "total", "user", "system", "lowest-highest"
        )?;
        for row in &self.rows {
            let (total, lowest, highest) = spread(&row.total);
            let user = spread(&row.user).0;
            // Two visits of one round beside each other.
            let ratios: Vec<f64> =
                row.total.iter().zip(&base.total).map(|(one, other)| one / other).collect();
            let (ratio, least, most) = spread(&ratios);
            writeln!(
                f,
                "{:<38} {total:>7.2} {user:>7.2} {:>7.2}  {:>17}  {ratio:.3} ({least:.3}-{most:.3})",
                row.name,
                (total - user).max(0.0),
                format!("{lowest:.2}-{highest:.2}"),
            )?;
        }
        Ok(())
    }
}
