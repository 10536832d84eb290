//! [`Findings`]: what a probe saw of a path to a server, and what that says of its timers. The hinge of the
//! probe, as [`Measurement`](crate::measurement::Measurement) is of the load tester: experiments write it;
//! advice, expectations and paper only read it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::machine::Machine;
use crate::measurement::Tool;
use crate::plan::{ns, optional_ns};
use crate::saved;

mod soak;

#[cfg(test)]
pub(crate) use self::soak::tests::soaked;
pub use self::soak::{Deaths, SOAK_SCHEMA, Soak, death_rate_bound};

/// The version of the saved form.
pub const SCHEMA: &str = "keeplive.probe/1";

/// What a probe saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Findings {
    /// [`SCHEMA`].
    pub schema: String,
    /// What probed.
    pub tool: Tool,
    /// The command line.
    pub command: Vec<String>,
    /// When it began, RFC 3339 in UTC.
    pub started: String,
    /// How long it took.
    #[serde(rename = "took_ns", with = "ns")]
    pub took: Duration,
    /// Where it probed from.
    pub machine: Machine,
    /// What was probed.
    pub target: Probed,
    /// Within which bounds.
    pub bounds: Bounds,
    /// Round trips on this path, from TCP and from first answers; `None` when nothing answered.
    pub round_trip: Option<Spread>,
    /// How long a connection may be idle between two requests.
    pub idle_timeout: IdleTimeout,
    /// How long a connection may be idle before its first request, where it was tried.
    pub first_request_timeout: Option<FirstRequest>,
    /// How many requests one connection may carry, where it was tried.
    pub max_requests: Option<MaxRequests>,
    /// How old a connection that is in use may become, where it was tried.
    pub max_lifetime: Option<MaxLifetime>,
    /// What the server says of its timers; `None`: it says nothing.
    pub advertised: Option<Advertised>,
    /// From how long before the timeout a request may be lost.
    pub race_window: Option<RaceWindow>,
    /// Which layer's keep-alive holds the path open, where it was tried.
    pub layer: Option<Layer>,
    /// What the hop behind the one we talk to does after idle time; `None`: nothing was seen.
    pub behind: Option<Behind>,
    /// What the reader should know before believing the rest: each is a fact that was seen.
    pub caveats: Vec<Caveat>,
    /// Every connection that was tried.
    pub raw: Vec<Sample>,
    /// Whether it was stopped before its end.
    pub interrupted: bool,
}

/// What was probed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Probed {
    /// The URL, without credentials; `tcp://host:port` for a plain TCP path.
    pub url: String,
    /// The one address that all connections went to.
    pub address: String,
    /// The other addresses that its name has, which were not probed.
    pub other_addresses: Vec<String>,
    /// The status of the first answer; `None` over plain TCP.
    pub status: Option<u16>,
    /// The `Server` field of the first answer.
    pub server: Option<String>,
    /// The `Via` field of the first answer.
    pub via: Option<String>,
    /// Negotiated TLS version.
    pub tls_version: Option<String>,
}

/// The bounds that a probe kept to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Bounds {
    /// The longest idle time that was tried.
    #[serde(rename = "max_idle_ns", with = "ns")]
    pub max_idle: Duration,
    /// The longest that the whole probe might take.
    #[serde(rename = "budget_ns", with = "ns")]
    pub budget: Duration,
    /// The most connections held at a time.
    pub connections: u32,
    /// The most connections opened in a second.
    pub connects_per_s: u32,
}

/// A few durations in brief.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Spread {
    /// How many there were.
    pub n: u32,
    /// The shortest.
    #[serde(rename = "min_ns", with = "ns")]
    pub min: Duration,
    /// The middle one.
    #[serde(rename = "median_ns", with = "ns")]
    pub median: Duration,
    /// The longest.
    #[serde(rename = "max_ns", with = "ns")]
    pub max: Duration,
}

