//! Arms with targets of their own: two servers under the same load, side by side.

use std::time::Duration;

use keeplive::TlsConfig;
use keeplive::load::{self, Companion, Comparing, Load, Network, Next, Progress, Refusal, Stop};
use keeplive::measurement::{Measurement, Slot};
use keeplive::plan::{Arm, Limits, Model, Plan, Target};
use keeplive::server::{Behaviour, Running, Server};

fn server(delay: Duration) -> Running {
    Server::new(Behaviour::default().delay(delay)).start().unwrap()
}

fn at(url: String) -> Target {
    Target { url, method: "GET".into(), headers: Vec::new(), body_len: 0, body: Vec::new() }
}

fn two(urls: [String; 2], load: Load) -> Comparing {
    let named = |name: &str, url: &String| Arm {
        name: name.into(),
        ..Arm::on(Limits::default()).at(at(url.clone()))
    };
    let plan = Plan {
        target: at(urls[0].clone()),
        arms: vec![named("base", &urls[0]), named("head", &urls[1])],
        model: Model::Closed,
        rounds: 2,
        slot: Duration::from_millis(100),
        washout: Duration::ZERO,
        connections: 2,
        threads: 1,
        max_time: Duration::from_secs(5),
        seed: 1,
        requests: None,
        expect_status: None,
        stages: Vec::new(),
        think: None,
        search: None,
        several: None,
    };
    let tls = TlsConfig::default();
    let network = Network::default();
    Comparing { plan, load, tls, network, warm_up: true, command: Vec::new(), embedded: false }
}

fn run(comparing: Comparing) -> Result<Measurement, Refusal> {
    load::compare(comparing, &Stop::default(), &mut |_| {})
}

#[test]
fn each_arm_asks_its_own_server_and_its_times_are_that_servers() {
    let servers = [server(Duration::ZERO), server(Duration::from_millis(20))];
    let comparing = two(servers.each_ref().map(Running::url), Load::Closed);
    let measurement = run(comparing).unwrap();
    for (arm, server) in ["base", "head"].into_iter().zip(&servers) {
        let slots = measurement.slots.iter().filter(|slot| slot.arm == arm);
        let of_slots: u64 = slots.clone().map(|slot| slot.connections.exchanges).sum();
        assert!(of_slots > 0 && of_slots <= server.counts().requests, "{arm}: {of_slots}");
        let at_least = if arm == "head" { Duration::from_millis(20) } else { Duration::ZERO };
        assert!(slots.clone().all(|slot| slot.response.min().unwrap() >= at_least), "{arm}");
    }
    let all: u64 = measurement.slots.iter().map(|slot| slot.connections.exchanges).sum();
    let answered: u64 = servers.iter().map(|server| server.counts().requests).sum();
    assert_eq!(all + measurement.outside.exchanges, answered, "every answer is in a ledger");
}

#[test]
fn half_of_the_smaller_servers_capacity_is_offered_to_both() {
    let servers = [server(Duration::ZERO), server(Duration::from_millis(20))];
    let urls = servers.each_ref().map(Running::url);
    let measurement = run(two(urls, Load::HalfOfCapacity(keeplive::plan::Arrivals::Constant))).unwrap();
    let Model::Open { rate, .. } = measurement.plan.model else { panic!("an open loop") };
    // Two connections at 20 ms a request: 100 requests per second at most.
    assert!(rate > 10.0 && rate <= 50.0, "{rate}");
}

#[test]
fn a_second_server_that_does_not_answer_is_found_at_the_first_look() {
    let here = server(Duration::ZERO);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().port();
    drop(listener);
    let refusal = run(two([here.url(), format!("http://127.0.0.1:{nobody}/")], Load::Closed)).unwrap_err();
    assert!(
        matches!(&refusal, Refusal::Unreachable(text) if text.contains(&nobody.to_string())),
        "{refusal}"
    );
}

/// Has seen enough after the first round, and says which process to count.
struct SoonSatisfied;

impl Companion for SoonSatisfied {
    fn tell(&mut self, _: Progress) {}

    fn after_round(&mut self, done: u32, slots: &[Slot]) -> Result<Next, Refusal> {
        assert_eq!(slots.len() as u32, 2 * done);
        Ok(Next::Enough)
    }

    fn process(&self, _: usize) -> Option<u32> {
        Some(std::process::id())
    }
}

#[test]
fn a_run_whose_companion_has_seen_enough_ends_without_being_interrupted() {
    let servers = [server(Duration::ZERO), server(Duration::ZERO)];
    let mut comparing = two(servers.each_ref().map(Running::url), Load::Closed);
    comparing.plan.rounds = 50;
    let measurement = load::accompanied(comparing, &Stop::default(), &mut SoonSatisfied).unwrap();
    assert_eq!((measurement.slots.len(), measurement.interrupted), (2, false));
    assert!(
        measurement.slots.iter().all(|slot| slot.target_cpu_ns.is_some_and(|ns| ns > 0)),
        "this process works"
    );
}
