//! [`PoolStats`]: what a pool has done and holds.

use std::collections::BTreeMap;

use crate::idle::CloseReason;
use crate::powers::Powers;

/// Counts since the pool was made, and what it holds now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Connections opened.
    pub opened: u64,
    /// Of those, TLS handshakes that were full.
    pub handshakes_full: u64,
    /// Of those, TLS handshakes that resumed an earlier session.
    pub handshakes_resumed: u64,
    /// Connections that could not be opened.
    pub failed_to_open: u64,
    /// Openings that were given up: whoever they were for had gone, or the runtime ended.
    pub abandoned: u64,
    /// Times that an idle or just returned connection was given out again.
    pub reused: u64,
    /// Requests that had begun to open a connection and used another that was there first; what they opened went to
    /// others ([`OnMiss::LateBind`](crate::OnMiss::LateBind)).
    pub late_bound: u64,
    /// Connections closed, by reason.
    pub closed: BTreeMap<CloseReason, u64>,
    /// How many exchanges each of them had carried.
    pub exchanges_per_connection: Powers,
    /// Connections that ended an exchange for good and whose peer then closed first, as it should: TIME_WAIT
    /// is the peer's.
    pub peer_closed_first: u64,
    /// The same, but the peer did not close within the linger time: TIME_WAIT is ours.
    pub closed_first: u64,
    /// Connections that now wait for their peer's FIN.
    pub lingering: u64,
    /// Connections now in use or being opened.
    pub busy: usize,
    /// Of those, connections being opened.
    pub opening: usize,
    /// Connections now idle.
    pub idle: usize,
    /// Requests now waiting for a connection, those apart for which one is being opened.
    pub waiting: usize,
    /// Origins that now have a connection or a waiting request: of any other nothing is kept.
    pub origins: usize,
}

/// The running counts; the rest of [`PoolStats`] is looked up.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    pub(super) opened: u64,
    pub(super) handshakes_full: u64,
    pub(super) handshakes_resumed: u64,
    pub(super) failed_to_open: u64,
    pub(super) abandoned: u64,
    pub(super) reused: u64,
    pub(super) late_bound: u64,
    pub(super) closed: [u64; CloseReason::ALL.len()],
    pub(super) exchanges_per_connection: Powers,
    pub(super) peer_closed_first: u64,
    pub(super) closed_first: u64,
}

impl Counts {
    pub(super) fn count_close(&mut self, reason: CloseReason, exchanges: u32) {
        self.closed[reason as usize] += 1;
        self.exchanges_per_connection.record(exchanges.into());
    }

    /// The counts, beside nothing held.
    pub(super) fn stats(&self) -> PoolStats {
        let closed = CloseReason::ALL
            .into_iter()
            .map(|reason| (reason, self.closed[reason as usize]))
            .filter(|&(_, n)| n > 0)
            .collect();
        PoolStats {
            opened: self.opened,
            handshakes_full: self.handshakes_full,
            handshakes_resumed: self.handshakes_resumed,
            failed_to_open: self.failed_to_open,
            abandoned: self.abandoned,
            reused: self.reused,
            late_bound: self.late_bound,
            closed,
            exchanges_per_connection: self.exchanges_per_connection.clone(),
            peer_closed_first: self.peer_closed_first,
            closed_first: self.closed_first,
            ..PoolStats::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_number() {
        let mut counts = Counts::default();
        for reason in CloseReason::ALL {
            counts.count_close(reason, 1);
        }
        assert_eq!(counts.closed, [1; CloseReason::ALL.len()]);
    }
}
