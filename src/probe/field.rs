//! [`Field`]: what all connections of a probe share: where they go, what is said on them, and who is out there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::answer::Head;
use super::diag::{Diag, Told};
use super::gate::Gate;
use super::line::{GLANCE, Line, Reply, Speech};
use super::pulse::{Pulse, tolerance};
use crate::clock;
use crate::config::{PoolConfig, Resolve};
use crate::connect::Connector;
use crate::error::Error;
use crate::findings::{CloseKind, Fate, Role, Sample};
use crate::observer::Watched;
use crate::origin::{Origin, Scheme};

/// After so long a segment that comes on an idle connection is not part of its answer any more.
const SETTLED: Duration = Duration::from_millis(300);

pub(super) struct Field {
    pub(super) began: Instant,
    pub(super) origin: Origin,
    pub(super) address: SocketAddr,
    pub(super) connector: Connector,
    pub(super) connect_timeout: Duration,
    /// How long an answer may take.
    pub(super) patience: Duration,
    pub(super) speech: Speech,
    pub(super) gate: Gate,
    pub(super) pulse: Arc<Pulse>,
    pub(super) diag: Option<Diag>,
    pub(super) notes: Mutex<Notes>,
}

/// What is known while a probe runs.
#[derive(Debug, Default)]
pub(super) struct Notes {
    /// Connections that are idle now, by a number of their own.
    pub(super) idle: BTreeMap<u64, Idle>,
    /// Those of them that were asked, and whose question seems to be lost.
    pub(super) doubts: BTreeMap<u64, Doubt>,
    next: u64,
    /// TCP handshakes.
    pub(super) connects: Vec<Duration>,
    /// First answers.
    pub(super) answers: Vec<Duration>,
    /// What went wrong before an idle time had begun: connections refused, first answers that did not come.
    pub(super) failures: Vec<String>,
    /// Whether the peer sent segments on a connection that was idle.
    pub(super) peer_probes: bool,
}

/// A connection that is idle now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    pub(super) wave: u32,
    pub(super) since: Instant,
    pub(super) planned: Option<Duration>,
}

/// A question that was sent twice and more, and not acknowledged so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    pub(super) wave: u32,
    pub(super) planned: Duration,
    pub(super) idle: Duration,
}

/// So many connections in doubt at once that were to confirm what others have shown decide it: each has lost two
/// segments already.
const COMPANY: usize = 3;

/// Idle times that are not known yet when connections are opened for them: each has its own number among them.
#[derive(Clone, Debug)]
pub(super) struct Appointments(watch::Sender<Option<Vec<Duration>>>);

impl Appointments {
    pub(super) fn new() -> Appointments {
        Appointments(watch::Sender::new(None))
    }

    pub(super) fn make(&self, times: Vec<Duration>) {
        self.0.send_replace(Some(times));
    }

    /// The idle time of this number, once it is known; there may be none for it.
    async fn of(&self, number: usize) -> Option<Duration> {
        let mut made = self.0.subscribe();
        let made = made.wait_for(Option::is_some).await.ok()?;
        made.as_ref()?.get(number).copied()
    }
}

/// Asks everyone who holds it to come home.
#[derive(Clone, Debug)]
pub(super) struct Over(watch::Sender<bool>);

impl Over {
    pub(super) fn new() -> Over {
        Over(watch::Sender::new(false))
    }

    pub(super) fn call(&self) {
        self.0.send_replace(true);
    }

