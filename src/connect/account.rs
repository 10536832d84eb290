//! [`Account`]: what an opening has taken so far, phase by phase, and what it may still take.

use std::time::{Duration, Instant};

use crate::clock;
use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::observer::Steps;
use crate::phase::{ConnectTimings, Phase};

/// The time of one opening.
pub(super) struct Account<'a> {
    config: &'a PoolConfig,
    /// Until here the time is accounted for.
    last: Instant,
    /// When the connect timeout ends.
    end: Option<Instant>,
    /// When the request's total timeout ends.
    latest: Option<Instant>,
    pub(super) timings: ConnectTimings,
    pub(super) steps: Steps<'a>,
}

/// When a phase must be over, and by which timeout.
#[derive(Clone, Copy)]
pub(super) struct Limit {
    pub(super) at: Instant,
    kind: ErrorKind,
    name: &'static str,
    timeout: Duration,
}

impl<'a> Account<'a> {
    pub(super) fn open(config: &'a PoolConfig, latest: Option<Instant>, steps: Steps<'a>) -> Account<'a> {
        let now = clock::now();
        let end = config.connect_timeout.and_then(|timeout| now.checked_add(timeout));
        Account { config, last: now, end, latest, timings: ConnectTimings::default(), steps }
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

    /// The soonest of the phase's own timeout, the whole opening's, and the request's.
    pub(super) fn limit(&self, phase: Phase) -> Option<Limit> {
        let PoolConfig { dns_timeout, tls_timeout, connect_timeout, total_timeout, .. } = self.config;
        let (name, own) = match phase {
            Phase::Dns => ("DNS timeout", *dns_timeout),
            Phase::Tls => ("TLS timeout", *tls_timeout),
            _ => ("", None),
        };
        let own_end = own.and_then(|timeout| self.last.checked_add(timeout));
        let limit = |at: Option<Instant>, kind, name, timeout: Option<Duration>| {
            Some(Limit { at: at?, kind, name, timeout: timeout? })
        };
        let all = [
            limit(own_end, ErrorKind::ConnectTimeout, name, own),
            limit(self.end, ErrorKind::ConnectTimeout, "connect timeout", *connect_timeout),
            limit(self.latest, ErrorKind::Timeout, "total timeout", *total_timeout),
        ];
        all.into_iter().flatten().min_by_key(|limit| limit.at)
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
                let Limit { kind, name, timeout, .. } = limit;
                if kind == ErrorKind::Timeout {
                    return Err(Error::out_of_time(kind, Some(timeout), phase, &format!(": {}", what())));
                }
                let text = format!("{} within the {name} of {timeout:?}", what());
                Err(Error::new(kind).at(phase).with_detail(text))
            }
        }
    }
}
