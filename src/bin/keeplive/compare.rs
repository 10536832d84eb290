//! `keeplive compare`: arguments into a plan, the plan into a measurement, the measurement saved and shown.

use std::io;

use keeplive::load::{self, Comparing, Load, Stop};
use keeplive::plan::{Arm, Limits, Model, Plan};
use keeplive::server::{Behaviour, Running, Server, ServerTls};

use crate::args::CompareArgs;
use crate::exit::Exit;
use crate::targets::Asked;
use crate::watch::{Kind, Watcher};
use crate::{command, interrupt, setup, shape, targets};

/// How often each arm is visited.
const ROUNDS: u32 = 20;

/// The embedded server is for a first impression, which is not to take long: at a thousand requests a second these are as few
/// as give the 99th percentile an interval.
const ROUNDS_EMBEDDED: u32 = 12;

pub(crate) fn run(args: CompareArgs) -> io::Result<Exit> {
    let stop = Stop::default();
    interrupt::listen(&stop);
    setup::allow_many_files();
    let embedded =
        if args.url.is_empty() && args.targets.targets.is_none() { Some(start_embedded()?) } else { None };
    let comparing = comparing(&args, embedded.as_ref())?;
    let mut watcher = Watcher::new(Kind::Rounds, &args.watch, &stop)?;
    let measured = load::accompanied(comparing, &stop, &mut watcher);
    watcher.finish();
    setup::deliver(measured, &args.output)
}

fn start_embedded() -> io::Result<Running> {
    Server::new(Behaviour::default())
        .tls(ServerTls::default())
        .start()
        .map_err(|error| io::Error::other(format!("could not start the embedded server: {error}")))
}

fn comparing(args: &CompareArgs, embedded: Option<&Running>) -> io::Result<Comparing> {
    let own = embedded.map(|running| vec![running.url()]);
    let urls = own.as_ref().unwrap_or(&args.url);
    let Asked { target, several } = targets::asked(urls, &args.targets, &args.request)?;
    let mut tls = setup::tls(&args.tls)?;
    if let Some(pem) = embedded.and_then(Running::certificate_pem) {
        tls.roots_pem = Some(pem.as_bytes().to_vec());
    }
    let arrivals = setup::arrivals(args.arrivals);
    let load = match (args.closed, args.rate) {
        (true, _) => Load::Closed,
        (false, Some(rate)) => Load::Rate(rate, arrivals),
        (false, None) => Load::HalfOfCapacity(arrivals),
    };
    let plan = Plan {
        arms: arms(&target.url, &setup::limits(&args.pool)),
        target,
        model: Model::Closed,
        rounds: args.rounds.unwrap_or(if embedded.is_some() { ROUNDS_EMBEDDED } else { ROUNDS }),
        slot: args.slot,
        washout: args.washout,
        connections: args.connections,
        threads: args.threads,
        max_time: args.request.max_time,
        seed: args.seed.unwrap_or_else(load::fresh_seed),
        requests: None,
        expect_status: args.way.expect_status.clone(),
        stages: Vec::new(),
        think: None,
        search: None,
        several,
    };
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let command = command::to_save(words, &args.request, Some(&args.way));
    let network = shape::network(&args.request, &args.way)?;
    Ok(Comparing { plan, load, tls, network, warm_up: true, command, embedded: embedded.is_some() })
}

/// Plain HTTP has two arms, HTTPS three.
fn arms(url: &str, limits: &Limits) -> Vec<Arm> {
    let https = url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https:"));
    if https {
        vec![Arm::on(limits.clone()), Arm::off_resumed(limits.clone()), Arm::off_full(limits.clone())]
    } else {
        vec![Arm::on(limits.clone()), Arm::off(limits.clone())]
    }
}
