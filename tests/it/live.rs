//! What is read of a run while it runs.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use keeplive::TlsConfig;
use keeplive::load::live::Counts;
use keeplive::load::{self, Companion, Comparing, Live, Load, Network, Progress, Stop};
use keeplive::measurement::Measurement;
use keeplive::plan::{Arm, Limits, Model, Plan, Target};
use keeplive::server::{Behaviour, Server};

/// Only counts.
struct Counting(Live);

impl Companion for Counting {
    fn tell(&mut self, _: Progress) {}

    fn live(&self) -> Live {
        self.0.clone()
    }
}

fn comparing(url: String) -> Comparing {
    let plan = Plan {
        target: Target { url, method: "GET".into(), headers: Vec::new(), body_len: 0, body: Vec::new() },
        arms: vec![Arm::on(Limits::default()), Arm::off(Limits::default())],
        model: Model::Closed,
        rounds: 2,
        slot: Duration::from_millis(200),
        washout: Duration::from_millis(20),
        connections: 4,
        threads: 2,
        max_time: Duration::from_secs(5),
        seed: 1,
        requests: None,
        expect_status: None,
        stages: Vec::new(),
        think: None,
        search: None,
        several: None,
    };
    let (tls, network) = (TlsConfig::default(), Network::default());
    Comparing { plan, load: Load::Closed, tls, network, warm_up: true, command: Vec::new(), embedded: false }
}

/// Runs, and reads all the while: no count ever becomes less.
fn run(url: String) -> (Measurement, Live) {
    let (live, over) = (Live::default(), AtomicBool::new(false));
    let measurement = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut before = live.read().all();
            while !over.load(Relaxed) {
                let now = live.read().all();
                let (earlier, later) = (numbers(&before), numbers(&now));
                assert!(
                    earlier.iter().zip(later).all(|(before, now)| now >= *before),
                    "{earlier:?}, {later:?}"
                );
                assert!(now.in_flight() <= 4, "{}", now.in_flight());
                before = now;
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let ran = load::accompanied(comparing(url), &Stop::default(), &mut Counting(live.clone()));
        over.store(true, Relaxed);
        ran.unwrap()
    });
    (measurement, live)
}

fn numbers(counts: &Counts) -> [u64; 6] {
    let Counts { scheduled, started, completed, opened, response, .. } = counts;
    [*scheduled, *started, *completed, *opened, response.len(), counts.failed()]
}

#[test]
fn what_is_counted_while_a_run_runs_only_grows_and_ends_as_what_the_result_says_of_each_arm() {
    let profiles = ["error:3", "close-after:50"].map(|text| text.parse().unwrap());
    let server = Server::new(profiles.into_iter().fold(Behaviour::default(), Behaviour::profile));
    let server = server.start().unwrap();
    let (measurement, live) = run(server.url());
    let reading = live.read();
    assert_eq!((reading.all().in_flight(), reading.all().waiting()), (0, 0));
    for arm in ["on", "off"] {
        let account = reading.accounts.iter().find(|account| account.measured && account.arm == arm).unwrap();
        let slots = || measurement.slots.iter().filter(|slot| slot.arm == arm);
        let counts = &account.counts;
        assert!(counts.completed > 0 && counts.failed() > 0, "{counts:?}");
        assert_eq!(counts.scheduled, slots().map(|slot| slot.scheduled).sum::<u64>());
        assert_eq!(counts.completed, slots().map(|slot| slot.completed).sum::<u64>());
        assert_eq!(counts.censored, slots().map(|slot| slot.censored).sum::<u64>());
        assert_eq!(counts.opened, slots().map(|slot| slot.connections.opened).sum::<u64>());
        assert_eq!(counts.response.len(), slots().map(|slot| slot.response.len()).sum::<u64>());
        assert_eq!(counts.response.sum(), slots().map(|slot| slot.response.sum()).sum::<Duration>());
        for (kind, n) in counts.failures() {
            assert_eq!(n, slots().filter_map(|slot| slot.errors.get(kind)).sum::<u64>(), "{kind}");
        }
    }
}

/// `--max-idle` is of all threads together: beyond it connections close when they become idle, and what is left is
/// closed at the end.
#[test]
fn max_idle_bounds_the_idle_connections_of_all_threads_together() {
    let server = Server::new(Behaviour::default()).start().unwrap();
    let mut comparing = comparing(server.url());
    let limits = Limits { max_idle: Some(3), ..Limits::default() };
    comparing.plan.arms = vec![Arm::on(limits)];
    comparing.plan.connections = 8;
    comparing.plan.rounds = 1;
    comparing.load = Load::Rate(10.0, keeplive::plan::Arrivals::Constant);
    let measurement = load::compare(comparing, &Stop::default(), &mut |_| {}).unwrap();
    let closed = &measurement.slots[0].connections.closed;
    assert!(closed["shutdown"] <= 3 && closed.values().sum::<u64>() >= 8, "{closed:?}");
    assert!(!measurement.notes.iter().any(|note| note.contains("not steady")), "{:?}", measurement.notes);
}

/// Eight responses in a look tell nothing.
#[test]
fn a_load_at_a_low_rate_is_never_said_to_be_unsteady() {
    let profile = "const:5ms".parse().unwrap();
    let server = Server::new(Behaviour::default().profile(profile)).start().unwrap();
    for arrivals in [keeplive::plan::Arrivals::Constant, keeplive::plan::Arrivals::Poisson] {
        let mut comparing = comparing(server.url());
        comparing.plan.rounds = 1;
        comparing.load = Load::Rate(20.0, arrivals);
        let measurement = load::compare(comparing, &Stop::default(), &mut |_| {}).unwrap();
        assert!(!measurement.notes.iter().any(|note| note.contains("steady")), "{:?}", measurement.notes);
    }
}
