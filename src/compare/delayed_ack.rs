//! [`DelayedAck`]: keep-alive that is slower than none, and why. A server that writes a response in two parts without
//! `TCP_NODELAY` waits with the second until the first is acknowledged (Nagle's algorithm, RFC 896). A client
//! acknowledges the first parts on a new connection at once, and later ones only after its delayed-ACK timer (RFC 1122,
//! section 4.2.3.2): 40 ms on Linux (`TCP_DELACK_MIN`). So the same response takes 40 ms on a kept connection, and none of
//! that on a new one (wrk, issue 488: 44 ms against none).

use std::time::Duration;

use super::visits::Visits;
use crate::histogram::Histogram;
use crate::measurement::PhaseSums;

/// An arm that keeps its connections, with a heap of responses as late as a delayed acknowledgement.
#[derive(Clone, Debug, PartialEq)]
pub struct DelayedAck {
    /// The arm.
    pub arm: String,
    /// The arm without keep-alive that has no such heap.
    pub against: String,
    /// The share of the arm's responses in the heap.
    pub share: f64,
    /// The median of the heap.
    pub median: Duration,
    /// How long this system delays an acknowledgement.
    pub delay: Duration,
}

/// How long a system delays an acknowledgement at least: Linux 40 ms; BSD and Windows 200 ms, as most others.
fn delay(os: &str) -> Duration {
    Duration::from_millis(if os.starts_with("linux") { 40 } else { 200 })
}

/// The kernel's timers may tick early by a little, and late by a tick of 10 ms (`CONFIG_HZ_100`).
const EARLY: Duration = Duration::from_millis(1);
const LATE: Duration = Duration::from_millis(11);

/// A heap is at least this share of the responses, and this many.
const SHARE: f64 = 0.02;
const COUNT: u64 = 10;

/// Without keep-alive so few of them, compared, may lie there by chance.
const BY_CHANCE: f64 = 0.25;

/// The first arm that keeps its connections and shows it, set against one that does not.
pub(super) fn find(all: &[Visits<'_>], os: &str) -> Option<DelayedAck> {
    let (kept, fresh): (Vec<_>, Vec<_>) = all.iter().partition(|visits| visits.arm.keep_alive);
    kept.iter().flat_map(|kept| fresh.iter().map(move |fresh| (kept, fresh))).find_map(|(kept, fresh)| {
        let (share, median) = heap(
            &(&kept.total.service, kept.total.phases),
            &(&fresh.total.service, fresh.total.phases),
            delay(os),
        )?;
        Some(DelayedAck {
            arm: kept.arm.name.clone(),
            against: fresh.arm.name.clone(),
            share,
            median,
            delay: delay(os),
        })
    })
}

/// The same without an arm to compare with. An arm that opens its connections before it is measured asks each for one
/// response on the way: it knows how long all of them took while they were new.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Suspicion {
    /// The share of the responses in the heap.
    pub(super) share: f64,
    /// The median of the heap.
    pub(super) median: Duration,
    /// How long all new connections took to open, each with its first response.
    pub(super) opening: Duration,
    /// How long this system delays an acknowledgement.
    pub(super) delay: Duration,
}

/// Alone a heap must hold a fifth of the responses: then some of the first ones would have been as late, if it had another
/// reason than the age of their connections.
const SHARE_ALONE: f64 = 0.2;

/// What an arm that keeps its connections shows by itself.
pub(super) fn suspect(alone: &Visits<'_>, os: &str) -> Option<Suspicion> {
    let delay = delay(os);
    let opening = alone.slots.iter().map(|slot| slot.opening).max().filter(|opening| !opening.is_zero())?;
    let (share, median) =
        heap_alone(&alone.total.service, opening, delay).filter(|_| alone.arm.keep_alive)?;
    Some(Suspicion { share, median, opening, delay })
}

fn heap_alone(on: &Histogram, opening: Duration, delay: Duration) -> Option<(f64, Duration)> {
    let (low, high) = (delay - EARLY, opening + delay + LATE);
    let within = on.count_between(low, high);
    let valley = on.count_between(low - delay / 4, low - EARLY);
    let is_heap =
        opening < delay / 2 && within >= COUNT && share_of(within, on) >= SHARE_ALONE && valley * 4 <= within;
    is_heap.then(|| (share_of(within, on), on.median_between(low, high).unwrap_or(low)))
}

/// Service times, and where they went.
type Served<'a> = (&'a Histogram, PhaseSums);

/// Its share of the kept responses, and its median. All of it must hold: a heap one delay after the beginning of what a
/// response takes on a new connection; next to nothing there on new connections; a valley before it; and the mean time
/// until the end of the response longer, by about that share of the delay.
fn heap(kept: &Served<'_>, fresh: &Served<'_>, delay: Duration) -> Option<(f64, Duration)> {
    let ((on, on_phases), (off, off_phases)) = (kept, fresh);
    let head = off
        .quantile(0.1)?
        .saturating_sub(opening(off_phases) + per_request(off_phases, off_phases.receive_ns));
    let (low, high) = (head + delay - EARLY, head + delay + LATE + spread(off));
    let within = on.count_between(low, high);
    let (share, by_chance) = (share_of(within, on), share_of(off.count_between(low, high), off));
    let valley = on.count_between(low.saturating_sub(delay / 4), low - EARLY);
    let longer = answering(on_phases).saturating_sub(answering(off_phases));
    let is_heap = within >= COUNT
        && share >= SHARE
        && by_chance <= share * BY_CHANCE
        && valley * 4 <= within
        && longer.as_secs_f64() >= (share - by_chance) * delay.as_secs_f64() / 2.0;
    is_heap.then(|| (share, on.median_between(low, high).unwrap_or(low)))
}

