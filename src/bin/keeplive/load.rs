//! `keeplive load`: one arm, one long slot, as it comes.

use std::io;
use std::time::Duration;

use keeplive::load::{self, Comparing, Load, Stop};
use keeplive::plan::{Arm, Model, Plan, Search, mean_rate, stages_duration};

use crate::args::{ArrivalsArg, KeepAliveArg, LoadArgs};
use crate::exit::Exit;
use crate::targets::Asked;
use crate::watch::{Kind, Watcher};
use crate::{command, interrupt, setup, shape, targets};

/// How long a closed loop that is bounded by its number of requests may take.
const LONGEST: Duration = Duration::from_secs(3600);

/// The warm-up of a run that is bounded by its time.
const WARM_UP: Duration = Duration::from_millis(500);

pub(crate) fn run(args: LoadArgs) -> io::Result<Exit> {
    let stop = Stop::default();
    interrupt::listen(&stop);
    setup::allow_many_files();
    let loading = loading(&args)?;
    let mut watcher = Watcher::new(Kind::Window(args.requests), &args.watch, &stop)?;
    let measured = load::accompanied(loading, &stop, &mut watcher);
    watcher.finish();
    setup::deliver(measured, &args.output)
}

fn loading(args: &LoadArgs) -> io::Result<Comparing> {
    check(args)?;
    let load = load_of(args)?;
    let warm_up = warm_up(args);
    let Asked { target, several } = targets::asked(&args.url, &args.targets, &args.request)?;
    let plan = Plan {
        arms: vec![arm(args)],
        target,
        model: Model::Closed,
        rounds: 1,
        slot: duration(args),
        // A number of requests is counted from the first on.
        washout: if args.requests.is_some() { Duration::ZERO } else { warm_up },
        connections: args.connections,
        threads: args.threads,
        max_time: args.request.max_time,
        seed: args.seed.unwrap_or_else(load::fresh_seed),
        requests: args.requests,
        expect_status: args.way.expect_status.clone(),
        stages: args.stage.clone(),
        think: args.think,
        search: args.search.clone().map(|goal| Search { goal, look: args.look }),
        several,
    };
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    Ok(Comparing {
        plan,
        load,
        tls: setup::tls(&args.tls)?,
        network: shape::network(&args.request, &args.way)?,
        warm_up: !warm_up.is_zero(),
        command: command::to_save(words, &args.request, Some(&args.way)),
        embedded: false,
    })
}

/// What would be passed over in silence.
fn check(args: &LoadArgs) -> io::Result<()> {
    match args.keep_alive {
        KeepAliveArg::On | KeepAliveArg::Requests(_) if args.resume => Err(io::Error::other(
            "--resume is for new connections each: give --keep-alive off, or leave it out",
        )),
        KeepAliveArg::Off | KeepAliveArg::Requests(_) if args.pool.max_exchanges.is_some() => Err(
            io::Error::other("--keep-alive says already after how many requests: leave --max-exchanges out"),
        ),
        _ => Ok(()),
    }
}

fn load_of(args: &LoadArgs) -> io::Result<Load> {
    let staged = (!args.stage.is_empty()).then(|| mean_rate(&args.stage));
    if staged == Some(0.0) {
        return Err(io::Error::other("every --stage has the rate 0: give one of them a rate above it"));
    }
    if args.search.is_some() {
        return Ok(Load::Search(setup::arrivals(args.arrivals.unwrap_or(ArrivalsArg::Poisson))));
    }
    match (args.rate.or(staged), args.arrivals) {
        (Some(rate), arrivals) => {
            Ok(Load::Rate(rate, setup::arrivals(arrivals.unwrap_or(ArrivalsArg::Poisson))))
        }
        (None, Some(_)) => {
            Err(io::Error::other("--arrivals is for the open loop: give a --rate, a --stage or a --search"))
        }
        (None, None) => Ok(Load::Closed),
    }
}

/// Who asks for so many requests gets so many: a target that acts on each is not asked for thousands more.
fn warm_up(args: &LoadArgs) -> Duration {
    args.warm_up.unwrap_or(if args.requests.is_some() { Duration::ZERO } else { WARM_UP })
}

/// In an open loop the rate says how long a number of requests takes.
fn duration(args: &LoadArgs) -> Duration {
    match (args.requests, args.rate) {
        _ if !args.stage.is_empty() => stages_duration(&args.stage),
        (None, _) => args.duration,
        (Some(_), None) => LONGEST,
        (Some(requests), Some(rate)) => {
            // A rate that is none, and a time that is too long, are refused with all that the plan must hold.
            Duration::try_from_secs_f64(requests as f64 / rate).unwrap_or(Duration::MAX)
        }
    }
}

fn arm(args: &LoadArgs) -> Arm {
    let limits = setup::limits(&args.pool);
    match args.keep_alive {
        KeepAliveArg::On => Arm::on(limits),
        KeepAliveArg::Off => Arm { resume: args.resume, ..Arm::off(limits) },
        KeepAliveArg::Requests(n) => {
            let mut arm = Arm::on(limits);
            arm.name = format!("on-{n}");
            arm.limits.max_exchanges = Some(n);
            arm
        }
    }
}
