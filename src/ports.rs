//! The port budget of arms that do not keep their connections: whether this machine has the ports for them,
//! asked before the first request and not found out half way.
//!
//! A connection is named by four numbers: both addresses and both ports. Towards one target only our own address
//! and port are free to vary, so there are at most `ports × source addresses` connections to it at a time. An arm
//! that opens one for every request uses up that supply in two ways.
//!
//! # Who closes first, waits
//!
//! The end that closes first keeps the four numbers in `TIME_WAIT`, so that a late packet of the old connection
//! cannot be taken for one of the next (RFC 9293, section 3.6.1).
//!
//! - **The peer closes first**, as a server does that is asked for `Connection: close`: it does the waiting, as it
//!   does for real clients. Our port is free as soon as we have closed too, and a new connection from it is welcome
//!   even while the peer still waits, for its first sequence number is past the old ones. Only the connections that
//!   are open at the same time count.
//! - **We close first**: the port is held here. Linux holds it for 60 s, a constant of the kernel
//!   (`TCP_TIMEWAIT_LEN`; `tcp_fin_timeout` is about another state), and we reckon with the same elsewhere. Towards a loopback address, with
//!   `net.ipv4.tcp_tw_reuse` at 2 (its default) or 1, a new connection may take such a port after 1 s.
//!
//! `tcp_tw_reuse = 1` allows the same towards other machines, but only if the peer sends TCP timestamps. That is not
//! known before the first connection, so the budget does not count on it.
//!
//! # Why half of the ports is all of them
//!
//! `connect` searches the even half of the range first, counted from its start, and the odd half only when it has
//! found every even port taken (Linux 4.2 and later; commit 07f4c90062f8). So one port more than half does not cost
//! one step more but a walk over half the range, for every connection from then on. Measured over loopback on
//! Linux 6.18 with two cores, 28 232 ports and no reuse, from one thread that connects and closes, in microseconds a
//! `connect`, the mean of 2000 at a time:
//!
//! | ports in `TIME_WAIT` | up to 14 000 | 14 000 to 16 000 | 16 000 to 22 000 |
//! |---|---|---|---|
//! | `connect` | 48 to 63 | 3 800 | 5 200 to 5 900 |
//!
//! An arm beyond half would be slowed a hundredfold by what it left behind itself, and would be blamed for it. The
//! budget therefore ends at half, whoever closes first.
//!
//! # How many are held at once
//!
//! With arms that take turns, such an arm runs for only a share of the time. In any stretch `w` it runs for at most
//!
//! ```text
//! min(w,  share × w + 2 × slot × (1 − share),  share × duration)
//! ```
//!
//! because whole rounds hold one slot each, the order in a round is random, and the stretch may begin and end inside
//! a slot. With `w` the time that a port is held, this times the rate is how many are held, besides those that are
//! open and those that earlier work has left in `TIME_WAIT`. These may be other targets' or a local server's and
//! then cost nothing, but the kernel's count does not say.

use std::fmt;
use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

/// How long Linux holds a port in `TIME_WAIT`: `TCP_TIMEWAIT_LEN` in `include/net/tcp.h`.
const TIME_WAIT: Duration = Duration::from_secs(60);

/// After how long a held port may be reused where reuse is allowed: the default of `tcp_tw_reuse_delay`, which was a
/// constant before Linux 6.14.
const REUSE_DELAY: Duration = Duration::from_secs(1);

/// The part of the ports that may be held before `connect` itself becomes slow; see the [module](self).
const USABLE: f64 = 0.5;

/// What a process keeps open besides its connections: streams, timers, pollers, listeners, results.
const OTHER_DESCRIPTORS: u64 = 64;

/// The dynamic ports (RFC 6335, section 6), which macOS and Windows use and Linux's own range covers in part.
const DYNAMIC_PORTS: RangeInclusive<u16> = 49_152..=65_535;

/// Every port that needs no privilege.
const UNPRIVILEGED_PORTS: RangeInclusive<u16> = 1024..=65_535;

