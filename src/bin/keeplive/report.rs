//! `keeplive report`: a saved result, shown again.

use std::io;

use keeplive::measurement::Measurement;

use crate::args::ReportArgs;
use crate::exit::Exit;
use crate::outcome;

pub(crate) fn run(args: &ReportArgs) -> io::Result<Exit> {
    outcome::print(&Measurement::load(&args.file)?, args.format)
}
