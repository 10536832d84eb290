//! [`Soak`]: what many connections came to that were all idle for one chosen time.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CloseKind, Probed, Spread};
use crate::machine::Machine;
use crate::measurement::Tool;
use crate::plan::ns;
use crate::saved;

/// The version of the saved form.
pub const SOAK_SCHEMA: &str = "keeplive.soak/1";

/// The confidence of [`Soak::death_rate_bound`].
const CONFIDENCE: f64 = 0.95;

/// How many connections lived through an idle time, and how the others ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Soak {
    /// [`SOAK_SCHEMA`].
    pub schema: String,
    /// What soaked.
    pub tool: Tool,
    /// The command line.
    pub command: Vec<String>,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    #[serde(rename = "took_ns", with = "ns")]
    pub took: Duration,
    /// Where it soaked from.
    pub machine: Machine,
    /// What was soaked.
    pub target: Probed,
    /// The idle time.
    #[serde(rename = "idle_ns", with = "ns")]
    pub idle: Duration,
    /// The most connections held at a time.
    pub connections: u32,
    /// How often each place was filled anew.
    pub rounds: u32,
    /// Connections that tell something: those that were idle for the whole time, or ended before.
    pub tried: u64,
    /// Of those, the ones that answered afterwards.
    pub alive: u64,
    /// The others, by how they ended.
    pub deaths: Vec<Deaths>,
    /// Answers of 502, 503 or 504 after the idle time, where the first answer was none; they are not among `alive`.
    pub gateway_errors: u64,
    /// Connections that tell nothing: this machine was late, or the soak was stopped.
    pub discarded: u64,
    /// Connections that never came to be idle: refused, or without a first answer.
    pub failed_to_open: u64,
    /// With 95 % confidence no more than this share of connections dies (Clopper and Pearson 1934, one-sided; without
    /// deaths the rule of three, 3/n); `None`: nothing was tried.
    pub death_rate_bound: Option<f64>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

/// Connections that ended in one way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Deaths {
    /// How; `None`: acknowledged and never answered.
    pub close: Option<CloseKind>,
    /// How many, and after which idle times.
    pub at: Spread,
}

impl Soak {
    /// Writes it into a folder, which is made if need be, under a name of its own: whole or not at all, and never over
    /// another one.
    ///
    /// # Errors
    ///
    /// Whatever the file system says, with the path.
    pub fn save(&self, folder: &Path) -> io::Result<PathBuf> {
        saved::write(folder, &self.started, "soak", self)
    }

    /// Reads what was saved.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when it is not a soak's result of a version that is understood, with the place;
    /// otherwise what the file system says.
    pub fn load(path: &Path) -> io::Result<Soak> {
        saved::open(path, SOAK_SCHEMA)?.read(SOAK_SCHEMA)
    }

    /// Connections that a client would have lost.
    pub fn lost(&self) -> u64 {
        self.tried - self.alive
    }

    /// Whether enough was tried and all of it lived.
    pub fn is_safe(&self) -> bool {
        self.is_told() && self.lost() == 0
    }

    /// Whether it tells anything: some were lost, or at least as many were tried as could not be.
    pub fn is_told(&self) -> bool {
        self.lost() > 0 || (self.tried > 0 && self.tried >= self.discarded.max(self.failed_to_open))
    }

    /// What it came to, in a sentence.
    pub fn sentence(&self) -> String {
        let Soak { idle, tried, alive, .. } = self;
        let idle = idle.as_secs_f64();
        let Some(bound) = self.death_rate_bound.map(|bound| bound * 100.0) else {
            return format!("no connection was idle for {idle} s: nothing can be said");
        };
        if self.is_safe() {
            return format!(
                "{idle} s of idleness is safe as far as {tried} connections tell: all answered afterwards, so that fewer \
                 than {bound:.2} % die of it (95 % confidence)"
            );
        }
        if !self.is_told() {
            let rest = self.discarded.max(self.failed_to_open);
            return format!(
                "only {tried} connections were idle for {idle} s, and all answered afterwards; {rest} tell nothing, so that \
                 no more can be said"
            );
        }
        if *alive == 0 {
            return format!("{idle} s of idleness is not safe: all {tried} connections were lost");
        }
        let lost = self.lost();
        format!(
            "{idle} s of idleness is not safe: {lost} of {tried} connections were lost ({alive} answered), so that up to \
             {bound:.2} % die of it (95 % confidence)"
        )
    }
}

