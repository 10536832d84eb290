//! [`Metric`]: what a gate looks at, what it is of a slot, and what is asked of it when nobody says.

use std::fmt;
use std::str::FromStr;

use super::share::Count;
use super::{Demand, Scale};
use crate::measurement::{self, Slot};

/// What is gated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Metric {
    /// The median response time.
    P50,
    /// Nine in ten responses.
    P90,
    /// 19 in 20.
    P95,
    /// 99 in 100.
    P99,
    /// 999 in 1000.
    P999,
    /// Requests per second, in a closed loop: in an open one they are what was offered. It is set against the base's as
    /// the time that a request takes, its inverse: 25 % worse is a quarter more time, and a fifth fewer requests.
    Rps,
    /// The share of requests without a good answer.
    Errors,
    /// Processor time that the target uses for a request.
    Cpu,
    /// The share of requests that needed a new connection: what is missing to a reuse of all.
    Reuse,
    /// Connections opened. Half a connection is added on both sides, for a slot in which none was opened has no
    /// logarithm (Haldane, *The estimation and significance of the logarithm of a ratio of frequencies*, 1956).
    Connections,
}

impl Metric {
    /// Every metric.
    pub const ALL: [Metric; 10] = [
        Metric::P50,
        Metric::P90,
        Metric::P95,
        Metric::P99,
        Metric::P999,
        Metric::Rps,
        Metric::Errors,
        Metric::Cpu,
        Metric::Reuse,
        Metric::Connections,
    ];