/// What this machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PortFacts {
    /// The ports from which the kernel picks one for a new connection, `net.ipv4.ip_local_port_range`. IPv6 uses
    /// the same.
    pub ephemeral: RangeInclusive<u16>,
    /// How many ports inside that range it never picks, `net.ipv4.ip_local_reserved_ports`.
    pub reserved: usize,
    /// From how many local addresses connections are made. More than one multiplies the ports only if the port is
    /// chosen at `connect` and not at `bind`, that is, with `IP_BIND_ADDRESS_NO_PORT`.
    pub source_addresses: usize,
    /// Connections in `TIME_WAIT` before the run, in this network namespace.
    pub time_wait_now: usize,
    /// `net.ipv4.tcp_tw_reuse`: 0 never, 1 everywhere, 2 towards loopback addresses. [`read`](Self::read) gives 0
    /// where TCP timestamps are off, without which nothing is reused.
    pub tw_reuse: u8,
    /// Whether the target's address is a loopback address, `127.0.0.0/8` or `::1`. This machine's other addresses
    /// are reached without a network too, but the kernel reuses no port towards them.
    pub loopback: bool,
    /// How many descriptors this process may have open, the soft `RLIMIT_NOFILE`. Count only half of them if the
    /// server is in this process, where every connection has two ends.
    pub nofile: u64,
}

impl PortFacts {
    /// Asks the system, for connections from one source address.
    ///
    /// What it does not tell, or not in the way of Linux, is taken to be at its least favourable: the dynamic ports
    /// 49152 to 65535 (RFC 6335, section 6) and no reuse. Nothing is then known of reserved ports or of connections
    /// in `TIME_WAIT`, and none are assumed.
    pub fn read(loopback: bool) -> Self {
        let sysctl = |name: &str| read_or_empty(&format!("/proc/sys/net/ipv4/{name}"));
        let ephemeral = parse_port_range(&sysctl("ip_local_port_range")).unwrap_or(DYNAMIC_PORTS);
        let timestamps_are_off = sysctl("tcp_timestamps").trim() == "0";
        let tw_reuse = if timestamps_are_off { None } else { sysctl("tcp_tw_reuse").trim().parse().ok() };
        Self {
            reserved: count_reserved(&sysctl("ip_local_reserved_ports"), &ephemeral),
            ephemeral,
            source_addresses: 1,
            time_wait_now: time_wait(),
            tw_reuse: tw_reuse.unwrap_or(0),
            loopback,
            nofile: descriptor_limit(),
        }
    }
}

/// What a run asks of it, through the arms that open a connection for every request.
#[derive(Debug, Clone, PartialEq)]
pub struct Demand {
    /// New connections in a second, while such an arm runs.
    pub connections_per_s: f64,
    /// The part of the run's time in which such an arm runs, from 0 to 1.
    pub share: f64,
    /// How long such arms run within one round.
    pub slot: Duration,
    /// The whole run, from the first request to the last.
    pub duration: Duration,
    /// Whether the peer closes each connection before we do.
    pub peer_closes_first: bool,
    /// The most connections that are open at the same time.
    pub concurrent: usize,
}

/// A demand that the machine can meet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Budget {
    /// The ports that could be had towards one target, over all source addresses.
    pub ports: usize,
    /// The most of them that are taken at once: open, held by this run, or held by earlier work.
    pub taken: f64,
}

impl Budget {
    /// The part of the ports that is taken at the worst moment: at most a half.
    pub fn used(&self) -> f64 {
        if self.ports == 0 { 0.0 } else { self.taken / self.ports as f64 }
    }
}

