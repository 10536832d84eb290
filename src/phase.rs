//! The phases of a request, named once: timings, errors, JSON and charts all speak these words.

use std::time::Duration;

/// One stretch in the life of a request, in the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Phase {
    /// Waiting for a connection of the pool, including attempts that were given up and retried; without these it is
    /// [`Exchange::queued`](crate::Exchange::queued).
    Blocked,
    /// Looking the host's addresses up; nothing for an address literal or an override.
    Dns,
    /// The TCP handshake.
    Connect,
    /// Asking a proxy for a tunnel, with TLS to the proxy itself; nothing where it passes requests on.
    Proxy,
    /// The TLS handshake.
    Tls,
    /// From the connection's being ready until the last byte of the request was handed to the kernel.
    Send,
    /// Until the response head was complete.
    Wait,
    /// Until the last byte of the response body.
    Receive,
}

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Phase; 8] = [
        Phase::Blocked,
        Phase::Dns,
        Phase::Connect,
        Phase::Proxy,
        Phase::Tls,
        Phase::Send,
        Phase::Wait,
        Phase::Receive,
    ];

    /// The phase as a key and a label: lower case, one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Phase::Blocked => "blocked",
            Phase::Dns => "dns",
            Phase::Connect => "connect",
            Phase::Proxy => "proxy",
            Phase::Tls => "tls",
            Phase::Send => "send",
            Phase::Wait => "wait",
            Phase::Receive => "receive",
        }
    }
}

/// How long opening the connection took. It exists only for the exchange that a connection was opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectTimings {
    /// Name lookup; `None` when there was nothing to look up.
    pub dns: Option<Duration>,
    /// TCP handshake, with addresses that were tried in vain.
    pub tcp: Duration,
    /// See [`Phase::Proxy`]; `None` without a tunnel and without TLS to a proxy.
    pub proxy: Option<Duration>,
    /// TLS handshake; `None` over plain TCP.
    pub tls: Option<Duration>,
    /// How many of the host's addresses were tried (RFC 8305): more than 1 when the first did not answer in time.
    pub attempts: u32,
}

impl ConnectTimings {
    /// Lookup, TCP, proxy and TLS together.
    pub fn total(&self) -> Duration {
        let or_zero = Option::unwrap_or_default;
        or_zero(self.dns) + self.tcp + or_zero(self.proxy) + or_zero(self.tls)
    }
}

/// Where the time of one exchange went. The phases are disjoint and add up to [`Timings::total`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// See [`Phase::Blocked`].
    pub blocked: Duration,
    /// Opening the connection, when this exchange had it opened; `None` on a reused connection, so that
    /// nobody averages a handshake that never happened.
    pub connect: Option<ConnectTimings>,
    /// See [`Phase::Send`].
    pub send: Duration,
    /// See [`Phase::Wait`].
    pub wait: Duration,
    /// See [`Phase::Receive`].
    pub receive: Duration,
}

impl Timings {
    /// The time spent in one phase; zero for a phase that did not happen.
    pub fn of(&self, phase: Phase) -> Duration {
        let connect = self.connect.unwrap_or_default();
        match phase {
            Phase::Blocked => self.blocked,
            Phase::Dns => connect.dns.unwrap_or_default(),
            Phase::Connect => connect.tcp,
            Phase::Proxy => connect.proxy.unwrap_or_default(),
            Phase::Tls => connect.tls.unwrap_or_default(),
            Phase::Send => self.send,
            Phase::Wait => self.wait,
            Phase::Receive => self.receive,
        }
    }

    /// From asking the pool to the last byte of the response.
    pub fn total(&self) -> Duration {
        Phase::ALL.iter().map(|&phase| self.of(phase)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_phases_add_up_to_the_total() {
        let ms = Duration::from_millis;
        let connect =
            ConnectTimings { dns: Some(ms(2)), tcp: ms(3), attempts: 1, ..ConnectTimings::default() };
        let timings =
            Timings { blocked: ms(1), connect: Some(connect), send: ms(4), wait: ms(5), receive: ms(6) };
        assert_eq!(timings.total(), ms(21));
        assert_eq!(Timings { connect: None, ..timings }.total(), ms(16));
    }
}
