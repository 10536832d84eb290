//! The minder: one task per pool that closes idle connections when their time is over or their socket stirs, and has
//! those that rest for long give up what they can do without.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
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

    /// Makes sure that the minder runs. It ends with its runtime, and is then started on the next one that gives
    /// a connection back.
    pub(super) fn start(shared: &Arc<Shared>) {
        if shared.minder.alive.load(SeqCst) {
            return;
        }
        // A body may end outside any runtime.
        let Ok(runtime) = Handle::try_current() else { return };
        if !shared.minder.alive.swap(true, SeqCst) {
            runtime.spawn(mind(Alive(Arc::clone(shared))));
        }
    }
}

/// Says that the minder has ended, however it ended.
struct Alive(Arc<Shared>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.minder.alive.store(false, SeqCst);
    }
}

async fn mind(alive: Alive) {
    let shared = &alive.0;
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
