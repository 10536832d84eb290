//! From a measurement, or a probe's findings, to stdout and an exit code: the same for fresh ones and for saved ones.

use std::io::{self, IsTerminal, Write};
use std::path::Path;

use keeplive::compare::{self, Comparison, Severity};
use keeplive::expect::Outcome;
use keeplive::findings::Findings;
use keeplive::gate::Verdict;
use keeplive::gate::result::Gate;
use keeplive::load::{Refusal, Stop};
use keeplive::measurement::Measurement;
use keeplive::report::export::{self, Form};
use keeplive::report::side_by_side::SideBySide;
use keeplive::report::{gate, json, measured, probe, terminal, withheld};
use keeplive::saved;

use crate::args::{AdviceArgs, FormatArg, GateFormatArg, ProbeFormatArg, SideFormatArg};
use crate::exit::Exit;
use crate::say::say;

/// A probe that has seen nothing: because it could not, or because it was asked to stop before it did.
pub(crate) fn refused(refusal: &Refusal, stop: &Stop) -> io::Result<Exit> {
    if !stop.is_set() {
        return Err(io::Error::other(refusal.to_string()));
    }
    say(&format!("keeplive: {refusal}"));
    Ok(Exit::Interrupted)
}

/// Prints the report. Of an invalid measurement it is only that it is, and why, unless its numbers are allowed; of one
/// that was interrupted all that there is, marked.
pub(crate) fn print(measurement: &Measurement, format: FormatArg, allow_invalid: bool) -> io::Result<Exit> {
    let comparison = compare::arms(measurement);
    if withheld::is_withheld(measurement, &comparison, allow_invalid) {
        return print_withheld(measurement, &comparison, format);
    }
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let mut export = |form| export::write(form, measurement, &comparison, &mut out);
    let written = match format {
        FormatArg::Text => terminal::write(measurement, &comparison, style(), &mut out),
        FormatArg::Json => serde_json::to_writer_pretty(&mut out, &json::summary(measurement, &comparison))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        FormatArg::Html => writeln!(out, "{}", measured::page(measurement, &comparison)),
        FormatArg::Markdown => export(Form::Markdown),
        FormatArg::Csv => export(Form::Csv),
        FormatArg::Hgrm => export(Form::Hgrm),
        FormatArg::Hlog => export(Form::Hlog),
        FormatArg::Benchfmt => export(Form::Benchfmt),
        FormatArg::GithubBenchmark => export(Form::GithubBenchmark),
        FormatArg::Bencher => export(Form::Bencher),
        FormatArg::Prometheus => export(Form::Prometheus),
    };
    finished(written, &mut out)?;
    Ok(match (measurement.interrupted, comparison.validity.ok) {
        (true, _) => Exit::Interrupted,
        (false, true) => Exit::Done,
        (false, false) => Exit::Invalid,
    })
}

/// Forms that hold nothing but numbers stay empty.
fn print_withheld(measurement: &Measurement, comparison: &Comparison, format: FormatArg) -> io::Result<Exit> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let written = match format {
        FormatArg::Text => withheld::write(measurement, comparison, style(), &mut out),
        FormatArg::Json => serde_json::to_writer_pretty(&mut out, &json::withheld(measurement, comparison))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        FormatArg::Html => writeln!(out, "{}", withheld::page(measurement, comparison)),
        FormatArg::Markdown => withheld::markdown(comparison, &mut out),
        _ => {
            say(withheld::HEADLINE);
            comparison.validity.texts(Severity::Invalid).for_each(|reason| say(&format!("  {reason}")));
            say(&format!("  {}", withheld::CURE));
            Ok(())
        }
    };
    finished(written, &mut out)?;
    Ok(Exit::Invalid)
}

