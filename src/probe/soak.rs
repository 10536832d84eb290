//! The soak: many connections at one idle time, and how many of them a client could still have used.

use std::sync::Arc;
use std::time::Duration;

use super::crew::{Crew, Moment};
use super::diag::Diag;
use super::field::{Errand, Outcome, Over, Start};
use super::run::{self, Ground};
use super::{Probing, Progress, judge};
use crate::clock;
use crate::findings::{CloseKind, Deaths, Fate, Role, SOAK_SCHEMA, Soak, death_rate_bound};
use crate::load::{Refusal, Stop};
use crate::machine::Machine;
use crate::saved;

/// An idle time to be tried in bulk. How many connections are held and how fast they are opened stands in
/// [`ProbeLimits`](super::ProbeLimits).
#[derive(Clone, Copy, Debug)]
pub struct Soaking {
    /// The idle time.
    pub idle: Duration,
    /// How often each place is filled anew.
    pub rounds: u32,
}

/// See [`super::soak`].
pub(super) fn soak(
    probing: Probing,
    soaking: Soaking,
    stop: &Stop,
    watch: &mut dyn FnMut(Progress),
) -> Result<Soak, Refusal> {
    if let Some(fault) = fault(&probing, soaking) {
        return Err(Refusal::Usage(fault));
    }
    run::on_this_thread(hold(probing, soaking, stop, watch))
}

/// Whatever the range of local ports.
const MOST_CONNECTIONS: u32 = 65_000;

fn fault(probing: &Probing, soaking: Soaking) -> Option<String> {
    let limits = &probing.limits;
    if soaking.idle.is_zero() {
        return Some("--idle is 0: nothing would be idle; use the idle time that is to be judged".into());
    }
    if soaking.rounds == 0 || limits.connections == 0 || limits.connects_per_s == 0 {
        return Some("--rounds, --connections and --connects-per-second must be 1 or more".into());
    }
    if limits.connections > MOST_CONNECTIONS {
        return Some(format!(
            "--connections is above {MOST_CONNECTIONS}: this machine has no more local ports to one address; give more \
             --rounds instead"
        ));
    }
    if limits.budget.is_some_and(|budget| budget < soaking.idle) {
        return Some("--budget is below --idle: not one connection could be idle so long; raise it".into());
    }
    None
}

async fn hold(
    mut probing: Probing,
    soaking: Soaking,
    stop: &Stop,
    watch: &mut dyn FnMut(Progress),
) -> Result<Soak, Refusal> {
    let (started, machine) = (clock::wall(), Machine::this());
    let tries = u64::from(soaking.rounds) * u64::from(probing.limits.connections);
    // Unless it is bounded: as long as all of it takes when every answer is slow.
    let opening = Duration::from_secs(tries / u64::from(probing.limits.connects_per_s) + 1);
    let round = soaking.idle + probing.limits.max_time * 2 + probing.limits.connect_timeout;
    let all = round.saturating_mul(soaking.rounds).saturating_add(opening);
    let budget = probing.limits.budget.unwrap_or(all);
    let ground = Ground::reach(&probing, Diag::new(), stop, watch).await?;
    if !ground.field.speech.can_ask() {
        return Err(Refusal::Usage("a soak of tcp:// has to --send something, to ask who lives".into()));
    }
    let field = Arc::clone(&ground.field);
    let mut crew = Crew::new(Arc::clone(&field), stop.clone(), field.began + budget, watch);
    let over = Over::new();
    let errand = Errand {
        role: Role::Soak,
        wave: 1,
        ask_after: Some(soaking.idle),
        appointment: None,
        watch_for: soaking.idle,
        start: Start::Answer,
        keepalive: None,
    };
    // One round after the other: those that wait for their turn would wait in memory.
    for _ in 0..soaking.rounds {
        (0..probing.limits.connections).for_each(|_| crew.send_out(errand.clone(), &over));
        if crew.all_home().await != Moment::Empty {
            break;
        }
    }
    crew.call_home(&over).await;
    let outcomes = std::mem::take(&mut crew.home);
    let failed_to_open = field.notes().failures.len() as u64;
    let gateway = ground.looked.probed.status.is_some_and(|status| (502..=504).contains(&status));
    let counted = Counted::of(&outcomes, gateway);
    Ok(Soak {
        schema: SOAK_SCHEMA.into(),
        tool: run::tool(),
        command: std::mem::take(&mut probing.command),
        started: saved::date(started),
        took: clock::now() - field.began,
        machine,
        target: ground.looked.probed,
        idle: soaking.idle,
        connections: probing.limits.connections,
        rounds: soaking.rounds,
        tried: counted.tried,
        alive: counted.alive,
        deaths: counted.deaths,
        gateway_errors: counted.gateway_errors,
        discarded: outcomes.len() as u64 - counted.tried,
        failed_to_open,
        death_rate_bound: death_rate_bound(counted.tried - counted.alive, counted.tried),
        interrupted: stop.is_set(),
    })
}

struct Counted {
    tried: u64,
    alive: u64,
    gateway_errors: u64,
    deaths: Vec<Deaths>,
}

impl Counted {
    /// `gateway`: the first answer was a gateway's error, so that another says nothing.
    fn of(outcomes: &[Outcome], gateway: bool) -> Counted {
        let with = |fate| outcomes.iter().filter(move |home| home.sample.fate == fate);
        let n = |fate| with(fate).count() as u64;
        let errors = n(Fate::GatewayError);
        let alive = n(Fate::Alive) + if gateway { errors } else { 0 };
        let mut kinds: Vec<Option<CloseKind>> = with(Fate::Dead).map(|home| home.sample.close).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let deaths = kinds.into_iter().filter_map(|close| {
            let idle =
                with(Fate::Dead).filter(|home| home.sample.close == close).map(|home| home.sample.idle);
            Some(Deaths { close, at: judge::spread(idle)? })
        });
        Counted {
            tried: alive + n(Fate::Dead) + if gateway { 0 } else { errors },
            alive,
            gateway_errors: if gateway { 0 } else { errors },
            deaths: deaths.collect(),
        }
    }
}
