//! `keeplive probe`: arguments into settings, settings into findings, findings shown.

use std::io;
use std::path::Path;

use keeplive::findings::Findings;
use keeplive::load::Stop;
use keeplive::probe::{self, ProbeLimits, ProbeTarget, Probing};

use crate::args::{RequestArgs, TlsArgs};
use crate::args_probe::{BoundsArgs, BytesArgs, ProbeArgs};
use crate::exit::Exit;
use crate::outcome;
use crate::progress::Watcher;
use crate::say::say;
use crate::setup::{allow_many_files, tls};
use crate::shape::target;
use crate::{command, interrupt};

pub(crate) fn run(args: &ProbeArgs) -> io::Result<Exit> {
    let stop = Stop::default();
    interrupt::listen(&stop);
    allow_many_files();
    let mut probing = probing(&args.url, &args.bounds, &args.bytes, &args.request, &args.tls)?;
    let limits = &mut probing.limits;
    limits.first_request = args.first_request;
    limits.requests = args.requests;
    limits.lifetime = args.lifetime;
    limits.race = args.race;
    limits.layer = args.layer;
    let watcher = Watcher::new();
    let found = probe::run(probing, &stop, &mut |progress| watcher.tell_probe(&progress));
    watcher.finish();
    let findings = match found {
        Ok(findings) => findings,
        Err(refusal) => return outcome::refused(&refusal, &stop),
    };
    // Saved first: a report that cannot be printed must not lose it.
    let saved = if args.output.no_save { Ok(()) } else { save(&findings, &args.output.out) };
    let exit = outcome::print_probe(&findings, args.format, &args.advice)?;
    saved.map(|()| exit)
}

fn save(findings: &Findings, folder: &Path) -> io::Result<()> {
    let path = findings.save(folder)?;
    say(&format!("saved {}", path.display()));
    Ok(())
}

/// The settings that probe and soak share.
pub(crate) fn probing(
    url: &str,
    bounds: &BoundsArgs,
    bytes: &BytesArgs,
    request: &RequestArgs,
    tls_args: &TlsArgs,
) -> io::Result<Probing> {
    let limits = ProbeLimits {
        max_idle: bounds.max_idle,
        budget: bounds.budget,
        connections: bounds.connections,
        connects_per_s: bounds.connects_per_second,
        max_time: request.max_time,
        connect_timeout: bounds.connect_timeout,
        ..ProbeLimits::default()
    };
    let words = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned());
    Ok(Probing {
        target: probe_target(url, bytes, request)?,
        tls: tls(tls_args)?,
        resolve: request.resolve.clone(),
        command: command::to_save(words, request, None),
        limits,
    })
}

fn probe_target(url: &str, bytes: &BytesArgs, request: &RequestArgs) -> io::Result<ProbeTarget> {
    let given = |text: &Option<String>| text.as_deref().map_or(Ok(Vec::new()), unescape);
    if url.starts_with("tcp://") {
        let (send, expect) = (given(&bytes.send)?, given(&bytes.expect_bytes)?);
        return Ok(ProbeTarget::Tcp { url: url.to_owned(), send, expect });
    }
    if bytes.send.is_some() || bytes.expect_bytes.is_some() {
        return Err(io::Error::other("--send and --expect-bytes are for tcp://host:port; with HTTP use -d"));
    }
    target(url.to_owned(), request).map(ProbeTarget::Http)
}

/// Bytes as a shell user can write them.
fn unescape(text: &str) -> io::Result<Vec<u8>> {
    let wrong = || io::Error::other(format!("`{text}`: after \\ comes r, n, t, 0, \\ or xHH"));
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next().ok_or_else(wrong)? {
                b'r' => b'\r',
                b'n' => b'\n',
                b't' => b'\t',
                b'0' => 0,
                b'\\' => b'\\',
                b'x' => {
                    let mut digit = || {
                        let digit = (rest.next()? as char).to_digit(16)?;
                        u8::try_from(digit).ok()
                    };
                    let (high, low) = (digit().ok_or_else(wrong)?, digit().ok_or_else(wrong)?);
                    high << 4 | low
                }
                _ => return Err(wrong()),
            },
            byte => byte,
        });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::unescape;

    #[test]
    fn bytes_are_written_as_in_a_string_of_c() {
        assert_eq!(unescape(r"PING\r\n\x00\xfF\\").unwrap(), b"PING\r\n\x00\xff\\");
        for wrong in [r"\q", r"\x1", r"\"] {
            assert!(unescape(wrong).is_err(), "{wrong}");
        }
    }
}
