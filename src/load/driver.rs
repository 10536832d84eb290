//! [`Driver`]: from a comparison to its measurement.

use std::net::SocketAddr;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::first_look::{self, FirstLook};
use super::highest::{self, Seen};
use super::live::Live;
use super::recorder::Desks;
use super::request::Template;
use super::search::{self, Found};
use super::worker::{self, Gate, Job, Source};
use super::{Companion, Comparing, Load, Network, Next, Progress, Refusal, Stop, processes, purity, usage};
use crate::clock;
use crate::duration::nanoseconds;
use crate::error::Error;
use crate::idle::CloseReason;
use crate::machine::{self, Machine};
use crate::measurement::{
    Capacity, Ledger, Measurement, Offered, PANICKED, PORTS_HELD, SCHEMA, Searched, Slot, TargetFacts,
    ThreadShare, Tool,
};
use crate::origin::Scheme;
use crate::plan::{
    Arm, Arrivals, Chooser, Model, Pacer, Plan, Schedule, Search, Stage, Target, Visit, mix, share_of,
};
use crate::ports::{self, Demand, PortFacts};
use crate::saved;
use crate::tls::{TlsClient, TlsConfig};

/// After so many slots in a row without a single answer the target is given up.
const DEAD_SLOTS: usize = 2;

/// And so many requests in them: a few may be bad luck.
const DEAD_REQUESTS: u64 = 20;

/// So long at least a lone arm is looked at until it is steady.
const SHORTEST_PATIENCE: Duration = Duration::from_secs(3);

pub(super) struct Driver {
    plan: Plan,
    load: Load,
    /// For each arm, which may have a target of its own, all that it asks for.
    templates: Vec<Arc<[Template]>>,
    tls_config: TlsConfig,
    /// One per arm: arms do not share sessions.
    tls: Vec<TlsClient>,
    network: Network,
    warms_up: bool,
    command: Vec<String>,
    embedded: bool,
    stop: Stop,
    offered: Offered,
    outside: Ledger,
    notes: Vec<String>,
    visits_run: u64,
    /// For each arm, the least that a visit took to open its connections.
    opened_in: Vec<Option<Duration>>,
    /// For each arm, how busy the busiest sending thread was when it was last looked at.
    busy: Vec<f64>,
    /// What this machine has for connections to the target, once its address is known.
    ports: Option<PortFacts>,
    /// How long the first look's slowest response took.
    first_response: Duration,
    searched: Option<Searched>,
    live: Live,
}

/// The flag of a slot that was cut short.
const INTERRUPTED: &str = "interrupted";

/// Whether connecting was slow by the end of a slot for what the client itself had left behind: it closed first often
/// enough for the sockets in `TIME_WAIT` to be its own.
fn are_ports_held(ports: &PortFacts, slot: &Slot) -> bool {
    let Ledger { closed_first, peer_closed_first, .. } = slot.connections;
    let is_ours = closed_first * 10 > closed_first + peer_closed_first;
    is_ours && ports::are_short(ports, slot.client.time_wait_after)
}

fn is_cut(slot: &Slot) -> bool {
    slot.flags.iter().any(|flag| flag == INTERRUPTED)
}

/// A look lasts at most so many times as long as asked for to have enough requests.
const LONGER: u32 = 10;

/// Connections are waited for before a visit begins for so many times as long as they took at best, and a little longer.
const OPENING: u32 = 3;
const OPENING_MARGIN: Duration = Duration::from_millis(5);

/// A visit to an arm, of the plan or before it.
struct Shape {
    arm: usize,
    /// Whether what is done counts.
    measured: bool,
    model: Model,
    washout: Duration,
    window: Duration,
    /// The most requests of all workers together, in a closed loop.
    most: u64,
    stages: Vec<Stage>,
    /// What targets are drawn for: all arms of a round ask for the same, however many looks there were before.
    draw: u64,
}

