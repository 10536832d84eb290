//! HdrHistogram's percentile distribution: four columns, values in milliseconds. Its plotter (`plotFiles.html`) takes
//! the lines that have exactly four fields and do not begin with `#`, and reads the fourth with `parseFloat`: so the
//! last row says `inf`, which it skips, and not `Infinity`, which would break its axis.

use std::io::{self, Write};
use std::time::Duration;

use crate::compare::{ArmSummary, Comparison};

/// Rows for each halving of the distance to 100 %, as the Java implementation's default.
const STEPS_PER_HALVING: u32 = 5;

pub(super) fn write(comparison: &Comparison, out: &mut dyn Write) -> io::Result<()> {
    comparison.arms.iter().try_for_each(|arm| distribution(arm, out))
}

fn distribution(arm: &ArmSummary, out: &mut dyn Write) -> io::Result<()> {
    let histogram = &arm.response_histogram;
    let ms = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e3;
    writeln!(out, "# arm {}, response time in milliseconds", arm.name)?;
    writeln!(out, "{:>12} {:>14} {:>10} {:>14}\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)")?;
    let mut so_far = 0;
    let counts = histogram.counts();
    for bucket in counts.iter_quantiles(STEPS_PER_HALVING) {
        let value = ms(Some(Duration::from_nanos(bucket.value_iterated_to())).min(histogram.max()));
        let quantile = bucket.quantile_iterated_to();
        so_far += bucket.count_since_last_iteration();
        write!(out, "{value:>12.3} {quantile:>2.12} {so_far:>10} ")?;
        if quantile < 1.0 {
            writeln!(out, "{:>14.2}", 1.0 / (1.0 - quantile))?;
        } else {
            writeln!(out, "{:>14}", "inf")?;
        }
    }
    let deviation = counts.stdev() / 1e6;
    writeln!(out, "#[Mean    = {:>12.3}, StdDeviation   = {deviation:>12.3}]", ms(histogram.mean()))?;
    writeln!(out, "#[Max     = {:>12.3}, Total count    = {:>12}]", ms(histogram.max()), histogram.len())?;
    let (buckets, sub_buckets) = (counts.buckets(), 1 << 11);
    writeln!(out, "#[Buckets = {buckets:>12}, SubBuckets     = {sub_buckets:>12}]\n")
}
