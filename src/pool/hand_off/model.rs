//! The hand-off in every order in which its threads can take the lock: [`Waiter`], [`Place`], [`PlaceBeside`] and
//! [`State`] as the pool has them, over loom's mutex, with numbers for connections. loom finds a waiter that is never
//! woken as a deadlock; each model counts what is left when all is done.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use loom::future::block_on;
use loom::sync::Mutex;
use loom::thread;

use super::super::state::Turn;
use super::{After, Desk, Given, Kept, Place, State, Waiter};
use crate::clock;
use crate::config::{OnMiss, PoolConfig};
use crate::error::{Error, ErrorKind};
use crate::origin::Origin;

/// With at most three switches to another thread where none is needed: more find next to nothing (Musuvathi and Qadeer,
/// "Iterative context bounding", PLDI 2007) and take minutes.
fn in_every_order(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[derive(Debug)]
struct Stand;

impl Kept for Stand {
    fn dies(&self) -> Option<Instant> {
        None
    }

    fn rests_in(&self, _slot: usize) {}

    fn fall_asleep(&mut self) {}
}

#[derive(Clone)]
struct Model {
    state: Arc<Mutex<State<Stand>>>,
    closed: Arc<AtomicUsize>,
    here: Origin,
    there: Origin,
    now: Instant,
    /// How many may be opened at a time.
    opening: usize,
}

impl Desk for Model {
    type Connection = Stand;

    fn change<R>(&self, change: impl FnOnce(&mut State<Stand>, &mut After<Stand>) -> R) -> R {
        let mut after = After::default();
        let mut state = self.state.lock().expect("nobody panics");
        let result = change(&mut state, &mut after);
        assert!(state.stats().opening <= self.opening);
        drop(state);
        after.wake();
        self.closed.fetch_add(after.closing.len(), Relaxed);
        result
    }

    fn rest_on(&self, connection: Stand) {
        // Which origin it belongs to is told by the models that use more than one: they rest nothing on.
        self.put_back(&self.here, connection);
    }
}

/// What a request ends up with.
enum Got {
    Connection(Stand),
    Opened(Stand),
    Error,
}

impl Model {
    fn new(config: PoolConfig) -> Model {
        // Without an idle timeout the time does not matter.
        let config = config.idle_timeout(None);
        let opening = config.max_opening_per_origin;
        Model {
            opening,
            state: Arc::new(Mutex::new(State::new(&config))),
            closed: Arc::default(),
            here: "http://here".parse().expect("an origin"),
            there: "http://there".parse().expect("an origin"),
            now: clock::now(),
        }
    }

    fn put_back(&self, origin: &Origin, connection: Stand) {
        self.change(|state, after| state.put_back(origin, connection, self.now, after));
    }

    fn ask(&self, origin: &Origin) -> Turn<Stand> {
        self.change(|state, after| state.ask(origin, self.now, after))
    }

    /// A connection in use, opened before the threads begin.
    fn busy(&self, origin: &Origin) -> Stand {
        let place = self.place(origin);
        place.fill(|_| ());
        Stand
    }

    /// A place, reserved before the threads begin.
    fn place(&self, origin: &Origin) -> Place<Model> {
        match self.ask(origin) {
            Turn::Open => Place::new(self, origin),
            turn => panic!("{turn:?} where there is room"),
        }
    }

    /// In the queue, before the threads begin.
    fn waiter(&self, origin: &Origin) -> Waiter<Model> {
        match self.ask(origin) {
            Turn::Wait(ticket) => Waiter::new(self, origin, ticket),
            turn => panic!("{turn:?} where there is no room"),
        }
    }

    /// In the queue for a place alone.
    fn fresh_waiter(&self, origin: &Origin) -> Waiter<Model> {
        match self.change(|state, after| state.ask_fresh(origin, after)) {
            Turn::Wait(ticket) => Waiter::new(self, origin, ticket),
            turn => panic!("{turn:?} where there is no room"),
        }
    }

    /// Waits for what comes, and opens a connection if it is a place; `beside` begins to open one elsewhere.
    fn serve(&self, mut waiter: Waiter<Model>, beside: impl FnOnce(super::PlaceBeside<Model>)) -> Got {
        let mut given = block_on(waiter.given());
        if let Given::PlaceBeside(place) = given {
            beside(place);
            given = block_on(waiter.given());
        }
        match given {
            Given::Connection { connection, .. } => Got::Connection(connection),
            Given::Own(connection) => Got::Opened(connection),
            Given::Place(place) => {
                place.fill(|_| ());
                Got::Opened(Stand)
            }
            Given::PlaceBeside(_) => panic!("two places for one"),
            Given::Failed(_) | Given::Closed => Got::Error,
        }
    }

    /// Waits, and gives back what came. Answers whether anything did.
    fn use_once(&self, origin: &Origin, waiter: Waiter<Model>) -> bool {
        match self.serve(waiter, |_| panic!("nobody asked for it")) {
            Got::Connection(connection) | Got::Opened(connection) => {
                self.put_back(origin, connection);
                true
            }
            Got::Error => false,
        }
    }

    fn assert_all_is_back(&self, idle: usize) {
        let stats = self.state.lock().expect("nobody panics").stats();
        let left = (stats.idle, stats.busy, stats.opening, stats.waiting);
        assert_eq!(left, (idle, 0, 0, 0));
    }
}

/// Looks once, and gives up.
fn cancel(mut waiter: Waiter<Model>) {
    let polled = pin!(waiter.given()).poll(&mut Context::from_waker(Waker::noop()));
    if let Poll::Ready(Given::Connection { connection, .. } | Given::Own(connection)) = polled {
        waiter.desk.rest_on(connection);
    }
}

fn one() -> PoolConfig {
    PoolConfig::default().max_connections_per_origin(Some(1))
}

/// When they want to open one is said by the models themselves.
fn patient() -> PoolConfig {
    PoolConfig::default().max_connections_per_origin(Some(2)).on_miss(OnMiss::WaitThenOpen(Duration::MAX))
}

fn late() -> PoolConfig {
    PoolConfig::default().max_connections_per_origin(Some(2)).on_miss(OnMiss::LateBind)
}

#[test]
fn a_connection_that_comes_back_while_a_waiter_leaves_serves_the_next() {
    in_every_order(|| {
        let model = Model::new(one());
        let busy = model.busy(&model.here);
        let (leaves, stays) = (model.waiter(&model.here), model.waiter(&model.here));
        let leaving = thread::spawn(move || cancel(leaves));
        let staying = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.here, stays)))
        };
        model.put_back(&model.here, busy);
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        model.assert_all_is_back(1);
    });
}