impl Driver {
    pub(super) fn new(comparing: Comparing, stop: Stop) -> Result<Driver, Refusal> {
        let Comparing { plan, load, tls, network, warm_up, command, embedded } = comparing;
        check(&plan, load, warm_up)?;
        let templates: Vec<Arc<[Template]>> =
            plan.arms.iter().map(|arm| templates(plan.targets_of(arm))).collect::<Result<_, _>>()?;
        let network = network.settled(templates.iter().flat_map(|all| all.iter()).map(|one| &one.origin))?;
        if plan.arms.len() > 1 && templates.iter().any(|all| have_both_schemes(all)) {
            let text =
                "some targets are http:// and some https://, whose arms are not the same: compare them apart";
            return Err(Refusal::Usage(text.into()));
        }
        let mut driver = Driver {
            opened_in: vec![None; plan.arms.len()],
            busy: vec![0.0; plan.arms.len()],
            ports: None,
            plan,
            load,
            templates,
            tls_config: tls,
            tls: Vec::new(),
            network,
            warms_up: warm_up,
            command,
            embedded,
            stop,
            offered: Offered::default(),
            outside: Ledger::default(),
            notes: Vec::new(),
            visits_run: 0,
            first_response: Duration::ZERO,
            searched: None,
            live: Live::default(),
        };
        driver.tls = driver.plan.arms.iter().map(|arm| driver.tls_for(arm)).collect::<Result<_, _>>()?;
        Ok(driver)
    }

    fn tls_for(&self, arm: &Arm) -> Result<TlsClient, Refusal> {
        let config = TlsConfig { resume: arm.resume, ..self.tls_config.clone() };
        config.build().map_err(|error| Refusal::Usage(error.to_string()))
    }

    fn is_https(&self, arm: usize) -> bool {
        self.templates[arm].iter().any(|template| template.origin.scheme() == Scheme::Https)
    }

    pub(super) fn run(mut self, with: &mut dyn Companion) -> Result<Measurement, Refusal> {
        let started = clock::wall();
        self.live = with.live();
        let machine = Machine::this();
        let facts = match self.look() {
            Err(_) if self.stop.is_set() => TargetFacts::default(),
            looked => looked?,
        };
        let mut capacities = None;
        if !self.stop.is_set() {
            with.tell(Progress::Reached { address: facts.address.clone() });
            // As many connections as there are descriptors for, before the warm-up opens them.
            let ports = self.ports.insert(self.port_facts(&facts)).clone();
            self.afford(&ports, 0.0)?;
            capacities = self.warm_up(with)?;
        }
        let (mut slots, mut enough) = (Vec::new(), false);
        if let Some(capacities) = capacities {
            if let Load::Search(arrivals) = self.load {
                self.find_highest(arrivals, &facts, with)?;
            }
            self.settle_load(&capacities, &facts)?;
            with.tell(Progress::Begins { rate: rate_of(self.plan.model) });
            with.settled(self.plan.model)?;
            enough = self.rounds(&mut slots, with)? == Next::Enough;
        }
        self.tell_of_evictions(&slots);
        let planned = self.plan.arms.len() * self.plan.rounds as usize;
        if let Some(searched) = self.searched.as_mut().filter(|searched| searched.passes_at.is_some())
            && !slots.is_empty()
        {
            searched.unmet = highest::unmet(&searched.goal, &slots);
        }
        Ok(Measurement {
            schema: SCHEMA.into(),
            plan_id: machine::fingerprint(&serde_json::to_vec(&self.plan).unwrap_or_default()),
            tool: Tool { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() },
            command: self.command,
            started: saved::date(started),
            plan: self.plan,
            offered: self.offered,
            machine,
            target: TargetFacts { embedded: self.embedded, ..facts },
            interrupted: self.stop.is_set()
                && !enough
                && (slots.len() < planned || slots.last().is_some_and(is_cut)),
            slots,
            search: self.searched,
            outside: self.outside,
            notes: self.notes,
        })
    }

    /// With several origins a pool at its limit closes an idle connection of one to open one to another: what that makes
    /// of reuse is not the targets' doing.
    fn tell_of_evictions(&mut self, slots: &[Slot]) {
        let evicted = |slot: &Slot| slot.connections.closed.get(CloseReason::Evicted.as_str()).copied();
        let evicted: u64 = slots.iter().filter_map(evicted).sum();
        if evicted > 0 && self.plan.several.is_some() {
            self.notes.push(format!(
                "{evicted} idle connections were closed for want of room: --connections (and --max-idle) bound those to \
                 all origins together; a --rate with more --connections keeps them"
            ));
        }
    }

    /// The first look at every target; arms that a target cannot have are left out, and it is said why. What it
    /// answers with is that of the first arm.
    fn look(&mut self) -> Result<TargetFacts, Refusal> {
        let FirstLook { facts, resumes, .. } = self.look_at(0, 0)?;
        for (arm, target) in self.others_to_look_at() {
            self.look_at(arm, target)?;
        }
        if self.is_https(0) && !resumes && self.plan.arms.iter().any(|arm| arm.resume) {
            self.leave_out_resumed();
        }
        Ok(facts)
    }

