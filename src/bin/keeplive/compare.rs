//! `keeplive compare`: arguments into a plan, the plan into a measurement, the measurement saved and shown.

use std::io;
use std::path::Path;
use std::time::Duration;

use keeplive::TlsConfig;
use keeplive::TlsVersion;
use keeplive::load::{self, Comparing, Load, Refusal, Stop};
use keeplive::measurement::Measurement;
use keeplive::plan::{Arm, Arrivals, Limits, Model, Plan, Target};
use keeplive::server::{Behaviour, Running, Server, ServerTls};

use crate::args::{ArrivalsArg, CompareArgs, PoolArgs, RequestArgs, TlsArg, TlsArgs};
use crate::exit::Exit;
use crate::progress::Watcher;
use crate::say::say;
use crate::{command, interrupt, outcome};

pub(crate) fn run(args: CompareArgs) -> io::Result<Exit> {
    let stop = Stop::default();
    interrupt::listen(&stop);
    allow_many_files();
    let embedded = if args.url.is_none() { Some(start_embedded()?) } else { None };
    let comparing = comparing(&args, embedded.as_ref())?;
    let watcher = Watcher::new();
    let measured = load::compare(comparing, &stop, &mut |progress| watcher.tell(progress));
    watcher.finish();
    let measurement = measured.map_err(refused)?;
    // Saved first: a report that cannot be printed must not lose what was measured.
    let saved = if args.output.no_save { Ok(()) } else { save(&measurement, &args.output.out) };
    let exit = outcome::print(&measurement, args.output.format)?;
    saved.map(|()| exit)
}

fn refused(refusal: Refusal) -> io::Error {
    io::Error::other(refusal.to_string())
}

fn save(measurement: &Measurement, folder: &Path) -> io::Result<()> {
    let path = measurement.save(folder)?;
    say(&format!("saved {}", path.display()));
    Ok(())
}

fn start_embedded() -> io::Result<Running> {
    Server::new(Behaviour::default())
        .tls(ServerTls::default())
        .start()
        .map_err(|error| io::Error::other(format!("could not start the embedded server: {error}")))
}

/// As many descriptors as the system lets us have without asking: connections need them.
pub(crate) fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

fn comparing(args: &CompareArgs, embedded: Option<&Running>) -> io::Result<Comparing> {
    let url = match (&args.url, embedded) {
        (Some(url), _) => url.clone(),
        (None, running) => running.map(Running::url).unwrap_or_default(),
    };
    let mut tls = tls(&args.tls)?;
    if let Some(pem) = embedded.and_then(Running::certificate_pem) {
        tls.roots_pem = Some(pem.as_bytes().to_vec());
    }
    let arrivals = match args.arrivals {
        ArrivalsArg::Poisson => Arrivals::Poisson,
        ArrivalsArg::Constant => Arrivals::Constant,
    };
    let load = match (args.closed, args.rate) {
        (true, _) => Load::Closed,
        (false, Some(rate)) => Load::Rate(rate, arrivals),
        (false, None) => Load::HalfOfCapacity(arrivals),
    };
    let plan = Plan {
        arms: arms(&url, &limits(&args.pool)),
        target: target(url, &args.request)?,
        model: Model::Closed,
        rounds: args.rounds,
        slot: args.slot,
        washout: args.washout,
        connections: args.connections,
        threads: args.threads,
        max_time: args.request.max_time,
        seed: args.seed.unwrap_or_else(load::fresh_seed),
    };
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    let command = command::to_save(words, &args.request);
    let resolve = args.request.resolve.clone();
    Ok(Comparing { plan, load, tls, resolve, command, embedded: embedded.is_some() })
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

fn limits(args: &PoolArgs) -> Limits {
    let unless_zero = |time: Duration| (!time.is_zero()).then_some(time);
    Limits {
        idle_timeout: unless_zero(args.idle_timeout),
        acquire_timeout: unless_zero(args.acquire_timeout),
        connect_timeout: unless_zero(args.connect_timeout),
        max_lifetime: args.max_lifetime,
        max_exchanges: args.max_exchanges,
        max_idle: args.max_idle,
    }
}

pub(crate) fn tls(args: &TlsArgs) -> io::Result<TlsConfig> {
    let mut config = TlsConfig::default();
    config.verify = !args.insecure;
    config.roots_pem = args.cacert.as_deref().map(read).transpose()?;
    config.max_version = match args.tls_max {
        TlsArg::V12 => TlsVersion::Tls12,
        TlsArg::V13 => TlsVersion::Tls13,
    };
    if args.tlsv13 {
        config.min_version = TlsVersion::Tls13;
    }
    Ok(config)
}

pub(crate) fn target(url: String, args: &RequestArgs) -> io::Result<Target> {
    let body = match args.data.as_deref() {
        None => Vec::new(),
        Some(data) => match data.strip_prefix('@') {
            Some(file) => read(Path::new(file))?,
            None => data.as_bytes().to_vec(),
        },
    };
    let mut headers = args.headers.iter().map(|field| header(field)).collect::<io::Result<Vec<_>>>()?;
    let has = |name: &str| headers.iter().any(|(field, _)| field.eq_ignore_ascii_case(name));
    let mut defaults = Vec::new();
    if !has("user-agent") {
        defaults.push(("user-agent".to_owned(), concat!("keeplive/", env!("CARGO_PKG_VERSION")).to_owned()));
    }
    if !has("accept") {
        defaults.push(("accept".to_owned(), "*/*".to_owned()));
    }
    if args.data.is_some() && !has("content-type") {
        defaults.push(("content-type".to_owned(), "application/x-www-form-urlencoded".to_owned()));
    }
    headers.splice(0..0, defaults);
    let method =
        args.request.clone().unwrap_or_else(|| if args.data.is_some() { "POST" } else { "GET" }.into());
    Ok(Target { url, method, headers, body_len: body.len(), body })
}

fn header(field: &str) -> io::Result<(String, String)> {
    let (name, value) = field.split_once(':').ok_or_else(|| {
        io::Error::other(format!("-H `{field}` is not a header field: write 'Name: value'"))
    })?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| io::Error::new(error.kind(), format!("could not read {}: {error}", path.display())))
}
