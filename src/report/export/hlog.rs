//! HdrHistogram's interval log: one line for each slot, tagged with its arm, in nanoseconds. `StartTime` and
//! `BaseTime` are both written: the Java reader takes small time stamps for relative ones only when there is either.

use std::io::{self, Write};
use std::time::{Duration, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use crate::measurement::Measurement;

/// The largest value of each line is written in milliseconds, as HistogramLogProcessor prints it.
const NANOSECONDS_PER_MILLISECOND: f64 = 1e6;

pub(super) fn write(measurement: &Measurement, mut out: &mut dyn Write) -> io::Result<()> {
    let began = measurement.slots.first().map_or(0, |slot| slot.start_unix_ns);
    let base = UNIX_EPOCH + Duration::from_nanos(began);
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[keeplive: response times in nanoseconds, one line for each slot, tagged with its arm]")
        .with_start_time(base)
        .with_base_time(base)
        .with_max_value_divisor(NANOSECONDS_PER_MILLISECOND)
        .begin_log_with(&mut out, &mut serializer)?;
    for slot in &measurement.slots {
        let tag = slot.arm.replace([',', ' ', '\r', '\n'], "-");
        let start = Duration::from_nanos(slot.start_unix_ns.saturating_sub(began));
        log.write_histogram(&slot.response.counts(), start, slot.duration, Tag::new(&tag))
            .map_err(io_error)?;
    }
    Ok(())
}

fn io_error<E: std::fmt::Debug>(error: IntervalLogWriterError<E>) -> io::Error {
    match error {
        IntervalLogWriterError::IoError(error) => error,
        IntervalLogWriterError::SerializeError(error) => io::Error::other(format!("{error:?}")),
    }
}
