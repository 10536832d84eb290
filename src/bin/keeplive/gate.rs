//! `keeplive gate`: two servers side by side, or a saved run against earlier ones, and a verdict.

use std::io;
use std::path::Path;

use keeplive::gate::against::{self, Asked};
use keeplive::gate::metric::Metric;
use keeplive::gate::result::{self, Gate};
use keeplive::gate::session::{self, BASE, Gated, HEAD, Session};
use keeplive::gate::{Demand, Finding, Verdict, amount};
use keeplive::load::{self, Companion, Comparing, Load, Next, Progress, Refusal, Stop};
use keeplive::measurement::{Measurement, Slot};
use keeplive::plan::{Arm, Model, Plan, Target};
use keeplive::report;
use keeplive::saved;

use crate::args::{AskedArgs, BaselineArgs, GateArgs, GateOutput};
use crate::exit::Exit;
use crate::progress::Watcher;
use crate::say::say;
use crate::{command, interrupt, outcome, setup, shape};

mod launched;
mod servers;

use servers::{Server, Servers};

pub(crate) fn run(args: &GateArgs) -> io::Result<Exit> {
    let gate =
        if args.baseline.baseline.is_empty() { measure(args)? } else { judge(&args.baseline, &args.asked)? };
    deliver(&gate, args)
}

/// Saves and shows the verdict. Saved first: a report that cannot be printed must not lose it.
fn deliver(gate: &Gate, args: &GateArgs) -> io::Result<Exit> {
    let GateOutput { format, html, junit, out, no_save } = &args.output;
    let saved =
        if *no_save { Ok(()) } else { gate.save(out).map(|path| say(&format!("saved {}", path.display()))) };
    let junit = junit.as_deref().map_or(Ok(()), |file| write_junit(gate, file));
    let html = html.as_deref().map_or(Ok(()), |file| write_page(gate, file));
    let exit = outcome::print_gate(gate, *format)?;
    saved.and(junit).and(html)?;
    let is_open = exit == Exit::Inconclusive && gate.advisory && !args.baseline.strict;
    Ok(if is_open { Exit::Done } else { exit })
}

fn write_page(gate: &Gate, file: &Path) -> io::Result<()> {
    saved::put(file, |out| out.write_all(report::gate::html::page(gate).as_bytes()))
}

fn write_junit(gate: &Gate, file: &Path) -> io::Result<()> {
    saved::put(file, |mut out| report::gate::junit::write(gate, &mut out))
}

// ---- two servers ----

fn measure(args: &GateArgs) -> io::Result<Gate> {
    let asked = demands(&args.asked)?;
    let servers = [
        Server::of(args.base.as_deref(), args.servers.base_cmd.as_deref())?,
        Server::of(args.head.as_deref(), args.servers.head_cmd.as_deref())?,
    ];
    if let Some(why) = servers::collision(&servers) {
        return Err(io::Error::other(why));
    }
    let comparing = comparing(args, &servers)?;
    let stop = Stop::default();
    interrupt::listen_and_finally(&stop, launched::kill_all);
    setup::allow_many_files();
    let running = Servers::new(servers, &args.servers, &comparing.plan, &comparing.tls, &stop)
        .by_way_of(comparing.network.clone());
    let mut host = Host {
        usual: args.asked.metrics.is_empty(),
        thin_tails: args.asked.thin_tails,
        asked: if args.asked.metrics.is_empty() {
            session::usual(args.load.closed, running.are_known()).into_iter().map(&asked).collect()
        } else {
            metrics(&args.asked)?.into_iter().map(&asked).collect()
        },
        plan: comparing.plan.clone(),
        servers: running,
        watcher: Watcher::new(),
        session: None,
        findings: Vec::new(),
        left_out: Vec::new(),
    };
    let other = |refusal: Refusal| io::Error::other(refusal.to_string());
    host.check_before(args).map_err(io::Error::other)?;
    host.servers.start().map_err(other)?;
    let measured = load::accompanied(comparing, &stop, &mut host);
    host.watcher.finish();
    // Who has died explains more than that nobody answered.
    if !stop.is_set() {
        host.servers.check().map_err(other)?;
    }
    let measurement = measured.map_err(other)?;
    host.verdict(measurement).map_err(io::Error::other)
}