#[test]
fn a_place_that_is_given_up_while_a_waiter_leaves_serves_the_next() {
    in_every_order(|| {
        let model = Model::new(one());
        let place = model.place(&model.here);
        let (leaves, stays) = (model.waiter(&model.here), model.waiter(&model.here));
        let leaving = thread::spawn(move || cancel(leaves));
        let staying = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.here, stays)))
        };
        drop(place);
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        model.assert_all_is_back(1);
    });
}

#[test]
fn a_newcomer_a_waiter_and_a_return_leave_one_connection() {
    in_every_order(|| {
        let model = Model::new(one());
        let busy = model.busy(&model.here);
        let waits = model.waiter(&model.here);
        let newcomer = {
            let model = model.clone();
            thread::spawn(move || match model.ask(&model.here) {
                Turn::Reuse(connection) => model.put_back(&model.here, connection),
                Turn::Wait(ticket) => {
                    let waiter = Waiter::new(&model, &model.here, ticket);
                    assert!(model.use_once(&model.here, waiter));
                }
                turn => panic!("{turn:?} while there is a connection"),
            })
        };
        let waiting = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.here, waits)))
        };
        model.put_back(&model.here, busy);
        newcomer.join().expect("no panic");
        waiting.join().expect("no panic");
        model.assert_all_is_back(1);
    });
}

#[test]
fn a_waiter_of_another_origin_gets_the_only_place_however_the_others_come_and_go() {
    in_every_order(|| {
        let model = Model::new(PoolConfig::default().max_connections(Some(1)));
        let busy = model.busy(&model.here);
        let (here, there) = (model.waiter(&model.here), model.waiter(&model.there));
        let leaving = thread::spawn(move || cancel(here));
        let staying = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.there, there)))
        };
        model.put_back(&model.here, busy);
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        model.assert_all_is_back(1);
        assert_eq!(model.closed.load(Relaxed), 1, "the one that was here");
    });
}

#[test]
fn whoever_waits_when_the_pool_closes_hears_of_it_or_was_served() {
    in_every_order(|| {
        let model = Model::new(one());
        let busy = model.busy(&model.here);
        let waiter = model.waiter(&model.here);
        let closing = {
            let model = model.clone();
            thread::spawn(move || model.change(State::close))
        };
        let waiting = {
            let model = model.clone();
            thread::spawn(move || model.use_once(&model.here, waiter))
        };
        model.put_back(&model.here, busy);
        closing.join().expect("no panic");
        waiting.join().expect("no panic");
        model.assert_all_is_back(0);
        assert_eq!(model.closed.load(Relaxed), 1);
    });
}

#[test]
fn late_binding_takes_one_of_two_and_loses_neither() {
    in_every_order(|| {
        let model = Model::new(late());
        let busy = model.late_busy();
        let waiter = model.waiter(&model.here);
        let waiting = {
            let model = model.clone();
            thread::spawn(move || {
                let mut dial = None;
                let open = |place: super::PlaceBeside<Model>| {
                    dial = Some(thread::spawn(move || place.deliver(Stand, |_| ())));
                };
                match model.serve(waiter, open) {
                    Got::Connection(connection) | Got::Opened(connection) => {
                        model.put_back(&model.here, connection);
                    }
                    Got::Error => panic!("nothing failed"),
                }
                dial
            })
        };
        model.put_back(&model.here, busy);
        let dial = waiting.join().expect("no panic");
        let idle = if let Some(dial) = dial {
            dial.join().expect("no panic");
            2
        } else {
            1
        };
        model.assert_all_is_back(idle);
    });
}

