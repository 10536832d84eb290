//! Go's benchmark format (golang.org/design/14313-benchmark-format): configuration lines, then one line for each
//! slot, so that benchstat sees as many samples as there were rounds. The name keeps its arm as a sub-benchmark's
//! key, so that `benchstat -col /arm` sets arms side by side.

use std::io::{self, Write};
use std::time::Duration;

use super::QUANTILES;
use crate::measurement::{Measurement, Slot, client_cpu_ns_per_request, requests_per_s};

pub(super) fn write(measurement: &Measurement, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "tool: keeplive {}", measurement.tool.version)?;
    writeln!(out, "target: {}", measurement.plan.target.url)?;
    writeln!(out, "plan: {}", measurement.plan_id)?;
    if let Some(cpu) = &measurement.machine.cpu_model {
        writeln!(out, "cpu: {cpu}")?;
    }
    // What is impure or empty is no sample of its arm.
    measurement
        .slots
        .iter()
        .filter(|slot| slot.pure && !slot.response.is_empty())
        .try_for_each(|slot| line(slot, out))
}

fn line(slot: &Slot, out: &mut dyn Write) -> io::Result<()> {
    let name: String =
        slot.arm.chars().map(|c| if c.is_whitespace() || c == '/' { '-' } else { c }).collect();
    let ns = |time: Option<Duration>| time.unwrap_or_default().as_nanos();
    write!(out, "BenchmarkKeeplive/arm={name} {} {} ns/op", slot.response.len(), ns(slot.response.mean()))?;
    for (q, quantile) in QUANTILES {
        write!(out, " {} {quantile}-ns", ns(slot.response.quantile(q)))?;
    }
    let per_s = requests_per_s(&[slot]).unwrap_or(0.0);
    let cpu = client_cpu_ns_per_request(&[slot]).unwrap_or(0.0);
    writeln!(out, " {per_s:.1} answers/s {cpu:.0} cpu-ns/op")
}