fn comparing(args: &GateArgs, servers: &[Server; 2]) -> io::Result<Comparing> {
    let load_args = &args.load;
    let arrivals = setup::arrivals(load_args.arrivals);
    let load = match (load_args.closed, load_args.rate) {
        (true, _) => Load::Closed,
        (false, Some(rate)) => Load::Rate(rate, arrivals),
        (false, None) => Load::HalfOfCapacity(arrivals),
    };
    let target = |server: &Server| shape::target(server.url.clone(), &args.request);
    let arm = |name: &str, target: Target| Arm {
        name: name.into(),
        ..Arm::on(setup::limits(&args.pool)).at(target)
    };
    let plan = Plan {
        target: target(&servers[0])?,
        arms: vec![arm(BASE, target(&servers[0])?), arm(HEAD, target(&servers[1])?)],
        model: Model::Closed,
        rounds: rounds(args),
        slot: load_args.slot,
        washout: load_args.washout,
        connections: load_args.connections,
        threads: load_args.threads,
        max_time: args.request.max_time,
        seed: load_args.seed.unwrap_or_else(load::fresh_seed),
        requests: None,
        expect_status: args.way.expect_status.clone(),
        stages: Vec::new(),
        think: None,
        search: None,
        several: None,
    };
    let commands = args.servers.commands();
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    Ok(Comparing {
        plan,
        load,
        tls: setup::tls(&args.tls)?,
        network: shape::network(&args.request, &args.way)?,
        warm_up: true,
        command: command::to_save_with_servers(words, &args.request, Some(&args.way), &commands),
        embedded: false,
    })
}

/// As many rounds as the budget holds.
fn rounds(args: &GateArgs) -> u32 {
    let round = 2.0 * (args.load.slot + args.load.washout).as_secs_f64();
    (args.load.budget.as_secs_f64() / round + 1e-9) as u32
}

/// The metrics that were asked for, each once; arms can be named of saved runs only.
fn metrics(asked: &AskedArgs) -> io::Result<Vec<Metric>> {
    if let Some(one) = asked.metrics.iter().find(|one| one.names_an_arm()) {
        return Err(io::Error::other(format!(
            "--metric {one}: arms are those of saved runs: use it with --baseline"
        )));
    }
    let mut metrics: Vec<Metric> = asked.metrics.iter().map(|one| one.metric).collect();
    metrics.sort_unstable();
    metrics.dedup();
    Ok(metrics)
}

/// What is asked of each metric, from the defaults and what was given.
fn demands(asked: &AskedArgs) -> io::Result<impl Fn(Metric) -> Gated> {
    let given = |all: &[(Metric, f64)], metric: Metric| {
        all.iter().rev().find(|(of, _)| *of == metric).map(|(_, amount)| *amount)
    };
    let (tolerances, detects) = (asked.tolerance.clone(), asked.detect.clone());
    let demand = move |metric: Metric| {
        let usual = metric.demand();
        let tolerance = given(&tolerances, metric);
        // Who tolerates more than what must be detected by default demands twice of it.
        let by_default = usual.detect.max(2.0 * tolerance.unwrap_or(0.0));
        let detect = given(&detects, metric).unwrap_or(by_default);
        Demand { tolerance: tolerance.unwrap_or(usual.tolerance.min(detect / 2.0)), detect }
    };
    for metric in Metric::ALL {
        if let Some(fault) = demand(metric).fault() {
            return Err(io::Error::other(format!("{metric}: {fault}")));
        }
    }
    Ok(move |metric| Gated { metric, demand: demand(metric) })
}

/// Accompanies the run: says what it can find, looks, restarts the servers, and keeps what was found.
struct Host {
    /// Whether the metrics are the usual ones: then those that the load cannot carry are left out.
    usual: bool,
    thin_tails: bool,
    asked: Vec<Gated>,
    plan: Plan,
    servers: Servers,
    watcher: Watcher,
    session: Option<Session>,
    findings: Vec<Finding>,
    left_out: Vec<String>,
}

impl Host {
    /// What can be refused before anything is started.
    fn check_before(&self, args: &GateArgs) -> Result<(), String> {
        for Gated { metric, .. } in &self.asked {
            match metric {
                Metric::Rps if !args.load.closed => {
                    return Err("--metric rps: in an open loop requests per second are what is offered: add --closed, \
                                or gate p50".into());
                }
                metric if metric.quantile().is_some() && args.load.closed => {
                    return Err(format!(
                        "--metric {metric}: in a closed loop each server runs at a load of its own, so that its times \
                         cannot be compared: gate rps, or leave out --closed"
                    ));
                }
                Metric::Cpu if !self.servers.are_known() => {
                    return Err("--metric cpu: the servers' processes are not known: give --base-pid and --head-pid, or \
                                --base-cmd and --head-cmd".into());
                }
                _ => {}
            }
        }
        // Of the usual metrics some may be left out; the first never is.
        let sure = if self.usual { &self.asked[..1] } else { &self.asked[..] };
        Session::in_blocks(sure.to_vec(), self.plan.rounds, self.servers.block()).map(|_| ())
    }