    /// By arm and target, what the first look is for beside the first arm's first: the first target of every other
    /// origin.
    fn others_to_look_at(&self) -> Vec<(usize, usize)> {
        let own = |arm: &usize| *arm == 0 || self.plan.arms[*arm].target.is_some();
        let of = |arm: usize| {
            let all = &self.templates[arm];
            let is_first = |nth: &usize| all[..*nth].iter().all(|before| before.origin != all[*nth].origin);
            (0..all.len()).filter(is_first).map(move |nth| (arm, nth)).collect::<Vec<_>>()
        };
        (0..self.plan.arms.len()).filter(own).flat_map(of).skip(1).collect()
    }

    /// The first look at one of an arm's targets.
    fn look_at(&mut self, arm: usize, target: usize) -> Result<FirstLook, Refusal> {
        let resuming = TlsConfig { resume: true, ..self.tls_config.clone() };
        let tls = resuming.build().map_err(|error| Refusal::Usage(error.to_string()))?;
        let own = &self.plan.arms[arm];
        let pool = self.network.of(own.pool(1));
        let (targets, max_time) = (self.plan.targets_of(own), self.plan.max_time);
        let template = &self.templates[arm][target];
        let found = first_look::look(&targets[target], max_time, template, &pool, &tls, &self.stop)?;
        let of = match targets.len() {
            1 if own.target.is_some() => format!("arm `{}`: ", own.name),
            1 => String::new(),
            _ => format!("{}: ", targets[target].url),
        };
        self.outside.merge(&found.ledger);
        self.first_response = self.first_response.max(found.slowest);
        if !found.keeps_connections {
            self.notes
                .push(format!("{of}the server did not keep its first connection open for a second request"));
        }
        let status = found.facts.status;
        if status >= 400 {
            self.notes.push(format!("{of}the first answer had status {status}: is it the right URL?"));
        } else if (300..400).contains(&status) {
            self.notes.push(format!("{of}the answer is a redirect ({status}), which is not followed"));
        }
        Ok(found)
    }

    fn leave_out_resumed(&mut self) {
        let keep: Vec<bool> = self.plan.arms.iter().map(|arm| !arm.resume).collect();
        let mut kept = keep.iter();
        self.plan.arms.retain(|_| *kept.next().unwrap_or(&true));
        let mut kept = keep.iter();
        self.tls.retain(|_| *kept.next().unwrap_or(&true));
        let mut kept = keep.iter();
        self.templates.retain(|_| *kept.next().unwrap_or(&true));
        self.notes.push("the server resumed no TLS session, so there is no arm `off-resumed`".into());
    }

    /// Every arm in a closed loop, until it is steady: its capacity, tickets for the arm that resumes, and the
    /// server's caches; none is known where there is no warm-up. `None` when asked to stop.
    fn warm_up(&mut self, with: &mut dyn Companion) -> Result<Option<Vec<f64>>, Refusal> {
        let mut capacities = Vec::new();
        if matches!(self.load, Load::Search(_)) {
            // Its looks begin gently, and warm what there is to warm.
            return Ok(Some(capacities));
        }
        if !self.warms_up {
            self.notes.push("no warm-up: what the first requests waited for counts, connections among it (--warm-up TIME gives one)".into());
            return Ok(Some(capacities));
        }
        for arm in 0..self.plan.arms.len() {
            let name = self.plan.arms[arm].name.clone();
            with.tell(Progress::Searching { arm: name.clone() });
            let Some(Found { requests_per_s, steady }) = self.search(arm)? else { return Ok(None) };
            if !steady {
                self.notes.push(format!("arm `{name}` was not seen to be steady in the warm-up"));
            }
            if !matches!(self.load, Load::Rate(..)) {
                with.tell(Progress::Found { arm: name.clone(), requests_per_s });
            }
            self.offered.capacity.push(Capacity { arm: name, requests_per_s });
            capacities.push(requests_per_s);
        }
        Ok(Some(capacities))
    }

