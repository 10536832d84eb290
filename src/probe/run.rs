//! A probe from its settings to its findings.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::crew::Crew;
use super::diag::Diag;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::field::{Field, Notes, Over, either};
use super::find::{Found, Search};
use super::first_look::{self, Looked};
use super::gate::Gate;
use super::line::Speech;
use super::pulse::Pulse;
use super::{
    ProbeLimits, ProbeTarget, Probing, Progress, behind, first_request, judge, layer, limits, race, target,
};
use crate::clock;
use crate::connect::Connector;
use crate::duration as words;
use crate::findings::{
    Bounds, Caveat, CaveatKind, Fate, Findings, FirstRequest, IdleTimeout, Layer, MaxLifetime, MaxRequests,
    RaceWindow, Role, SCHEMA, Sample, Tally, Verdict,
};
use crate::load::{Refusal, Stop};
use crate::machine::Machine;
use crate::measurement::Tool;
use crate::origin::Origin;
use crate::saved;
use crate::tls::TlsClient;

/// An answer that takes so long is slow.
const SLOW: Duration = Duration::from_millis(500);

pub(super) fn run(
    probing: Probing,
    stop: &Stop,
    watch: &mut dyn FnMut(Progress),
) -> Result<Findings, Refusal> {
    if let Some(fault) = probing.limits.fault() {
        return Err(Refusal::Usage(fault));
    }
    on_this_thread(probe(probing, Diag::new(), stop, watch))
}

/// Runs this on a runtime of its own. A resolver that does not answer is not waited for when all else is done.
pub(super) fn on_this_thread<T>(work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let runtime = runtime()?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done
}

fn runtime() -> Result<Runtime, Refusal> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Refusal::Usage(format!("could not start a runtime: {error}")))
}

async fn probe(
    probing: Probing,
    diag: Option<Diag>,
    stop: &Stop,
    watch: &mut dyn FnMut(Progress),
) -> Result<Findings, Refusal> {
    let (started, machine) = (clock::wall(), Machine::this());
    let Ground { field, looked, heart: _heart } = Ground::reach(&probing, diag, stop, watch).await?;
    let latest = field.began + probing.limits.budget();
    let mut crew = Crew::new(Arc::clone(&field), stop.clone(), latest, watch);
    let seen = experiments(&mut crew, &looked, &probing).await;
    let mut samples: Vec<Sample> =
        std::mem::take(&mut crew.home).into_iter().map(|home| home.sample).collect();
    samples.extend(seen.samples);
    let mut caveats = caveats(&field, &looked, &seen.found.timeout, &samples);
    caveats.splice(0..0, seen.found.caveats);
    let behind = behind::behind(&samples, &seen.found.timeout, looked.probed.status);
    let notes = field.notes();
    let round_trip = judge::spread(notes.connects.iter().copied());
    Ok(Findings {
        schema: SCHEMA.into(),
        tool: tool(),
        command: probing.command,
        started: saved::date(started),
        took: clock::now() - field.began,
        machine,
        target: looked.probed,
        bounds: Bounds {
            max_idle: probing.limits.max_idle,
            budget: probing.limits.budget(),
            connections: probing.limits.connections,
            connects_per_s: probing.limits.connects_per_s,
        },
        round_trip,
        idle_timeout: seen.found.timeout,
        first_request_timeout: seen.first_request,
        max_requests: seen.max_requests,
        max_lifetime: seen.max_lifetime,
        advertised: looked.advertised,
        race_window: seen.race_window,
        layer: seen.layer,
        behind,
        caveats,
        raw: samples,
        interrupted: stop.is_set(),
    })
}

/// What every experiment stands on: the one address, what it answered, and a heart that beats.
pub(super) struct Ground {
    pub(super) field: Arc<Field>,
    pub(super) looked: Looked,
    pub(super) heart: Heart,
}

/// Beats until it is dropped.
pub(super) struct Heart(JoinHandle<()>);

