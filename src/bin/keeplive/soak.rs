//! `keeplive soak`: is this idle time safe?

use std::io::{self, Write};
use std::path::Path;

use keeplive::findings::Soak;
use keeplive::load::Stop;
use keeplive::probe::{self, Soaking};
use keeplive::report::soak as report;

use crate::args_probe::{BoundsArgs, SoakArgs, SoakFormatArg};
use crate::exit::Exit;
use crate::interrupt;
use crate::outcome::{self, finished};
use crate::probe::probing;
use crate::progress::Watcher;
use crate::say::say;
use crate::setup::allow_many_files;

pub(crate) fn run(args: &SoakArgs) -> io::Result<Exit> {
    let stop = Stop::default();
    interrupt::listen(&stop);
    allow_many_files();
    let bounds = BoundsArgs {
        max_idle: args.idle,
        budget: args.budget,
        connections: args.connections,
        connects_per_second: args.connects_per_second,
        connect_timeout: args.connect_timeout,
    };
    let probing = probing(&args.url, &bounds, &args.bytes, &args.request, &args.tls)?;
    let soaking = Soaking { idle: args.idle, rounds: args.rounds };
    let watcher = Watcher::new();
    let soaked = probe::soak(probing, soaking, &stop, &mut |progress| watcher.tell_probe(&progress));
    watcher.finish();
    let soak = match soaked {
        Ok(soak) => soak,
        Err(refusal) => return outcome::refused(&refusal, &stop),
    };
    // Saved first: a report that cannot be printed must not lose it.
    let saved = if args.output.no_save { Ok(()) } else { save(&soak, &args.output.out) };
    let exit = show(&soak, args.format)?;
    saved.map(|()| exit)
}

fn save(soak: &Soak, folder: &Path) -> io::Result<()> {
    let path = soak.save(folder)?;
    say(&format!("saved {}", path.display()));
    Ok(())
}

/// Prints a soak, fresh or saved. The exit code tells whether the idle time is safe.
pub(crate) fn show(soak: &Soak, format: SoakFormatArg) -> io::Result<Exit> {
    let mut out = io::stdout().lock();
    let written = match format {
        SoakFormatArg::Text => writeln!(out, "{}", report::text(soak)),
        SoakFormatArg::Json => {
            serde_json::to_writer_pretty(&mut out, soak).map_err(io::Error::from).and_then(|()| writeln!(out))
        }
        SoakFormatArg::Junit => report::junit(soak, &mut out),
        SoakFormatArg::Html => writeln!(out, "{}", report::page(soak)),
    };
    finished(written, &mut out)?;
    Ok(match soak {
        _ if soak.interrupted => Exit::Interrupted,
        _ if soak.is_safe() => Exit::Done,
        _ if soak.is_told() => Exit::Unmet,
        _ => Exit::Inconclusive,
    })
}