/// Prints a gate's verdict. The exit code is the verdict.
pub(crate) fn print_gate(result: &Gate, format: GateFormatArg) -> io::Result<Exit> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let written = match format {
        GateFormatArg::Text => gate::terminal::write(result, style(), &mut out),
        GateFormatArg::Json => serde_json::to_writer_pretty(&mut out, result)
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        GateFormatArg::Markdown => gate::markdown::write(result, &mut out),
        GateFormatArg::Junit => gate::junit::write(result, &mut out),
        GateFormatArg::Html => writeln!(out, "{}", gate::html::page(result)),
    };
    finished(written, &mut out)?;
    Ok(match (result.measurement.interrupted, result.verdict) {
        (true, _) => Exit::Interrupted,
        (false, Verdict::Pass) => Exit::Done,
        (false, Verdict::Regressed) => Exit::Unmet,
        (false, Verdict::Inconclusive) => Exit::Inconclusive,
        (false, Verdict::Invalid) => Exit::Invalid,
    })
}

/// Prints several results side by side.
pub(crate) fn print_side_by_side(all: &SideBySide, format: SideFormatArg) -> io::Result<Exit> {
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let written = match format {
        SideFormatArg::Text => all.write_text(style(), &mut out),
        SideFormatArg::Json => serde_json::to_writer_pretty(&mut out, &all.document())
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        SideFormatArg::Markdown => all.write_markdown(&mut out),
        SideFormatArg::Html => writeln!(out, "{}", all.page()),
    };
    finished(written, &mut out)?;
    Ok(if all.is_valid() { Exit::Done } else { Exit::Invalid })
}

/// Writes the report as a file for a browser.
pub(crate) fn write_page(measurement: &Measurement, file: &Path, allow_invalid: bool) -> io::Result<()> {
    let comparison = compare::arms(measurement);
    let page = if withheld::is_withheld(measurement, &comparison, allow_invalid) {
        withheld::page(measurement, &comparison)
    } else {
        measured::page(measurement, &comparison)
    };
    saved::put(file, |out| out.write_all(page.as_bytes()))
}

/// Prints what a probe saw and what follows from it. The exit code tells whether it is as was demanded.
pub(crate) fn print_probe(
    findings: &Findings,
    format: ProbeFormatArg,
    asked: &AdviceArgs,
) -> io::Result<Exit> {
    let report = probe::Report::new(findings, &asked.questions());
    let mut out = anstream::AutoStream::auto(io::stdout().lock());
    let written = match format {
        ProbeFormatArg::Text => probe::terminal::write(&report, style(), &mut out),
        ProbeFormatArg::Json => serde_json::to_writer_pretty(&mut out, &probe::json::document(&report))
            .map_err(io::Error::from)
            .and_then(|()| writeln!(out)),
        ProbeFormatArg::Junit => probe::junit::write(&report, &mut out),
        ProbeFormatArg::Html => writeln!(out, "{}", probe::html::page(&report)),
    };
    finished(written, &mut out)?;
    Ok(match (findings.interrupted, report.outcome()) {
        (true, _) => Exit::Interrupted,
        (false, Outcome::Holds) => Exit::Done,
        (false, Outcome::Fails) => Exit::Unmet,
        (false, Outcome::Undecided) => Exit::Inconclusive,
    })
}

/// A reader that has gone away (`| head`) is no error.
pub(crate) fn finished(written: io::Result<()>, out: &mut impl Write) -> io::Result<()> {
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

/// Colours as the stream wants them; the width of the terminal, at least 80 and at most 100 columns.
fn style() -> terminal::Style {
    let choice = anstream::AutoStream::choice(&io::stdout());
    let colour = choice != anstream::ColorChoice::Never && io::stdout().is_terminal();
    let width = if io::stdout().is_terminal() { rustix_width().unwrap_or(80) } else { 80 };
    terminal::Style { colour, width: width.clamp(80, 100) }
}

fn rustix_width() -> Option<u16> {
    rustix::termios::tcgetwinsize(io::stdout()).ok().map(|size| size.ws_col)
}