#[test]
fn whose_patience_ends_while_a_connection_comes_back_has_that_or_opens_one() {
    in_every_order(|| {
        let model = Model::new(patient());
        let busy = model.busy(&model.here);
        let waiter = model.waiter(&model.here);
        let waiting = {
            let model = model.clone();
            thread::spawn(move || {
                waiter.want();
                let (connection, idle) = match model.serve(waiter, |_| panic!("it opens its own")) {
                    Got::Connection(connection) => (connection, 1),
                    Got::Opened(connection) => (connection, 2),
                    Got::Error => panic!("nothing failed"),
                };
                model.put_back(&model.here, connection);
                idle
            })
        };
        model.put_back(&model.here, busy);
        let idle = waiting.join().expect("no panic");
        model.assert_all_is_back(idle);
    });
}

#[test]
fn who_leaves_at_the_end_of_its_patience_takes_nothing_from_the_next() {
    in_every_order(|| {
        let model = Model::new(patient());
        let busy = model.busy(&model.here);
        let (leaves, stays) = (model.waiter(&model.here), model.waiter(&model.here));
        let leaving = thread::spawn(move || {
            leaves.want();
            cancel(leaves);
        });
        let staying = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.here, stays)))
        };
        model.put_back(&model.here, busy);
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        model.assert_all_is_back(1);
    });
}

#[test]
fn an_opening_that_fails_while_a_connection_comes_back_harms_nobody_who_was_served() {
    in_every_order(|| {
        let model = Model::new(late());
        let busy = model.late_busy();
        let waiter = model.waiter(&model.here);
        let waiting = {
            let model = model.clone();
            thread::spawn(move || {
                let mut dial = None;
                let fail = |place: super::PlaceBeside<Model>| {
                    dial = Some(thread::spawn(move || place.fail(Error::new(ErrorKind::Connect))));
                };
                match model.serve(waiter, fail) {
                    Got::Connection(connection) => model.put_back(&model.here, connection),
                    Got::Opened(_) => panic!("nothing was opened"),
                    Got::Error => {}
                }
                dial
            })
        };
        model.put_back(&model.here, busy);
        if let Some(dial) = waiting.join().expect("no panic") {
            dial.join().expect("no panic");
        }
        model.assert_all_is_back(1);
    });
}

#[test]
fn an_opening_for_one_who_leaves_serves_the_next() {
    in_every_order(|| {
        let model = Model::new(late().max_connections_per_origin(Some(1)));
        let (mut leaves, stays) = (model.waiter(&model.here), model.waiter(&model.here));
        let Given::PlaceBeside(place) = block_on(leaves.given()) else {
            panic!("there is room for the first");
        };
        let leaving = thread::spawn(move || cancel(leaves));
        let staying = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.here, stays)))
        };
        place.deliver(Stand, |_| ());
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        model.assert_all_is_back(1);
    });
}

#[test]
fn who_waits_for_a_place_takes_that_of_a_connection_which_comes_back() {
    in_every_order(|| {
        let model = Model::new(one());
        let busy = model.busy(&model.here);
        let (fresh, younger) = (model.fresh_waiter(&model.here), model.waiter(&model.here));
        let opening = {
            let model = model.clone();
            thread::spawn(move || match model.serve(fresh, |_| panic!("it opens its own")) {
                Got::Opened(connection) => model.put_back(&model.here, connection),
                Got::Connection(_) | Got::Error => panic!("it takes nothing but a place"),
            })
        };
        let waiting = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.here, younger)))
        };
        model.put_back(&model.here, busy);
        opening.join().expect("no panic");
        waiting.join().expect("no panic");
        model.assert_all_is_back(1);
        assert_eq!(model.closed.load(Relaxed), 1, "the one that came back");
    });
}

#[test]
fn a_place_for_one_who_leaves_goes_to_the_next_and_no_more_are_opened_than_may() {
    in_every_order(|| {
        let config = PoolConfig::default().max_connections_per_origin(Some(2)).max_opening_per_origin(1);
        let model = Model::new(config);
        let (busy, place) = (model.busy(&model.here), model.place(&model.here));
        let (leaves, stays) = (model.fresh_waiter(&model.here), model.fresh_waiter(&model.here));
        let leaving = thread::spawn(move || cancel(leaves));
        let staying = {
            let model = model.clone();
            thread::spawn(move || assert!(model.use_once(&model.here, stays)))
        };
        let returning = {
            let model = model.clone();
            thread::spawn(move || model.put_back(&model.here, busy))
        };
        drop(place);
        leaving.join().expect("no panic");
        staying.join().expect("no panic");
        returning.join().expect("no panic");
        let stats = model.state.lock().expect("nobody panics").stats();
        assert_eq!((stats.busy, stats.opening, stats.waiting), (0, 0, 0));
        assert!((1..=2).contains(&stats.idle), "{stats:?}");
    });
}

impl Model {
    /// A connection in use, where openings go on beside the queue.
    fn late_busy(&self) -> Stand {
        match self.serve(self.waiter(&self.here), |place| place.deliver(Stand, |_| ())) {
            Got::Opened(connection) => connection,
            _ => panic!("the first is served by its own opening"),
        }
    }
}
