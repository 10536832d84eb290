//! Ctrl-C: the first asks the run to stop, print and save; the second ends the program at once.

use std::thread;

use keeplive::load::Stop;

use crate::say::say;

/// Listens for Ctrl-C and SIGTERM from now on, and says what it does about them.
pub(crate) fn listen(stop: &Stop) {
    listen_and(stop, || {
        say("\nkeeplive: stopping; what was measured will be printed and saved (again to quit now)");
    });
}

/// The same without words, for a program that is ended this way every time.
pub(crate) fn listen_quietly(stop: &Stop) {
    listen_and(stop, || {});
}

fn listen_and(stop: &Stop, tell: fn()) {
    let stop = stop.clone();
    thread::spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            if asked().await.is_ok() {
                stop.set();
                tell();
            }
            if asked().await.is_ok() {
                std::process::exit(130);
            }
        });
    });
}

#[cfg(unix)]
async fn asked() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = terminate.recv() => Ok(()),
    }
}

#[cfg(not(unix))]
async fn asked() -> std::io::Result<()> {
    tokio::signal::ctrl_c().await
}
