//! [`Session`]: what is asked of two servers, when it is looked at, and what can be said then.

use std::collections::BTreeMap;
use std::time::Duration;

use super::metric::Metric;
use super::{Demand, Evidence, FALSE_ALARMS, Finding, LOOKS, Scale, Verdict, look, planner, share};
use crate::duration::say;
use crate::measurement::Slot;

/// The arm that is held against.
pub const BASE: &str = "base";

/// The arm that is judged.
pub const HEAD: &str = "head";

/// A metric with what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gated {
    /// The metric.
    pub metric: Metric,
    /// What is asked.
    pub demand: Demand,
}

/// What two servers are asked, round by round.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// The metrics.
    pub gated: Vec<Gated>,
    /// After so many rounds it is looked, in rising order; the last is the end.
    pub looks: Vec<u32>,
    /// So many rounds in a row meet the same two processes. They share the luck of those, so that together they are
    /// one piece of evidence and not several: their mean is one difference.
    pub block: u32,
}

/// The rounds that a metric needs before anything can be said of it, if it is one of so many and there are `looks`: so
/// many that ranks can be rare enough, or that a share's bound has a reach.
fn rounds_needed(scale: Scale, metrics: usize, looks: u32) -> u32 {
    let level = FALSE_ALARMS / f64::from(looks) / metrics.max(1) as f64;
    match scale {
        Scale::Logarithm => (1.0 / level).log2().ceil() as u32,
        Scale::Share => super::share::rounds_needed(level),
    }
}

impl Session {
    /// A session of so many rounds: looks after a third, two thirds and all of them, but for those that would come too
    /// early to decide anything: a look costs a share of the error rates. At the last one every metric can be decided.
    ///
    /// # Errors
    ///
    /// A sentence when so few rounds can decide nothing, or nothing is gated.
    pub fn new(gated: Vec<Gated>, rounds: u32) -> Result<Session, String> {
        Session::in_blocks(gated, rounds, 1)
    }

    /// The same where the servers are started anew after every `block` rounds; see [`Session::block`].
    ///
    /// # Errors
    ///
    /// As [`Session::new`].
    pub fn in_blocks(gated: Vec<Gated>, rounds: u32, block: u32) -> Result<Session, String> {
        let block = block.max(1);
        if gated.is_empty() {
            return Err("no metric is left to be gated: give a --metric that this load can carry".into());
        }
        let needs = |gated_one: &Gated| rounds_needed(gated_one.metric.scale(), gated.len(), LOOKS);
        let first = gated.iter().map(needs).min().unwrap_or(0);
        let needed = gated.iter().map(needs).max().unwrap_or(0);
        let thirds = (1..=LOOKS).map(|nth| rounds * nth / LOOKS);
        let looks: Vec<u32> = thirds.filter(|&seen| seen / block >= first).collect();
        if rounds / block < needed {
            let (least, restarts) = match block {
                1 => (needed, ""),
                _ => (needed * block, ", start the servers anew more often (--restart-every)"),
            };
            return Err(format!(
                "{rounds} rounds can decide nothing about {} metrics: at least {least} are needed; raise --budget, \
                 shorten --slot{restarts}, or gate fewer metrics",
                gated.len()
            ));
        }
        Ok(Session { gated, looks, block })
    }

    /// What can be said after these slots, at one of the looks.
    pub fn look(&self, slots: &[Slot]) -> Vec<Finding> {
        let evidence: Vec<Evidence> =
            self.gated.iter().map(|gated| evidence(*gated, slots, self.block)).collect();
        look(&evidence, self.looks.len() as u32)
    }

    /// What so many rounds will find if they do not scatter too much, one sentence for each metric.
    pub fn outlook(&self) -> Vec<String> {
        let rounds = self.looks.last().copied().unwrap_or(0) / self.block;
        let tests = self.gated.len() * self.looks.len();
        let sentence = |gated: &Gated| {
            let most = planner::most_spread(gated.demand, tests, rounds as usize);
            let detect = super::amount(Scale::Logarithm, gated.demand.detect);
            format!(
                "{} worse by {detect} will be found if its rounds scatter by at most {}",
                gated.metric.words(),
                super::percent(most)
            )
        };
        let ratios = self.gated.iter().filter(|gated| gated.metric.scale() == Scale::Logarithm);
        ratios.map(sentence).collect()
    }
}

/// The verdict over findings, while it may still change.
pub fn verdict(findings: &[Finding]) -> Verdict {
    Verdict::of_all(findings.iter().map(|finding| finding.verdict))
}

