//! [`Tickets`]: the queue between the schedule and the loops that send, first in, first out. Nothing is
//! moved in time, and nothing dropped that there is room for: a ticket carries the instant at which its request was due.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Instant;

use tokio::sync::Notify;

/// The order to send one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// When it was to be sent.
    pub(super) due: Instant,
    /// When the generator got round to it.
    pub(super) issued: Instant,
    /// Which target it asks for.
    pub(super) target: u32,
}

/// So many tickets of a worker may wait, 40 MB of them: what is due beyond is scheduled, and not issued, which makes the
/// run invalid.
const MOST_QUEUED: usize = 1_000_000;

/// Tickets of one worker; it and its loops live on one thread.
#[derive(Debug, Default)]
pub(super) struct Tickets {
    queue: RefCell<VecDeque<Ticket>>,
    news: Notify,
    over: Cell<bool>,
}

impl Tickets {
    /// Whether there was room for it.
    pub(super) fn push(&self, ticket: Ticket) -> bool {
        let mut queue = self.queue.borrow_mut();
        if queue.len() >= MOST_QUEUED {
            return false;
        }
        queue.push_back(ticket);
        drop(queue);
        self.news.notify_one();
        true
    }

    /// No more tickets will come.
    pub(super) fn end(&self) {
        self.over.set(true);
        self.news.notify_waiters();
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// The oldest ticket; `None` when all are taken and no more will come.
    pub(super) async fn next(&self) -> Option<Ticket> {
        loop {
            let oldest = self.queue.borrow_mut().pop_front();
            if oldest.is_some() || self.over.get() {
                return oldest;
            }
            self.news.notified().await;
        }
    }

    /// What nobody took.
    pub(super) fn leftovers(&self) -> Vec<Ticket> {
        self.queue.borrow_mut().drain(..).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;
    use std::rc::Rc;
    use std::time::Duration;
    use tokio::task::LocalSet;

    fn ticket(start: Instant, nth: u64) -> Ticket {
        let due = start + Duration::from_millis(nth);
        Ticket { due, issued: due, target: 0 }
    }

    /// A loop that is polled without need while it waits must not swallow the next ticket's wake-up.
    #[test]
    fn a_ticket_is_taken_at_once_while_any_loop_is_free_however_often_loops_are_polled() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        LocalSet::new().block_on(&runtime, async {
            let tickets = Rc::new(Tickets::default());
            let taken = Rc::new(Cell::new(0_u64));
            for _ in 0..4 {
                let (tickets, taken) = (Rc::clone(&tickets), Rc::clone(&taken));
                tokio::task::spawn_local(async move {
                    // Polled twice as often as it is woken.
                    let restless = async {
                        while tickets.next().await.is_some() {
                            taken.set(taken.get() + 1);
                            tokio::time::sleep(Duration::from_millis(5)).await;
                        }
                    };
                    let mut ticks = tokio::time::interval(Duration::from_millis(1));
                    tokio::select! { () = restless => {}, () = async { loop { ticks.tick().await; } } => {} }
                });
            }
            let start = clock::now();
            for nth in 1..=50 {
                assert!(tickets.push(ticket(start, nth)));
                // One is busy for 5 ms, so three are always free.
                tokio::time::sleep(Duration::from_millis(8)).await;
                assert_eq!(taken.get(), nth, "a ticket waits although loops are free");
            }
            tickets.end();
        });
    }

    #[test]
    fn a_backlog_has_an_end() {
        let (tickets, start) = (Tickets::default(), clock::now());
        assert!((0..MOST_QUEUED as u64).all(|_| tickets.push(ticket(start, 1))));
        assert!(!tickets.push(ticket(start, 1)));
        assert_eq!(tickets.leftovers().len(), MOST_QUEUED);
    }

    #[test]
    fn tickets_are_taken_in_their_order_and_the_end_comes_after_the_last() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (tickets, start) = (Tickets::default(), clock::now());
            assert!((0..3).all(|nth| tickets.push(ticket(start, nth))));
            tickets.end();
            for nth in 0..3 {
                assert_eq!(tickets.next().await, Some(ticket(start, nth)));
            }
            assert_eq!(tickets.next().await, None);
        });
    }
}