/// Whether the machine can meet the demand without the arms being slowed by their own leftovers.
///
/// # Errors
///
/// The [`Refusal`] says what is missing and what would help.
pub fn budget(facts: &PortFacts, demand: &Demand) -> Result<Budget, Refusal> {
    let refuse = |shortage| Err(Refusal { shortage, facts: facts.clone(), demand: demand.clone() });
    if descriptors_needed(demand) > facts.nofile {
        return refuse(Shortage::Descriptors);
    }
    if room_for_waiting(facts, demand) < 0.0 {
        return refuse(Shortage::Open);
    }
    if demand.connections_per_s > max_rate(facts, demand) {
        return refuse(Shortage::Waiting);
    }
    Ok(Budget { ports: ports(facts), taken: standing(facts, demand) + waiting(facts, demand) })
}

/// The highest [`connections_per_s`](Demand::connections_per_s) that [`budget`] accepts, the rest of the demand
/// being as it is: infinite if the rate does not matter because nothing is held, 0 if no rate would do.
///
/// The demand's own rate plays no part.
pub fn max_rate(facts: &PortFacts, demand: &Demand) -> f64 {
    let room = room_for_waiting(facts, demand);
    let held_time = held_time(facts, demand);
    if descriptors_needed(demand) > facts.nofile || room < 0.0 {
        0.0
    } else if held_time == 0.0 {
        f64::INFINITY
    } else {
        room / held_time
    }
}

/// Why a demand cannot be met. Its text says what was asked, what there is, and what would be enough.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// What there is too little of.
    pub shortage: Shortage,
    /// What the machine has.
    pub facts: PortFacts,
    /// What was asked of it.
    pub demand: Demand,
}

/// What a machine has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// Descriptors for the connections that are open at the same time.
    Descriptors,
    /// Ports for the connections that are open at the same time.
    Open,
    /// Ports for the connections that we have closed and that wait.
    Waiting,
}

impl std::error::Error for Refusal {}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.asked_and_available(f)?;
        let cures = self.cures();
        let Some((last, others)) = cures.split_last() else { return Ok(()) };
        write!(f, ". To fit: ")?;
        for cure in others {
            write!(f, "{cure}; ")?;
        }
        if !others.is_empty() {
            write!(f, "or ")?;
        }
        write!(f, "{last}")
    }
}

impl Refusal {
    fn asked_and_available(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shortage, facts, demand } = self;
        let concurrent = demand.concurrent;
        match shortage {
            Shortage::Descriptors => {
                let needed = descriptors_needed(demand);
                let limit = facts.nofile;
                return write!(
                    f,
                    "{concurrent} connections at once need {needed} descriptors, and the limit is {limit}"
                );
            }
            Shortage::Open => write!(f, "{concurrent} connections at once need as many ports")?,
            Shortage::Waiting => {
                let rate = demand.connections_per_s;
                let waiting = waiting(facts, demand).ceil();
                let seconds = hold(facts, demand).as_secs();
                write!(
                    f,
                    "{rate} new connections/s, closed by us, would hold {waiting} ports for {seconds} s each \
                     beside {concurrent} open ones"
                )?;
            }
        }
        let available = ports(facts);
        let usable = (USABLE * available as f64).floor();
        write!(
            f,
            ", and of {available} ports only half, {usable}, can be taken before connecting becomes slow"
        )?;
        match left_from_before(facts, demand) {
            0 => Ok(()),
            left => write!(f, "; earlier connections hold {left} in TIME_WAIT"),
        }
    }

    /// Changes each of which ends this shortage by itself, the least costly first.
    fn cures(&self) -> Vec<String> {
        let Self { shortage, facts, demand } = self;
        let mut cures = Vec::new();
        if *shortage == Shortage::Descriptors {
            cures.push(format!("raise `ulimit -n` to {}", descriptors_needed(demand)));
            cures.extend(fewer_connections(facts.nofile.saturating_sub(OTHER_DESCRIPTORS) as f64));
            return cures;
        }
        let fits = |facts: &PortFacts, demand: &Demand| budget(facts, demand).is_ok();
        if fits(&PortFacts { time_wait_now: 0, ..facts.clone() }, demand) {
            cures.push("wait a minute for the earlier connections to expire".to_owned());
        }
        if fits(facts, &Demand { peer_closes_first: true, ..demand.clone() }) {
            cures.push("let the server close first".to_owned());
        }
        match shortage {
            Shortage::Waiting => cures.extend(self.lower_rate_or_less_time()),
            _ => cures.extend(fewer_connections(room_for_open(facts, demand))),
        }
        if let Some(addresses) = self.addresses_needed() {
            cures.push(format!("connect from {addresses} source addresses"));
        }
        if fits(&PortFacts { ephemeral: UNPRIVILEGED_PORTS, ..facts.clone() }, demand) {
            let (low, high) = UNPRIVILEGED_PORTS.into_inner();
            cures.push(format!("widen net.ipv4.ip_local_port_range to \"{low} {high}\""));
        }
        cures
    }

    fn lower_rate_or_less_time(&self) -> impl Iterator<Item = String> {
        let rate = max_rate(&self.facts, &self.demand).floor();
        let seconds = room_for_waiting(&self.facts, &self.demand) / self.demand.connections_per_s;
        let tenths = (seconds * 10.0).floor() / 10.0;
        let lower_rate = (rate >= 1.0).then(|| format!("lower --rate to {rate}"));
        let less_time = (tenths > 0.0).then(|| {
            format!("run such arms for at most {tenths} s in all, with fewer rounds or shorter slots")
        });
        lower_rate.into_iter().chain(less_time)
    }

    /// How many source addresses would be enough, if any number is.
    fn addresses_needed(&self) -> Option<usize> {
        let Self { facts, demand, .. } = self;
        let one = USABLE * ports(&PortFacts { source_addresses: 1, ..facts.clone() }) as f64;
        let taken = standing(facts, demand) + waiting(facts, demand);
        let addresses = (taken / one).ceil();
        addresses.is_finite().then_some(addresses as usize)
    }
}

