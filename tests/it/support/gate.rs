//! A gate between a test and its peer's script: closed at first, and open for good once it was opened.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::PATIENCE;

#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Blocks the thread, and with it the reactor of a runtime that has no other.
    pub(crate) fn wait(&self) {
        let open = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (_open, timeout) = self
            .0
            .1
            .wait_timeout_while(open, PATIENCE, |open| !*open)
            .unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "nobody opened the gate within {PATIENCE:?}");
    }
}
