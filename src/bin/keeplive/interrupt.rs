//! Ctrl-C: the first asks the run to stop, print and save; the second ends the program at once.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use keeplive::load::Stop;

use crate::say::say;

/// Listens for Ctrl-C, SIGTERM and SIGHUP from now on, and says what it does about them.
pub(crate) fn listen(stop: &Stop) {
    listen_and_finally(stop, || {});
}

/// The same, with something to do before the second ends the program: it leaves no time for destructors.
pub(crate) fn listen_and_finally(stop: &Stop, finally: fn()) {
    let tell = || {
        say(
            "\nkeeplive: stopping; what was measured will be printed, and saved if it is to be (again to quit now)",
        )
    };
    listen_and(stop, tell, finally);
}

/// The same without words, for a program that is ended this way every time.
pub(crate) fn listen_quietly(stop: &Stop) {
    listen_and(stop, || {}, || {});
}

fn listen_and(stop: &Stop, tell: fn(), finally: fn()) {
    let stop = stop.clone();
    let (ready, is_ready) = mpsc::channel();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            let Ok(mut signals) = Signals::new() else { return };
            let _ = ready.send(());
            signals.next().await;
            stop.set();
            tell();
            signals.next().await;
            finally();
            std::process::exit(130);
        });
    });
    // No signal may come before somebody listens; if nobody can, the system's own way must do.
    let _ = is_ready.recv_timeout(Duration::from_secs(1));
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    /// The terminal has gone, and nobody can stop us any more; `None` where whoever started us wants it ignored (nohup).
    hangup: Option<tokio::signal::unix::Signal>,
    /// Nobody waits for it. It is listened for so that a file that outgrows what the shell allows (`ulimit -f`) is an error of
    /// its writing, and not this program's end before anything was printed.
    _file_size: Option<tokio::signal::unix::Signal>,
}

/// SIGXFSZ, on Linux, macOS and the BSDs.
#[cfg(unix)]
const FILE_SIZE: i32 = 25;

#[cfg(unix)]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            _file_size: signal(SignalKind::from_raw(FILE_SIZE)).ok(),
            hangup: if is_hangup_ignored() { None } else { Some(signal(SignalKind::hangup())?) },
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            () = received(self.hangup.as_mut()) => {}
        }
    }
}

#[cfg(unix)]
async fn received(signal: Option<&mut tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether SIGHUP was ignored when this program was started (proc_pid_status(5): a mask whose lowest bit is signal 1). Where
/// that cannot be read it is left as it is.
#[cfg(unix)]
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_none_or(|mask| mask & 1 == 1)
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals)
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