fn fewer_connections(room: f64) -> Option<String> {
    (room >= 1.0).then(|| format!("open at most {} connections at once", room.floor()))
}

/// The ports that could be had towards one target.
fn ports(facts: &PortFacts) -> usize {
    facts.ephemeral.len().saturating_sub(facts.reserved) * facts.source_addresses
}

/// Whether so many sockets in `TIME_WAIT`, of connections that this end closed first, hold more ports than can be taken
/// before `connect` becomes slow. Where a port may be taken again after a second, what the kernel counts says nothing.
pub fn are_short(facts: &PortFacts, time_wait: u64) -> bool {
    let are_reused = facts.loopback && facts.tw_reuse != 0;
    !are_reused && time_wait as f64 > USABLE * ports(facts) as f64
}

/// How long a port that this demand has used is kept from the next connection.
fn hold(facts: &PortFacts, demand: &Demand) -> Duration {
    if demand.peer_closes_first {
        Duration::ZERO
    } else if facts.loopback && facts.tw_reuse != 0 {
        REUSE_DELAY
    } else {
        TIME_WAIT
    }
}

/// The most seconds that such arms run within any stretch as long as a port is held. A rate times this is how many
/// ports are held at once.
fn held_time(facts: &PortFacts, demand: &Demand) -> f64 {
    let hold = hold(facts, demand).as_secs_f64();
    let slot = demand.slot.as_secs_f64();
    let within_rounds = demand.share * hold + 2.0 * slot * (1.0 - demand.share);
    let within_run = demand.share * demand.duration.as_secs_f64();
    hold.min(within_rounds).min(within_run)
}

/// Ports in `TIME_WAIT` before the run that might be in its way.
fn left_from_before(facts: &PortFacts, demand: &Demand) -> usize {
    // where ports are reused after a second, or were left by a peer that closed first, they are in nobody's way
    if hold(facts, demand) == TIME_WAIT { facts.time_wait_now } else { 0 }
}

/// Ports that are taken whatever the rate.
fn standing(facts: &PortFacts, demand: &Demand) -> f64 {
    (demand.concurrent + left_from_before(facts, demand)) as f64
}

/// The most ports that closed connections of this run hold at once.
fn waiting(facts: &PortFacts, demand: &Demand) -> f64 {
    demand.connections_per_s * held_time(facts, demand)
}