/// A metric's differences, round by round. A round without one of the two, or without a value, is none.
/// Rounds that met the same processes give their mean.
fn evidence(Gated { metric, demand }: Gated, slots: &[Slot], block: u32) -> Evidence {
    let mut blocks: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for (base, head) in pairs(slots) {
        if let Some(worse) = metric.worse_in(base, head) {
            blocks.entry(base.round / block).or_default().push(worse);
        }
    }
    let mean = |worse: Vec<f64>| worse.iter().sum::<f64>() / worse.len() as f64;
    let differences = blocks.into_values().map(mean).collect();
    let counts = pairs(slots).map(|(base, head)| metric.counted(base).zip(metric.counted(head)));
    let counts = counts.flatten().reduce(|(base, head), (more, others)| (base.and(more), head.and(others)));
    Evidence {
        metric: metric.words().into(),
        demand,
        scale: metric.scale(),
        differences,
        counts: counts.map(|(base, head)| [base, head]),
    }
}

/// How many rounds are none of a metric's differences, and why; `None` where none is. A reader must be told: who has no
/// value in its worst rounds looks better for it.
pub(super) fn rounds_left_out(metric: Metric, slots: &[Slot]) -> Option<String> {
    let left_out: Vec<[&Slot; 2]> = pairs(slots)
        .filter(|(base, head)| metric.worse_in(base, head).is_none())
        .map(|(base, head)| [base, head])
        .collect();
    let is_empty = |slot: &Slot| metric.of(slot).is_none_or(|value| value == 0.0);
    let without = |arm: usize| left_out.iter().filter(|round| is_empty(round[arm])).count();
    (!left_out.is_empty()).then(|| {
        format!(
            "{metric}: {} of {} rounds are left out, for an arm answered nothing in them, or nothing that could be \
             measured (base in {}, head in {})",
            left_out.len(),
            pairs(slots).count(),
            without(0),
            without(1)
        )
    })
}

/// The two slots of each whole round. A slot that carries a flag was cut short.
fn pairs(slots: &[Slot]) -> impl Iterator<Item = (&Slot, &Slot)> {
    let whole = |arm: &'static str| {
        let of_arm = slots.iter().filter(move |slot| slot.arm == arm && slot.flags.is_empty());
        of_arm.map(|slot| (slot.round, slot)).collect::<BTreeMap<u32, &Slot>>()
    };
    let head = whole(HEAD);
    whole(BASE).into_iter().filter_map(move |(round, base)| Some((base, *head.get(&round)?)))
}

/// What an arm shows in a metric over the rounds that are compared: the middle, and of a share the mean, as its change is.
pub fn middle(metric: Metric, arm: &str, slots: &[Slot]) -> Option<f64> {
    let compared = pairs(slots).map(|(base, head)| if arm == HEAD { head } else { base });
    let values: Vec<f64> = compared.filter_map(|slot| metric.of(slot)).collect();
    match metric.scale() {
        Scale::Share => share::mean(&values),
        Scale::Logarithm => planner::median(values),
    }
}

/// What is gated when nobody says, for the load at hand: in an open loop response times, in a closed one requests per
/// second; always failures and reuse; the target's processor time when its processes are known.
pub fn usual(closed: bool, processes_known: bool) -> Vec<Metric> {
    let times: &[Metric] = if closed { &[Metric::Rps] } else { &[Metric::P50, Metric::P90, Metric::P99] };
    let cpu: &[Metric] = if processes_known { &[Metric::Cpu] } else { &[] };
    [times, &[Metric::Errors, Metric::Reuse], cpu].concat()
}