/// The largest share of deaths that is compatible, at 95 %, with so many of so many; `None` of none.
pub fn death_rate_bound(deaths: u64, of: u64) -> Option<f64> {
    if of == 0 {
        return None;
    }
    if deaths >= of {
        return Some(1.0);
    }
    let (mut low, mut high) = (deaths as f64 / of as f64, 1.0);
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if at_most(deaths, of, middle) > 1.0 - CONFIDENCE { low = middle } else { high = middle }
    }
    Some(high)
}

/// The probability of at most so many deaths of so many, each with this probability.
fn at_most(deaths: u64, of: u64, p: f64) -> f64 {
    if p <= 0.0 || p >= 1.0 {
        return if p <= 0.0 { 1.0 } else { 0.0 };
    }
    let (n, odds) = (of as f64, (p / (1.0 - p)).ln());
    let mut log = n * (-p).ln_1p();
    let mut sum = log.exp();
    for k in 0..deaths {
        let k = k as f64;
        log += ((n - k) / (k + 1.0)).ln() + odds;
        sum += log.exp();
    }
    sum
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// So many lived of so many; the others ended with a FIN.
    pub(crate) fn soaked(alive: u64, tried: u64) -> Soak {
        let idle = Duration::from_secs(55);
        let at =
            Spread { n: u32::try_from(tried - alive).unwrap(), min: idle / 2, median: idle / 2, max: idle };
        let deaths =
            if alive < tried { vec![Deaths { close: Some(CloseKind::Fin), at }] } else { Vec::new() };
        Soak {
            schema: SOAK_SCHEMA.into(),
            tool: Tool { name: "keeplive".into(), version: "0".into() },
            command: vec!["soak".into()],
            started: "2026-11-22T12:00:00Z".into(),
            took: idle * 2,
            machine: Machine::default(),
            target: Probed { url: "http://shop.test/".into(), ..Probed::default() },
            idle,
            connections: 100,
            rounds: 1,
            tried,
            alive,
            deaths,
            gateway_errors: 0,
            discarded: 0,
            failed_to_open: 0,
            death_rate_bound: death_rate_bound(tried - alive, tried),
            interrupted: false,
        }
    }

    #[test]
    fn no_bound_is_told_where_nothing_was_tried_or_nothing_lived() {
        assert_eq!(soaked(0, 0).sentence(), "no connection was idle for 55 s: nothing can be said");
        assert_eq!(soaked(0, 7).sentence(), "55 s of idleness is not safe: all 7 connections were lost");
        assert!(soaked(95, 100).sentence().contains("up to 10.2"), "{}", soaked(95, 100).sentence());
        assert!(soaked(300, 300).sentence().contains("fewer than 0.99 %"), "{}", soaked(300, 300).sentence());
    }

    #[test]
    fn few_of_many_tell_of_a_death_and_not_of_safety() {
        let with_rest = |alive, discarded, failed_to_open| {
            let soak = Soak { discarded, failed_to_open, ..soaked(alive, 3) };
            (soak.is_safe(), soak.is_told(), soak.sentence())
        };
        assert!(with_rest(3, 3, 0).0);
        for (safe, told, sentence) in [with_rest(3, 17, 0), with_rest(3, 0, 97)] {
            assert!(
                !safe && !told && sentence.starts_with("only 3 connections were idle for 55 s"),
                "{sentence}"
            );
        }
        let (safe, told, sentence) = with_rest(2, 17, 0);
        assert!(!safe && told && sentence.contains("1 of 3 connections were lost"), "{sentence}");
    }

    #[test]
    fn without_deaths_the_bound_is_the_rule_of_three() {
        assert_eq!(death_rate_bound(0, 0), None);
        assert_eq!(death_rate_bound(7, 7), Some(1.0));
        for n in [30_u64, 300, 10_000] {
            let (bound, rule) = (death_rate_bound(0, n).unwrap(), 3.0 / n as f64);
            assert!(bound < rule && bound > 0.95 * rule, "{n}: {bound}");
        }
    }

    #[test]
    fn with_deaths_it_is_the_bound_of_the_tables() {
        // R: binom.test(x, n, alternative = "less")$conf.int[2]
        for (deaths, of, bound) in [(1, 100, 0.046_56), (5, 100, 0.102_25), (50, 1000, 0.062_99)] {
            let found = death_rate_bound(deaths, of).unwrap();
            assert!((found - bound).abs() < 0.000_3, "{deaths} of {of}: {found}");
        }
    }
}