/// How a path ended a connection, or what else befell it. The text forms are the keys in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CloseKind {
    /// A FIN while idle: the graceful way (over TLS with or without close_notify).
    Fin,
    /// A RST while idle.
    Reset,
    /// An unsolicited `408 Request Timeout` while idle, then the end (RFC 9112, section 9.2: not an answer).
    Answered408,
    /// Nothing while idle; the next packet was answered by a RST: a middlebox had forgotten the flow.
    ResetOnSend,
    /// Nothing while idle, and the next packet was never acknowledged: a middlebox drops it in silence.
    Silent,
    /// The connection ended while the request was on its way: the stale-connection race.
    Race,
    /// Other bytes than a 408 arrived while idle.
    Unsolicited,
}

/// How long a connection may be idle between two requests. The true limit lies in `lower..=upper`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct IdleTimeout {
    /// What can be said.
    pub verdict: Verdict,
    /// The longest idle time after which all connections lived. With [`Verdict::Longer`]: all that was tried.
    #[serde(rename = "lower_ns", with = "ns")]
    pub lower: Duration,
    /// The shortest idle time after which they were dead; `None`: none was.
    #[serde(rename = "upper_ns", with = "optional_ns")]
    pub upper: Option<Duration>,
    /// How they ended; `None`: none did.
    pub close: Option<CloseKind>,
    /// When the watched connections were seen to end, for a visible close.
    pub seen: Option<Spread>,
    /// Connections that stand behind the bracket.
    pub samples: u32,
    /// Connections that were tried just below the bracket afterwards, and lived.
    pub confirmed_alive: Tally,
    /// Connections that were tried just above it afterwards, and were dead.
    pub confirmed_dead: Tally,
    /// Groups of ends that lie apart: several backends behind one name, each with its own timer. One or none when
    /// there is one timer.
    pub clusters: Vec<Cluster>,
}

/// What can be said of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// There is one timer, and it is between the bounds.
    Found,
    /// All connections were alive at the longest idle time that was tried: it is longer, or there is none.
    Longer,
    /// The ends form several tight groups: backends disagree.
    Several,
    /// The ends are spread, or dead and alive do not part: it is no timer that ended them.
    Unstable,
    /// The server closes after every response: there is nothing to be idle.
    NotKept,
    /// Too little was seen, or the probe was stopped.
    Unknown,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Tally {
    /// That were as expected.
    pub hits: u32,
    /// That were tried.
    pub of: u32,
}

/// Connections that ended at about the same idle time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Cluster {
    /// When they ended.
    pub at: Spread,
    /// How.
    pub close: CloseKind,
}

/// How long a connection may be idle before its first request.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct FirstRequest {
    /// After the TCP handshake, with nothing sent.
    pub after_tcp: Option<Ended>,
    /// After the TLS handshake, with no request sent.
    pub after_tls: Option<Ended>,
}

/// A timer as watchers saw it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ended {
    /// Between which idle times it lies; `upper` is `None` when all lived.
    #[serde(rename = "lower_ns", with = "ns")]
    pub lower: Duration,
    /// See `lower`.
    #[serde(rename = "upper_ns", with = "optional_ns")]
    pub upper: Option<Duration>,
    /// How it ended.
    pub close: Option<CloseKind>,
    /// Connections that were watched.
    pub samples: u32,
}

/// How many requests one connection may carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MaxRequests {
    /// Answers on one connection until it ended; `None`: it did not end within `tried`.
    pub value: Option<u64>,
    /// Whether the last answer said `Connection: close`; otherwise the connection just ended.
    pub announced: bool,
    /// Whether a `Keep-Alive: max=` counted down to it.
    pub counted_down: bool,
    /// How many requests were sent on one connection at most.
    pub tried: u64,
    /// Whether the same number was seen on every connection and at every pace; if not, it is no limit on requests.
    pub repeated: bool,
}

/// How old a connection that is in use may become.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MaxLifetime {
    /// The ages at which connections in use ended; `None`: none did within `tried`.
    pub ended: Option<Spread>,
    /// Whether the last answer said `Connection: close`.
    pub announced: bool,
    /// The greatest age that was tried.
    #[serde(rename = "tried_ns", with = "ns")]
    pub tried: Duration,
}

