//! What the verbs that send requests have in common: arguments into plain data, and a measurement into a file.

use std::io;
use std::path::Path;
use std::time::Duration;

use keeplive::TlsConfig;
use keeplive::TlsVersion;
use keeplive::load::Refusal;
use keeplive::measurement::Measurement;
use keeplive::plan::{Arrivals, Limits};

use crate::args::{ArrivalsArg, OutputArgs, PoolArgs, TlsArg, TlsArgs};
use crate::exit::Exit;
use crate::outcome;
use crate::say::say;
use crate::shape::read;

/// Saves and shows what was measured. Saved first: a report that cannot be printed must not lose it.
pub(crate) fn deliver(measured: Result<Measurement, Refusal>, output: &OutputArgs) -> io::Result<Exit> {
    let measurement = measured.map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let saved = if output.no_save { Ok(()) } else { save(&measurement, &output.out) };
    let page = output
        .html
        .as_deref()
        .map_or(Ok(()), |file| outcome::write_page(&measurement, file, output.allow_invalid));
    let exit = outcome::print(&measurement, output.format, output.allow_invalid)?;
    saved.and(page).map(|()| exit)
}

fn save(measurement: &Measurement, folder: &Path) -> io::Result<()> {
    let path = measurement.save(folder)?;
    say(&format!("saved {}", path.display()));
    Ok(())
}

/// As many descriptors as the system lets us have without asking: connections need them.
pub(crate) fn allow_many_files() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

pub(crate) fn arrivals(argument: ArrivalsArg) -> Arrivals {
    match argument {
        ArrivalsArg::Poisson => Arrivals::Poisson,
        ArrivalsArg::Constant => Arrivals::Constant,
    }
}

pub(crate) fn limits(args: &PoolArgs) -> Limits {
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
    if let Some(cert) = &args.cert {
        config = config.client_certificate(read(cert)?, read(args.key.as_ref().unwrap_or(cert))?);
    }
    config.max_version = match args.tls_max {
        TlsArg::V12 => TlsVersion::Tls12,
        TlsArg::V13 => TlsVersion::Tls13,
    };
    if args.tlsv13 {
        config.min_version = TlsVersion::Tls13;
    }
    Ok(config)
}
