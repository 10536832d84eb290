//! The search for the highest rate that holds a goal: doubling, then bisection, and a second look at what carries the
//! answer. Pure but for the looks that it asks for.

use crate::error::ErrorKind;
use crate::histogram::Histogram;
use crate::measurement::{Ceiling, Looked, Searched, Slot, ThreadShare};
use crate::plan::Goal;

/// Where the doubling begins, in requests per second.
pub(super) const START: f64 = 100.0;

/// The least and the most that is tried.
const LEAST: f64 = 1.0;
const MOST: f64 = 1e6;

/// The bracket is narrow enough when its upper end is above the lower by no more than this.
const NARROW: f64 = 1.03;

/// Below what fails, a tenth of it is tried.
const DESCENT: f64 = 10.0;

/// So many looks at a rate that say the same decide; among three verdicts some does after so many.
const AGREE: usize = 2;

/// The most looks in all. Ten doublings and five bisections, each decided in two to four, need fewer.
const MOST_LOOKS: usize = 80;

/// What one look at a rate said.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Seen {
    Passes,
    Fails(String),
    /// The generator, not the target, was the limit.
    Generator(String),
}

impl Seen {
    /// What a slot says about a goal. A goal that was met was met whatever the generator went through, for its lateness
    /// is part of the times; one that was not met is the target's failure only where the generator was well.
    pub(super) fn of(slot: &Slot, goal: &Goal) -> Seen {
        let errors = slot.failed() as f64 / slot.scheduled.max(1) as f64;
        let unmet = goal.unmet(&slot.response, errors).or_else(|| backlog(slot));
        let unmet = unmet.map(|why| why + &commonest_error(slot));
        match (unmet, generator_limit(slot)) {
            (None, _) => Seen::Passes,
            (Some(_), Some(why)) => Seen::Generator(why),
            (Some(why), None) => Seen::Fails(why),
        }
    }
}

/// Why what was found did not hold in the run that followed.
pub(super) fn unmet(goal: &Goal, slots: &[Slot]) -> Option<String> {
    let mut response = Histogram::new();
    slots.iter().for_each(|slot| response.merge(&slot.response));
    let failed: u64 = slots.iter().map(Slot::failed).sum();
    let scheduled: u64 = slots.iter().map(|slot| slot.scheduled).sum();
    goal.unmet(&response, failed as f64 / scheduled.max(1) as f64).or_else(|| slots.iter().find_map(backlog))
}

/// What made the most requests fail, if any did: a rate is not to blame for a wrong path.
fn commonest_error(slot: &Slot) -> String {
    let commonest = slot.errors.iter().max_by_key(|(_, n)| **n);
    commonest
        .map_or_else(String::new, |(kind, n)| format!("; {n} of {} failed with `{kind}`", slot.scheduled))
}

/// Requests that are not answered, or wait ever longer for a connection: what is offered is not carried. A backlog that
/// grows by 1 % of the arrivals makes the last wait 1 % of the window, and half of that on average.
fn backlog(slot: &Slot) -> Option<String> {
    let waited = slot.phases.blocked_ns as f64 / slot.phases.requests.max(1) as f64;
    if slot.censored > 0 {
        Some(format!("{} requests were never answered", slot.censored))
    } else if waited > 0.005 * slot.duration.as_nanos() as f64 {
        Some(format!("requests waited {:.1} ms on average for a free connection", waited / 1e6))
    } else {
        None
    }
}