/// What the server's `Keep-Alive` field says.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Advertised {
    /// `timeout=`.
    #[serde(rename = "timeout_ns", with = "optional_ns")]
    pub timeout: Option<Duration>,
    /// `max=` of the first answer on a connection.
    pub max: Option<u64>,
    /// `max=` of the second answer on the same connection: lower when it counts down, equal when it is constant.
    pub next_max: Option<u64>,
    /// The field as it came.
    pub field: String,
}

/// The idle times just below the timeout at which requests were lost.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RaceWindow {
    /// How long before the timeout the first loss was seen; `None`: no request was lost.
    #[serde(rename = "width_ns", with = "optional_ns")]
    pub width: Option<Duration>,
    /// Requests sent within it, and how many of them were lost.
    pub lost: Tally,
}

/// Which keep-alive holds this path open.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Layer {
    /// With TCP keepalive probes from our side.
    pub tcp_keepalive: Held,
    /// With nothing at all: the control.
    pub nothing: Held,
    /// With a request now and then.
    pub requests: Held,
    /// What follows.
    pub verdict: LayerVerdict,
    /// Whether the peer itself sends TCP keepalive probes, which would hide a timer of the packet layer.
    pub peer_probes: bool,
}

/// How long a connection lived with one kind of keep-alive.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Held {
    /// The interval of whatever was sent; `None`: nothing.
    #[serde(rename = "every_ns", with = "optional_ns")]
    pub every: Option<Duration>,
    /// When it ended; `None`: it was still alive at the end of the watch.
    pub ended: Option<Spread>,
    /// How.
    pub close: Option<CloseKind>,
    /// How long it was watched.
    #[serde(rename = "watched_ns", with = "ns")]
    pub watched: Duration,
    /// Connections.
    pub samples: u32,
}

/// The layer whose timer it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LayerVerdict {
    /// A timer of the packet layer (NAT, firewall, layer-4 balancer): TCP keepalive holds it.
    Packets,
    /// A timer of HTTP (server, reverse proxy, layer-7 balancer): TCP keepalive is the wrong layer.
    Http,
    /// Both: TCP keepalive lifts the first, and the second ends it later.
    Both,
    /// Even requests did not hold it: a limit on requests or on age.
    Neither,
    /// Nothing ended within the watch.
    NoTimer,
    /// What was seen does not decide it.
    Undecided,
}

/// What the hop behind did after idle time: the connection to us lived, but what stands behind it did not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Behind {
    /// The statuses seen: 502, 503, 504.
    pub statuses: Vec<u16>,
    /// The shortest idle time after which anything of it was seen.
    #[serde(rename = "from_ns", with = "ns")]
    pub from: Duration,
    /// Answers with such a status, of all that were sent after at least that idle time.
    pub seen: Tally,
    /// Requests that were lost around an idle time, though others that waited longer were answered; of all that were
    /// sent around it.
    #[serde(default)]
    pub lost: Tally,
    /// From which idle time on answers take longer; `None`: no such step was seen.
    #[serde(default)]
    pub redial: Option<Redial>,
}

/// A step in how long answers take: after a longer idle time the hop that we talk to opens a new connection to the hop
/// behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Redial {
    /// The longest idle time before the step.
    #[serde(rename = "shorter_ns", with = "ns")]
    pub shorter: Duration,
    /// The shortest one after it.
    #[serde(rename = "longer_ns", with = "ns")]
    pub longer: Duration,
    /// How much longer answers take: a TCP handshake behind, and TLS where that is spoken there.
    #[serde(rename = "slower_by_ns", with = "ns")]
    pub slower_by: Duration,
}

/// A reason for care.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Caveat {
    /// What kind, for machines.
    pub kind: CaveatKind,
    /// A sentence for people.
    pub text: String,
}