    /// Settles the rate by a search. What the run then offers is the highest rate that passed, or the lowest that did
    /// not.
    fn find_highest(
        &mut self,
        arrivals: Arrivals,
        facts: &TargetFacts,
        with: &mut dyn Companion,
    ) -> Result<(), Refusal> {
        let Some(Search { goal, look }) = self.plan.search.clone() else {
            return Err(Refusal::Usage("a search needs a goal, such as p99<5ms".into()));
        };
        let mut failure = None;
        let searched = highest::highest(&goal, |rate| {
            if self.stop.is_set() {
                return None;
            }
            with.tell(Progress::Looking { rate });
            if let Err(refusal) = self.afford(&self.port_facts(facts), rate) {
                return Some(Seen::Generator(refusal.to_string()));
            }
            let enough = Duration::from_secs_f64(goal.samples() / rate);
            match self.look_at_rate(rate, arrivals, enough.clamp(look, look * LONGER)) {
                Ok(slot) => (!self.stop.is_set()).then(|| Seen::of(&slot, &goal)),
                Err(error) => {
                    failure = Some(error);
                    None
                }
            }
        });
        if let Some(error) = failure {
            return Err(error);
        }
        let lowest = searched.ceiling.as_ref().map_or(highest::START, |ceiling| ceiling.rate);
        self.plan.model = Model::Open { rate: searched.passes_at.unwrap_or(lowest), arrivals };
        self.searched = Some(searched);
        Ok(())
    }

    fn look_at_rate(&mut self, rate: f64, arrivals: Arrivals, look: Duration) -> Result<Slot, Refusal> {
        let shape = Shape {
            arm: 0,
            measured: false,
            model: Model::Open { rate, arrivals },
            washout: look / 4,
            window: look,
            most: u64::MAX,
            stages: Vec::new(),
            draw: u64::MAX,
        };
        let slot = self.visit(&shape)?;
        self.outside.merge(&slot.connections);
        Ok(slot)
    }

    fn search(&mut self, arm: usize) -> Result<Option<Found>, Refusal> {
        // What one arm does alone need not be known before it is measured: a slow target is not looked at for longer.
        let is_alone = self.plan.arms.len() == 1;
        let patience = is_alone.then_some(self.plan.slot.max(SHORTEST_PATIENCE));
        let begun = clock::now();
        let enough = || patience.is_some_and(|patience| clock::now() - begun >= patience);
        let mut failure = None;
        let found = match self.load {
            Load::Rate(rate, arrivals) => {
                // A rate was given: nothing may exceed it, the warm-up neither. Arms that are set against each other take
                // turns, and are as warm as each other.
                let model = Model::Open { rate: self.gentlest(rate), arrivals };
                let look = || self.look_once(arm, model, &mut failure).map(|slot| search::AtRate::of(&slot));
                search::at_rate(look, || !is_alone || enough())
            }
            _ => {
                let look = || {
                    self.look_once(arm, Model::Closed, &mut failure).map(|slot| search::requests_per_s(&slot))
                };
                search::capacity(look, enough)
            }
        };
        match failure {
            Some(error) => Err(error),
            // One look was all that was asked for.
            None if matches!(self.load, Load::Rate(..)) && !is_alone => {
                Ok(found.map(|found| Found { steady: true, ..found }))
            }
            None => Ok(found),
        }
    }

    /// One look; `None` when asked to stop, or when it failed.
    fn look_once(&mut self, arm: usize, model: Model, failure: &mut Option<Refusal>) -> Option<Slot> {
        if self.stop.is_set() || failure.is_some() {
            return None;
        }
        match self.look_at_capacity(arm, model) {
            Ok(slot) => (!self.stop.is_set()).then_some(slot),
            Err(error) => {
                *failure = Some(error);
                None
            }
        }
    }

    /// The lowest rate of any stage's ends that is not 0.
    fn gentlest(&self, rate: f64) -> f64 {
        let ends = self.plan.stages.iter().flat_map(|stage| [stage.from, stage.to]);
        ends.filter(|&rate| rate > 0.0).fold(rate, f64::min)
    }

    fn look_at_capacity(&mut self, arm: usize, model: Model) -> Result<Slot, Refusal> {
        let shape = Shape {
            arm,
            measured: false,
            model,
            // Long enough for a few responses of the slowest target, and not for more than a lone arm is measured.
            washout: search::WASHOUT.max(self.first_response * 3 / 2),
            window: search::WINDOW.max(match self.plan.arms.len() {
                1 => (self.first_response * 5).min(self.plan.slot),
                _ => self.first_response * 5,
            }),
            most: self.most_in_search(arm),
            stages: Vec::new(),
            draw: u64::MAX,
        };
        let slot = self.visit(&shape)?;
        self.outside.merge(&slot.connections);
        self.busy[arm] = ThreadShare::of_busiest(&slot.client).wanted();
        Ok(slot)
    }

