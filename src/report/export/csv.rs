//! CSV: one row for each slot, in the order in which they were run. Names that end in `_ns` are whole nanoseconds;
//! what there is none of is an empty field. `failed` are those without a good answer, of which `censored` had none by the end.

use std::io::{self, Write};
use std::time::Duration;

use crate::histogram::Histogram;
use crate::measurement::{Measurement, Slot};

const HEADER: &str = "round,order,arm,start_unix_ns,duration_ns,scheduled,completed,failed,censored,pure,\
                      opened,reused,response_p50_ns,response_p90_ns,response_p99_ns,response_max_ns,response_mean_ns,\
                      service_p50_ns,service_p99_ns,lag_p99_ns,client_cpu_ns";

pub(super) fn write(measurement: &Measurement, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "{HEADER}\r\n")?;
    measurement.slots.iter().try_for_each(|slot| write!(out, "{}\r\n", row(slot).join(",")))
}

fn row(slot: &Slot) -> Vec<String> {
    let at = |histogram: &Histogram, q| ns(histogram.quantile(q));
    vec![
        slot.round.to_string(),
        slot.order.to_string(),
        quoted(&slot.arm),
        slot.start_unix_ns.to_string(),
        slot.duration.as_nanos().to_string(),
        slot.scheduled.to_string(),
        slot.completed.to_string(),
        slot.failed().to_string(),
        slot.censored.to_string(),
        slot.pure.to_string(),
        slot.reuse.opened.to_string(),
        slot.reuse.reused.to_string(),
        at(&slot.response, 0.5),
        at(&slot.response, 0.9),
        at(&slot.response, 0.99),
        ns(slot.response.max()),
        ns(slot.response.mean()),
        at(&slot.service, 0.5),
        at(&slot.service, 0.99),
        at(&slot.lag, 0.99),
        slot.client.cpu_ns.to_string(),
    ]
}

fn ns(time: Option<Duration>) -> String {
    time.map_or_else(String::new, |time| time.as_nanos().to_string())
}

/// RFC 4180, section 2: a field with a comma, a quote or a line break stands in quotes, and its quotes are doubled.
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\r', '\n']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}