/// The kinds of [`Caveat`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum CaveatKind {
    /// Connections ended at idle times spread from nothing to the limit: the server sheds load, or restarted.
    Shedding,
    /// Several groups of ends: backends disagree.
    BackendsDisagree,
    /// The server stopped answering, or refused connections, during the probe.
    Restarted,
    /// Samples were discarded because this machine was late (starved, suspended or stopped).
    Late,
    /// This system has no TCP_INFO: silence and slowness cannot be told apart.
    NoTcpInfo,
    /// The server answers slowly.
    Slow,
    /// The name has more addresses than the one that was probed.
    OtherAddresses,
    /// The advertised timeout and the observed one differ.
    AdvertisedDiffers,
    /// The peer sends TCP keepalive probes.
    PeerProbes,
    /// The budget ran out before everything was confirmed.
    BudgetSpent,
    /// The first answer was an error status, so what was probed may be another path than the one meant.
    ErrorStatus,
    /// Something else, told in the text.
    Other,
}

/// One connection and its fate.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sample {
    /// What it was for.
    pub role: Role,
    /// When it was opened, since the probe began.
    #[serde(rename = "opened_ns", with = "ns")]
    pub opened: Duration,
    /// How long it was to be idle before its request; `None`: it only watched.
    #[serde(rename = "planned_idle_ns", with = "optional_ns")]
    pub planned_idle: Option<Duration>,
    /// How long it was idle, from the last byte received until it ended or its request was sent.
    #[serde(rename = "idle_ns", with = "ns")]
    pub idle: Duration,
    /// What became of it.
    pub fate: Fate,
    /// How it ended, when it is dead.
    pub close: Option<CloseKind>,
    /// The status of the answer after the idle time.
    pub status: Option<u16>,
    /// How long that answer took.
    #[serde(rename = "answered_in_ns", with = "optional_ns")]
    pub answered_in: Option<Duration>,
    /// Whether the answer said that the connection ends.
    pub said_close: bool,
    /// Requests answered on it in all.
    pub requests: u64,
    /// What the kernel told of it at its end.
    pub tcp: Option<TcpFacts>,
}

/// What a connection was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// One request, then silence until it ends.
    Watcher,
    /// One request, silence, another request.
    Sender,
    /// A sender just below or above the bracket, afterwards.
    Confirm,
    /// A sender where the hop behind seems to give up its connection.
    Behind,
    /// A sender close to the timeout.
    Race,
    /// Opened, and nothing sent.
    FirstAfterTcp,
    /// Opened, TLS agreed, and nothing sent.
    FirstAfterTls,
    /// Request after request.
    Requests,
    /// A request now and then, to grow old.
    Lifetime,
    /// Held with TCP keepalive.
    LayerKeepalive,
    /// Held with nothing.
    LayerNothing,
    /// Held with requests.
    LayerRequests,
    /// One of a soak.
    Soak,
}

/// What became of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// It answered after its idle time, or was still open when the watch ended.
    Alive,
    /// It ended, or did not answer.
    Dead,
    /// It answered 502, 503 or 504 after its idle time: alive, but what stands behind it was not.
    GatewayError,
    /// This machine was late, so it tells nothing.
    Late,
    /// The probe was over first.
    Abandoned,
}

/// What `TCP_INFO` tells, as far as it decides between silence, slowness and a forgotten flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TcpFacts {
    /// The state, as in the kernel's `tcp_states.h`: 1 established, 8 close-wait.
    pub state: u8,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Retransmissions of the segment that now waits.
    pub retransmits: u8,
    /// Smoothed round trip in microseconds.
    pub rtt_us: u32,
    /// Milliseconds since the last acknowledgement came.
    pub last_ack_recv_ms: u32,
    /// Milliseconds since the last data came.
    pub last_data_recv_ms: u32,
}

impl Findings {
    /// Writes the findings into a folder, which is made if need be, under a name of its own: whole or not at all,
    /// and never over others.
    ///
    /// # Errors
    ///
    /// Whatever the file system says, with the path.
    pub fn save(&self, folder: &Path) -> io::Result<PathBuf> {
        saved::write(folder, &self.started, "probe", self)
    }

    /// Reads saved findings, or the JSON report of a probe, which contains them.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidData`] when it is not a probe's result of a version that is understood, with the
    /// place; otherwise what the file system says.
    pub fn load(path: &Path) -> io::Result<Findings> {
        saved::open(path, SCHEMA)?.read(SCHEMA)
    }
}