/// How many ports may be taken by open connections, given the rate.
fn room_for_open(facts: &PortFacts, demand: &Demand) -> f64 {
    let left = left_from_before(facts, demand) as f64;
    USABLE * ports(facts) as f64 - left - waiting(facts, demand)
}

/// How many ports may be held by closed connections; negative if the open ones are already too many.
fn room_for_waiting(facts: &PortFacts, demand: &Demand) -> f64 {
    USABLE * ports(facts) as f64 - standing(facts, demand)
}

fn descriptors_needed(demand: &Demand) -> u64 {
    demand.concurrent as u64 + OTHER_DESCRIPTORS
}

/// A file that is not there says nothing, and so does an empty one.
fn read_or_empty(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(unix)]
fn descriptor_limit() -> u64 {
    use rustix::process::{Resource, getrlimit};
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Sockets are not descriptors elsewhere, and no such limit is set on them.
#[cfg(not(unix))]
fn descriptor_limit() -> u64 {
    u64::MAX
}

/// Sockets in `TIME_WAIT` in this network namespace; 0 where that is not known.
pub fn time_wait() -> usize {
    parse_time_wait(&read_or_empty("/proc/net/sockstat")).unwrap_or(0)
}

/// `32768 60999`, with a tab between, as in `ip_local_port_range`.
fn parse_port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut ports = text.split_whitespace().map(|port| port.parse().ok());
    let range = ports.next()??..=ports.next()??;
    (!range.is_empty() && ports.next().is_none()).then_some(range)
}

/// How many of `1,8080-8090`, as in `ip_local_reserved_ports`, lie within `range`. The kernel prints them merged and
/// in order, so that none is counted twice.
fn count_reserved(text: &str, range: &RangeInclusive<u16>) -> usize {
    text.trim()
        .split(',')
        .filter_map(|ports| {
            let (low, high) = ports.split_once('-').unwrap_or((ports, ports));
            Some((low.parse::<u16>().ok()?, high.parse::<u16>().ok()?))
        })
        .map(|(low, high)| (low.max(*range.start())..=high.min(*range.end())).len())
        .sum()
}