impl Drop for Heart {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Ground {
    /// The first of the target's addresses that answers; it is the one that is probed, and the others are named.
    pub(super) async fn reach(
        probing: &Probing,
        diag: Option<Diag>,
        stop: &Stop,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Ground, Refusal> {
        let (origin, speech) = target::read(&probing.target)?;
        // Reads the system's certificates, which takes a while: before anything is dated.
        let tls = probing.tls.build().map_err(|error| Refusal::Usage(error.to_string()))?;
        let pulse = Arc::new(Pulse::new());
        let beating = Arc::clone(&pulse);
        let heart = Heart(tokio::spawn(async move { beating.beat().await }));
        let url = url(&probing.target);
        let stopped = || {
            let text = format!("{url}: stopped before it had answered: nothing was measured");
            Refusal::Unreachable(text)
        };
        let resolving = stop.unless_set(first_look::addresses(&origin, &probing.resolve));
        let addresses = resolving.await.unwrap_or_else(|| Err(stopped()))?;
        let mut refusal = None;
        for &address in &addresses {
            let field = field(probing, &tls, &origin, &speech, &pulse, address);
            let field = Arc::new(Field { diag: diag.clone(), ..field });
            match stop.unless_set(first_look::look(&field, url)).await.ok_or_else(stopped)? {
                Ok(mut looked) => {
                    watch(Progress::Reached { address: address.to_string() });
                    let others = addresses.iter().filter(|other| **other != address);
                    looked.probed.other_addresses = others.map(SocketAddr::to_string).collect();
                    return Ok(Ground { field, looked, heart });
                }
                Err(error) => refusal = Some(error),
            }
        }
        Err(refusal.unwrap_or_else(|| Refusal::Unreachable(format!("{url}: no address"))))
    }
}

fn field(
    probing: &Probing,
    tls: &TlsClient,
    origin: &Origin,
    speech: &Speech,
    pulse: &Arc<Pulse>,
    address: SocketAddr,
) -> Field {
    Field {
        began: clock::now(),
        origin: origin.clone(),
        address,
        connector: Connector::with_tls(tls.clone()),
        connect_timeout: probing.limits.connect_timeout,
        patience: probing.limits.max_time,
        speech: speech.clone(),
        gate: Gate::new(probing.limits.connections, probing.limits.connects_per_s),
        pulse: Arc::clone(pulse),
        diag: None,
        notes: Mutex::new(Notes::default()),
    }
}

fn url(target: &ProbeTarget) -> &str {
    match target {
        ProbeTarget::Http(target) => &target.url,
        ProbeTarget::Tcp { url, .. } => url,
    }
}

/// What all experiments saw.
struct Seen {
    found: Found,
    first_request: Option<FirstRequest>,
    max_requests: Option<MaxRequests>,
    max_lifetime: Option<MaxLifetime>,
    race_window: Option<RaceWindow>,
    layer: Option<Layer>,
    /// Of connections that the crew did not send out.
    samples: Vec<Sample>,
}

/// Waves of the experiments that follow the search.
const RACE: u32 = 1001;
const LAYER: u32 = 1002;

/// First what needs no answer to begin with: the search, the watch before a first request, and the count of requests,
/// side by side. Then what needs the idle timeout.
async fn experiments(crew: &mut Crew<'_>, looked: &Looked, probing: &Probing) -> Seen {
    let (field, limits) = (Arc::clone(&crew.field), &probing.limits);
    let over = Over::new();
    let first = looked.keeps.then(|| first_request::Watch::begin(&field, limits.max_idle));
    let is_http = matches!(probing.target, ProbeTarget::Http(_));
    let counting = (looked.keeps && is_http && limits.requests > 0)
        .then(|| tokio::spawn(limits::requests(Arc::clone(&field), limits.requests, over.clone())));
    let mut found = find(crew, looked, limits).await;
    let mut samples = Vec::new();
    let timeout = found.timeout.upper.filter(|_| found.timeout.verdict == Verdict::Found);
    let growing = limits.lifetime.filter(|_| looked.keeps).map(|tried| {
        // Often enough that no idle timer ends it.
        let every = timeout.map_or(OFTEN, |timeout| (timeout / 2).min(OFTEN));
        tokio::spawn(limits::lifetime(Arc::clone(&field), Role::Lifetime, every, tried, over.clone()))
    });
    let race_window = match found.timeout.seen.filter(|_| limits.race && timeout.is_some()) {
        Some(seen) => race::window(crew, RACE, seen.min, round_trip(&field)).await,
        None => None,
    };
    let layer = match timeout.filter(|_| limits.layer) {
        Some(timeout) => layer::layer(crew, LAYER, timeout).await,
        None => None,
    };
    let layer = layer.map(|(layer, held)| {
        samples.extend(held);
        layer
    });
    found.caveats.extend(untried(limits, &found.timeout, race_window.is_none(), layer.is_none()));
    // Whoever still counts or grows old does so until its end or that of the budget.
    let (counted, grown) = {
        let both = async { (joined(counting).await, joined(growing).await) };
        let end = async {
            crew.until_over().await;
            over.call();
            std::future::pending::<()>().await;
        };
        either(both, end).await.unwrap_or_default()
    };
    let (max_requests, counted) = counted.unwrap_or_default();
    let (max_lifetime, grown) = grown.unwrap_or_default();
    samples.extend(counted.into_iter().chain(grown));
    let first_request = match first {
        Some(first) => {
            let (first, watched) = first.end(until(crew, limits.first_request)).await;
            samples.extend(watched);
            Some(first)
        }
        None => None,
    };
    Seen { found, first_request, max_requests, max_lifetime, race_window, layer, samples }
}

/// What was asked for and could not be tried, with the reason.
fn untried(limits: &ProbeLimits, timeout: &IdleTimeout, no_race: bool, no_layer: bool) -> Vec<Caveat> {
    let no_timer = timeout.verdict != Verdict::Found;
    let why = |otherwise: &'static str| {
        if no_timer { "there is no one timer to try it against" } else { otherwise }
    };
    let race = (limits.race && no_race)
        .then(|| ("--race", why("its end is not seen while connections are idle, or the budget was spent")));
    let layer = (limits.layer && no_layer).then(|| {
        ("--layer", why("the kernel's keepalive counts in whole seconds and this timer is too short, or the budget was spent"))
    });
    let caveat = |(option, why)| Caveat {
        kind: CaveatKind::Other,
        text: format!("{option} could not be tried: {why}"),
    };
    race.into_iter().chain(layer).map(caveat).collect()
}

/// A connection in use is asked at least so often.
const OFTEN: Duration = Duration::from_secs(30);

async fn joined<T>(task: Option<JoinHandle<T>>) -> Option<T> {
    task?.await.ok()
}

async fn until(crew: &Crew<'_>, wait: bool) {
    if wait {
        crew.until_over().await;
    }
}

fn round_trip(field: &Field) -> Duration {
    judge::spread(field.notes().connects.iter().copied()).map_or(Duration::ZERO, |spread| spread.median)
}

async fn find(crew: &mut Crew<'_>, looked: &Looked, limits: &ProbeLimits) -> Found {
    if !looked.keeps {
        return Found { timeout: not_kept(), caveats: Vec::new() };
    }
    let hints = looked.advertised.as_ref().and_then(|advertised| advertised.timeout);
    Search::new(crew, limits.max_idle, hints.into_iter().collect()).run().await
}

fn not_kept() -> IdleTimeout {
    IdleTimeout {
        verdict: Verdict::NotKept,
        lower: Duration::ZERO,
        upper: None,
        close: None,
        seen: None,
        samples: 1,
        confirmed_alive: Tally::default(),
        confirmed_dead: Tally::default(),
        clusters: Vec::new(),
    }
}

fn caveats(field: &Field, looked: &Looked, timeout: &IdleTimeout, samples: &[Sample]) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    let mut say = |kind, text: String| caveats.push(Caveat { kind, text });
    let late = samples.iter().filter(|sample| sample.fate == Fate::Late).count();
    if late > 0 {
        say(
            CaveatKind::Late,
            format!("{late} samples were discarded: this machine was busy, stopped or asleep"),
        );
    }
    if !looked.has_tcp_info {
        let text =
            "this system does not tell of its connections (TCP_INFO): silence and slowness look the same";
        say(CaveatKind::NoTcpInfo, text.into());
    }
    if !field.speech.can_ask() {
        let text = "nothing was ever sent (--send), so that only ends that can be seen were found";
        say(CaveatKind::Other, text.into());
    }
    if !looked.probed.other_addresses.is_empty() {
        let others = looked.probed.other_addresses.join(", ");
        say(
            CaveatKind::OtherAddresses,
            format!("only {} was probed; the name also has {others}", field.address),
        );
    }
    if looked.probed.status.is_some_and(|status| status >= 400) {
        let status = looked.probed.status.unwrap_or_default();
        say(
            CaveatKind::ErrorStatus,
            format!("the first answer was a {status}: is this the path that is meant?"),
        );
    }
    let unanswered = samples
        .iter()
        .filter(|sample| sample.fate == Fate::Dead && sample.close.is_none() && !sample.said_close)
        .count();
    if looked.answered_in >= SLOW {
        say(CaveatKind::Slow, format!("the first answer took {}", words::say(looked.answered_in)));
    }
    if unanswered > 0 {
        let text = format!(
            "{unanswered} requests after an idle time got no answer within {}, and no end was seen",
            words::say(field.patience)
        );
        say(CaveatKind::Slow, text);
    }
    let notes = field.notes();
    if !notes.failures.is_empty() {
        let text = format!(
            "{} connections failed before they were idle, first: {}",
            notes.failures.len(),
            notes.failures[0]
        );
        say(CaveatKind::Restarted, text);
    }
    if notes.peer_probes {
        let text = "the other side sends TCP keepalive probes, which hide timers of the packet layer";
        say(CaveatKind::PeerProbes, text.into());
    }
    if let Some(text) = advertised_differs(looked, timeout) {
        say(CaveatKind::AdvertisedDiffers, text);
    }
    caveats
}