/// Why a response time cannot be gated when each arm is measured for so long at `rate`, out of that budget, and what
/// can; `None` when it can.
pub fn too_thin(gated: Gated, rate: f64, measured: Duration, budget: Duration) -> Option<String> {
    let quantile = gated.metric.quantile().filter(|&quantile| quantile > 0.5)?;
    let requests = rate * measured.as_secs_f64();
    let (tail, needed) = (requests * (1.0 - quantile), planner::tail_needed(gated.demand));
    if tail >= needed {
        return None;
    }
    let quantiles = [Metric::P999, Metric::P99, Metric::P95, Metric::P90];
    let carried = quantiles.into_iter().find(|other| {
        let fits = |q: f64| requests * (1.0 - q) >= planner::tail_needed(other.demand());
        *other < gated.metric && other.quantile().is_some_and(fits)
    });
    // The washouts grow with it. Beyond ten years the advice is not to.
    let longer = (budget.as_secs_f64() * needed / tail).ceil().min(3e8);
    let longer = Duration::from_secs_f64(longer);
    Some(format!(
        "{} cannot be gated: {tail:.0} responses of each arm would lie above it, {needed:.0} are needed to find {}; \
         gate {}, or give a higher --rate, a --budget of {}, a larger --detect {}=…, or --thin-tails where the machine is \
         quiet",
        gated.metric,
        super::amount(Scale::Logarithm, gated.demand.detect),
        carried.unwrap_or(Metric::P50),
        say(longer),
        gated.metric,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::Reuse;

    fn gated(metric: Metric) -> Gated {
        Gated { metric, demand: metric.demand() }
    }

    fn slot(round: u32, arm: &str, failed: u64, ms: u64) -> Slot {
        let mut slot = Slot { round, arm: arm.into(), scheduled: 1000, completed: 1000, ..Slot::default() };
        slot.duration = Duration::from_secs(1);
        slot.reuse = Reuse { reused: 1000, ..Reuse::default() };
        for nth in 0..100 {
            slot.response.record(Duration::from_micros(ms * 1000 + (u64::from(round) * 7 + nth) % 11));
        }
        if failed > 0 {
            slot.errors.insert("status_5xx".into(), failed);
        }
        slot
    }

    fn rounds(n: u32, head: impl Fn(u32) -> Slot) -> Vec<Slot> {
        (0..n).flat_map(|round| [slot(round, BASE, 0, 10), head(round)]).collect()
    }

    fn verdicts(metrics: &[Metric], slots: &[Slot]) -> Vec<Verdict> {
        let session = Session::new(metrics.iter().map(|&metric| gated(metric)).collect(), 60).unwrap();
        session.look(slots).iter().map(|finding| finding.verdict).collect()
    }

    const ALL: [Metric; 3] = [Metric::P50, Metric::Errors, Metric::Reuse];

    #[test]
    fn two_servers_that_do_the_same_pass_though_neither_ever_failed() {
        let slots = rounds(60, |round| slot(round, HEAD, 0, 10));
        assert_eq!(verdicts(&ALL, &slots), [Verdict::Pass; 3]);
    }

    #[test]
    fn failures_where_the_base_has_none_and_lost_reuse_where_it_has_all_are_regressions() {
        let slots = rounds(60, |round| slot(round, HEAD, 20 + u64::from(round % 3), 10));
        assert_eq!(verdicts(&ALL, &slots), [Verdict::Pass, Verdict::Regressed, Verdict::Pass]);
        let slots = rounds(60, |round| {
            let reuse = Reuse { reused: 500, opened: 500 + u64::from(round % 3), ..Reuse::default() };
            Slot { reuse, ..slot(round, HEAD, 0, 10) }
        });
        assert_eq!(verdicts(&ALL, &slots), [Verdict::Pass, Verdict::Pass, Verdict::Regressed]);
    }

    #[test]
    fn a_share_is_shown_as_its_change_is_judged_each_round_like_the_others() {
        let many = |round: u32| Slot { scheduled: 50_000, ..slot(round, HEAD, 50_000, 10) };
        let mut slots = rounds(10, |round| if round == 3 { many(round) } else { slot(round, HEAD, 0, 10) });
        slots.push(slot(10, BASE, 1000, 10));
        assert_eq!(middle(Metric::Errors, HEAD, &slots), Some(0.1));
        assert_eq!(middle(Metric::Errors, BASE, &slots), Some(0.0), "a round without a head is none");
    }

    #[test]
    fn a_round_that_was_cut_short_or_misses_an_arm_is_no_pair() {
        let mut slots = rounds(30, |round| slot(round, HEAD, 0, 12));
        slots.pop();
        slots[0].flags.push("interrupted".into());
        let session = Session::new(vec![gated(Metric::P50)], 30).unwrap();
        assert_eq!(session.look(&slots)[0].rounds, 28);
    }

    #[test]
    fn rounds_in_which_only_one_of_two_answered_count_for_requests_per_second_and_not_at_all_for_times() {
        let silent = |round: u32| round.is_multiple_of(3);
        let answers = |slot: Slot, n: u64| Slot { completed: n, response: Default::default(), ..slot };
        let slots = rounds(30, |round| match silent(round) {
            true => answers(slot(round, HEAD, 0, 10), 0),
            false => slot(round, HEAD, 0, 10),
        });
        let session = Session::new([Metric::Rps, Metric::P50].map(gated).to_vec(), 30).unwrap();
        assert_eq!(session.look(&slots).iter().map(|found| found.rounds).collect::<Vec<_>>(), [30, 20]);
        assert_eq!(rounds_left_out(Metric::Rps, &slots), None);
        assert_eq!(
            rounds_left_out(Metric::P50, &slots).unwrap(),
            "p50: 10 of 30 rounds are left out, for an arm answered nothing in them, or nothing that could be measured \
             (base in 0, head in 10)"
        );
        let all = rounds(30, |round| answers(slot(round, HEAD, 0, 10), 0));
        assert_eq!(
            session.look(&all)[0].verdict,
            Verdict::Regressed,
            "it answers nothing, and the base does"
        );
        let neither: Vec<Slot> = all.into_iter().map(|slot| answers(slot, 0)).collect();
        assert_eq!(session.look(&neither)[0].rounds, 0);
        assert!(
            rounds_left_out(Metric::Rps, &neither).unwrap().starts_with("rps: 30 of 30 rounds are left out")
        );
    }

    /// Four rounds that met one unlucky process are one observation: else its luck would count four times.
    #[test]
    fn rounds_that_met_the_same_processes_are_one_difference() {
        let slots = rounds(48, |round| slot(round, HEAD, 0, if round / 4 % 2 == 0 { 10 } else { 12 }));
        let session = Session::in_blocks(vec![gated(Metric::P50)], 48, 4).unwrap();
        assert_eq!((session.looks.as_slice(), session.look(&slots)[0].rounds), (&[48][..], 12));
        let refused = Session::in_blocks(vec![gated(Metric::P50)], 30, 4).unwrap_err();
        assert!(
            refused.contains("at least 36 are needed") && refused.contains("--restart-every"),
            "{refused}"
        );
    }

    #[test]
    fn looks_that_could_decide_nothing_are_left_out_and_cost_nothing() {
        let five = || ALL.into_iter().chain([Metric::P90, Metric::Cpu]).map(gated).collect::<Vec<_>>();
        assert_eq!(Session::new(five(), 60).unwrap().looks, [20, 40, 60]);
        assert_eq!(Session::new(five(), 18).unwrap().looks, [12, 18]);
        assert_eq!(Session::new(five(), 15).unwrap().looks, [15]);
        let refused = Session::new(five(), 12).unwrap_err();
        assert!(refused.contains("at least 13 are needed; raise --budget"), "{refused}");
        let times = || [Metric::P50, Metric::P90].map(gated).to_vec();
        assert_eq!(Session::new(times(), 10).unwrap().looks, [10], "ranks need fewer rounds than shares");
    }

    /// Eleven rounds carry no bound of a share at that level, whatever they show: then there is no verdict either.
    #[test]
    fn a_share_of_which_too_few_rounds_say_nothing_is_undecided() {
        let slots = rounds(11, |round| slot(round, HEAD, 0, 10));
        let session = Session::new(ALL.map(gated).to_vec(), 33).unwrap();
        assert_eq!(session.looks, [11, 22, 33]);
        let found = session.look(&slots);
        assert_eq!(found[1].verdict, Verdict::Inconclusive, "{}", found[1].sentence());
        assert!(found[1].sentence().contains("11 rounds are too few to say anything: INCONCLUSIVE"));
    }

    #[test]
    fn looks_of_blocks_are_counted_in_blocks() {
        let session = Session::in_blocks(vec![gated(Metric::P50)], 54, 2).unwrap();
        assert_eq!(session.looks, [18, 36, 54]);
    }

    #[test]
    fn a_tail_that_is_too_thin_is_refused_and_the_quantile_that_can_be_gated_is_named() {
        let minute = Duration::from_secs(25);
        let too_thin = |gated, rate, measured| too_thin(gated, rate, measured, minute * 5 / 2);
        assert_eq!(too_thin(gated(Metric::P50), 1.0, minute), None);
        assert_eq!(too_thin(gated(Metric::P99), 20_000.0, minute), None);
        let text = too_thin(gated(Metric::P99), 3_300.0, minute).unwrap();
        // 62.5 s with washouts, 4000 / 825 times as long.
        assert!(text.contains("a --budget of 304 s"), "{text}");
        let hopeless = too_thin(gated(Metric::P999), 1e-300, minute).unwrap();
        assert!(hopeless.contains("p99.9 cannot be gated"), "{hopeless}");
        assert!(text.contains("825 responses of each arm") && text.contains("4000 are needed"), "{text}");
        assert!(text.contains("gate p95,"), "{text}");
        let coarse = Gated { metric: Metric::P99, demand: Demand { tolerance: 0.02, detect: 0.5 } };
        assert_eq!(too_thin(coarse, 3_300.0, minute), None, "less is needed to find more");
    }

    #[test]
    fn the_outlook_names_the_scatter_that_the_rounds_can_bear() {
        let session = Session::new(vec![gated(Metric::P50), gated(Metric::Errors)], 60).unwrap();
        let outlook = session.outlook();
        assert_eq!(outlook.len(), 1);
        assert!(
            outlook[0].starts_with("p50 worse by 5 % will be found if its rounds scatter by"),
            "{outlook:?}"
        );
    }
}