    /// Its name at the command line and in files.
    pub fn as_str(self) -> &'static str {
        match self {
            Metric::P50 => "p50",
            Metric::P90 => "p90",
            Metric::P95 => "p95",
            Metric::P99 => "p99",
            Metric::P999 => "p99.9",
            Metric::Rps => "rps",
            Metric::Errors => "errors",
            Metric::Cpu => "cpu",
            Metric::Reuse => "reuse",
            Metric::Connections => "connections",
        }
    }

    /// Its name in a sentence.
    pub fn words(self) -> &'static str {
        match self {
            Metric::Rps => "the time per request",
            Metric::Errors => "the error rate",
            Metric::Cpu => "the target's CPU per request",
            Metric::Reuse => "the share of requests on a new connection",
            Metric::Connections => "the number of connections opened",
            quantile => quantile.as_str(),
        }
    }

    /// How two of its values are set against each other.
    pub fn scale(self) -> Scale {
        match self {
            Metric::Errors | Metric::Reuse => Scale::Share,
            _ => Scale::Logarithm,
        }
    }

    /// Whether more of it is worse.
    pub fn more_is_worse(self) -> bool {
        self != Metric::Rps
    }

    /// For a response time, which of them.
    pub fn quantile(self) -> Option<f64> {
        match self {
            Metric::P50 => Some(0.5),
            Metric::P90 => Some(0.9),
            Metric::P95 => Some(0.95),
            Metric::P99 => Some(0.99),
            Metric::P999 => Some(0.999),
            _ => None,
        }
    }

    /// What is asked when nobody says.
    ///
    /// - Times and rates: 1 % is about what the layout of a binary in memory changes by itself (Mytkowicz et al.,
    ///   *Producing wrong data without doing anything obviously wrong*, 2009, found more), so that less is no reason
    ///   to stop anybody; 5 % in the median is what a short session on a shared machine can find. Tails scatter more,
    ///   so more of them is tolerated, and less can be demanded.
    /// - Failed requests: one in a thousand more is tolerated, for a timeout or two are the machine's; one in a
    ///   hundred more must be seen.
    /// - New connections: servers close after a number of requests, so one in a hundred more is tolerated.
    pub fn demand(self) -> Demand {
        let (tolerance, detect) = match self {
            Metric::P50 | Metric::Rps => (0.01, 0.05),
            Metric::P90 => (0.01, 0.07),
            Metric::P95 | Metric::P99 | Metric::Cpu => (0.02, 0.10),
            Metric::P999 => (0.05, 0.20),
            Metric::Errors => (0.001, 0.01),
            Metric::Reuse => (0.01, 0.05),
            Metric::Connections => (0.05, 0.25),
        };
        Demand { tolerance, detect }
    }

    /// For a share: how many it is of how many.
    pub(super) fn counted(self, slot: &Slot) -> Option<Count> {
        match self {
            Metric::Errors => Some(Count { hits: slot.failed(), of: slot.scheduled }),
            Metric::Reuse => {
                Some(Count { hits: slot.reuse.opened, of: slot.reuse.opened + slot.reuse.reused })
            }
            _ => None,
        }
    }

    /// Its value in one slot: nanoseconds, a number, a share; `None` where the slot has none.
    pub fn of(self, slot: &Slot) -> Option<f64> {
        let share = |part: u64, whole: u64| (whole > 0).then(|| part as f64 / whole as f64);
        match self {
            Metric::Rps => measurement::requests_per_s(&[slot]),
            Metric::Errors | Metric::Reuse => self.counted(slot).and_then(Count::share),
            Metric::Cpu => slot.target_cpu_ns.and_then(|ns| share(ns, slot.connections.exchanges)),
            Metric::Connections => Some(slot.connections.opened as f64),
            quantile => {
                let time = slot.response.quantile(quantile.quantile()?)?;
                Some(time.as_nanos() as f64)
            }
        }
    }

    /// By how much the head is worse than the base in a round; `None` where there is no telling.
    ///
    /// A server that answered nothing in a closed loop is the worst that can be, and no reason to leave the round out: it
    /// counts as half an answer, for nothing has no logarithm. Where neither answered there is nothing to compare.
    pub(super) fn worse_in(self, base: &Slot, head: &Slot) -> Option<f64> {
        let answered = base.answered().max(head.answered());
        let value = |slot: &Slot| match self {
            Metric::Rps if slot.answered() == 0 && answered > 0 => Some(0.5 / slot.duration.as_secs_f64()),
            _ => self.of(slot),
        };
        self.worse(value(base)?, value(head)?)
    }

    /// By how much the head is worse than the base: a difference of logarithms, or of shares. `None` where there is
    /// none, because a value is missing or has no logarithm.
    pub fn worse(self, base: f64, head: f64) -> Option<f64> {
        let worse = match self.scale() {
            Scale::Share => head - base,
            Scale::Logarithm if self == Metric::Connections => ((head + 0.5) / (base + 0.5)).ln(),
            Scale::Logarithm if self.more_is_worse() => (head / base).ln(),
            Scale::Logarithm => (base / head).ln(),
        };
        worse.is_finite().then_some(worse)
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Metric {
    type Err = String;

    fn from_str(text: &str) -> Result<Metric, String> {
        let known = Metric::ALL.into_iter().find(|metric| metric.as_str().eq_ignore_ascii_case(text));
        known.ok_or_else(|| {
            let names = Metric::ALL.map(Metric::as_str).join(", ");
            format!("`{text}` is not a metric; choose one of: {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_found_by_its_name_and_its_defaults_can_be_asked() {
        for metric in Metric::ALL {
            assert_eq!(metric.as_str().parse(), Ok(metric));
            assert_eq!(metric.demand().fault(), None, "{metric}");
        }
        assert!("p42".parse::<Metric>().unwrap_err().contains("p99.9, rps"));
    }

    #[test]
    fn worse_is_positive_whichever_way_a_metric_points() {
        assert!(Metric::P50.worse(1.0, 2.0).unwrap() > 0.0 && Metric::Rps.worse(2.0, 1.0).unwrap() > 0.0);
        assert_eq!(Metric::Errors.worse(0.0, 0.02), Some(0.02), "from nothing to something is a difference");
        assert_eq!((Metric::Errors.worse(0.0, 0.0), Metric::Reuse.worse(1.0, 1.0)), (Some(0.0), Some(0.0)));
        assert_eq!(Metric::Cpu.worse(0.0, 1.0), None);
        assert_eq!(Metric::Connections.worse(0.0, 0.0), Some(0.0));
        assert!(Metric::Connections.worse(0.0, 4.0).is_some_and(|worse| worse > 2.0), "from none to four");
    }
}
