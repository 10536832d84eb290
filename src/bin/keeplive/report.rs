//! `keeplive report`: a saved result, shown again.

use std::io;

use keeplive::findings::{self, Findings};
use keeplive::measurement::Measurement;
use keeplive::saved;

use crate::args::ReportArgs;
use crate::exit::Exit;
use crate::outcome;

pub(crate) fn run(args: &ReportArgs) -> io::Result<Exit> {
    if saved::schema(&args.file)? == findings::SCHEMA {
        let format = args.format.of("a probe").map_err(io::Error::other)?;
        return outcome::print_probe(&Findings::load(&args.file)?, format, &args.advice);
    }
    let measurement = Measurement::load(&args.file)?;
    let format = args.format.of("a measurement of load").map_err(io::Error::other)?;
    if !args.advice.is_empty() {
        return Err(io::Error::other(format!(
            "{} is a measurement of load: --expect-* and --client-idle judge what `keeplive probe` saved",
            args.file.display()
        )));
    }
    outcome::print(&measurement, format)
}
