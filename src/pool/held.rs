//! [`Held`]: a connection in use, which gives its place up exactly once.

use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Instant;

use http::Request;
use hyper::body::Incoming;

use super::Shared;
use super::drain::Drain;
use super::progress::Progress;
use super::watch::{Pooled, Watch};
use crate::body::RequestBody;
use crate::config::PoolConfig;
use crate::connection::{Connection, Ear, Failure, Limits, Stamps};
use crate::exchange::{ConnectionFacts, Exchange};
use crate::hint::{Hint, Rest};
use crate::idle::CloseReason;
use crate::observer::Event;
use crate::origin::Origin;

/// A response head, or why there is none.
pub(super) type Exchanged = Result<http::Response<Incoming>, Box<Failure>>;

/// A connection in use and its place in the pool. Whatever happens, the place is given up exactly once: by
/// giving the connection back, by ending it with a reason, or, when dropped, as cancelled. Dropped before an
/// exchange began on it, the connection goes back.
#[derive(Debug)]
pub(super) struct Held {
    pooled: Option<Box<Pooled>>,
    shared: Arc<Shared>,
    begun: bool,
}

impl Held {
    pub(super) fn new(pooled: Box<Pooled>, shared: &Arc<Shared>) -> Held {
        Held { pooled: Some(pooled), shared: Arc::clone(shared), begun: false }
    }

    /// The connection's next exchange begins: from here on there is no giving it back unused.
    pub(super) fn begin(&mut self) -> &mut Pooled {
        self.begun = true;
        let pooled = self.pooled_mut();
        pooled.watch.ends_rest();
        pooled
    }

    /// Sends the request, which is taken out, and waits for the head of its response; `None`: the pool's end came first.
    pub(super) async fn exchange(
        &mut self,
        request: &mut Option<Request<RequestBody>>,
        limits: Limits,
    ) -> Option<Exchanged> {
        let Pooled { connection, watch, waker, .. } =
            self.pooled.as_deref_mut().expect("held until it is given up");
        connection.exchange(request, limits, &Attentive { watch, waker, drain: &self.shared.drain }).await
    }

    /// Reads and writes what can be, in the exchange.
    pub(super) fn drive(&mut self) {
        let Pooled { connection, watch, waker, .. } = self.pooled_mut();
        watch.forget();
        connection.drive(&mut Context::from_waker(waker));
    }

    /// Whoever has done so and waits for the connection's peer now says so.
    pub(super) fn wait(&self, task: &Waker) {
        self.pooled().watch.hold(task);
    }

    /// As [`Held::wait`], for one that polls the stream itself: answers whether the pool's end has come.
    pub(super) fn waits_for_the_end(&self, task: &Waker) -> bool {
        self.pooled().watch.forget();
        self.wait(task);
        self.is_cut()
    }

    /// Whether the pool's end has come. Who waits says so before asking.
    pub(super) fn is_cut(&self) -> bool {
        self.shared.drain.is_cut()
    }

    pub(super) fn connection(&mut self) -> &mut Connection {
        &mut self.pooled_mut().connection
    }

