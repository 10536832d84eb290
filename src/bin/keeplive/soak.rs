//! `keeplive soak`: is this idle time safe?

use std::io::{self, Write};
use std::path::Path;

use keeplive::findings::{CloseKind, Soak};
use keeplive::load::Stop;
use keeplive::probe::{self, Soaking};

use crate::args_probe::{BoundsArgs, SoakArgs, SoakFormatArg};
use crate::exit::Exit;
use crate::interrupt;
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
    let soak = soaked.map_err(|refusal| io::Error::other(refusal.to_string()))?;
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
    print(soak, format)?;
    Ok(match soak {
        _ if soak.interrupted => Exit::Interrupted,
        _ if soak.is_safe() => Exit::Done,
        _ => Exit::Unmet,
    })
}

fn print(soak: &Soak, format: SoakFormatArg) -> io::Result<()> {
    let text = match format {
        SoakFormatArg::Text => words(soak),
        SoakFormatArg::Json => serde_json::to_string_pretty(soak).map_err(io::Error::from)?,
    };
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn words(soak: &Soak) -> String {
    let mut lines = vec![soak.sentence()];
    for deaths in &soak.deaths {
        let how = deaths.close.map_or("never answered", how);
        let (n, first, last) = (deaths.at.n, deaths.at.min.as_secs_f64(), deaths.at.max.as_secs_f64());
        lines.push(format!("  {n} {how}, after {first:.2} to {last:.2} s"));
    }
    for (n, what) in [
        (soak.gateway_errors, "answered 502, 503 or 504: the hop behind had gone"),
        (soak.failed_to_open, "could not be opened, or had no first answer"),
        (soak.discarded, "tell nothing: this machine was late, or the soak was stopped"),
    ] {
        if n > 0 {
            lines.push(format!("  {n} {what}"));
        }
    }
    lines.join("\n")
}

fn how(close: CloseKind) -> &'static str {
    match close {
        CloseKind::Fin => "closed with a FIN",
        CloseKind::Reset => "reset while idle",
        CloseKind::Answered408 => "ended with a 408",
        CloseKind::ResetOnSend => "reset when asked again: their state was lost on the way",
        CloseKind::Silent => "silent when asked again: dropped on the way",
        CloseKind::Race => "closed while the question was on its way",
        CloseKind::Unsolicited => "said something unasked",
    }
}