    /// The rate, or a lower one, at which the sending threads have time to spare in every arm.
    fn with_time_to_spare(&mut self, rate: f64, arrivals: Arrivals) -> Result<f64, Refusal> {
        let mut spared = rate;
        for arm in 0..self.plan.arms.len() {
            if self.busy[arm] <= search::BUSY_CLOSED {
                continue;
            }
            let mut failure = None;
            spared = search::with_time_to_spare(spared, |rate| {
                self.look_once(arm, Model::Open { rate, arrivals }, &mut failure)?;
                Some(self.busy[arm])
            });
            failure.map_or(Ok(()), Err)?;
        }
        self.offered.capped_by_generator = spared < rate;
        Ok(spared)
    }

    /// A look may not use up the ports that the run will need.
    fn most_in_search(&self, arm: usize) -> u64 {
        if self.plan.arms[arm].keep_alive {
            return u64::MAX;
        }
        let ports = PortFacts::read(false).ephemeral;
        u64::from(ports.end() - ports.start()) / 5
    }

    /// Settles when requests start, and refuses what this machine's ports cannot carry.
    fn settle_load(&mut self, capacities: &[f64], facts: &TargetFacts) -> Result<(), Refusal> {
        let smallest = capacities.iter().copied().fold(f64::INFINITY, f64::min);
        let port_facts = self.port_facts(facts);
        let largest_off = self.largest_off(capacities);
        match self.load {
            // It has settled it.
            Load::Search(_) => {}
            Load::Closed => {
                self.plan.model = Model::Closed;
                self.afford(&port_facts, largest_off)?;
            }
            Load::Rate(rate, arrivals) => {
                self.offered.capacity.clear();
                self.plan.model = Model::Open { rate, arrivals };
                self.afford(&port_facts, rate)?;
            }
            Load::HalfOfCapacity(arrivals) => {
                if smallest <= 0.0 {
                    let text = "no request was answered in the search for the arms' capacity: \
                                lower --connections, or give a --rate";
                    return Err(Refusal::Unreachable(text.into()));
                }
                let most = ports::max_rate(&port_facts, &self.demand(0.0));
                self.offered.capped_by_ports = most < smallest / 2.0;
                let rate = search::rounded((smallest / 2.0).min(most));
                let rate = self.with_time_to_spare(rate, arrivals)?;
                self.plan.model = Model::Open { rate, arrivals };
                self.afford(&port_facts, rate)?;
            }
        }
        Ok(())
    }

    /// What this machine has. The embedded server's ends of the connections take descriptors of this process too.
    fn port_facts(&self, facts: &TargetFacts) -> PortFacts {
        let address: Option<SocketAddr> = facts.address.parse().ok();
        let mut ports = PortFacts::read(address.is_some_and(|address| address.ip().is_loopback()));
        ports.source_addresses = self.network.source_addresses(address.map(|address| address.ip()));
        if self.embedded {
            ports.nofile /= 2;
        }
        ports
    }

    fn largest_off(&self, capacities: &[f64]) -> f64 {
        let offs = self.plan.arms.iter().zip(capacities).filter(|(arm, _)| !arm.keep_alive);
        offs.map(|(_, &capacity)| capacity).fold(0.0, f64::max)
    }

    fn afford(&self, facts: &PortFacts, rate: f64) -> Result<(), Refusal> {
        ports::budget(facts, &self.demand(rate)).map_err(|refusal| Refusal::Budget(refusal.to_string()))?;
        Ok(())
    }

    fn demand(&self, connections_per_s: f64) -> Demand {
        let arms = self.plan.arms.len().max(1);
        let offs = self.plan.arms.iter().filter(|arm| !arm.keep_alive).count();
        let visit = self.plan.slot + self.plan.washout;
        let closed = self.outside.peer_closed_first + self.outside.closed_first;
        Demand {
            connections_per_s,
            share: offs as f64 / arms as f64,
            slot: visit * u32::try_from(offs).unwrap_or(u32::MAX),
            duration: visit * self.plan.rounds * u32::try_from(arms).unwrap_or(u32::MAX),
            peer_closes_first: self.outside.closed_first * 10 <= closed,
            concurrent: self.plan.connections,
        }
    }

