//! [`Account`]: what an opening has taken so far, phase by phase, and what it may still take.

use std::time::{Duration, Instant};

use crate::clock;
use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::phase::{ConnectTimings, Phase};

/// The time of one opening.
pub(super) struct Account<'a> {
    config: &'a PoolConfig,
    /// Until here the time is accounted for.
    last: Instant,
    /// The end of the connect timeout, or of what is left to the request if that is sooner.
    end: Option<Limit>,
    pub(super) timings: ConnectTimings,
}

/// When a phase must be over, and by which timeout.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) at: Instant,
    name: &'static str,
    timeout: Duration,
}

impl<'a> Account<'a> {
    pub(super) fn open(config: &'a PoolConfig, latest: Option<Instant>) -> Account<'a> {
        let now = clock::now();
        let whole = limit(now, "connect timeout", config.connect_timeout);
        let left = latest.map(|at| Limit {
            at,
            name: "time left to the request",
            timeout: at.saturating_duration_since(now),
        });
        let end = sooner(whole, left);
        Account { config, last: now, end, timings: ConnectTimings::default() }
    }

    /// When the phase that is accounted for last was over: now, to whoever asks at once.
    pub(super) fn last(&self) -> Instant {
        self.last
    }

    /// The time since the last call belongs to this phase.
    pub(super) fn charge(&mut self, phase: Phase) {
        let now = clock::now();
        let took = now.saturating_duration_since(self.last);
        self.last = now;
        match phase {
            // A proxy's name may be looked up, and the target's.
            Phase::Dns => *self.timings.dns.get_or_insert_default() += took,
            Phase::Connect => self.timings.tcp = took,
            Phase::Proxy => self.timings.proxy = Some(took),
            Phase::Tls => self.timings.tls = Some(took),
            Phase::Blocked | Phase::Send | Phase::Wait | Phase::Receive => {
                unreachable!("no part of an opening")
            }
        }
    }

    /// The opening has failed: the time since the last call belongs to the phase in which it did.
    pub(super) fn close(mut self, error: Error) -> Error {
        if let Some(phase) = error.phase() {
            self.charge(phase);
        }
        error.after(self.timings)
    }

    /// The sooner of the phase's own timeout and the whole opening's.
    pub(super) fn limit(&self, phase: Phase) -> Option<Limit> {
        let own = match phase {
            Phase::Dns => limit(self.last, "DNS timeout", self.config.dns_timeout),
            Phase::Tls => limit(self.last, "TLS timeout", self.config.tls_timeout),
            _ => None,
        };
        sooner(own, self.end)
    }

    /// Does the work of a phase within its limit; `what` was not done if it is over before.
    pub(super) async fn within<T>(
        &self,
        phase: Phase,
        what: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(limit) = self.limit(phase) else { return work.await };
        match tokio::time::timeout_at(limit.at.into(), work).await {
            Ok(done) => done,
            Err(_) => {
                let Limit { name, timeout, .. } = limit;
                let text = format!("{} within the {name} of {timeout:?}", what());
                Err(Error::new(ErrorKind::ConnectTimeout).at(phase).with_detail(text))
            }
        }
    }
}

fn limit(from: Instant, name: &'static str, timeout: Option<Duration>) -> Option<Limit> {
    let timeout = timeout?;
    Some(Limit { at: from.checked_add(timeout)?, name, timeout })
}

fn sooner(one: Option<Limit>, other: Option<Limit>) -> Option<Limit> {
    one.into_iter().chain(other).min_by_key(|limit| limit.at)
}
