//! `keeplive report`: a saved result, shown again.

use std::io;
use std::path::{Path, PathBuf};

use keeplive::findings::{self, Findings, Soak};
use keeplive::gate::result::{self, Gate};
use keeplive::measurement::{self, Measurement};
use keeplive::report::side_by_side::SideBySide;
use keeplive::saved;

use crate::args::ReportArgs;
use crate::exit::Exit;
use crate::{outcome, soak};

pub(crate) fn run(args: &ReportArgs) -> io::Result<Exit> {
    if !args.others.is_empty() {
        return side_by_side(args);
    }
    let schema = saved::schema(&args.file)?;
    if schema == findings::SCHEMA {
        let format = args.format.of("a probe").map_err(io::Error::other)?;
        return outcome::print_probe(&Findings::load(&args.file)?, format, &args.advice);
    }
    let not_a_probe = |what: &str| {
        io::Error::other(format!(
            "{} is {what}: --expect-* and --client-idle judge what `keeplive probe` saved",
            args.file.display()
        ))
    };
    if schema == findings::SOAK_SCHEMA {
        if !args.advice.is_empty() {
            return Err(not_a_probe("a soak"));
        }
        let format = args.format.of("a soak").map_err(io::Error::other)?;
        return soak::show(&Soak::load(&args.file)?, format);
    }
    if schema == result::SCHEMA {
        if !args.advice.is_empty() {
            return Err(not_a_probe("a gate"));
        }
        let format = args.format.of("a gate").map_err(io::Error::other)?;
        return outcome::print_gate(&Gate::load(&args.file)?, format);
    }
    let measurement = Measurement::load(&args.file)?;
    let format = args.format.of("a measurement of load").map_err(io::Error::other)?;
    if !args.advice.is_empty() {
        return Err(not_a_probe("a measurement of load"));
    }
    outcome::print(&measurement, format, args.allow_invalid)
}

/// Several results, each under its file's name.
fn side_by_side(args: &ReportArgs) -> io::Result<Exit> {
    if !args.advice.is_empty() {
        return Err(io::Error::other("--expect-* and --client-idle judge one probe, not several results"));
    }
    let format = args.format.of("a row of results").map_err(io::Error::other)?;
    let files: Vec<&PathBuf> = std::iter::once(&args.file).chain(&args.others).collect();
    let stem = |file: &Path| file.file_stem().map(|name| name.to_string_lossy().into_owned());
    let named = |file: &&PathBuf| {
        let schema = saved::schema(file)?;
        if schema != measurement::SCHEMA {
            return Err(io::Error::other(format!(
                "{} is a {schema}: only results of `keeplive compare` and `load` stand side by side",
                file.display()
            )));
        }
        let measurement = Measurement::load(file)?;
        let alike = files.iter().filter(|other| stem(other) == stem(file)).count();
        let name = stem(file).filter(|_| alike == 1).unwrap_or_else(|| file.display().to_string());
        Ok((name, measurement))
    };
    let all = files.iter().map(named).collect::<io::Result<Vec<_>>>()?;
    outcome::print_side_by_side(&SideBySide::new(all, args.allow_invalid), format)
}
