//! `keeplive serve`: the embedded server alone.

use std::io::{self, Write};
use std::thread;
use std::time::Duration;

use keeplive::load::Stop;
use keeplive::server::{Behaviour, Running, Server, ServerTls, TlsVersions};

use crate::args::{ServeArgs, ServeTlsArg};
use crate::exit::Exit;
use crate::interrupt;
use crate::say::say;

pub(crate) fn run(args: &ServeArgs) -> io::Result<Exit> {
    let stop = Stop::default();
    interrupt::listen_quietly(&stop);
    let running = start(args)?;
    if let (Some(file), Some(pem)) = (&args.write_cert, running.certificate_pem()) {
        std::fs::write(file, pem).map_err(|error| {
            io::Error::new(error.kind(), format!("could not write {}: {error}", file.display()))
        })?;
    }
    writeln!(io::stdout(), "{}", running.url()).and_then(|()| io::stdout().flush())?;
    while !stop.is_set() {
        thread::sleep(Duration::from_millis(50));
    }
    let counts = running.counts();
    say(&format!(
        "{} connections, {} requests, {} full and {} resumed TLS handshakes",
        counts.connections, counts.requests, counts.handshakes_full, counts.handshakes_resumed
    ));
    running.stop();
    Ok(Exit::Done)
}

fn start(args: &ServeArgs) -> io::Result<Running> {
    let timeout = (!args.idle_timeout.is_zero()).then_some(args.idle_timeout);
    let mut behaviour = Behaviour::default()
        .body(args.body)
        .status(args.status)
        .delay(args.delay)
        .idle_timeout(timeout)
        .keep_alive(!args.no_keep_alive)
        .close_after(args.close_after)
        .reset_every(args.reset_every);
    if let Some(n) = args.stall_after {
        behaviour = behaviour.stall_after(n);
    }
    behaviour = args.profile.iter().fold(behaviour, |behaviour, profile| behaviour.profile(*profile));
    let mut server = Server::new(behaviour).listen(args.listen);
    if args.tls {
        let versions = match args.tls_versions {
            ServeTlsArg::V12 => TlsVersions::Tls12,
            ServeTlsArg::V13 => TlsVersions::Tls13,
            ServeTlsArg::Both => TlsVersions::Both,
        };
        server = server.tls(ServerTls::default().versions(versions).resumption(!args.no_resumption));
    }
    server.start().map_err(|error| io::Error::other(error.to_string()))
}