    pub(super) fn config(&self) -> &PoolConfig {
        &self.shared.config
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Whether more exchanges may follow this one on its connection, for all that this side knows.
    pub(super) fn may_go_on(&self) -> bool {
        let config = &self.shared.config;
        let is_last = config.max_exchanges.is_some_and(|most| self.as_ref().exchanges() >= most);
        config.keep_alive && !is_last && !self.shared.drain.has_begun()
    }

    pub(super) fn facts(&self) -> &Arc<ConnectionFacts> {
        self.as_ref().facts()
    }

    pub(super) fn origin(&self) -> &Origin {
        self.pooled().origin()
    }

    pub(super) fn as_ref(&self) -> &Connection {
        &self.pooled().connection
    }

    /// What is known of the exchange so far.
    pub(super) fn progress(&self) -> &Progress {
        &self.pooled().progress
    }

    /// Its head has come, with what the server announces in it.
    pub(super) fn head(&mut self, hint: Option<Hint>) {
        let policy = self.shared.config.hint;
        let pooled = self.pooled_mut();
        pooled.heed(hint, policy);
        pooled.progress.hint = hint;
        pooled.progress.head(&pooled.connection, pooled.connection.stamps());
    }

    /// It has failed before its head.
    pub(super) fn failed(&mut self, stamps: Stamps) {
        let pooled = self.pooled_mut();
        pooled.progress.head(&pooled.connection, stamps);
    }

    /// The record of the exchange, which is over.
    pub(super) fn record(&mut self, done: Instant) -> Exchange {
        let pooled = self.pooled_mut();
        pooled.progress.exchange(&pooled.connection, done)
    }

    fn pooled(&self) -> &Pooled {
        self.pooled.as_deref().expect("held until it is given up")
    }

    pub(super) fn pooled_mut(&mut self) -> &mut Pooled {
        self.pooled.as_deref_mut().expect("held until it is given up")
    }

    /// Tells the observer of the pool; the event is not made when there is none.
    pub(super) fn tell<'a>(&'a self, event: impl FnOnce(&'a Origin, &'a ConnectionFacts) -> Event<'a>) {
        self.shared.watched.tell(|| event(self.origin(), self.as_ref().facts()));
    }

    /// Its exchange is over. It goes back if it may be used again, and ends otherwise, with the reason.
    pub(super) fn finish(mut self, now: Instant) {
        let now = self.shared.ages.at(now);
        // It is still held meanwhile: a request body that is not at its end is asked on, and may panic.
        let pooled = self.pooled.as_deref_mut().expect("held until it is given up");
        let reason = why_not_again(pooled, &self.shared, now);
        let Some(pooled) = self.pooled.take() else { return };
        match reason {
            None => {
                self.shared.watched.tell(|| returned(&pooled));
                self.shared.put_back(pooled, now);
            }
            Some(reason) => self.shared.end(pooled, reason),
        }
    }

    pub(super) fn end(mut self, reason: CloseReason) {
        if let Some(pooled) = self.pooled.take() {
            self.shared.end(pooled, reason);
        }
    }
}

/// The ear of an exchange: the connection's watch, which also tells of the pool's end.
struct Attentive<'a> {
    watch: &'a Watch,
    waker: &'a Waker,
    drain: &'a Drain,
}

impl Ear for Attentive<'_> {
    fn open(&self) -> &Waker {
        self.watch.forget();
        self.waker
    }

    fn wait(&self, task: &Waker) -> bool {
        self.watch.hold(task);
        self.drain.is_cut()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        match self.pooled.take() {
            Some(pooled) if self.begun => self.shared.end(pooled, CloseReason::Cancelled),
            Some(pooled) => {
                self.shared.watched.tell(|| returned(&pooled));
                self.shared.rest_on(pooled);
            }
            None => {}
        }
    }
}

fn returned(pooled: &Pooled) -> Event<'_> {
    Event::Returned { origin: pooled.origin(), connection: pooled.connection.facts() }
}

/// Why a connection whose exchange is complete is not used again; `None` when it is.
fn why_not_again(pooled: &mut Pooled, shared: &Shared, now: Instant) -> Option<CloseReason> {
    let config = &shared.config;
    let usable = pooled.watch();
    if pooled.connection.is_unfinished() {
        return Some(CloseReason::RequestUnfinished);
    }
    if !config.keep_alive {
        return Some(CloseReason::KeepAliveOff);
    }
    if config.max_exchanges.is_some_and(|most| pooled.connection.exchanges() >= most) {
        return Some(CloseReason::MaxExchanges);
    }
    if shared.drain.has_begun() {
        return Some(CloseReason::Shutdown);
    }
    if !usable {
        return Some(pooled.connection.why_it_cannot_go_on());
    }
    if pooled.dies.is_some_and(|dies| now >= dies) {
        return Some(CloseReason::MaxLifetime);
    }
    (pooled.rest == Rest::Never).then_some(CloseReason::Hint)
}
