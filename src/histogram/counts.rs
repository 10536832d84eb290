//! [`Counts`]: the buckets of a distribution, all of them while it grows, and those that hold something when it has grown.

use std::borrow::Cow;

use super::HIGHEST;

/// HdrHistogram's buckets.
pub(super) type Buckets = hdrhistogram::Histogram<u32>;

/// What was counted, by bucket.
#[derive(Clone, Debug)]
pub(super) enum Counts {
    /// Every bucket has its place, so that counting is an addition.
    Open(Buckets),
    /// Most buckets of a distribution hold nothing, and of distributions that are kept there may be thousands.
    Settled(Settled),
}

/// The buckets that hold something.
#[derive(Clone, Debug)]
pub(super) struct Settled {
    digits: u8,
    /// The largest value of each, ascending, and how many it holds.
    recorded: Box<[(u64, u32)]>,
}

impl Counts {
    /// Nothing yet, to so many significant digits.
    pub(super) fn new(digits: u8) -> Counts {
        Counts::Open(buckets(digits))
    }

    /// Every bucket in its place, for good if they were not.
    pub(super) fn open(&mut self) -> &mut Buckets {
        if let Counts::Settled(settled) = self {
            *self = Counts::Open(settled.whole());
        }
        match self {
            Counts::Open(buckets) => buckets,
            Counts::Settled(_) => unreachable!("opened above"),
        }
    }

    /// Gives up the buckets that hold nothing.
    pub(super) fn settle(&mut self) {
        if let Counts::Open(buckets) = self {
            *self =
                Counts::Settled(Settled { digits: buckets.sigfig(), recorded: recorded(buckets).collect() });
        }
    }

    /// Every bucket in its place, for whoever reads.
    pub(super) fn whole(&self) -> Cow<'_, Buckets> {
        match self {
            Counts::Open(buckets) => Cow::Borrowed(buckets),
            Counts::Settled(settled) => Cow::Owned(settled.whole()),
        }
    }

    /// Adds what others hold. Two that are settled stay so.
    pub(super) fn add(&mut self, others: &Counts) {
        match (&mut *self, others) {
            (Counts::Settled(own), Counts::Settled(others)) if own.digits == others.digits => {
                own.join(others)
            }
            (_, Counts::Settled(settled)) => settled.add_to(self.open()),
            (_, Counts::Open(buckets)) => self.open().add(buckets).expect("both have the same bounds"),
        }
    }

    pub(super) fn len(&self) -> u64 {
        match self {
            Counts::Open(buckets) => buckets.len(),
            Counts::Settled(settled) => settled.recorded.iter().map(|&(_, count)| u64::from(count)).sum(),
        }
    }

    /// The largest value of the bucket in which the share `q` of all is reached.
    pub(super) fn value_at(&self, q: f64) -> u64 {
        match self {
            Counts::Open(buckets) => buckets.value_at_quantile(q),
            Counts::Settled(settled) => settled.value_at((q * self.len() as f64).ceil().max(1.0) as u64),
        }
    }

    /// How many lie in buckets of which the largest value is in `low..high`.
    pub(super) fn between(&self, low: u64, high: u64) -> u64 {
        let held = |(value, count)| if (low..high).contains(&value) { u64::from(count) } else { 0 };
        match self {
            Counts::Open(buckets) => recorded(buckets).map(held).sum(),
            Counts::Settled(settled) => settled.recorded.iter().copied().map(held).sum(),
        }
    }
}

impl Settled {
    fn whole(&self) -> Buckets {
        let mut buckets = buckets(self.digits);
        self.add_to(&mut buckets);
        buckets
    }

    fn add_to(&self, buckets: &mut Buckets) {
        for &(value, count) in &self.recorded {
            buckets.saturating_record_n(value, count);
        }
    }

    fn join(&mut self, others: &Settled) {
        let mut all = [&self.recorded[..], &others.recorded].concat();
        all.sort_unstable_by_key(|&(value, _)| value);
        all.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            kept.1 = if same { kept.1.saturating_add(next.1) } else { kept.1 };
            same
        });
        self.recorded = all.into();
    }

    /// The largest value of the bucket that holds the one of this rank, from 1.
    fn value_at(&self, rank: u64) -> u64 {
        let mut below = 0;
        let reached = self.recorded.iter().find(|&&(_, count)| {
            below += u64::from(count);
            below >= rank
        });
        reached.or(self.recorded.last()).map_or(0, |&(value, _)| value)
    }
}

fn buckets(digits: u8) -> Buckets {
    Buckets::new_with_bounds(1, HIGHEST, digits).expect("the bounds are constants that HdrHistogram accepts")
}

/// The largest value of every bucket that holds something, ascending, and how many it holds.
fn recorded(buckets: &Buckets) -> impl Iterator<Item = (u64, u32)> {
    buckets.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn settled_ones_tell_the_same_and_count_on(
            values in proptest::collection::vec(0_u64..=HIGHEST, 0..300),
            more in proptest::collection::vec(0_u64..=HIGHEST, 0..10),
            digits in 2_u8..=3,
            q in 0.0001_f64..=1.0,
        ) {
            let mut open = Counts::new(digits);
            values.iter().for_each(|&value| open.open().saturating_record(value));
            let mut settled = open.clone();
            settled.settle();
            prop_assert_eq!(settled.whole().into_owned(), open.whole().into_owned());
            prop_assert_eq!(settled.len(), open.len());
            prop_assert_eq!(settled.value_at(q), open.value_at(q));
            prop_assert_eq!(settled.between(1_000, HIGHEST / 2), open.between(1_000, HIGHEST / 2));
            for &value in &more {
                settled.open().saturating_record(value);
                open.open().saturating_record(value);
            }
            prop_assert_eq!(settled.whole().into_owned(), open.whole().into_owned());
        }

        #[test]
        fn whether_they_are_settled_makes_no_difference_to_a_sum(
            (one, two) in (proptest::collection::vec(0_u64..=HIGHEST, 0..300), proptest::collection::vec(0_u64..3_000, 0..300)),
            digits in 2_u8..=3,
        ) {
            let of = |values: &[u64]| {
                let mut open = Counts::new(digits);
                values.iter().for_each(|&value| open.open().saturating_record(value));
                let mut settled = open.clone();
                settled.settle();
                [open, settled]
            };
            let sums = of(&one).into_iter().flat_map(|own| {
                of(&two).map(|others| {
                    let mut sum = own.clone();
                    sum.add(&others);
                    sum.whole().into_owned()
                })
            });
            let sums: Vec<_> = sums.collect();
            prop_assert!(sums.iter().all(|sum| *sum == sums[0]));
        }
    }

    #[test]
    fn settled_ones_take_room_for_what_they_hold() {
        let mut counts = Counts::new(3);
        counts.open().saturating_record_n(1_000_000, u32::MAX);
        counts.settle();
        assert!(matches!(&counts, Counts::Settled(settled) if settled.recorded.len() == 1));
    }
}
