//! [`Histogram`]: a latency distribution in nanoseconds, with its exact extremes and sum beside it.

mod counts;

use std::borrow::Cow;
use std::io::Read as _;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use flate2::read::ZlibDecoder;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};
use serde::{Deserialize, Serialize};

use crate::duration::nanoseconds;
use counts::{Buckets, Counts};

/// Largest value that keeps its place; anything longer is counted at it, and in `overflow`.
const HIGHEST: u64 = 3_600_000_000_000;

/// A distribution of durations: one nanosecond to one hour, three significant digits (HdrHistogram).
///
/// All memory is taken when it is made (about 130 kB): recording neither allocates nor fails. One to which nothing more is
/// added can be [settled](Histogram::settle). HdrHistogram's own extremes are only as exact as its buckets, so the exact
/// ones and the sum are kept beside it.
#[derive(Clone, Debug)]
pub struct Histogram {
    counts: Counts,
    min: u64,
    max: u64,
    sum: u128,
    overflow: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram::new()
    }
}

impl Histogram {
    /// An empty distribution.
    pub fn new() -> Histogram {
        Histogram::with_digits(3)
    }

    /// An empty distribution of two significant digits, in an eighth of the room: where there are many of them.
    pub(crate) fn coarse() -> Histogram {
        Histogram::with_digits(2)
    }

    fn with_digits(digits: u8) -> Histogram {
        Histogram { counts: Counts::new(digits), min: u64::MAX, max: 0, sum: 0, overflow: 0 }
    }

    /// Keeps only the buckets that hold something, 16 bytes each: nothing more is to come, or seldom. It tells the same as
    /// before, and what comes nevertheless makes it as large again.
    pub fn settle(&mut self) {
        self.counts.settle();
    }

    /// Whether it is [settled](Histogram::settle).
    pub(crate) fn is_settled(&self) -> bool {
        matches!(self.counts, Counts::Settled(_))
    }

    /// Counts one duration.
    pub fn record(&mut self, duration: Duration) {
        let ns = nanoseconds(duration);
        self.min = self.min.min(ns);
        self.max = self.max.max(ns);
        self.sum += u128::from(ns);
        self.overflow += u64::from(ns > HIGHEST);
        self.counts.open().saturating_record(ns.min(HIGHEST));
    }

    /// Adds everything that another distribution holds.
    pub fn merge(&mut self, other: &Histogram) {
        self.counts.add(&other.counts);
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.sum += other.sum;
        self.overflow += other.overflow;
    }

    /// So many of them as a share.
    pub(crate) fn share_of(&self, n: u64) -> f64 {
        (n as f64 / self.len().max(1) as f64).min(1.0)
    }

    /// How many durations were counted.
    pub fn len(&self) -> u64 {
        self.counts.len()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at or below which the share `q` (0 to 1) of all lies, to three digits; `None` when empty.
    /// It never exceeds the exact maximum.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        (!self.is_empty()).then(|| Duration::from_nanos(self.counts.value_at(q).min(self.max)))
    }

    /// The exact mean; `None` when empty.
    pub fn mean(&self) -> Option<Duration> {
        let n = u128::from(self.len());
        (n > 0).then(|| Duration::from_nanos(u64::try_from((self.sum + n / 2) / n).unwrap_or(u64::MAX)))
    }

    /// The exact smallest; `None` when empty.
    pub fn min(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(Duration::from_nanos(self.min))
    }

    /// The exact largest; `None` when empty.
    pub fn max(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(Duration::from_nanos(self.max))
    }

    /// The exact sum.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.sum).unwrap_or(u64::MAX))
    }

    /// The counts by bucket, for the forms that HdrHistogram's own tools read.
    pub(crate) fn counts(&self) -> Cow<'_, Buckets> {
        self.counts.whole()
    }

    /// The median of those that lie in `low..high`, to the width of a bucket.
    pub(crate) fn median_between(&self, low: Duration, high: Duration) -> Option<Duration> {
        let before = self.count_between(Duration::ZERO, low);
        let within = self.count_between(low, high);
        let place = before + within.div_ceil(2);
        (within > 0).then(|| self.quantile(place as f64 / self.len() as f64)).flatten()
    }

    /// How many were longer than an hour.
    pub fn overflow(&self) -> u64 {
        self.overflow
    }

    /// How many lie in `low..high`, to the width of a bucket.
    pub fn count_between(&self, low: Duration, high: Duration) -> u64 {
        self.counts.between(nanoseconds(low), nanoseconds(high))
    }
}

/// As it stands in a result file: HdrHistogram's V2 form, deflated, in base64, and the exact numbers.
#[derive(Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Saved {
    count: u64,
    min_ns: u64,
    max_ns: u64,
    sum_ns: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    overflow: u64,
    hdr: String,
}

#[cfg(test)]
impl schemars::JsonSchema for Histogram {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Histogram".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Saved::json_schema(generator)
    }
}

/// More bytes than all buckets of a histogram take.
const LONGEST: u32 = 1 << 20;