/// Why what was measured is the generator's own; the limits are those of the report's validity.
fn generator_limit(slot: &Slot) -> Option<String> {
    let n = |kind: ErrorKind| slot.errors.get(kind.as_str()).copied().unwrap_or(0);
    let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let (client, phases) = (&slot.client, &slot.phases);
    let response: u64 = phases.parts().iter().map(|(_, sum)| sum).sum();
    let late = slot.lag.mean().is_some_and(|mean| mean > std::time::Duration::from_micros(200));
    if n(ErrorKind::NoPorts) > 0 {
        Some("no local port was left".into())
    } else if n(ErrorKind::NoFiles) > 0 {
        Some("no file descriptor was left".into())
    } else if slot.scheduled > 0 && share(slot.issued, slot.scheduled) < 0.999 {
        Some("not every request that was due was issued".into())
    } else if ThreadShare::of_busiest(client).wanted() > 0.95 {
        Some("its threads had no time to spare".into())
    } else if share(client.run_queue_ns, client.wall_ns) > 0.25 {
        Some("its threads waited for a processor".into())
    } else if late && share(phases.lag_ns, response) > 0.25 {
        Some("it was late".into())
    } else {
        None
    }
}

/// Searches. `look` answers `None` when the run was asked to stop; what is known then is the answer.
pub(super) fn highest(goal: &Goal, look: impl FnMut(f64) -> Option<Seen>) -> Searched {
    let searched =
        Searched { goal: goal.clone(), passes_at: None, ceiling: None, unmet: None, looks: Vec::new() };
    let mut search = Search { look, searched, passed: Vec::new() };
    // `None` is a search that was cut short.
    let _ = search.run();
    let mut searched = search.searched;
    searched.passes_at = search.passed.last().copied();
    searched
}

struct Search<L> {
    look: L,
    searched: Searched,
    /// Rates that passed, rising.
    passed: Vec<f64>,
}

impl<L: FnMut(f64) -> Option<Seen>> Search<L> {
    fn run(&mut self) -> Option<()> {
        self.double()?;
        self.descend()?;
        loop {
            self.bisect()?;
            let Some(&best) = self.passed.last() else { return Some(()) };
            // What passed once, perhaps by luck, has to pass again.
            if self.decide(best)? {
                return Some(());
            }
            self.descend()?;
        }
    }

    fn double(&mut self) -> Option<()> {
        let mut rate = START;
        while rate <= MOST && self.once_or_decide(rate)? {
            rate *= 2.0;
        }
        Some(())
    }

    /// Far below what failed, as long as nothing is known to pass: who holds the goal at no rate is soon told so, and what
    /// lies between is bisected.
    fn descend(&mut self) -> Option<()> {
        while self.passed.is_empty() {
            let ceiling = self.ceiling().filter(|&ceiling| ceiling > LEAST)?;
            self.decide((ceiling / DESCENT).max(LEAST))?;
        }
        Some(())
    }

    fn bisect(&mut self) -> Option<()> {
        while let (Some(&low), Some(high)) = (self.passed.last(), self.ceiling()) {
            if high / low <= NARROW {
                break;
            }
            self.once_or_decide((low * high).sqrt())?;
        }
        Some(())
    }

    fn ceiling(&self) -> Option<f64> {
        self.searched.ceiling.as_ref().map(|ceiling| ceiling.rate)
    }

    /// On the way up one look that passes is enough: the last of them is looked at again.
    fn once_or_decide(&mut self, rate: f64) -> Option<bool> {
        match self.look(rate)? {
            Seen::Passes => {
                self.passes(rate);
                Some(true)
            }
            other => self.decide_after(rate, vec![other]),
        }
    }

    fn decide(&mut self, rate: f64) -> Option<bool> {
        self.decide_after(rate, Vec::new())
    }

    /// Looks until two say the same.
    fn decide_after(&mut self, rate: f64, mut seen: Vec<Seen>) -> Option<bool> {
        loop {
            let alike = |one: &Seen| {
                let same = |other: &&Seen| std::mem::discriminant(*other) == std::mem::discriminant(one);
                seen.iter().filter(same).count() >= AGREE
            };
            if let Some(verdict) = seen.iter().find(|one| alike(one)) {
                let (why, generator) = match verdict.clone() {
                    Seen::Passes => {
                        self.passes(rate);
                        return Some(true);
                    }
                    Seen::Fails(why) => (why, false),
                    Seen::Generator(why) => (why, true),
                };
                self.passed.retain(|&passed| passed < rate);
                self.searched.ceiling = Some(Ceiling { rate, why, generator });
                return Some(false);
            }
            let next = self.look(rate)?;
            seen.push(next);
        }
    }

