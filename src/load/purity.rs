//! Whether a slot's arm was what its name says. Pure.

use crate::idle::CloseReason;
use crate::measurement::{Reuse, Slot};
use crate::plan::Arm;

/// The share of requests that may miss what the arm promises: connections end now and then for reasons of
/// their own, such as a server's limit of requests per connection.
const TOLERATED: f64 = 0.01;

/// The same for a kept arm: servers have closed after 100 requests for years (nginx before 1.19.10, Apache httpd).
const TOLERATED_WHEN_KEPT: f64 = 0.02;

/// What was not as the arm says; empty when it was.
pub(super) fn faults(arm: &Arm, slot: &Slot, https: bool) -> Vec<String> {
    let Reuse { reused, opened, handshakes_full, handshakes_resumed, .. } = slot.reuse;
    let total = reused + opened;
    let mut faults = Vec::new();
    let tolerated = if arm.keep_alive { TOLERATED_WHEN_KEPT } else { TOLERATED };
    let mut check = |missed: u64, of: u64, text: String| {
        if missed as f64 > tolerated * of as f64 {
            faults.push(text);
        }
    };
    if arm.keep_alive {
        let missed = opened.saturating_sub(closed_by_us(slot));
        check(missed, total, format!("{opened} of {total} requests needed a new connection"));
    } else {
        check(reused, total, format!("{reused} of {total} requests reused a connection"));
    }
    if https && !arm.keep_alive && arm.resume {
        check(handshakes_full, opened, format!("{handshakes_full} of {opened} handshakes were full"));
    }
    if https && !arm.keep_alive && !arm.resume {
        check(
            handshakes_resumed,
            opened,
            format!("{handshakes_resumed} of {opened} handshakes were resumed"),
        );
    }
    faults
}

/// Connections that the arm's own limits ended: those that replace them are as the arm says.
fn closed_by_us(slot: &Slot) -> u64 {
    use CloseReason::{Evicted, IdleTimeout, MaxExchanges, MaxLifetime};
    let ours = [IdleTimeout, MaxLifetime, MaxExchanges, Evicted];
    ours.iter().filter_map(|reason| slot.connections.closed.get(reason.as_str())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Limits;

    fn slot(reuse: Reuse) -> Slot {
        Slot { reuse, ..Slot::default() }
    }

    #[test]
    fn each_arm_tolerates_a_few_in_a_hundred_and_no_more() {
        let l = Limits::default;
        let kept = |opened| slot(Reuse { reused: 1000 - opened, opened, ..Reuse::default() });
        assert!(faults(&Arm::on(l()), &kept(20), false).is_empty());
        assert_eq!(faults(&Arm::on(l()), &kept(21), false), ["21 of 1000 requests needed a new connection"]);
        let tls = |full| {
            slot(Reuse {
                opened: 1000,
                handshakes_full: full,
                handshakes_resumed: 1000 - full,
                ..Reuse::default()
            })
        };
        assert!(faults(&Arm::off_resumed(l()), &tls(10), true).is_empty());
        assert_eq!(faults(&Arm::off_resumed(l()), &tls(500), true).len(), 1);
        assert!(faults(&Arm::off_full(l()), &tls(1000), true).is_empty());
        assert_eq!(faults(&Arm::off_full(l()), &tls(0), true).len(), 1);
    }

    #[test]
    fn connections_that_the_arms_own_limits_ended_make_it_no_less_pure() {
        let mut slot = slot(Reuse { reused: 900, opened: 100, ..Reuse::default() });
        assert_eq!(faults(&Arm::on(Limits::default()), &slot, false).len(), 1);
        slot.connections.closed.insert("max_exchanges".into(), 100);
        assert!(faults(&Arm::on(Limits::default()), &slot, false).is_empty());
    }

    #[test]
    fn an_arm_that_never_reuses_is_impure_when_it_did() {
        let reused = slot(Reuse { reused: 50, opened: 50, ..Reuse::default() });
        assert_eq!(faults(&Arm::off(Limits::default()), &reused, false).len(), 1);
    }

    #[test]
    fn a_slot_without_requests_has_no_fault() {
        assert!(faults(&Arm::on(Limits::default()), &Slot::default(), true).is_empty());
    }
}
