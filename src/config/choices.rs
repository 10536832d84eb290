//! What the settings are chosen from.

use std::net::SocketAddr;
use std::time::Duration;

/// What a request does that finds no idle connection where another may be opened.
///
/// `Open` is the default, for a client as for a measurement: every connection is opened for the request that uses it
/// first, so the record of that request shows the whole cost of it, no connection is opened that nobody asked for, and
/// nothing runs beside the requests. A dial that always races with the connections that come back opens more than are
/// used as soon as requests are as fast as handshakes, and what it costs is paid where it hurts, at the tail
/// (hyper#4134).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnMiss {
    /// It opens a connection and uses that one. Dropping the request gives the opening up.
    #[default]
    Open,
    /// It opens a connection and waits for one that comes back at the same time, and uses what is there first, as Go
    /// and Chrome do. For requests that take less time than a handshake, and servers that can do with connections
    /// that are opened and not used. The opening is a task of its own: it goes on when its request has another
    /// connection or was dropped, and what was opened goes to the oldest request that waits, or rests. When it
    /// fails, its own request fails, unless that one was served meanwhile.
    LateBind,
    /// It waits this long for a connection that comes back, and then opens one; where the origin has no connection
    /// that could come back it opens one at once. For servers to whom connections are dearer than this much delay.
    /// The wait is a part of the acquire timeout, which must be longer.
    WaitThenOpen(Duration),
}

/// Which idle connection is reused first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReuseOrder {
    /// The one that was idle for the shortest time: it is warmest, and least likely to have been closed by its
    /// peer, and those that are too many stay idle until they expire.
    #[default]
    Lifo,
    /// The one that was idle for the longest time: load is spread, and every connection is kept warm, which also
    /// keeps too many of them.
    Fifo,
}

/// When TCP keepalive probes are sent. Linux counts in whole seconds, and a part of one is one.
///
/// The default is reqwest's: a first probe after 15 s, one every 15 s, 3 of them. Together with the default of
/// [`PoolConfig::tcp_user_timeout`](super::PoolConfig::tcp_user_timeout) an idle connection into a black hole ends after 30 s. (The system's own are 2
/// hours, 75 s and 9, and off; Go probes as we do, 15 s apart, but 9 times.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// How long nothing must have come before the first probe, 1 s to 32767 s (TCP_KEEPIDLE).
    pub time: Duration,
    /// From one probe to the next, 1 s to 32767 s (TCP_KEEPINTVL).
    pub interval: Duration,
    /// How many may stay unanswered before the connection ends, 1 to 127 (TCP_KEEPCNT).
    pub count: u32,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive { time: Duration::from_secs(15), interval: Duration::from_secs(15), count: 3 }
    }
}

impl Keepalive {
    pub(super) fn fault(self) -> Option<String> {
        // MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT in Linux' include/net/tcp.h.
        let fits = |time: Duration| (Duration::from_secs(1)..=Duration::from_secs(32_767)).contains(&time);
        if !fits(self.time) || !fits(self.interval) {
            return Some("tcp_keepalive: time and interval must be 1 s to 32767 s".into());
        }
        (!(1..=127).contains(&self.count)).then(|| "tcp_keepalive: count must be 1 to 127".into())
    }
}

/// One override of name resolution: connections to `host:port` go to `address`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolve {
    /// The host as it stands in the URI: a name, in whatever case, or an address, with or without brackets.
    pub host: String,
    /// The port it is for.
    pub port: u16,
    /// Where to connect.
    pub address: SocketAddr,
}