    /// The load is known: what it carries is gated, and what that can find is said.
    fn settle(&mut self, model: Model) -> Result<(), String> {
        let measured = self.plan.slot * self.plan.rounds;
        let budget = (self.plan.slot + self.plan.washout) * self.plan.rounds * 2;
        let mut carried = Vec::new();
        for gated in &self.asked {
            let thin = match model {
                Model::Open { rate, .. } if !self.thin_tails => {
                    session::too_thin(*gated, rate, measured, budget)
                }
                _ => None,
            };
            match thin {
                Some(why) if self.usual => self.left_out.push(why),
                Some(why) => return Err(why),
                None => carried.push(*gated),
            }
        }
        self.left_out.iter().for_each(|why| say(why));
        let session = Session::in_blocks(carried, self.plan.rounds, self.servers.block())?;
        say(&format!(
            "at most {} rounds; looking after {}",
            self.plan.rounds,
            session.looks.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ));
        session.outlook().iter().for_each(|text| say(text));
        self.session = Some(session);
        Ok(())
    }

    /// Looks, and says what such rounds can find.
    fn look(&mut self, done: u32, slots: &[Slot]) -> Next {
        let Some(session) = &self.session else { return Next::Go };
        self.findings = session.look(slots);
        let verdict = session::verdict(&self.findings);
        let can_find = |(gated, finding): (&Gated, &Finding)| {
            Some(format!("{} +{}", gated.metric, amount(finding.scale, finding.detectable?)))
        };
        let can_find: Vec<String> = session.gated.iter().zip(&self.findings).filter_map(can_find).collect();
        say(&format!("after {done} rounds: {verdict}; such rounds can find {}", can_find.join(", ")));
        if matches!(verdict, Verdict::Pass | Verdict::Regressed) { Next::Enough } else { Next::Go }
    }

    fn verdict(self, measurement: Measurement) -> Result<Gate, String> {
        let Host { session, mut findings, left_out, servers, asked, plan, .. } = self;
        let session = match session {
            Some(session) => session,
            // Stopped before the rounds began.
            None => Session::in_blocks(asked, plan.rounds, servers.block())?,
        };
        if findings.is_empty() {
            findings = session.look(&measurement.slots);
        }
        Ok(Gate::paired(measurement, &session, &findings, left_out, servers.were_restarted()))
    }
}

impl Companion for Host {
    fn tell(&mut self, progress: Progress) {
        self.watcher.tell(progress);
    }

    fn settled(&mut self, model: Model) -> Result<(), Refusal> {
        self.settle(model).map_err(Refusal::Usage)
    }

    fn after_round(&mut self, done: u32, slots: &[Slot]) -> Result<Next, Refusal> {
        let is_look = self.session.as_ref().is_some_and(|session| session.looks.contains(&done));
        if is_look && self.look(done, slots) == Next::Enough {
            return Ok(Next::Enough);
        }
        self.servers.after_round(done, done == self.plan.rounds)?;
        Ok(Next::Go)
    }

    fn process(&self, arm: usize) -> Option<u32> {
        self.servers.process(arm)
    }
}

// ---- saved runs ----

fn judge(args: &BaselineArgs, asked: &AskedArgs) -> io::Result<Gate> {
    let mut files: Vec<&Path> = args.baseline.iter().map(AsRef::as_ref).collect();
    let current = match &args.current {
        Some(current) => current.as_path(),
        None => files.pop().unwrap_or(Path::new("")),
    };
    if files.is_empty() {
        return Err(io::Error::other(
            "--baseline needs earlier runs and the one that is judged: --baseline FILE... CURRENT",
        ));
    }
    let earlier = files.into_iter().map(measurement).collect::<io::Result<Vec<_>>>()?;
    let demand = demands(asked)?;
    let subjects = if asked.metrics.is_empty() { vec![Metric::P50.into()] } else { asked.metrics.clone() };
    let subjects: Vec<Asked> = subjects
        .into_iter()
        .map(|subject| Asked {
            strictly: asked.detect.iter().any(|(metric, _)| *metric == subject.metric),
            demand: demand(subject.metric).demand,
            subject,
        })
        .collect();
    against::judge(&earlier, measurement(current)?, &subjects).map_err(io::Error::other)
}

/// A saved run: a measurement, or the one that a gate was drawn from.
fn measurement(file: &Path) -> io::Result<Measurement> {
    if saved::schema(file)? == result::SCHEMA {
        return Gate::load(file).map(|gate| gate.measurement);
    }
    Measurement::load(file)
}