fn share_of(n: u64, all: &Histogram) -> f64 {
    n as f64 / all.len().max(1) as f64
}

/// How far new connections' responses differ among themselves: the heap is no narrower.
fn spread(off: &Histogram) -> Duration {
    let between = off.quantile(0.9).zip(off.quantile(0.1)).map(|(high, low)| high - low);
    between.unwrap_or_default().min(Duration::from_millis(20))
}

fn per_request(phases: &PhaseSums, ns: u64) -> Duration {
    Duration::from_nanos(ns / phases.requests.max(1))
}

fn opening(phases: &PhaseSums) -> Duration {
    per_request(phases, phases.dns_ns + phases.connect_ns + phases.proxy_ns + phases.tls_ns)
}

/// From the request's last byte to the response's.
fn answering(phases: &PhaseSums) -> Duration {
    per_request(phases, phases.wait_ns + phases.receive_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(40);

    /// So many responses of so many milliseconds each, whose head comes half a millisecond before the quickest new
    /// connection's response is complete, or at once; new connections take 0.2 ms to open.
    fn served(groups: &[(u64, f64)], head_ns: u64, is_new: bool) -> (Histogram, PhaseSums) {
        let (mut histogram, mut phases) = (Histogram::new(), PhaseSums::default());
        for (n, ms) in groups {
            for nth in 0..*n {
                let time = Duration::from_secs_f64((ms + nth as f64 / *n as f64 * 0.3) / 1e3);
                histogram.record(time);
                let ns = time.as_nanos() as u64;
                let connect = if is_new { 200_000 } else { 0 };
                phases.requests += 1;
                phases.connect_ns += connect;
                phases.wait_ns += (ns - connect).min(head_ns);
                phases.receive_ns += (ns - connect).saturating_sub(head_ns);
            }
        }
        (histogram, phases)
    }

    fn share(kept: &[(u64, f64)], fresh: &[(u64, f64)]) -> Option<u32> {
        let head_ns = (fresh[0].1 * 1e6) as u64 - 500_000;
        let ((on, on_phases), (off, off_phases)) =
            (served(kept, head_ns, false), served(fresh, head_ns, true));
        heap(&(&on, on_phases), &(&off, off_phases), DELAY).map(|(share, _)| (share * 100.0).round() as u32)
    }

    #[test]
    fn a_heap_one_delay_later_on_kept_connections_only_is_the_sign() {
        let fast = &[(1000, 0.7)];
        for (what, kept, fresh, expected) in [
            ("every response", &[(1000, 40.7)][..], &fast[..], Some(100)),
            (
                "every second one, two milliseconds between the parts",
                &[(500, 2.5), (500, 43.4)],
                &[(1000, 2.7)],
                Some(50),
            ),
            ("one in twenty", &[(950, 0.6), (50, 44.2)], fast, Some(5)),
            ("a slow server whose parts wait", &[(500, 120.0), (500, 161.0)], &[(1000, 120.3)], Some(50)),
            ("none", &[(1000, 0.6)], fast, None),
            ("on new connections as well", &[(500, 0.6), (500, 41.0)], &[(500, 0.7), (500, 41.2)], None),
            ("later than a delay", &[(500, 0.6), (500, 70.0)], fast, None),
            ("earlier", &[(500, 0.6), (500, 30.0)], fast, None),
            (
                "a slope and no heap",
                &[(300, 0.6), (100, 30.0), (100, 33.0), (100, 36.0), (100, 39.0), (100, 42.0)],
                fast,
                None,
            ),
            ("five of ten thousand", &[(9995, 0.6), (5, 42.0)], fast, None),
        ] {
            assert_eq!(share(kept, fresh), expected, "{what}");
        }
    }

    #[test]
    fn alone_it_is_a_heap_that_no_new_connection_knows() {
        let alone = |groups: &[(u64, f64)], opening_ms: u64| {
            let (on, _) = served(groups, 0, false);
            let found = heap_alone(&on, Duration::from_millis(opening_ms), DELAY);
            found.map(|(share, _)| (share * 100.0).round() as u32)
        };
        assert_eq!(alone(&[(1000, 41.0)], 3), Some(100));
        assert_eq!(alone(&[(500, 0.6), (500, 43.0)], 3), Some(50));
        assert_eq!(alone(&[(900, 0.6), (100, 43.0)], 3), None, "too few to be sure");
        assert_eq!(alone(&[(1000, 43.0)], 45), None, "new connections are as slow");
        assert_eq!(alone(&[(1000, 70.0)], 3), None, "later than a delay");
        assert_eq!(alone(&[(300, 30.0), (300, 35.0), (300, 43.0)], 3), None, "a slope and no heap");
    }
}
