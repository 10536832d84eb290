//! [`Several`]: more than one target, and which is asked for next.

use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

use super::{Target, mix};

/// Several targets, each with its share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Several {
    /// What is asked for; the first is [`Plan::target`](super::Plan::target) too.
    pub targets: Vec<Target>,
    /// How often each is asked for, against the others; as many as there are targets, all above 0.
    pub weights: Vec<u32>,
    /// Which is asked for next.
    pub order: Order,
}

/// In which order targets are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// In turn, each worker from a place of its own; those of a larger weight more often, spread evenly.
    #[default]
    RoundRobin,
    /// Drawn by their weights.
    Random,
}

/// The turns of a cycle are held in memory.
const LONGEST_CYCLE: u64 = 1_000_000;

impl Several {
    /// Whether the weights fit.
    ///
    /// # Errors
    ///
    /// What is wrong, with the cure.
    pub(crate) fn check(&self) -> Result<(), String> {
        let (weights, targets) = (self.weights.len(), self.targets.len());
        if weights != targets {
            return Err(format!("--weights has {weights} numbers for {targets} targets: give one for each"));
        }
        if self.weights.contains(&0) {
            return Err("--weights: 0 asks for nothing: give 1 or more, or leave the target out".into());
        }
        let turns = self.turns().iter().sum::<u64>();
        if self.order == Order::RoundRobin && turns > LONGEST_CYCLE {
            return Err(format!(
                "--weights: in turn, these make {turns} turns: give smaller weights, or --targets-order random"
            ));
        }
        Ok(())
    }

    /// The weights without what divides them all.
    fn turns(&self) -> Vec<u64> {
        let divisor = self.weights.iter().fold(0, |all, &weight| gcd(all, u64::from(weight))).max(1);
        self.weights.iter().map(|&weight| u64::from(weight) / divisor).collect()
    }

    /// What tells worker `worker` of `workers` which target is next.
    pub(crate) fn chooser(&self, worker: usize, workers: usize, seed: u64) -> Chooser {
        match self.order {
            Order::RoundRobin => {
                let cycle = cycle(&self.turns());
                let at = worker * cycle.len() / workers.max(1);
                Chooser::InTurn { cycle, at }
            }
            Order::Random => {
                let mut sum = 0;
                let bounds = self.weights.iter().map(|&weight| {
                    sum += u64::from(weight);
                    sum
                });
                // Away from what arrivals and pauses are drawn from.
                let random = Xoshiro256PlusPlus::seed_from_u64(mix(seed, 0x7A6_67E7, worker as u64));
                Chooser::Drawn { bounds: bounds.collect(), random }
            }
        }
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Every target as often as it has turns, its turns as far apart as may be: the nth of `k` stands at `(n + 1/2)/k` of the
/// way. Equal ones stand in their own order.
fn cycle(turns: &[u64]) -> Arc<[u32]> {
    let places = (0..).zip(turns).flat_map(|(target, &of)| (0..of).map(move |nth| (2 * nth + 1, of, target)));
    let mut places: Vec<(u64, u64, u32)> = places.collect();
    // As fractions, for rounded ones would not be equal where they are. A turn's number is below 2^21: see the check.
    places.sort_by(|a, b| (a.0 * b.1, a.2).cmp(&(b.0 * a.1, b.2)));
    places.into_iter().map(|(_, _, target)| target).collect()
}

/// Tells which target is next, by its place in the plan. It never allocates.
#[derive(Clone, Debug)]
pub(crate) enum Chooser {
    /// There is one.
    One,
    InTurn {
        cycle: Arc<[u32]>,
        at: usize,
    },
    Drawn {
        /// The weights, summed up.
        bounds: Arc<[u64]>,
        random: Xoshiro256PlusPlus,
    },
}

impl Chooser {
    pub(crate) fn choose(&mut self) -> u32 {
        match self {
            Chooser::One => 0,
            Chooser::InTurn { cycle, at } => {
                let chosen = cycle[*at];
                *at = if *at + 1 == cycle.len() { 0 } else { *at + 1 };
                chosen
            }
            Chooser::Drawn { bounds, random } => {
                // The bias of the remainder is below 2^-15 for 10^5 targets of any weight.
                let drawn = random.next_u64() % bounds.last().copied().unwrap_or(1);
                bounds.partition_point(|&bound| bound <= drawn) as u32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn several(weights: &[u32], order: Order) -> Several {
        let target = |nth: usize| Target {
            url: format!("http://{nth}.test/"),
            method: "GET".into(),
            headers: Vec::new(),
            body_len: 0,
            body: Vec::new(),
        };
        Several { targets: (0..weights.len()).map(target).collect(), weights: weights.to_vec(), order }
    }

    fn chosen(of: &Several, worker: usize, workers: usize, n: usize) -> Vec<u32> {
        let mut chooser = of.chooser(worker, workers, 7);
        (0..n).map(|_| chooser.choose()).collect()
    }

    #[test]
    fn in_turn_each_worker_begins_at_a_place_of_its_own() {
        let equal = several(&[5, 5, 5, 5], Order::RoundRobin);
        assert_eq!(chosen(&equal, 0, 2, 6), [0, 1, 2, 3, 0, 1]);
        assert_eq!(chosen(&equal, 1, 2, 6), [2, 3, 0, 1, 2, 3]);
        let unequal = several(&[3, 1], Order::RoundRobin);
        assert_eq!(chosen(&unequal, 0, 1, 8), [0, 0, 1, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn drawn_ones_come_by_their_weights_and_are_the_same_for_a_seed() {
        let drawn = several(&[1, 3, 6], Order::Random);
        let all = chosen(&drawn, 0, 2, 100_000);
        for (target, share) in (0..).zip([0.1, 0.3, 0.6]) {
            let seen = all.iter().filter(|&&one| one == target).count() as f64 / 100_000.0;
            assert!((seen - share).abs() < 0.006, "{target}: {seen}");
        }
        assert_eq!(chosen(&drawn, 0, 2, 100), all[..100]);
        assert_ne!(chosen(&drawn, 1, 2, 100), all[..100]);
    }

    #[test]
    fn weights_that_do_not_fit_are_refused_with_the_cure() {
        for (weights, order, cure) in [
            (vec![1, 0], Order::Random, "leave the target out"),
            (vec![1, 2_000_000], Order::RoundRobin, "--targets-order random"),
        ] {
            assert!(several(&weights, order).check().unwrap_err().contains(cure));
        }
        let mut short = several(&[1, 1], Order::Random);
        short.weights.pop();
        assert!(short.check().unwrap_err().contains("one for each"));
        assert!(several(&[1, 2_000_000], Order::Random).check().is_ok());
        assert!(several(&[2_000_000, 4_000_000], Order::RoundRobin).check().is_ok());
    }

    proptest! {
        /// At no time is a target further away from its share than there are targets.
        #[test]
        fn in_turn_every_target_has_its_share_all_the_time(weights in prop::collection::vec(1_u32..20, 1..8)) {
            let of = several(&weights, Order::RoundRobin);
            let sum: u32 = weights.iter().sum();
            let all = chosen(&of, 0, 1, 2 * sum as usize);
            for (target, &weight) in (0..).zip(&weights) {
                let mut seen = 0.0;
                for (n, &one) in (1..).zip(&all) {
                    seen += f64::from(u8::from(one == target));
                    let share = f64::from(n) * f64::from(weight) / f64::from(sum);
                    prop_assert!((seen - share).abs() < weights.len() as f64, "{target} after {n}: {seen} of {share}");
                }
                prop_assert_eq!(seen, 2.0 * f64::from(weight));
            }
        }
    }
}