    /// Visits until all rounds are done, the target is dead, or somebody says that it is enough.
    fn rounds(&mut self, slots: &mut Vec<Slot>, with: &mut dyn Companion) -> Result<Next, Refusal> {
        let visits = Schedule::new(&self.plan).visits();
        let (total, mut dead, mut unanswered) = (visits.len(), 0, 0);
        for (nth, visit) in visits.into_iter().enumerate() {
            if self.stop.is_set() {
                return Ok(Next::Go);
            }
            if visit.order == 0 && visit.round > 0 && with.after_round(visit.round, slots)? == Next::Enough {
                return Ok(Next::Enough);
            }
            with.tell(Progress::Slot {
                round: visit.round + 1,
                rounds: self.plan.rounds,
                arm: self.plan.arms[visit.arm].name.clone(),
                left: (self.plan.slot + self.plan.washout) * u32::try_from(total - nth).unwrap_or(u32::MAX),
            });
            let slot = match self.slot(visit, with.process(visit.arm)) {
                Ok(slot) => slot,
                // What was measured until then is not lost with it.
                Err(refusal) if !slots.is_empty() => {
                    self.notes
                        .push(format!("round {} could not be run, ended early: {refusal}", visit.round + 1));
                    return Ok(Next::Go);
                }
                Err(refusal) => return Err(refusal),
            };
            if slot.completed == 0 {
                dead += usize::from(slot.scheduled > 0);
                unanswered += slot.scheduled;
            } else {
                (dead, unanswered) = (0, 0);
            }
            let broken = slot.flags.iter().any(|flag| flag == PANICKED);
            slots.push(slot);
            if broken {
                self.notes.push(format!("ended early in round {}: see why it is invalid", visit.round + 1));
                return Ok(Next::Go);
            }
            if dead >= DEAD_SLOTS && unanswered >= DEAD_REQUESTS {
                let round = visit.round + 1;
                self.notes
                    .push(format!("the target answered nothing any more in round {round}: ended early"));
                return Ok(Next::Go);
            }
        }
        if self.stop.is_set() { Ok(Next::Go) } else { with.after_round(self.plan.rounds, slots) }
    }

    fn slot(&mut self, visit: Visit, process: Option<u32>) -> Result<Slot, Refusal> {
        let shape = Shape {
            arm: visit.arm,
            measured: true,
            model: self.plan.model,
            washout: self.plan.washout,
            window: self.plan.slot,
            most: self.plan.requests.unwrap_or(u64::MAX),
            stages: self.plan.stages.clone(),
            draw: u64::from(visit.round),
        };
        let start_unix_ns = unix_ns(clock::wall());
        let before = process.and_then(processes::Use::of);
        let mut slot = self.visit(&shape)?;
        let used = process.and_then(processes::Use::of);
        slot.target_cpu_ns = used.zip(before).and_then(|(now, before)| now.since(&before));
        let arm = &self.plan.arms[visit.arm];
        slot.round = visit.round;
        slot.order = visit.order;
        slot.arm.clone_from(&arm.name);
        slot.start_unix_ns = start_unix_ns;
        // One arm alone is measured as it is: there is nothing that it should differ from. So is one with a target
        // of its own: what that makes of its connections is part of the comparison.
        if self.plan.arms.len() > 1 && arm.target.is_none() {
            slot.flags.extend(purity::faults(arm, &slot, self.is_https(visit.arm)));
        }
        slot.pure = slot.flags.is_empty();
        if self.ports.as_ref().is_some_and(|ports| are_ports_held(ports, &slot)) {
            slot.flags.push(PORTS_HELD.into());
        }
        let is_whole =
            self.plan.requests.map_or(slot.duration >= self.plan.slot, |requests| slot.scheduled >= requests);
        if self.stop.is_set() && (!is_whole || slot.censored > 0) {
            slot.flags.push(INTERRUPTED.into());
        }
        Ok(slot)
    }

