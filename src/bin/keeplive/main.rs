//! The program: arguments in, one verb, an exit code out.

use std::process::ExitCode;

use clap::Parser;

mod args;
mod args_probe;
mod command;
mod compare;
mod exit;
mod gate;
mod interrupt;
mod load;
mod metrics;
mod outcome;
mod probe;
mod progress;
mod report;
mod say;
mod schema;
mod serve;
mod setup;
mod shape;
mod soak;
mod targets;
mod watch;

use args::{Args, Verb};
use exit::Exit;

fn main() -> ExitCode {
    let args = Args::parse();
    let exit = match args.verb {
        Verb::Compare(args) => compare::run(*args),
        Verb::Load(args) => load::run(*args),
        Verb::Gate(args) => gate::run(&args),
        Verb::Probe(args) => probe::run(&args),
        Verb::Report(args) => report::run(&args),
        Verb::Soak(args) => soak::run(&args),
        Verb::Schema(args) => schema::run(&args),
        Verb::Serve(args) => serve::run(&args),
    };
    exit.unwrap_or_else(|failure| {
        say::say(&format!("keeplive: {failure}"));
        Exit::Unusable
    })
    .into()
}
