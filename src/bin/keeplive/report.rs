//! `keeplive report`: a saved result, shown again.

use std::io;

use keeplive::findings::{self, Findings};
use keeplive::measurement::Measurement;
use keeplive::saved;

use crate::args::{FormatArg, ProbeFormatArg, ReportArgs};
use crate::exit::Exit;
use crate::outcome;

pub(crate) fn run(args: &ReportArgs) -> io::Result<Exit> {
    if saved::schema(&args.file)? == findings::SCHEMA {
        return outcome::print_probe(&Findings::load(&args.file)?, args.format, &args.advice);
    }
    let measurement = Measurement::load(&args.file)?;
    let format = match args.format {
        ProbeFormatArg::Text => FormatArg::Text,
        ProbeFormatArg::Json => FormatArg::Json,
        ProbeFormatArg::Junit | ProbeFormatArg::Html => {
            return Err(io::Error::other(
                "a comparison is shown as text or json; junit and html are for probes",
            ));
        }
    };
    if !args.advice.is_empty() {
        return Err(io::Error::other(format!(
            "{} is a comparison: --expect-* and --client-idle judge what `keeplive probe` saved",
            args.file.display()
        )));
    }
    outcome::print(&measurement, format)
}