    /// Lets all workers visit an arm, each on a thread of its own, with a pool of its own that is opened for it.
    fn visit(&mut self, shape: &Shape) -> Result<Slot, Refusal> {
        self.visits_run += 1;
        let time_wait_before = ports::time_wait() as u64;
        let throttled_before = usage::throttled_ns();
        let ready = Arc::new(Barrier::new(self.plan.threads));
        let jobs: Vec<Job> = (0..self.plan.threads).map(|worker| self.job(shape, worker, &ready)).collect();
        let parts: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = jobs.into_iter().map(|job| scope.spawn(move || worker::run(job))).collect();
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect()
        });
        let mut slot = whole(parts)?;
        if !slot.opening.is_zero() {
            let least = &mut self.opened_in[shape.arm];
            *least = Some(least.map_or(slot.opening, |least| least.min(slot.opening)));
        }
        slot.client.time_wait_before = time_wait_before;
        slot.client.time_wait_after = ports::time_wait() as u64;
        slot.client.throttled_ns = usage::throttled_ns().saturating_sub(throttled_before);
        Ok(slot)
    }

    fn job(&self, shape: &Shape, worker: usize, ready: &Arc<Barrier>) -> Job {
        let threads = self.plan.threads;
        let mut arm = self.plan.arms[shape.arm].clone();
        // A limit of the arm is that of all its workers' pools together.
        arm.limits.max_idle = arm.limits.max_idle.map(|most| share(most, worker, threads));
        let connections = share(self.plan.connections, worker, threads);
        let seed = mix(self.plan.seed, self.visits_run, worker as u64);
        let source = match shape.model {
            Model::Closed => Source::Closed { most: share_of(shape.most, worker, threads) },
            Model::Open { arrivals, .. } if !shape.stages.is_empty() => {
                // What flows before the window is as at its beginning.
                let mut stages = vec![Stage::constant(shape.washout, shape.stages[0].from)];
                stages.extend(&shape.stages);
                Source::Open(Pacer::staged(stages, arrivals, worker, threads, seed))
            }
            Model::Open { rate, arrivals } => {
                let pacer = Pacer::new(rate, arrivals, worker, threads, seed);
                let requests = self.plan.requests.filter(|_| shape.measured);
                Source::Open(match requests {
                    Some(requests) => pacer.of_exactly(requests),
                    None => pacer,
                })
            }
        };
        let templates = &self.templates[shape.arm];
        let templates: Arc<[Template]> = match threads {
            1 => Arc::clone(templates),
            _ => self.plan.targets_of(&arm).iter().zip(&**templates).map(|(of, one)| one.apart(of)).collect(),
        };
        let chooser = match &self.plan.several {
            Some(several) if arm.target.is_none() => {
                several.chooser(worker, threads, mix(self.plan.seed, shape.draw, 0))
            }
            _ => Chooser::One,
        };
        let mut pool = self.network.of(arm.pool(connections));
        if templates.iter().any(|one| one.origin != templates[0].origin) {
            // What is said of connections is said of all together.
            pool = pool.max_connections(Some(connections));
        }
        let desk = |measured| self.live.desk(&self.plan.arms[shape.arm].name, measured, worker);
        Job {
            templates,
            chooser,
            pool,
            tls: self.tls[shape.arm].clone(),
            connections,
            source,
            opens_ahead: self.warms_up || !shape.measured,
            opens_within: self.opened_in[shape.arm].map(|least| least * OPENING + OPENING_MARGIN),
            washout: shape.washout,
            window: shape.window,
            max_time: self.plan.max_time,
            good: self.plan.expect_status.clone(),
            stages: shape.stages.clone(),
            think: self.plan.think,
            seed,
            ready: Gate::of(ready),
            stop: self.stop.flag(),
            desks: Desks { counted: desk(shape.measured), before: desk(false) },
            live: shape.measured.then(|| self.live.clone()),
        }
    }
}

/// What all workers measured together. One that panicked has nothing to add, and what the others measured is not lost
/// with it: the slot tells.
fn whole(parts: Vec<thread::Result<Result<Slot, Error>>>) -> Result<Slot, Refusal> {
    let (mut whole, mut panicked): (Option<Slot>, bool) = (None, false);
    let mut threads = Vec::new();
    for part in parts {
        let Ok(part) = part else {
            panicked = true;
            continue;
        };
        let part = part.map_err(|error| Refusal::Usage(format!("a worker could not run: {error}")))?;
        panicked |= part.flags.iter().any(|flag| flag == PANICKED);
        threads.push(ThreadShare::of(&part.client));
        match &mut whole {
            None => whole = Some(part),
            Some(whole) => whole.merge(&part),
        }
    }
    let nothing = || Refusal::Usage("every thread panicked, which is a defect of keeplive: report it".into());
    let mut slot = whole.ok_or_else(nothing)?;
    slot.client.busiest = ThreadShare::busiest(threads);
    slot.flags.retain(|flag| flag != PANICKED);
    slot.flags.extend(panicked.then(|| PANICKED.to_owned()));
    Ok(slot)
}

/// What an arm asks for, made ready. Where it is several things, what is wrong is said with which.
fn templates(targets: &[Target]) -> Result<Arc<[Template]>, Refusal> {
    let named = |target: &Target, refusal: Refusal| match refusal {
        Refusal::Usage(text) if targets.len() > 1 => Refusal::Usage(format!("{}: {text}", target.url)),
        other => other,
    };
    targets.iter().map(|target| Template::new(target).map_err(|refusal| named(target, refusal))).collect()
}

fn have_both_schemes(templates: &[Template]) -> bool {
    templates.iter().any(|one| one.origin.scheme() != templates[0].origin.scheme())
}