/// How many bytes a distribution in HdrHistogram's V2 form, deflated, says that it has. HdrHistogram takes as much memory at
/// once, and four gigabytes fit into a short file.
fn says_len(bytes: &[u8]) -> Option<u32> {
    let mut head = [0; 8];
    ZlibDecoder::new(bytes.get(8..)?).read_exact(&mut head).ok()?;
    let [_, _, _, _, len @ ..] = head;
    Some(u32::from_be_bytes(len))
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Serialize for Histogram {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2DeflateSerializer::new()
            .serialize(&self.counts(), &mut bytes)
            .map_err(serde::ser::Error::custom)?;
        Saved {
            count: self.len(),
            min_ns: if self.is_empty() { 0 } else { self.min },
            max_ns: self.max,
            sum_ns: u64::try_from(self.sum).unwrap_or(u64::MAX),
            overflow: self.overflow,
            hdr: BASE64.encode(bytes),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Histogram, D::Error> {
        use serde::de::Error;
        let saved = Saved::deserialize(deserializer)?;
        let bytes = BASE64.decode(&saved.hdr).map_err(D::Error::custom)?;
        if says_len(&bytes).is_none_or(|len| len > LONGEST) {
            return Err(D::Error::custom("`hdr` is no histogram in HdrHistogram's V2 form, deflated"));
        }
        let read: Buckets =
            Deserializer::new().deserialize(&mut bytes.as_slice()).map_err(D::Error::custom)?;
        if read.len() != saved.count {
            return Err(D::Error::custom("a histogram's count does not agree with its buckets"));
        }
        let mut whole = Histogram::new();
        whole.counts.open().add(&read).map_err(D::Error::custom)?;
        whole.settle();
        whole.min = if saved.count == 0 { u64::MAX } else { saved.min_ns };
        whole.max = saved.max_ns;
        whole.sum = u128::from(saved.sum_ns);
        whole.overflow = saved.overflow;
        Ok(whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::new();
        for &ns in values {
            histogram.record(Duration::from_nanos(ns));
        }
        histogram
    }

    #[test]
    fn an_empty_one_has_no_quantile_and_no_mean() {
        assert_eq!(Histogram::new().quantile(0.5), None);
        assert_eq!(Histogram::new().mean(), None);
    }

    #[test]
    fn more_than_an_hour_is_counted_as_an_hour_and_its_maximum_stays_exact() {
        let histogram = of(&[7_200_000_000_000]);
        assert_eq!((histogram.len(), histogram.overflow()), (1, 1));
        assert_eq!(histogram.max(), Some(Duration::from_secs(7200)));
    }

    #[test]
    fn a_coarse_one_keeps_two_digits_and_joins_others() {
        let mut coarse = Histogram::coarse();
        (1..=1_000).for_each(|ms| coarse.record(Duration::from_millis(ms)));
        let is_near = |histogram: &Histogram| {
            let p99 = histogram.quantile(0.99).unwrap().as_secs_f64();
            assert!((0.98..=1.0).contains(&p99) && histogram.len() == 1_000, "{p99}");
        };
        is_near(&coarse);
        let mut fine = Histogram::new();
        fine.merge(&coarse);
        is_near(&fine);
        let read: Histogram = serde_json::from_str(&serde_json::to_string(&coarse).unwrap()).unwrap();
        is_near(&read);
        assert_eq!((read.max(), read.sum()), (coarse.max(), coarse.sum()));
    }

    #[test]
    fn one_that_says_it_is_endless_is_not_waited_for() {
        let mut saved = serde_json::to_value(of(&[1])).unwrap();
        let bytes = BASE64.decode(saved["hdr"].as_str().unwrap()).unwrap();
        let mut inflated = Vec::new();
        ZlibDecoder::new(&bytes[8..]).read_to_end(&mut inflated).unwrap();
        inflated[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
        let mut deflated = bytes[..8].to_vec();
        let mut encoder = flate2::write::ZlibEncoder::new(&mut deflated, flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, &inflated).unwrap();
        encoder.finish().unwrap();
        saved["hdr"] = BASE64.encode(deflated).into();
        let refused = serde_json::from_value::<Histogram>(saved).unwrap_err().to_string();
        assert!(refused.contains("no histogram"), "{refused}");
    }

    proptest! {
        #[test]
        fn quantiles_keep_three_digits_and_mean_and_extremes_are_exact(
            mut values in proptest::collection::vec(1_u64..100_000_000_000, 1..200),
        ) {
            let histogram = of(&values);
            values.sort_unstable();
            for q in [0.5, 0.9, 0.99] {
                let rank = ((q * values.len() as f64).ceil() as usize).clamp(1, values.len()) - 1;
                let (exact, got) = (values[rank] as f64, histogram.quantile(q).unwrap().as_nanos() as f64);
                prop_assert!((got - exact).abs() <= exact * 0.001 + 1.0, "{q}: {got} for {exact}");
            }
            prop_assert_eq!(histogram.max().unwrap().as_nanos() as u64, *values.last().unwrap());
            prop_assert_eq!(histogram.min().unwrap().as_nanos() as u64, values[0]);
        }

        #[test]
        fn what_is_saved_is_read_back_whole(values in proptest::collection::vec(0_u64..10_000_000_000_000, 0..100)) {
            let histogram = of(&values);
            let text = serde_json::to_string(&histogram).unwrap();
            let back: Histogram = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(serde_json::to_string(&back).unwrap(), text);
        }

        #[test]
        fn merging_is_recording_together(a in proptest::collection::vec(1_u64..1_000_000, 0..50), b in proptest::collection::vec(1_u64..1_000_000, 0..50)) {
            let mut merged = of(&a);
            merged.merge(&of(&b));
            let together = of(&[a, b].concat());
            prop_assert_eq!(serde_json::to_string(&merged).unwrap(), serde_json::to_string(&together).unwrap());
        }
    }
}