    fn passes(&mut self, rate: f64) {
        if self.passed.last().is_none_or(|&last| last < rate) {
            self.passed.push(rate);
        }
    }

    fn look(&mut self, rate: f64) -> Option<Seen> {
        if self.searched.looks.len() >= MOST_LOOKS {
            return None;
        }
        let seen = (self.look)(rate)?;
        let why = match &seen {
            Seen::Passes => None,
            Seen::Fails(why) => Some(why.clone()),
            Seen::Generator(why) => Some(format!("the generator was the limit: {why}")),
        };
        self.searched.looks.push(Looked { rate, why });
        Some(seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn goal() -> Goal {
        "p99<5ms".parse().unwrap()
    }

    fn up_to(limit: f64) -> impl FnMut(f64) -> Option<Seen> {
        move |rate| Some(if rate <= limit { Seen::Passes } else { Seen::Fails("slow".into()) })
    }

    #[test]
    fn the_limit_of_a_target_lies_in_a_narrow_bracket() {
        for limit in [1.5, 42.0, 100.0, 777.0, 12_345.0, 400_000.0] {
            let found = highest(&goal(), up_to(limit));
            let (low, high) = (found.passes_at.unwrap(), found.ceiling.unwrap());
            assert!(low <= limit && limit < high.rate && !high.generator, "{limit}: {low} to {}", high.rate);
            assert!(high.rate / low <= NARROW && found.looks.len() < 50, "{limit}: {}", found.looks.len());
        }
    }

    #[test]
    fn a_generators_own_limit_is_no_failure_of_the_target() {
        let found = highest(&goal(), |rate| {
            Some(if rate <= 3_000.0 { Seen::Passes } else { Seen::Generator("busy".into()) })
        });
        let ceiling = found.ceiling.unwrap();
        assert!(ceiling.generator && ceiling.rate > 3_000.0 && found.passes_at.unwrap() <= 3_000.0);
    }

    #[test]
    fn a_look_at_failures_names_the_commonest() {
        let errors = [("status_4xx".to_owned(), 9), ("reset".to_owned(), 1)].into();
        let slot = Slot { scheduled: 10, issued: 10, errors, ..Slot::default() };
        let Seen::Fails(why) = Seen::of(&slot, &goal()) else { panic!("it met its goal") };
        assert_eq!(why, "no request was answered; 9 of 10 failed with `status_4xx`");
    }

    #[test]
    fn one_bad_look_decides_nothing() {
        let mut bad = 0;
        let found = highest(&goal(), |rate| {
            // Every third look fails whatever the rate.
            bad += 1;
            let unlucky = if bad % 3 == 0 { Seen::Generator("late".into()) } else { Seen::Passes };
            Some(if rate <= 5_000.0 { unlucky } else { Seen::Fails("slow".into()) })
        });
        let low = found.passes_at.unwrap();
        assert!((4_700.0..=5_000.0).contains(&low), "{low}");
    }

    #[test]
    fn a_target_that_holds_the_goal_at_no_rate_has_no_bracket() {
        let found = highest(&goal(), up_to(0.0));
        assert!(found.passes_at.is_none() && found.ceiling.unwrap().rate < 2.0);
    }

    #[test]
    fn a_search_that_is_stopped_tells_what_it_knows() {
        let mut left = 3;
        let found = highest(&goal(), |_| {
            left -= 1;
            (left >= 0).then_some(Seen::Passes)
        });
        assert_eq!((found.passes_at, found.ceiling, found.looks.len()), (Some(400.0), None, 3));
    }
}