/// What a plan must hold before anything is sent.
fn check(plan: &Plan, load: Load, warms_up: bool) -> Result<(), Refusal> {
    let usage = |text: &str| Err(Refusal::Usage(text.into()));
    if matches!(load, Load::HalfOfCapacity(_)) && !warms_up {
        return usage("half of the capacity is found in the warm-up: leave it in, or give a --rate");
    }
    if let Some(several) = &plan.several {
        several.check().map_err(Refusal::Usage)?;
        if several.targets.is_empty() {
            return usage("there is no target: give a URL");
        }
    }
    if plan.connections == 0 {
        return usage("--connections is 0: at least one is needed");
    }
    if plan.threads == 0 || plan.threads > plan.connections {
        return usage("--threads must be at least 1 and at most --connections");
    }
    if plan.rounds > MAX_ROUNDS {
        return usage("--rounds is above 100000: a longer --slot serves better");
    }
    if plan.rounds == 0 {
        return usage("--rounds is 0: at least 1 is needed, and 6 for an interval");
    }
    if plan.max_time.is_zero() {
        return usage("--max-time is 0: give a duration such as 5s");
    }
    match load {
        Load::Rate(rate, _) if !(rate.is_finite() && rate > 0.0) => usage(
            "--rate must be above 0 requests per second; left out, half of the capacity is found and offered (`load`: \
             a closed loop)",
        ),
        Load::Rate(rate, _) if !(MIN_RATE..=MAX_RATE).contains(&rate) => {
            usage("--rate must lie between 0.001 and 1000000 requests per second")
        }
        _ if plan.search.as_ref().is_some_and(|search| search.look.is_zero()) => {
            usage("--look is 0: give a duration such as 2s")
        }
        _ if plan.slot.is_zero() => {
            let option = if plan.arms.len() == 1 { "--duration" } else { "--slot" };
            usage(&format!("{option} is 0: give a duration such as 500ms"))
        }
        _ if plan.slot > LONGEST_SLOT => {
            usage("so many requests take more than 31 years: give fewer, or a higher --rate")
        }
        _ => Ok(()),
    }
}

/// Beyond these a schedule is a mistake: one request in a quarter of an hour, and more than a machine can send.
const MIN_RATE: f64 = 0.001;
const MAX_RATE: f64 = 1e6;
const MAX_ROUNDS: u32 = 100_000;
/// As long as a duration may be where it is written.
const LONGEST_SLOT: Duration = Duration::from_nanos(1_000_000_000_000_000_000);

fn share(all: usize, worker: usize, workers: usize) -> usize {
    all / workers + usize::from(worker < all % workers)
}

fn rate_of(model: Model) -> Option<f64> {
    match model {
        Model::Closed => None,
        Model::Open { rate, .. } => Some(rate),
    }
}

fn unix_ns(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::ClientUse;

    fn of(completed: u64) -> thread::Result<Result<Slot, Error>> {
        Ok(Ok(Slot { completed, ..Slot::default() }))
    }

    #[test]
    fn what_the_others_measured_outlives_a_worker_that_panicked_and_the_slot_tells() {
        let slot = whole(vec![of(2), Err(Box::new("a panic")), of(3)]).unwrap();
        assert_eq!((slot.completed, slot.flags), (5, vec![PANICKED.to_owned()]));
        assert!(whole(vec![of(2), of(3)]).unwrap().flags.is_empty());
        assert!(
            whole(vec![Err(Box::new("a panic"))])
                .is_err_and(|refusal| refusal.to_string().contains("panicked"))
        );
    }

    #[test]
    fn ports_are_held_where_the_client_closed_first_and_too_many_wait() {
        let ports = PortFacts { tw_reuse: 0, ..PortFacts::read(false) };
        let all = u64::from(ports.ephemeral.end() - ports.ephemeral.start());
        let slot = |closed_first, time_wait_after| Slot {
            connections: Ledger { closed_first, peer_closed_first: 90, ..Ledger::default() },
            client: ClientUse { time_wait_after, ..ClientUse::default() },
            ..Slot::default()
        };
        assert!(are_ports_held(&ports, &slot(11, all)));
        assert!(!are_ports_held(&ports, &slot(10, all)), "they are the server's");
        assert!(!are_ports_held(&ports, &slot(11, 5)), "few");
    }

    #[test]
    fn what_is_shared_among_workers_is_shared_whole() {
        for (all, workers) in [(1, 3), (7, 2), (8, 4), (0, 2)] {
            assert_eq!((0..workers).map(|worker| share(all, worker, workers)).sum::<usize>(), all);
        }
    }
}
