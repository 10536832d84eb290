//! [`Crew`]: sends connections out on errands, gathers what became of them, and keeps to the budget.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinError, JoinSet};

use super::Progress;
use super::field::{Errand, Field, Outcome, Over};
use crate::clock;
use crate::load::Stop;

/// How often it looks at the flag, the budget and the open connections.
const TICK: Duration = Duration::from_millis(25);

/// How often progress is told.
const TELL: Duration = Duration::from_secs(1);

pub(super) struct Crew<'a> {
    pub(super) field: Arc<Field>,
    stop: Stop,
    /// When the budget is spent.
    latest: Instant,
    out: JoinSet<(u32, Option<Outcome>)>,
    /// How many are out, of each wave.
    out_of: BTreeMap<u32, usize>,
    /// Everything that came home.
    pub(super) home: Vec<Outcome>,
    watch: &'a mut dyn FnMut(Progress),
    told: Instant,
}

/// What a moment brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Somebody came home, or some time has passed.
    On,
    /// Nobody is out any more.
    Empty,
    /// The budget is spent, or the probe was asked to stop.
    Halt,
}

impl<'a> Crew<'a> {
    pub(super) fn new(
        field: Arc<Field>,
        stop: Stop,
        latest: Instant,
        watch: &'a mut dyn FnMut(Progress),
    ) -> Crew<'a> {
        let told = clock::now();
        Crew {
            field,
            stop,
            latest,
            out: JoinSet::new(),
            out_of: BTreeMap::new(),
            home: Vec::new(),
            watch,
            told,
        }
    }

    pub(super) fn send_out(&mut self, errand: Errand, over: &Over) {
        let wave = errand.wave;
        *self.out_of.entry(wave).or_default() += 1;
        let run = Arc::clone(&self.field).run(errand, over.clone());
        self.out.spawn(async move { (wave, run.await) });
    }

    /// Whether nobody of this wave is out any more.
    pub(super) fn is_home(&self, wave: u32) -> bool {
        self.out_of.get(&wave).is_none_or(|out| *out == 0)
    }

    fn welcome(&mut self, done: Result<(u32, Option<Outcome>), JoinError>) {
        let Ok((wave, outcome)) = done else { return };
        if let Some(out) = self.out_of.get_mut(&wave) {
            *out -= 1;
        }
        self.home.extend(outcome);
    }

    pub(super) fn tell(&mut self, progress: Progress) {
        (self.watch)(progress);
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.is_set()
    }

    /// Whether this much time is left in the budget.
    pub(super) fn can_afford(&self, time: Duration) -> bool {
        !self.stop.is_set() && clock::now().checked_add(time).is_some_and(|end| end <= self.latest)
    }

    pub(super) fn is_over(&self) -> bool {
        !self.can_afford(Duration::ZERO)
    }

    /// Waits for somebody, or a little.
    pub(super) async fn moment(&mut self) -> Moment {
        if self.is_over() {
            return Moment::Halt;
        }
        self.tell_now_and_then();
        match tokio::time::timeout(TICK, self.out.join_next()).await {
            Ok(None) => Moment::Empty,
            Ok(Some(done)) => {
                self.welcome(done);
                // All that came with it: what ended at one moment is judged together.
                while let Some(done) = self.out.try_join_next() {
                    self.welcome(done);
                }
                Moment::On
            }
            Err(_) => Moment::On,
        }
    }

    /// Waits until it is stopped or the budget is spent.
    pub(super) async fn until_over(&self) {
        while !self.is_over() {
            tokio::time::sleep(TICK).await;
        }
    }

    /// Waits until nobody is out, or the budget is spent.
    pub(super) async fn all_home(&mut self) -> Moment {
        loop {
            match self.moment().await {
                Moment::On => {}
                end => return end,
            }
        }
    }

    /// Calls everyone home and waits: they only have to drop what they hold.
    pub(super) async fn call_home(&mut self, over: &Over) {
        over.call();
        while let Some(done) = self.out.join_next().await {
            self.welcome(done);
        }
    }

    fn tell_now_and_then(&mut self) {
        let now = clock::now();
        if now.saturating_duration_since(self.told) < TELL {
            return;
        }
        self.told = now;
        let (held, longest) = {
            let notes = self.field.notes();
            let known = notes.idle.values().filter(|idle| idle.wave > 0);
            let idle = known.map(|idle| now.saturating_duration_since(idle.since));
            (notes.idle.len(), idle.max())
        };
        if let Some(longest) = longest {
            (self.watch)(Progress::Holding { connections: held, longest });
        }
    }
}