/// The number after `tw` in the line `TCP: inuse 5 orphan 0 tw 12 alloc 7 mem 1` of `/proc/net/sockstat`. It counts
/// IPv6 too.
fn parse_time_wait(sockstat: &str) -> Option<usize> {
    let counts = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    counts.split_whitespace().skip_while(|&word| word != "tw").nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Linux as it comes, and a target on another machine.
    fn linux() -> PortFacts {
        PortFacts {
            ephemeral: 32_768..=60_999,
            reserved: 0,
            source_addresses: 1,
            time_wait_now: 0,
            tw_reuse: 2,
            loopback: false,
            nofile: 1 << 20,
        }
    }

    /// Five minutes of nothing but closing first.
    fn unbroken() -> Demand {
        let five_minutes = Duration::from_secs(300);
        Demand {
            connections_per_s: 100.0,
            share: 1.0,
            slot: five_minutes,
            duration: five_minutes,
            peer_closes_first: false,
            concurrent: 0,
        }
    }

    /// As [`unbroken`], but taking turns with another arm, a second each.
    fn in_turns() -> Demand {
        Demand { share: 0.5, slot: Duration::from_secs(1), ..unbroken() }
    }

    #[test]
    fn the_highest_rate_follows_from_the_ports_and_how_long_each_is_held() {
        let here = || PortFacts { loopback: true, ..linux() };
        let lasting = |seconds, demand| Demand { duration: Duration::from_secs_f64(seconds), ..demand };
        let peer_first = || Demand { peer_closes_first: true, ..unbroken() };
        for (story, facts, demand, rate) in [
            ("half of 28232 ports, 60 s each", linux(), unbroken(), 14_116.0 / 60.0),
            ("a short run ends before ports return", linux(), lasting(30.0, unbroken()), 14_116.0 / 30.0),
            ("every second slot, and one slot more", linux(), in_turns(), 14_116.0 / 31.0),
            ("a short run in turns", linux(), lasting(20.0, in_turns()), 14_116.0 / 10.0),
            ("loopback reuses after 1 s", here(), unbroken(), 14_116.0),
            ("a slot of 1 s fills that second", here(), in_turns(), 14_116.0),
            ("a run shorter than that", here(), lasting(0.5, unbroken()), 28_232.0),
            ("not if told not to", PortFacts { tw_reuse: 0, ..here() }, unbroken(), 14_116.0 / 60.0),
            ("not towards others", PortFacts { tw_reuse: 1, ..linux() }, unbroken(), 14_116.0 / 60.0),
            ("two addresses", PortFacts { source_addresses: 2, ..linux() }, unbroken(), 28_232.0 / 60.0),
            ("reserved ports", PortFacts { reserved: 8_232, ..linux() }, unbroken(), 10_000.0 / 60.0),
            ("open ones", linux(), Demand { concurrent: 116, ..unbroken() }, 14_000.0 / 60.0),
            ("leftovers", PortFacts { time_wait_now: 4_116, ..linux() }, unbroken(), 10_000.0 / 60.0),
            ("nothing but leftovers", PortFacts { time_wait_now: 14_117, ..linux() }, unbroken(), 0.0),
            ("reusable leftovers", PortFacts { time_wait_now: 14_117, ..here() }, unbroken(), 14_116.0),
            ("the peer waits, not we", linux(), peer_first(), f64::INFINITY),
            (
                "the peer's leftovers",
                PortFacts { time_wait_now: 20_000, ..here() },
                peer_first(),
                f64::INFINITY,
            ),
            ("more open than ports", linux(), Demand { concurrent: 14_117, ..peer_first() }, 0.0),
            (
                "more open than descriptors",
                PortFacts { nofile: 1024, ..linux() },
                Demand { concurrent: 961, ..peer_first() },
                0.0,
            ),
            ("no address", PortFacts { source_addresses: 0, ..linux() }, unbroken(), 0.0),
            ("all reserved", PortFacts { reserved: 30_000, ..linux() }, unbroken(), 0.0),
        ] {
            let highest = max_rate(&facts, &demand);
            assert!(
                highest == rate || (highest - rate).abs() < 1e-9 * rate,
                "{story}: {highest}, not {rate}"
            );
        }
    }

    #[test]
    fn a_budget_says_what_part_of_the_ports_it_takes() {
        let demand = Demand { concurrent: 32, ..in_turns() };
        let budget = budget(&PortFacts { time_wait_now: 100, ..linux() }, &demand).unwrap();
        assert_eq!(budget, Budget { ports: 28_232, taken: 31.0 * 100.0 + 32.0 + 100.0 });
        assert_eq!(budget.used(), 3_232.0 / 28_232.0);
    }

    #[test]
    fn too_high_a_rate_is_refused_with_all_that_would_help() {
        let facts = PortFacts { time_wait_now: 120, ..linux() };
        let demand = Demand { connections_per_s: 500.0, concurrent: 64, ..in_turns() };
        let refusal = budget(&facts, &demand).unwrap_err();
        assert_eq!(refusal.shortage, Shortage::Waiting);
        assert_eq!(
            refusal.to_string(),
            "500 new connections/s, closed by us, would hold 15500 ports for 60 s each beside 64 open ones, and of \
             28232 ports only half, 14116, can be taken before connecting becomes slow; earlier connections hold \
             120 in TIME_WAIT. To fit: let the server close first; lower --rate to 449; run such arms for at most \
             27.8 s in all, with fewer rounds or shorter slots; connect from 2 source addresses; or widen \
             net.ipv4.ip_local_port_range to \"1024 65535\""
        );
    }

    #[test]
    fn too_many_open_connections_are_refused_with_how_many_fit() {
        let demand = Demand { peer_closes_first: true, concurrent: 40_000, ..unbroken() };
        let refusal = budget(&linux(), &demand).unwrap_err();
        assert_eq!(refusal.shortage, Shortage::Open);
        assert_eq!(
            refusal.to_string(),
            "40000 connections at once need as many ports, and of 28232 ports only half, 14116, can be taken before \
             connecting becomes slow. To fit: open at most 14116 connections at once; or connect from 3 source \
             addresses"
        );
    }

    #[test]
    fn too_few_descriptors_are_refused_with_the_limit_to_set() {
        let demand = Demand { peer_closes_first: true, concurrent: 2000, ..unbroken() };
        let refusal = budget(&PortFacts { nofile: 1024, ..linux() }, &demand).unwrap_err();
        assert_eq!(refusal.shortage, Shortage::Descriptors);
        assert_eq!(
            refusal.to_string(),
            "2000 connections at once need 2064 descriptors, and the limit is 1024. To fit: raise `ulimit -n` to \
             2064; or open at most 960 connections at once"
        );
    }

    #[test]
    fn waiting_is_advised_where_it_is_enough() {
        let refusal = budget(&PortFacts { time_wait_now: 14_000, ..linux() }, &in_turns()).unwrap_err();
        let text = refusal.to_string();
        assert!(text.contains("To fit: wait a minute for the earlier connections to expire; "), "{text}");
    }

    prop_compose! {
        fn any_facts()(
            ports in 0..30_000_u16,
            reserved in 0..100_usize,
            source_addresses in 1..4_usize,
            time_wait_now in prop_oneof![Just(0), 0..20_000_usize],
            tw_reuse in 0..=2_u8,
            loopback: bool,
            nofile in 64..100_000_u64,
        ) -> PortFacts {
            let ephemeral = 32_768..=32_768 + ports;
            PortFacts { ephemeral, reserved, source_addresses, time_wait_now, tw_reuse, loopback, nofile }
        }
    }

    prop_compose! {
        fn any_demand()(
            connections_per_s in 1.0..20_000.0_f64,
            share in 0.0..=1.0_f64,
            slot_ms in 0..5_000_u64,
            duration_ms in 0..300_000_u64,
            peer_closes_first: bool,
            concurrent in 0..20_000_usize,
        ) -> Demand {
            let slot = Duration::from_millis(slot_ms);
            let duration = Duration::from_millis(duration_ms);
            Demand { connections_per_s, share, slot, duration, peer_closes_first, concurrent }
        }
    }

    proptest! {
        #[test]
        fn a_rate_fits_exactly_up_to_the_highest(facts in any_facts(), demand in any_demand()) {
            let fits = demand.connections_per_s <= max_rate(&facts, &demand);
            let answer = budget(&facts, &demand);
            prop_assert_eq!(answer.is_ok(), fits, "{:?}", answer);
            if let Ok(budget) = answer {
                prop_assert!(budget.used() <= USABLE + 1e-12);
            }
        }

        #[test]
        fn advice_that_is_given_is_enough(facts in any_facts(), demand in any_demand()) {
            if let Err(refusal) = budget(&facts, &demand) {
                let ports_suffice = refusal.shortage != Shortage::Descriptors;
                if let Some(source_addresses) = refusal.addresses_needed().filter(|_| ports_suffice) {
                    let more = PortFacts { source_addresses, ..facts.clone() };
                    prop_assert!(budget(&more, &demand).is_ok());
                    let fewer = PortFacts { source_addresses: source_addresses - 1, ..facts.clone() };
                    prop_assert!(budget(&fewer, &demand).is_err());
                }
                let connections_per_s = max_rate(&facts, &demand).floor();
                if connections_per_s >= 1.0 {
                    let slower = Demand { connections_per_s, ..demand.clone() };
                    prop_assert!(budget(&facts, &slower).is_ok());
                }
                if refusal.shortage == Shortage::Open && room_for_open(&facts, &demand) >= 1.0 {
                    let concurrent = room_for_open(&facts, &demand) as usize;
                    let fewer = Demand { concurrent, ..demand };
                    prop_assert!(budget(&facts, &fewer).is_ok());
                }
            }
        }

        /// Rounds of two arms in random order, looked at through every window that begins or ends at a slot's edge,
        /// which is where the extremes are.
        #[test]
        fn no_window_sees_an_arm_for_longer_than_reckoned(
            order in vec(any::<bool>(), 1..60), slot_ms in 100..8_000_u64, other_ms in 0..8_000_u64
        ) {
            let round_ms = slot_ms + other_ms;
            let starts: Vec<u64> = order
                .iter()
                .zip(0..)
                .map(|(&first, round)| round * round_ms + if first { 0 } else { other_ms })
                .collect();
            let demand = Demand {
                share: slot_ms as f64 / round_ms as f64,
                slot: Duration::from_millis(slot_ms),
                duration: Duration::from_millis(order.len() as u64 * round_ms),
                ..unbroken()
            };
            for facts in [linux(), PortFacts { loopback: true, ..linux() }] {
                let window_ms = hold(&facts, &demand).as_millis() as u64;
                let run_in = |from: u64, to: u64| -> u64 {
                    starts.iter().map(|&s| to.min(s + slot_ms).saturating_sub(from.max(s))).sum()
                };
                let longest = starts
                    .iter()
                    .flat_map(|&s| [run_in(s, s + window_ms), run_in((s + slot_ms).saturating_sub(window_ms), s + slot_ms)])
                    .max()
                    .unwrap();
                prop_assert!(longest as f64 / 1000.0 <= held_time(&facts, &demand) + 1e-9);
            }
        }
    }

    #[test]
    fn port_ranges_are_read_as_linux_prints_them() {
        assert_eq!(parse_port_range("32768\t60999\n"), Some(32_768..=60_999));
        assert_eq!(parse_port_range("1024 65535"), Some(1024..=65_535));
        for text in ["", "32768", "60999 32768", "1 2 3", "0 65536", "a b"] {
            assert_eq!(parse_port_range(text), None, "{text:?}");
        }
    }

    #[test]
    fn reserved_ports_count_where_they_lie_in_the_range() {
        let range = 1000..=2000;
        for (text, count) in [
            ("\n", 0),
            ("", 0),
            ("1500\n", 1),
            ("80,1000,2000,2001\n", 2),
            ("900-1009,1100-1109,1995-3000", 26),
            ("1-65535", 1001),
            ("junk,1500", 1),
        ] {
            assert_eq!(count_reserved(text, &range), count, "{text:?}");
        }
    }

    #[test]
    fn connections_in_time_wait_are_read_from_sockstat() {
        let sockstat = "sockets: used 11\nTCP: inuse 1 orphan 0 tw 37 alloc 1 mem 113\nUDP: inuse 0 mem 0\n";
        assert_eq!(parse_time_wait(sockstat), Some(37));
        assert_eq!(parse_time_wait("TCP6: inuse 1\n"), None);
        assert_eq!(parse_time_wait("TCP: inuse 1 orphan 0 tw"), None);
        assert_eq!(parse_time_wait(""), None);
    }

    #[test]
    fn more_than_half_of_the_ports_in_time_wait_are_too_many_unless_they_are_taken_again() {
        assert!(!are_short(&linux(), 14_116) && are_short(&linux(), 14_117));
        assert!(!are_short(&PortFacts { source_addresses: 2, ..linux() }, 28_000));
        let reused = PortFacts { loopback: true, ..linux() };
        assert!(!are_short(&reused, 28_000) && are_short(&PortFacts { tw_reuse: 0, ..reused }, 28_000));
    }

    #[test]
    fn this_machine_has_ports_and_descriptors() {
        let facts = PortFacts::read(true);
        assert!(facts.loopback && facts.source_addresses == 1);
        assert!(!facts.ephemeral.is_empty() && ports(&facts) > 0, "{facts:?}");
        assert!(facts.nofile > OTHER_DESCRIPTORS, "{facts:?}");
        assert!(facts.tw_reuse <= 2, "{facts:?}");
    }
}
