//! The minder: one task per pool that closes idle connections when their time is over or their socket stirs, and has
//! those that rest for long give up what they can do without.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Handle, Id};
use tokio::sync::Notify;

use super::Shared;
use super::watch::Watch;
use crate::clock;

/// How the pool speaks to its minder.
#[derive(Debug, Default)]
pub(super) struct Minder {
    alive: AtomicBool,
    news: Notify,
    stirred: Mutex<Vec<Arc<Watch>>>,
}

impl Minder {
    /// The socket of that idle connection has something to say.
    pub(super) fn stirred(&self, watch: Arc<Watch>) {
        self.stirred.lock().unwrap_or_else(PoisonError::into_inner).push(watch);
        self.news.notify_one();
    }

    /// There is an earlier deadline, or the end.
    pub(super) fn wake(&self) {
        self.news.notify_one();
    }

    pub(super) fn take_stirred(&self) -> Vec<Arc<Watch>> {
        std::mem::take(&mut *self.stirred.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes sure that the minder runs. Where it ended with its runtime, and no connection rested that belongs to another,
    /// it is started on the next one that gives a connection back.
    pub(super) fn start(shared: &Arc<Shared>) {
        if shared.minder.alive.load(SeqCst) {
            return;
        }
        // A body may end outside any runtime.
        let Ok(runtime) = Handle::try_current() else { return };
        Minder::start_on(&runtime, shared, Vec::new());
    }

    fn start_on(runtime: &Handle, shared: &Arc<Shared>, mut before: Vec<Id>) {
        if !shared.minder.alive.swap(true, SeqCst) {
            before.push(runtime.id());
            runtime.spawn(mind(Alive { shared: Arc::clone(shared), runtimes: before }));
        }
    }
}

/// Says that the minder has ended, however it ended, and has it go on elsewhere.
struct Alive {
    shared: Arc<Shared>,
    /// Where it runs, and where it ran before.
    runtimes: Vec<Id>,
}

impl Drop for Alive {
    /// As a rule its runtime has ended, and connections that rest on others are still to be minded. Whether a runtime has
    /// ended is told by none: what is started there is dropped at once, and tries the next in turn.
    fn drop(&mut self) {
        self.shared.minder.alive.store(false, SeqCst);
        let is_another = |runtime: &&Handle| !self.runtimes.contains(&runtime.id());
        // The lock is not held when it is started.
        let next = self.shared.lock().find_idle(|pooled| Some(&pooled.runtime).filter(is_another).cloned());
        if let Some(runtime) = next {
            Minder::start_on(&runtime, &self.shared, std::mem::take(&mut self.runtimes));
        }
    }
}

async fn mind(alive: Alive) {
    let shared = &alive.shared;
    while !shared.lock().closed {
        let stirred = shared.minder.take_stirred();
        for watch in &stirred {
            look_at(shared, watch);
        }
        if !stirred.is_empty() {
            // A peer that never stops talking, TLS to TLS, has a look end before its words do, and asks for another.
            tokio::task::yield_now().await;
        }
        let news = shared.minder.news.notified();
        let now = shared.age_at(clock::now());
        while shared.change(|state, _| state.doze(now)) {}
        match shared.change(|state, after| state.expire(now, after)) {
            Some(at) => {
                let at = at.checked_sub(shared.ages.ahead()).unwrap_or_else(clock::now);
                drop(tokio::time::timeout_at(at.into(), news).await);
            }
            None => news.await,
        }
    }
}

/// An idle connection's socket has stirred: it ended, or somebody sent what nobody asked for, or TLS had
/// something to say to itself and all is well.
fn look_at(shared: &Arc<Shared>, watch: &Arc<Watch>) {
    if let Some(pooled) = shared.change(|state, _| watch.look(state)) {
        let reason = pooled.connection.why_it_ended();
        shared.end(pooled, reason);
    }
}