    /// Ends when it is over and this is not so.
    async fn called_unless(&self, not_yet: &AtomicBool) {
        let mut called = self.0.subscribe();
        if called.wait_for(|over| *over).await.is_err() {
            std::future::pending::<()>().await;
        }
        while not_yet.load(Relaxed) {
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// What the deed comes to, unless it is over first.
    pub(super) async fn unless<T>(&self, deed: impl Future<Output = T>) -> Option<T> {
        let mut called = self.0.subscribe();
        either(deed, async { called.wait_for(|over| *over).await.map_or((), |_| ()) }).await
    }
}

/// The deed's result, or `None` when the end came first.
pub(super) async fn either<T>(deed: impl Future<Output = T>, end: impl Future<Output = ()>) -> Option<T> {
    let (mut deed, mut end) = (pin!(deed), pin!(end));
    std::future::poll_fn(|cx| match deed.as_mut().poll(cx) {
        Poll::Ready(done) => Poll::Ready(Some(done)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// What one connection is to do.
#[derive(Clone, Debug)]
pub(super) struct Errand {
    pub(super) role: Role,
    pub(super) wave: u32,
    /// Ask after so long; `None`: only watch.
    pub(super) ask_after: Option<Duration>,
    /// Or ask after what this number among them will be.
    pub(super) appointment: Option<(usize, Appointments)>,
    /// Watch so long at most.
    pub(super) watch_for: Duration,
    /// How the idle time begins.
    pub(super) start: Start,
    /// TCP keepalive from our side.
    pub(super) keepalive: Option<Duration>,
}

/// When a connection's idle time begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// After an answer.
    Answer,
    /// After the TCP handshake.
    Tcp,
    /// After the TLS handshake.
    Tls,
}

/// A fate, and what it takes to judge it.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) wave: u32,
    pub(super) sample: Sample,
    /// When it ended, since the probe began.
    pub(super) at: Duration,
}

impl Field {
    pub(super) fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn since_began(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.began)
    }

    pub(super) fn is_tls(&self) -> bool {
        self.origin.scheme() == Scheme::Https
    }

    /// Notes whether a question is in doubt; how many of its wave are.
    fn doubted(&self, number: u64, doubt: Option<Doubt>) -> usize {
        let mut notes = self.notes();
        let Some(doubt) = doubt else {
            notes.doubts.remove(&number);
            return 0;
        };
        notes.doubts.insert(number, doubt);
        notes.doubts.values().filter(|other| other.wave == doubt.wave).count()
    }

    /// Opens a connection to the one address.
    pub(super) async fn open(&self, tls: bool) -> Result<Line, Error> {
        let origin = if tls { self.origin.clone() } else { self.without_tls() };
        let resolve = Resolve { host: origin.host().to_owned(), port: origin.port(), address: self.address };
        // No lifeline of the kernel's: keepalive probes would hold open what is to be seen to end, and a user timeout
        // would end what is to be seen as silence.
        let config = PoolConfig::default()
            .connect_timeout(Some(self.connect_timeout))
            .resolve(vec![resolve])
            .tcp_keepalive(None)
            .tcp_user_timeout(None);
        let line = Line::new(self.connector.open(&origin, &config, None, &Watched::default()).await?);
        self.notes().connects.push(line.timings.tcp);
        Ok(line)
    }

    fn without_tls(&self) -> Origin {
        let host = self.origin.host();
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        format!("http://{host}:{}/", self.origin.port())
            .parse()
            .expect("an origin's host and port fit another")
    }

    /// Opens a connection and asks once, so that it is idle from then on. `None`: it came to nothing, which is
    /// noted.
    pub(super) async fn ready(&self, start: Start) -> Option<(Line, Option<Head>)> {
        let mut line = match self.open(start != Start::Tcp && self.is_tls()).await {
            Ok(line) => line,
            Err(error) => {
                self.notes().failures.push(error.to_string());
                return None;
            }
        };
        if start != Start::Answer || !self.greets() {
            return Some((line, None));
        }
        let asked = clock::now();
        match line.ask(&self.speech, self.patience, self.diag.as_ref()).await {
            Reply::Answered(head) => {
                self.notes().answers.push(clock::now() - asked);
                Some((line, Some(head)))
            }
            other => {
                self.notes().failures.push(match other {
                    Reply::NoAnswer => format!("no answer to a first request within {:?}", self.patience),
                    Reply::Broken => "a first request was answered with something else than HTTP/1.1".into(),
                    _ => "a connection ended before its first answer".into(),
                });
                None
            }
        }
    }

    /// Whether there is anything to say or to hear before the idle time.
    pub(super) fn greets(&self) -> bool {
        match &self.speech {
            Speech::Http { .. } => true,
            Speech::Bytes { send, expect } => !(send.is_empty() && expect.is_empty()),
        }
    }

    /// Runs one errand to its end, or until it is over. `None`: its idle time never began.
    pub(super) async fn run(self: Arc<Self>, errand: Errand, over: Over) -> Option<Outcome> {
        let _place = over.unless(self.gate.enter()).await?;
        let opened = self.since_began(clock::now());
        let (line, head) = over.unless(self.ready(errand.start)).await??;
        let quiet = line.quiet_since;
        let keepalive = errand.keepalive;
        let mut visit = Visit { field: &self, errand, line, quiet, opened, over: &over };
        if head.is_some_and(|head| head.says_close) {
            let mut outcome = visit.outcome(Fate::Dead, None, clock::now());
            outcome.sample.said_close = true;
            return Some(outcome);
        }
        if let Some(every) = keepalive {
            // Where it cannot be set, the connection is its own control, and the layer stays undecided.
            let _ = visit.line.keepalive(every);
        }
        Some(visit.idle().await)
    }
}

struct Visit<'a> {
    field: &'a Field,
    errand: Errand,
    line: Line,
    /// When its idle time began.
    quiet: Instant,
    opened: Duration,
    over: &'a Over,
}

impl Visit<'_> {
    async fn idle(&mut self) -> Outcome {
        let number = self.enter_notes();
        let before = self.line.told(self.field.diag.as_ref());
        let heard = {
            let (line, errand) = (&mut self.line, &mut self.errand);
            self.over.unless(either(line.listen(), due(errand, self.quiet))).await
        };
        self.field.notes().idle.remove(&number);
        let told = self.line.told(self.field.diag.as_ref());
        self.note_probes(before, told);
        let asks = self.errand.ask_after.is_some();
        let mut outcome = match heard {
            None if asks || self.errand.appointment.is_some() => {
                self.outcome(Fate::Abandoned, None, clock::now())
            }
            None => self.outcome(Fate::Alive, None, clock::now()),
            Some(Some(ending)) => self.outcome(Fate::Dead, Some(ending.kind), ending.at),
            Some(None) if asks => return self.ask(number).await,
            Some(None) => self.outcome(Fate::Alive, None, clock::now()),
        };
        outcome.sample.tcp = told.map(|told| told.facts);
        outcome
    }

    fn enter_notes(&self) -> u64 {
        let mut notes = self.field.notes();
        let number = notes.next;
        notes.next += 1;
        let idle = Idle { wave: self.errand.wave, since: self.quiet, planned: self.errand.ask_after };
        notes.idle.insert(number, idle);
        number
    }

    /// A segment that came while nothing was said, and was no data and no end, is the peer's keepalive probe. One is
    /// allowed: the acknowledgement of what TLS or we said last.
    fn note_probes(&self, before: Option<Told>, after: Option<Told>) {
        let Some((before, after)) = before.zip(after) else { return };
        let idle = clock::now().saturating_duration_since(self.quiet);
        let ours = self.errand.keepalive.is_some();
        let open = after.facts.state == 1 && after.facts.last_data_recv_ms as u128 + 50 >= idle.as_millis();
        if !ours && open && idle > SETTLED && after.segments_in > before.segments_in + 1 {
            self.field.notes().peer_probes = true;
        }
    }

    async fn ask(&mut self, number: u64) -> Outcome {
        let asked = clock::now();
        let idle = asked.saturating_duration_since(self.quiet);
        let doubt = Doubt { wave: self.errand.wave, planned: self.errand.ask_after.unwrap_or(idle), idle };
        // Others have shown already what these confirm: nobody has to wait for its own last retransmission.
        let company = if self.errand.role == Role::Confirm { COMPANY } else { usize::MAX };
        let reply = {
            let (line, field) = (&mut self.line, self.field);
            let in_doubt = AtomicBool::new(false);
            let mut doubted = |is_lost: bool| {
                in_doubt.store(is_lost, Relaxed);
                field.doubted(number, is_lost.then_some(doubt)) >= company && is_lost
            };
            let diag = field.diag.as_ref();
            let ask = line.ask_in_company(&field.speech, field.patience, diag, &mut doubted);
            // Whoever is in doubt is about to know.
            either(ask, self.over.called_unless(&in_doubt)).await
        };
        self.field.notes().doubts.remove(&number);
        let told = self.line.told(self.field.diag.as_ref());
        let mut outcome = match &reply {
            None => self.outcome(Fate::Abandoned, None, asked),
            Some(Reply::Answered(head)) => {
                let gateway = matches!(head.status, 502..=504);
                let mut outcome =
                    self.outcome(if gateway { Fate::GatewayError } else { Fate::Alive }, None, asked);
                outcome.sample.status = (head.status > 0).then_some(head.status);
                outcome.sample.said_close = head.says_close;
                outcome.sample.answered_in = Some(self.line.quiet_since.saturating_duration_since(asked));
                outcome
            }
            Some(Reply::Ended(kind)) => self.outcome(Fate::Dead, Some(*kind), asked),
            Some(Reply::NoAnswer | Reply::Broken) => self.outcome(Fate::Dead, None, asked),
        };
        outcome.sample.requests = self.line.answered;
        outcome.sample.tcp = told.map(|told| told.facts);
        outcome.at = self.field.since_began(clock::now());
        outcome
    }

    /// What became of it, idle since its last byte until `at`.
    fn outcome(&self, fate: Fate, close: Option<CloseKind>, at: Instant) -> Outcome {
        let quiet = self.quiet;
        let idle = at.saturating_duration_since(quiet);
        let pulse = &self.field.pulse;
        let late = pulse.lateness(at).max(pulse.lateness(quiet));
        // An appointment that was made too late for it is kept at another time than was meant.
        let missed = self.errand.appointment.is_some()
            && self.errand.ask_after.is_some_and(|after| idle > after + tolerance(after));
        let is_late = late > tolerance(idle) || pulse.suspended(quiet, at);
        let fate = match fate {
            Fate::Abandoned => Fate::Abandoned,
            _ if missed => Fate::Late,
            // Alive after at least so long is true however late it was seen, if only the clock ran.
            Fate::Alive | Fate::GatewayError if !pulse.suspended(quiet, at) => fate,
            _ if is_late => Fate::Late,
            other => other,
        };
        let sample = Sample {
            role: self.errand.role,
            opened: self.opened,
            planned_idle: self.errand.ask_after,
            idle,
            fate,
            close,
            status: None,
            answered_in: None,
            said_close: false,
            requests: self.line.answered,
            tcp: None,
        };
        Outcome { wave: self.errand.wave, sample, at: self.field.since_began(at) }
    }
}

/// Until the errand's idle time has passed; where it is to be told, until it was told and has passed.
async fn due(errand: &mut Errand, quiet: Instant) {
    if let Some((number, appointments)) = &errand.appointment {
        match appointments.of(*number).await {
            Some(after) => errand.ask_after = Some(after),
            None => std::future::pending().await,
        }
    }
    let after = errand.ask_after.unwrap_or(errand.watch_for);
    tokio::time::sleep_until((quiet + after).into()).await;
}
