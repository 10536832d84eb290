//! `keeplive report`: a saved result, shown again.

use std::io;

use keeplive::findings::{self, Findings, Soak};
use keeplive::gate::result::{self, Gate};
use keeplive::measurement::Measurement;
use keeplive::saved;

use crate::args::ReportArgs;
use crate::exit::Exit;
use crate::{outcome, soak};

pub(crate) fn run(args: &ReportArgs) -> io::Result<Exit> {
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
    outcome::print(&measurement, format)
}
