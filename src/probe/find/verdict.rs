//! Verdicts other than one timer: several, none, none within reach, and not enough seen.

use super::super::judge::{self, End, Shape};
use super::{Search, count, is_alive, is_told};
use crate::findings::{Caveat, CaveatKind, Cluster, Fate, IdleTimeout, Spread, Tally, Verdict};

impl Search<'_, '_> {
    /// The answer where ends are of no one timer.
    pub(super) fn mixed(&mut self) -> IdleTimeout {
        let ends: Vec<End> = (1..=self.wave).flat_map(|wave| self.ends(wave)).collect();
        let all = judge::spread(ends.iter().map(|end| end.idle));
        let mut timeout = self.evidence(Verdict::Unstable);
        timeout.seen = all;
        timeout.close = judge::usual_close(ends.iter().map(|end| end.close)).or(timeout.close);
        match judge::shape(&ends) {
            Shape::Several(clusters) => self.several(timeout, clusters),
            Shape::TimerAndShed(seen, early) => self.shed(timeout, seen, early, ends.len()),
            _ => {
                if let Some(all) = all {
                    let text = format!(
                        "{} connections ended after {:.1?} to {:.1?} of idleness, spread: no timer ends them so",
                        all.n, all.min, all.max
                    );
                    self.caveats.push(Caveat { kind: CaveatKind::Shedding, text });
                }
                timeout
            }
        }
    }

    fn several(&mut self, timeout: IdleTimeout, clusters: Vec<Cluster>) -> IdleTimeout {
        let each: Vec<_> =
            clusters.iter().map(|one| format!("{:.2?} x{}", one.at.median, one.at.n)).collect();
        let text = format!("backends behind this address disagree: {}", each.join(", "));
        self.caveats.push(Caveat { kind: CaveatKind::BackendsDisagree, text });
        let upper = clusters.first().map(|first| first.at.max);
        IdleTimeout { verdict: Verdict::Several, upper, clusters, ..timeout }
    }

    /// A timer with ends before it that are none of it.
    fn shed(&mut self, timeout: IdleTimeout, seen: Spread, early: usize, of: usize) -> IdleTimeout {
        let text = format!("{early} of {of} connections ended before the timer did: the server sheds load");
        self.caveats.push(Caveat { kind: CaveatKind::Shedding, text });
        let alive =
            self.asked().filter(|(idle, alive)| *alive && *idle <= seen.min).map(|(idle, _)| idle).max();
        IdleTimeout {
            verdict: Verdict::Found,
            lower: alive.unwrap_or_default(),
            upper: Some(seen.max),
            seen: Some(seen),
            samples: seen.n,
            ..timeout
        }
    }

    pub(super) fn lived(&mut self) -> IdleTimeout {
        self.evidence(Verdict::Longer)
    }

    pub(super) fn unknown(&mut self) -> IdleTimeout {
        let stopped = self.crew.is_stopped();
        if !stopped && self.crew.is_over() {
            let text = "the budget was spent before there was an answer: raise --budget".to_owned();
            self.caveats.push(Caveat { kind: CaveatKind::BudgetSpent, text });
        }
        self.evidence(Verdict::Unknown)
    }

    /// What is known whatever the verdict: the longest idle time below the first death that was lived through.
    fn evidence(&self, verdict: Verdict) -> IdleTimeout {
        let home = || self.crew.home.iter().filter(|home| home.wave <= self.wave && home.wave > 0);
        let dead = home().filter(|home| home.sample.fate == Fate::Dead && home.sample.close.is_some());
        let first = dead.clone().map(|home| home.sample.idle).min();
        let alive = home().filter(|home| is_alive(home)).map(|home| home.sample.idle);
        let lower = alive.filter(|idle| first.is_none_or(|first| *idle < first)).max().unwrap_or_default();
        IdleTimeout {
            verdict,
            lower,
            upper: None,
            close: judge::usual_close(dead.filter_map(|home| home.sample.close)),
            seen: None,
            samples: count(home().filter(|home| is_told(home))),
            confirmed_alive: Tally::default(),
            confirmed_dead: Tally::default(),
            clusters: Vec::new(),
        }
    }
}
