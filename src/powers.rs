//! [`Powers`]: how whole numbers spread over many orders of magnitude, in fixed room.

use std::fmt;

/// Numbers counted by the power of two up to which they reach; their least, greatest and sum exactly.
#[derive(Clone, Default, PartialEq, Eq)]
#[cfg_attr(
    feature = "load",
    derive(serde::Serialize, serde::Deserialize),
    serde(from = "Saved", into = "Saved")
)]
#[cfg_attr(all(test, feature = "load"), derive(schemars::JsonSchema))]
pub struct Powers {
    n: u64,
    min: u64,
    max: u64,
    sum: u64,
    /// Place p holds the numbers above 2^(p-1) and up to 2^p; place 0 those up to 1.
    counts: Counts,
}

impl fmt::Debug for Powers {
    /// The places that hold something: the power of two up to which they reach, and how many.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.up_to()).finish()
    }
}

#[derive(Clone, PartialEq, Eq)]
struct Counts([u64; 65]);

impl Default for Counts {
    fn default() -> Counts {
        Counts([0; 65])
    }
}

/// As it stands in a result file.
#[cfg(feature = "load")]
#[derive(serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Saved {
    n: u64,
    min: u64,
    max: u64,
    sum: u64,
    /// How many, by the power of two up to which they reach.
    up_to: Vec<(u64, u64)>,
}

impl Powers {
    /// Counts one. Never allocates.
    pub fn record(&mut self, number: u64) {
        self.min = if self.n == 0 { number } else { self.min.min(number) };
        self.max = self.max.max(number);
        self.n += 1;
        self.sum = self.sum.saturating_add(number);
        self.counts.0[place(number)] += 1;
    }

    /// Counts all that another has counted.
    pub fn merge(&mut self, other: &Powers) {
        if other.n == 0 {
            return;
        }
        self.min = if self.n == 0 { other.min } else { self.min.min(other.min) };
        self.max = self.max.max(other.max);
        self.n += other.n;
        self.sum = self.sum.saturating_add(other.sum);
        self.counts.0.iter_mut().zip(other.counts.0).for_each(|(count, more)| *count += more);
    }

    /// How many were counted.
    pub fn len(&self) -> u64 {
        self.n
    }

    /// Whether none was.
    pub fn is_empty(&self) -> bool {
        self.n == 0
    }

    /// The least.
    pub fn min(&self) -> Option<u64> {
        (self.n > 0).then_some(self.min)
    }

    /// The greatest.
    pub fn max(&self) -> Option<u64> {
        (self.n > 0).then_some(self.max)
    }

    /// The mean.
    pub fn mean(&self) -> Option<f64> {
        (self.n > 0).then(|| self.sum as f64 / self.n as f64)
    }

    /// The counts that are not zero, each with the power of two up to which its numbers reach.
    pub fn up_to(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let all = (0..).zip(self.counts.0);
        all.filter(|&(_, n)| n > 0).map(|(place, n)| (1_u64.checked_shl(place).unwrap_or(u64::MAX), n))
    }
}

fn place(number: u64) -> usize {
    (u64::BITS - number.saturating_sub(1).leading_zeros()) as usize
}

#[cfg(feature = "load")]
impl From<Powers> for Saved {
    fn from(it: Powers) -> Saved {
        Saved { n: it.n, min: it.min, max: it.max, sum: it.sum, up_to: it.up_to().collect() }
    }
}

#[cfg(feature = "load")]
impl From<Saved> for Powers {
    fn from(Saved { n, min, max, sum, up_to }: Saved) -> Powers {
        let mut counts = Counts::default();
        up_to.iter().for_each(|&(to, n)| counts.0[place(to)] += n);
        Powers { n, min, max, sum, counts }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(numbers: &[u64]) -> Powers {
        let mut powers = Powers::default();
        numbers.iter().for_each(|&number| powers.record(number));
        powers
    }

    #[test]
    fn numbers_stand_at_the_power_of_two_up_to_which_they_reach() {
        let powers = of(&[0, 1, 2, 3, 4, 5, 1000, u64::MAX]);
        let up_to: Vec<_> = powers.up_to().collect();
        assert_eq!(up_to, [(1, 2), (2, 1), (4, 2), (8, 1), (1024, 1), (u64::MAX, 1)]);
        assert_eq!((powers.len(), powers.min(), powers.max()), (8, Some(0), Some(u64::MAX)));
        assert_eq!(of(&[1, 2, 6]).mean(), Some(3.0));
        assert_eq!((of(&[]).min(), of(&[]).mean()), (None, None));
    }

    proptest! {
        #[test]
        fn merging_is_counting_all_and_a_saved_one_is_the_same(
            one in prop::collection::vec(any::<u64>(), 0..20), other in prop::collection::vec(0..5_u64, 0..20),
        ) {
            let mut merged = of(&one);
            merged.merge(&of(&other));
            prop_assert_eq!(&merged, &of(&[one, other].concat()));
            #[cfg(feature = "load")]
            {
            let json = serde_json::to_string(&merged).unwrap();
            prop_assert_eq!(serde_json::from_str::<Powers>(&json).unwrap(), merged);
            }
        }
    }
}