/// Whole seconds are advertised, so that less than one is no difference.
fn advertised_differs(looked: &Looked, timeout: &IdleTimeout) -> Option<String> {
    let advertised = looked.advertised.as_ref()?.timeout?;
    let seen = timeout.seen.map(|seen| seen.median).or(timeout.upper)?;
    if timeout.verdict != Verdict::Found || advertised.abs_diff(seen) < Duration::from_secs(1) {
        return None;
    }
    Some(format!(
        "the server advertises {} s and closed after {:.2} s",
        advertised.as_secs(),
        seen.as_secs_f64()
    ))
}

pub(super) fn tool() -> Tool {
    Tool { name: env!("CARGO_PKG_NAME").into(), version: env!("CARGO_PKG_VERSION").into() }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use super::*;
    use crate::findings::CloseKind;
    use crate::plan::Target;
    use crate::tls::TlsConfig;

    /// Answers, and when it was asked later than this, never again.
    fn falls_silent(mut stream: TcpStream, after: Duration) {
        loop {
            let quiet = clock::now();
            match stream.read(&mut [0; 1024]) {
                Ok(1..) if quiet.elapsed() < after => {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
                }
                Ok(1..) => {}
                _ => return,
            }
        }
    }

    fn peer(after: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                std::thread::spawn(move || falls_silent(stream, after));
            }
        });
        address
    }

    #[test]
    fn a_system_that_tells_nothing_of_its_connections_says_what_it_cannot_tell() {
        let after = Duration::from_millis(900);
        let url = format!("http://{}/", peer(after));
        let target = Target { url, method: "GET".into(), headers: Vec::new(), body_len: 0, body: Vec::new() };
        let max_time = Duration::from_millis(400);
        let limits = ProbeLimits {
            max_idle: Duration::from_secs(4),
            requests: 0,
            max_time,
            connects_per_s: 100,
            ..ProbeLimits::default()
        };
        let probing = Probing {
            target: ProbeTarget::Http(target),
            tls: TlsConfig::default(),
            resolve: Vec::new(),
            command: Vec::new(),
            limits,
        };
        let (stop, mut watch) = (Stop::default(), |_| {});
        let findings = runtime().unwrap().block_on(probe(probing, None, &stop, &mut watch)).unwrap();
        let idle = &findings.idle_timeout;
        assert_eq!(idle.verdict, Verdict::Found, "{idle:?}");
        assert!(idle.lower <= after && idle.upper.unwrap() >= after, "{idle:?}");
        assert_eq!(idle.close, None, "silence and slowness look the same");
        assert!(findings.raw.iter().all(|sample| sample.tcp.is_none()));
        assert!(findings.raw.iter().all(|sample| sample.close != Some(CloseKind::Silent)));
        for (kind, words) in
            [(CaveatKind::NoTcpInfo, "look the same"), (CaveatKind::Slow, "got no answer within")]
        {
            let told = findings.caveats.iter().any(|one| one.kind == kind && one.text.contains(words));
            assert!(told, "{kind:?} {:?}", findings.caveats);
        }
    }
}
