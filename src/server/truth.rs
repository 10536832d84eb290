//! [`Truth`]: what a server with profiles really did, request by request, for whoever wants to hold a load tester's
//! report against it. Asked for at `/__truth` (JSON) and `/__truth/log` (CSV); `POST /__truth` begins anew.

use std::fmt::Write as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, UNIX_EPOCH};

use bytes::Bytes;
use serde_json::{Value, json};

use super::profile::{Holds, Profile, Queue};
use crate::clock;
use crate::duration::nanoseconds;
use crate::histogram::Histogram;

/// Where the log is asked for. Requests for it are counted nowhere.
pub(super) const PATH: &str = "/__truth";

/// Requests that are logged one by one (32 MB); later ones are only counted.
const LOGGED: usize = 1_000_000;

/// The profiles at work, and what they did.
#[derive(Debug)]
pub(super) struct Truth {
    profiles: Vec<Profile>,
    holds: Holds,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    queue: Option<Queue>,
    /// When the first request arrived: the profiles' time begins.
    epoch: Option<(Instant, u64)>,
    requests: u64,
    answered: u64,
    errors: u64,
    truncated: u64,
    holds: Histogram,
    log: Vec<Entry>,
    ends: Ends,
}

/// One request, in nanoseconds since the first.
#[derive(Clone, Copy, Debug)]
struct Entry {
    arrival: u64,
    hold: u64,
    connection: u64,
    /// How long its connection had been accepted when it arrived.
    age: u64,
}

/// Why connections ended.
#[derive(Clone, Copy, Debug, Default)]
struct Ends {
    by_client: u64,
    after_response: u64,
    idle: u64,
}

/// Who ended a connection.
#[derive(Clone, Copy, Debug)]
pub(super) enum EndedBy {
    /// The client, or the network.
    Client,
    /// The server, with a response that was to be the last.
    Response,
    /// The server, because the connection was idle.
    Idle,
}

/// A request that has been taken in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admitted {
    /// Which of the server's requests it is, from 1.
    pub(super) nth: u64,
    /// When it is to be answered.
    pub(super) ready: Instant,
    arrival: Instant,
    connection: u64,
    accepted: Instant,
}

impl Truth {
    pub(super) fn new(profiles: &[Profile]) -> Truth {
        Truth {
            profiles: profiles.to_vec(),
            holds: Holds::of(profiles),
            state: Mutex::new(State::new(profiles)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a request in that arrived now on that connection, which was accepted then.
    pub(super) fn admit(&self, connection: u64, accepted: Instant) -> Admitted {
        let mut state = self.lock();
        let arrival = clock::now();
        let (epoch, _) = *state.epoch.get_or_insert_with(|| (arrival, unix_ns()));
        state.requests += 1;
        let since = arrival - epoch;
        let out_of_queue = state.queue.as_mut().map_or(since, |queue| queue.served(since));
        let ready = epoch + self.holds.ready(out_of_queue, state.requests, connection);
        Admitted { nth: state.requests, ready, arrival, connection, accepted }
    }

    /// Its response goes out now, as an error or cut short if so.
    pub(super) fn answer(&self, request: Admitted, error: bool, truncated: bool) {
        let hold = clock::now() - request.arrival;
        let mut state = self.lock();
        state.answered += 1;
        state.errors += u64::from(error);
        state.truncated += u64::from(truncated);
        state.holds.record(hold);
        let Some((epoch, _)) = state.epoch else { return };
        if state.log.len() < LOGGED {
            let arrival = nanoseconds(request.arrival.saturating_duration_since(epoch));
            let age = nanoseconds(request.arrival.saturating_duration_since(request.accepted));
            state.log.push(Entry { arrival, hold: nanoseconds(hold), connection: request.connection, age });
        }
    }

    pub(super) fn ended(&self, by: EndedBy) {
        let ends = &mut self.lock().ends;
        match by {
            EndedBy::Client => ends.by_client += 1,
            EndedBy::Response => ends.after_response += 1,
            EndedBy::Idle => ends.idle += 1,
        }
    }

    /// Forgets everything; the profiles' time begins again with the next request.
    pub(super) fn reset(&self) {
        *self.lock() = State::new(&self.profiles);
    }

    /// What happened, in brief. `counts` are the server's own.
    pub(super) fn summary(&self, counts: super::Counts) -> Bytes {
        let state = self.lock();
        let holds = &state.holds;
        let quantile = |q| holds.quantile(q).map(nanoseconds);
        let value = json!({
            "schema": "keeplive.truth/1",
            "profiles": self.profiles.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "epoch_unix_ns": state.epoch.map(|(_, unix_ns)| unix_ns),
            "schedule": self.profiles.iter().filter_map(schedule).collect::<Vec<_>>(),
            "requests": state.requests,
            "answered": state.answered,
            "errors": state.errors,
            "truncated": state.truncated,
            "connections": {
                "accepted": counts.connections,
                "handshakes_full": counts.handshakes_full,
                "handshakes_resumed": counts.handshakes_resumed,
                "ended_by_client": state.ends.by_client,
                "ended_after_response": state.ends.after_response,
                "ended_idle": state.ends.idle,
            },
            "hold_ns": {
                "n": holds.len(),
                "mean": holds.mean().map(nanoseconds),
                "p50": quantile(0.5), "p90": quantile(0.9), "p95": quantile(0.95), "p99": quantile(0.99),
                "max": holds.max().map(nanoseconds),
            },
            "logged": state.log.len(),
        });
        let mut text = value.to_string();
        text.push('\n');
        text.into()
    }

    /// Every logged request: when it arrived, since the first, how long it was held, on which connection, and how long
    /// that had been accepted then.
    pub(super) fn log(&self) -> Bytes {
        let entries = self.lock().log.clone();
        let mut text = String::with_capacity(48 * entries.len() + 40);
        text.push_str("arrival_ns,hold_ns,connection,age_ns\n");
        for entry in entries {
            let Entry { arrival, hold, connection, age } = entry;
            let _ = writeln!(text, "{arrival},{hold},{connection},{age}");
        }
        text.into()
    }
}

impl State {
    fn new(profiles: &[Profile]) -> State {
        State {
            queue: Queue::of(profiles),
            epoch: None,
            requests: 0,
            answered: 0,
            errors: 0,
            truncated: 0,
            holds: Histogram::new(),
            log: Vec::new(),
            ends: Ends::default(),
        }
    }
}

/// When responses are held back, since the first request.
fn schedule(profile: &Profile) -> Option<Value> {
    match *profile {
        Profile::Stall(every, length) => {
            Some(json!({ "every_ns": nanoseconds(every), "length_ns": nanoseconds(length) }))
        }
        Profile::Once(at, length) => {
            Some(json!({ "at_ns": nanoseconds(at), "length_ns": nanoseconds(length) }))
        }
        _ => None,
    }
}

fn unix_ns() -> u64 {
    clock::wall().duration_since(UNIX_EPOCH).map_or(0, nanoseconds)
}
