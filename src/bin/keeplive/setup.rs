//! What the verbs that send requests have in common: arguments into plain data, and a measurement into a file.

use std::io;
use std::path::Path;
use std::time::Duration;

use keeplive::TlsConfig;
use keeplive::TlsVersion;
use keeplive::load::Refusal;
use keeplive::measurement::Measurement;
use keeplive::plan::{Arrivals, Limits, Target};

use crate::args::{ArrivalsArg, OutputArgs, PoolArgs, RequestArgs, TlsArg, TlsArgs};
use crate::exit::Exit;
use crate::outcome;
use crate::say::say;

/// Saves and shows what was measured. Saved first: a report that cannot be printed must not lose it.
pub(crate) fn deliver(measured: Result<Measurement, Refusal>, output: &OutputArgs) -> io::Result<Exit> {
    let measurement = measured.map_err(|refusal| io::Error::other(refusal.to_string()))?;
    let saved = if output.no_save { Ok(()) } else { save(&measurement, &output.out) };
    let page = output.html.as_deref().map_or(Ok(()), |file| outcome::write_page(&measurement, file));
    let exit = outcome::print(&measurement, output.format)?;
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
