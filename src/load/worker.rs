//! One worker: a thread with its own runtime, its own pool and its own account, sharing nothing with others.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::task::Poll;
use std::time::{Duration, Instant};

use http::HeaderMap;
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;
use tokio::task::{JoinHandle, LocalSet};

use super::GLANCE;
use super::live::{Live, Window};
use super::recorder::{Answer, Desks, Recorder, Sample};
use super::request::Template;
use super::tickets::{Ticket, Tickets};
use super::usage::ThreadUse;
use crate::clock;
use crate::config::PoolConfig;
use crate::error::{Error, ErrorKind};
use crate::measurement::{ClientUse, Ledger, PANICKED, Slot};
use crate::pauses::Pauses;
use crate::plan::{Chooser, Pacer, Stage, Statuses, Think};
use crate::pool::{Pool, PoolStats};
use crate::timer::Timer;
use crate::tls::TlsClient;

/// One worker's part of one visit to one arm.
#[derive(Debug)]
pub(super) struct Job {
    /// What is asked for.
    pub(super) templates: Arc<[Template]>,
    /// Which of them is next.
    pub(super) chooser: Chooser,
    pub(super) pool: PoolConfig,
    pub(super) tls: TlsClient,
    pub(super) connections: usize,
    pub(super) source: Source,
    /// Whether a kept pool begins with all its connections open.
    pub(super) opens_ahead: bool,
    /// For how long that is waited for; `None`: for as long as it takes.
    pub(super) opens_within: Option<Duration>,
    /// How long requests flow uncounted.
    pub(super) washout: Duration,
    /// For how long they are counted then.
    pub(super) window: Duration,
    pub(super) max_time: Duration,
    /// The statuses that are good; `None`: those below 400.
    pub(super) good: Option<Statuses>,
    /// The parts of the window; empty: it has none.
    pub(super) stages: Vec<Stage>,
    pub(super) think: Option<Think>,
    /// What pauses are drawn from.
    pub(super) seed: u64,
    /// Where workers wait for each other before the first request is due.
    pub(super) ready: Gate,
    pub(super) stop: Arc<AtomicBool>,
    /// Where it counts while it runs.
    pub(super) desks: Desks,
    /// Whom to tell when the window opens, where it is one that is measured.
    pub(super) live: Option<Live>,
}

/// A worker's place at the line where all wait for each other. One that ends before it got there, by an error or by a
/// panic, passes it with its end: the others would wait for it for ever.
#[derive(Debug)]
pub(super) struct Gate {
    all: Arc<Barrier>,
    passed: Cell<bool>,
}

impl Gate {
    pub(super) fn of(all: &Arc<Barrier>) -> Gate {
        Gate { all: Arc::clone(all), passed: Cell::new(false) }
    }

    fn pass(&self) {
        if !self.passed.replace(true) {
            self.all.wait();
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.pass();
    }
}

/// When requests start.
#[derive(Debug)]
pub(super) enum Source {
    /// Each loop sends its next request when its last is done, `most` requests in all.
    Closed { most: u64 },
    /// As the schedule says, from the visit's beginning.
    Open(Pacer),
}

/// How long after the workers are ready the first request may be due.
const LEAD: Duration = Duration::from_millis(1);

/// How often the connections that the pool has opened are told.
const TELL: Duration = Duration::from_millis(100);

/// How much longer than a request may take the drain may last.
const DRAIN_MARGIN: Duration = Duration::from_millis(200);

/// How long requests under way may still take when the user has asked to stop.
const SHORT_DRAIN: Duration = Duration::from_millis(300);

/// Runs a job to its end on the calling thread.
pub(super) fn run(job: Job) -> Result<Slot, Error> {
    let failed = |source| Error::new(ErrorKind::InvalidRequest).with_source(source);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let pool = Pool::with_tls(within_max_time(&job), job.tls.clone())?;
    LocalSet::new().block_on(&runtime, async { Rc::new(Worker::new(job, pool)).run().await.map_err(failed) })
}

/// The pool itself ends what takes too long, so that it tells in which phase that was.
fn within_max_time(job: &Job) -> PoolConfig {
    let own = job.pool.total_timeout.unwrap_or(job.max_time);
    job.pool.clone().total_timeout(Some(own.min(job.max_time)))
}

struct Worker {
    job: Job,
    pool: Pool,
    hours: Cell<Hours>,
    tickets: Tickets,
    recorder: RefCell<Option<Recorder>>,
    sent: Cell<u64>,
    /// What each loop has in hand.
    in_hand: Vec<Cell<Option<(Ticket, Instant)>>>,
    /// When the last response was there.
    last_done: Cell<Instant>,
    use_before: Cell<Option<(ThreadUse, Instant)>>,
    random: RefCell<Xoshiro256PlusPlus>,
    pauses: Pauses,
    chooser: RefCell<Chooser>,
    opened: Cell<Opened>,
    panicked: Cell<bool>,
}

/// The connections that the pool had opened when that was last told.
#[derive(Clone, Copy, Debug)]
struct Opened {
    connections: u64,
    told: Instant,
}

/// When what happens.
#[derive(Clone, Copy, Debug)]
struct Hours {
    /// Requests begin to flow.
    begin: Instant,
    /// From here on they are counted.
    counted_from: Instant,
    /// No more begin.
    end: Instant,
}

impl Hours {
    fn from(begin: Instant, job: &Job) -> Hours {
        let counted_from = begin + job.washout;
        Hours { begin, counted_from, end: counted_from + job.window }
    }
}

impl Worker {
    fn new(job: Job, pool: Pool) -> Worker {
        let in_hand = (0..job.connections).map(|_| Cell::new(None)).collect();
        let random = RefCell::new(Xoshiro256PlusPlus::seed_from_u64(job.seed));
        let hours = Cell::new(Hours::from(clock::now(), &job));
        let opened = Cell::new(Opened { connections: 0, told: clock::now() });
        let mut recorder = Recorder::new(job.good.clone(), job.desks.clone());
        recorder.keep_targets(job.templates.len());
        let recorder = RefCell::new(Some(recorder));
        let chooser = RefCell::new(job.chooser.clone());
        Worker {
            job,
            pool,
            hours,
            tickets: Tickets::default(),
            recorder,
            sent: Cell::new(0),
            in_hand,
            last_done: Cell::new(clock::now()),
            use_before: Cell::new(None),
            random,
            pauses: Pauses::default(),
            chooser,
            opened,
            panicked: Cell::new(false),
        }
    }

    async fn run(self: Rc<Self>) -> std::io::Result<Slot> {
        let timer = &Timer::new()?;
        if self.job.think.is_some() {
            self.keep_the_pauses(Timer::new()?);
        }
        let opening = self.open_ahead().await;
        self.job.ready.pass();
        self.hours.set(Hours::from(clock::now() + LEAD, &self.job));
        let Hours { begin, counted_from, end } = self.hours.get();
        self.record(|recorder| recorder.open(counted_from..end, &self.job.stages));
        if let Some(live) = &self.job.live {
            live.opens(Window { opens: counted_from, lasts: self.job.window });
        }
        // Without a washout requests count from the first one on.
        self.note_use(timer.wait_until(begin).await?);
        let loops: Vec<_> = (0..self.job.connections)
            .map(|place| tokio::task::spawn_local(Rc::clone(&self).send_until_over(place)))
            .collect();
        match &self.job.source {
            Source::Open(pacer) => self.pace(pacer.clone(), timer).await?,
            Source::Closed { .. } => self.let_them_run(timer).await?,
        }
        let (mut window_end, ran_out) = (self.window_end(), self.has_run_out());
        let mut client = self.client_use();
        if self.is_stopped() {
            self.record(|recorder| recorder.close(window_end));
        }
        self.tickets.end();
        let drained_from = clock::now();
        self.drain(loops).await;
        let drain = clock::now() - drained_from;
        if ran_out {
            window_end = self.last_done.get().min(end);
            client = self.client_use();
        }
        let slot = self.account(window_end, client).await;
        Ok(Slot { opening, drain, ..slot })
    }

    /// A kept pool begins with all its connections open, as one does that has been at work for a while: else a
    /// slot of few requests would show the pool's growth and not its steady state. Each is opened by a request, which
    /// who wants no warm-up would not have sent. Answers with how long that took.
    ///
    /// A target that stands still meanwhile is not waited for: what is due then waits with the rest, and counts. Else a visit
    /// would never begin while its target stands still, and a target that does so for half of its time would look well.
    async fn open_ahead(self: &Rc<Self>) -> Duration {
        if !(self.job.opens_ahead && self.job.pool.keep_alive) {
            return Duration::ZERO;
        }
        let begun = clock::now();
        let mut chooser = self.job.chooser.clone();
        let asking: Vec<_> = (0..self.job.connections)
            .map(|_| {
                let (worker, target) = (Rc::clone(self), chooser.choose());
                let asking = async move {
                    let asked = worker.attempt(target, clock::now(), &mut HeaderMap::new()).await;
                    worker.record(|recorder| recorder.passed(asked.is_ok().then(clock::now)));
                };
                tokio::task::spawn_local(asking)
            })
            .collect();
        let all = async {
            for asked in asking {
                let _ = asked.await;
            }
        };
        match self.job.opens_within {
            None => all.await,
            Some(patience) => _ = tokio::time::timeout(patience, all).await,
        }
        clock::now() - begun
    }

    /// Issues every ticket when it is due, several at once when several are.
    async fn pace(&self, mut pacer: Pacer, timer: &Timer) -> std::io::Result<()> {
        let Hours { begin, end, .. } = self.hours.get();
        let mut due = begin + pacer.next_due();
        while due < end && !self.is_stopped() {
            // A short wait is exact; a long one looks at the stop flag now and then.
            let now = timer.wait_until(due.min(clock::now() + GLANCE)).await?;
            self.glance(now);
            while due <= now && due < end {
                self.issue(Ticket { due, issued: now, target: self.next_target() });
                due = begin + pacer.next_due();
            }
        }
        // What was due last is still to be worked on, and counts as much as what was due first.
        self.let_them_run(timer).await
    }

    fn issue(&self, ticket: Ticket) {
        let counts = self.counts(ticket);
        if counts {
            self.record(|recorder| recorder.scheduled(ticket));
        }
        if self.tickets.push(ticket) {
            self.job.desks.counted.queued();
            if counts {
                self.record(|recorder| recorder.issued(ticket));
            }
        }
    }

    async fn let_them_run(&self, timer: &Timer) -> std::io::Result<()> {
        let Hours { counted_from, end, .. } = self.hours.get();
        while !self.is_stopped() && !self.tickets.is_over() {
            let now = clock::now();
            if now >= end {
                break;
            }
            let next = if now < counted_from { counted_from } else { end };
            let now = timer.wait_until(next.min(now + GLANCE)).await?;
            self.glance(now);
        }
        Ok(())
    }

    /// When the counted window was over: at its end, unless the run was stopped or had sent all that it may.
    fn window_end(&self) -> Instant {
        let end = self.hours.get().end;
        if self.is_stopped() || self.tickets.is_over() { clock::now().min(end) } else { end }
    }

    /// Whether as many requests were sent as may be: then the window ends with the last response, and not when somebody
    /// looks.
    fn has_run_out(&self) -> bool {
        !self.is_stopped() && matches!(self.job.source, Source::Closed { most } if self.sent.get() >= most)
    }

    /// What is looked at now and then while requests flow.
    fn glance(&self, now: Instant) {
        self.note_use(now);
        if now.saturating_duration_since(self.opened.get().told) >= TELL {
            self.tell_opened(&self.pool.stats(), now);
        }
    }

    fn tell_opened(&self, stats: &PoolStats, now: Instant) {
        let before = self.opened.replace(Opened { connections: stats.opened, told: now });
        self.job.desks.counted.opened(stats.opened - before.connections);
    }

    /// What the thread has used when the counted window begins.
    fn note_use(&self, now: Instant) {
        if self.use_before.get().is_none() && now >= self.hours.get().counted_from {
            self.use_before.set(Some((ThreadUse::now(), now)));
        }
    }

    /// What the thread used while the window was open; how long stragglers take is not the client's work.
    fn client_use(&self) -> ClientUse {
        let Some((before, since)) = self.use_before.get() else { return ClientUse::default() };
        let used = ThreadUse::now().since(before);
        let wall_ns = (clock::now() - since).as_nanos() as u64;
        ClientUse { cpu_ns: used.cpu_ns, wall_ns, run_queue_ns: used.run_queue_ns, ..ClientUse::default() }
    }

    async fn send_until_over(self: Rc<Self>, place: usize) {
        if let Some(think) = &self.job.think {
            let pause = think.first(&mut self.random.borrow_mut());
            self.pause(pause).await;
        }
        let mut spare = HeaderMap::new();
        while let Some((ticket, started)) = self.next_ticket().await {
            self.in_hand[place].set(Some((ticket, started)));
            self.job.desks.counted.started();
            let outcome = self.attempt(ticket.target, started, &mut spare).await;
            let done = outcome.as_ref().map_or_else(|_| clock::now(), |answer| answer.exchange.done);
            let sample = Sample { ticket, started, done, outcome };
            self.in_hand[place].set(None);
            self.last_done.set(sample.done);
            self.job.desks.counted.ended();
            let counts = self.counts(ticket);
            self.record(|recorder| {
                if counts {
                    recorder.record(&sample);
                } else {
                    recorder.passed(sample.outcome.is_ok().then_some(sample.done));
                }
            });
            if let Some(think) = &self.job.think {
                let pause = think.pause(&mut self.random.borrow_mut());
                self.pause(pause).await;
            }
        }
    }

    /// Until the worker's end.
    fn keep_the_pauses(self: &Rc<Self>, timer: Timer) {
        let worker = Rc::clone(self);
        tokio::task::spawn_local(async move {
            worker.pauses.keep(&timer).await;
        });
    }

    /// Thinks, but not beyond the end.
    async fn pause(&self, pause: Duration) {
        let end = self.hours.get().end;
        let until = clock::now().checked_add(pause).map_or(end, |until| until.min(end));
        self.pauses.until(until).await;
    }

    /// What to send next, and the instant at which it is sent.
    async fn next_ticket(&self) -> Option<(Ticket, Instant)> {
        let Source::Closed { most } = self.job.source else {
            let ticket = self.tickets.next().await?;
            self.job.desks.counted.taken();
            return Some((ticket, clock::now()));
        };
        after_those_at_hand().await;
        let now = clock::now();
        if now >= self.hours.get().end || self.tickets.is_over() || self.sent.get() >= most {
            self.tickets.end();
            return None;
        }
        self.sent.set(self.sent.get() + 1);
        let ticket = Ticket { due: now, issued: now, target: self.next_target() };
        if self.counts(ticket) {
            self.record(|recorder| {
                recorder.scheduled(ticket);
                recorder.issued(ticket);
            });
        }
        Some((ticket, now))
    }

    fn next_target(&self) -> u32 {
        self.chooser.borrow_mut().choose()
    }

    /// One request, in a spare map of fields, and its response, whose map is the next spare one: so no request makes a
    /// map of its own, nor does one grow to a response's size anew.
    async fn attempt(&self, target: u32, started: Instant, spare: &mut HeaderMap) -> Result<Answer, Error> {
        let template = &self.job.templates[target as usize];
        let mut request = Some(template.request_in(std::mem::take(spare)));
        let remake = || template.request();
        let sending = self.pool.send_from(&template.origin, &mut request, started, Some(&remake));
        let (mut head, body) = sending.await?.into_parts();
        // Its values hold on to what hyper reads into.
        head.headers.clear();
        *spare = head.headers;
        let exchange = body.finish_in_place().await?;
        Ok(Answer { status: head.status.as_u16(), exchange })
    }

    fn counts(&self, ticket: Ticket) -> bool {
        ticket.due >= self.hours.get().counted_from
    }

    fn record(&self, act: impl FnOnce(&mut Recorder)) {
        if let Some(recorder) = self.recorder.borrow_mut().as_mut() {
            act(recorder);
        }
    }

    fn is_stopped(&self) -> bool {
        self.job.stop.load(Relaxed)
    }

    /// Waits for what is under way: every request ends by its own time limit; what is still queued then is
    /// censored.
    async fn drain(&self, loops: Vec<JoinHandle<()>>) {
        let latest = clock::now() + self.job.max_time + DRAIN_MARGIN;
        let mut asked_to_stop = None;
        for task in &loops {
            while !task.is_finished() {
                let now = clock::now();
                if self.is_stopped() && asked_to_stop.is_none() {
                    asked_to_stop = Some(now);
                }
                let cut = asked_to_stop.map_or(latest, |asked| latest.min(asked + SHORT_DRAIN));
                if now >= cut {
                    loops.iter().for_each(JoinHandle::abort);
                    return;
                }
                // Most loops are done within a millisecond or so; then a tick is soon enough.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
        for task in loops {
            // What it had in hand stays there, and is censored.
            let ended = task.await;
            self.panicked.set(self.panicked.get() || ended.is_err_and(|error| error.is_panic()));
        }
    }

    async fn account(&self, window_end: Instant, client: ClientUse) -> Slot {
        let cutoff = clock::now();
        let mut recorder = self
            .recorder
            .borrow_mut()
            .take()
            .unwrap_or_else(|| Recorder::new(self.job.good.clone(), Desks::default()));
        let in_hand = self.in_hand.iter().filter_map(Cell::take);
        let in_hand = in_hand.inspect(|_| self.job.desks.counted.ended());
        let in_hand = in_hand.map(|(ticket, started)| (ticket, Some(started)));
        let queued = self.tickets.leftovers().into_iter().map(|ticket| (ticket, None));
        let queued = queued.inspect(|_| {
            self.job.desks.counted.taken();
        });
        for (ticket, started) in in_hand.chain(queued).filter(|(ticket, _)| self.counts(*ticket)) {
            recorder.censor(ticket, started, cutoff);
        }
        let mut slot = recorder.finish();
        slot.client = client;
        if self.panicked.get() {
            slot.flags.push(PANICKED.into());
        }
        slot.duration = window_end.saturating_duration_since(self.hours.get().counted_from);
        self.pool.close();
        let stats = self.settled().await;
        self.tell_opened(&stats, cutoff);
        slot.connections.merge(&ledger(&stats));
        slot
    }

    /// The pool's stats once no connection waits for its peer's FIN any more.
    async fn settled(&self) -> PoolStats {
        loop {
            let stats = self.pool.stats();
            if stats.lingering == 0 {
                return stats;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Lets all other loops go first whose responses are there.
///
/// *Why.* Who sends as soon as it has read makes the responses of others wait behind its own work, which their latencies
/// would show; and a server that was just about to fall asleep is woken for each request anew, at the sender's cost (on
/// two processors 2 of 18 µs a request). So what has come is read first, as wrk does, which writes in the round of its
/// event loop after that in which it read.
async fn after_those_at_hand() {
    let mut has_waited = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut has_waited, true) {
            return Poll::Ready(());
        }
        // To the end of the queue, and not past a look at the sockets, as tokio's own yield would go.
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

fn ledger(stats: &PoolStats) -> Ledger {
    Ledger {
        exchanges: 0,
        opened: stats.opened,
        failed_to_open: stats.failed_to_open,
        reused: stats.reused,
        handshakes_full: stats.handshakes_full,
        handshakes_resumed: stats.handshakes_resumed,
        closed: stats.closed.iter().map(|(reason, &n)| (reason.as_str().to_owned(), n)).collect(),
        exchanges_per_connection: stats.exchanges_per_connection.clone(),
        peer_closed_first: stats.peer_closed_first,
        closed_first: stats.closed_first,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Arrivals, Target};
    use crate::server::{Behaviour, Server};
    use crate::tls::TlsConfig;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    /// One request on a connection of its own.
    fn job(url: String, pool: PoolConfig) -> Job {
        let target = Target { url, method: "GET".into(), headers: Vec::new(), body_len: 0, body: Vec::new() };
        Job {
            templates: [Template::new(&target).expect("a target")].into(),
            chooser: Chooser::One,
            pool: pool.keep_alive(false),
            tls: TlsConfig::default().build().expect("TLS"),
            connections: 1,
            source: Source::Closed { most: 1 },
            opens_ahead: true,
            opens_within: None,
            washout: Duration::ZERO,
            window: Duration::from_secs(10),
            max_time: Duration::from_millis(50),
            good: None,
            stages: Vec::new(),
            think: None,
            seed: 1,
            ready: Gate::of(&Arc::new(Barrier::new(1))),
            stop: Arc::new(AtomicBool::new(false)),
            desks: Desks::default(),
            live: None,
        }
    }

    /// Breaks the loop that asks it.
    #[derive(Debug)]
    struct Panics;

    impl crate::resolver::Resolver for Panics {
        fn lookup<'a>(&'a self, _: &'a str, _: u16) -> crate::resolver::Lookup<'a> {
            panic!("as a test wants it")
        }
    }

    #[test]
    fn a_loop_that_panics_is_told_of_and_what_it_had_in_hand_is_not_lost() {
        let pool = PoolConfig::default().resolver(Some(Arc::new(Panics)));
        let mut job = job("http://breaks.test/".into(), pool);
        job.window = Duration::from_millis(50);
        let slot = run(job).expect("a slot");
        assert_eq!((slot.flags.as_slice(), slot.censored), (&[PANICKED.to_owned()][..], 1));
    }

    #[test]
    fn nobody_waits_for_a_worker_that_has_panicked() {
        let all = Arc::new(Barrier::new(2));
        let (breaks, waits) = (Gate::of(&all), Gate::of(&all));
        let broken = std::thread::spawn(move || {
            let _held = breaks;
            panic!("as a test wants it");
        });
        waits.pass();
        assert!(broken.join().is_err());
    }

    /// What one request comes to at a peer that says this and then nothing more.
    fn slot(answer: &'static str) -> Slot {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let peer = std::thread::spawn(move || {
            let (mut stream, _): (TcpStream, _) = listener.accept().expect("a connection");
            assert!(stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0), "a request");
            stream.write_all(answer.as_bytes()).expect("it takes an answer");
            while stream.read(&mut [0; 1024]).is_ok_and(|n| n > 0) {}
        });
        let slot = run(job(url, PoolConfig::default())).expect("a slot");
        peer.join().expect("no panic");
        slot
    }

    /// The slowest response of a visit to a target that stands still for its first 400 ms.
    fn slowest_of_a_visit_that_waits_for_its_connections(opens_within: Option<Duration>) -> Duration {
        let stands_still = "once:0s,400ms".parse().expect("a profile");
        let server = Server::new(Behaviour::default().profile(stands_still)).start().expect("a server");
        let job = Job {
            pool: PoolConfig::default().max_connections_per_origin(Some(2)),
            connections: 2,
            source: Source::Open(Pacer::new(100.0, Arrivals::Constant, 0, 1, 1)),
            opens_within,
            window: Duration::from_millis(100),
            max_time: Duration::from_secs(5),
            ..job(server.url(), PoolConfig::default())
        };
        let slot = run(job).expect("a slot");
        assert_eq!((slot.completed, slot.reuse.opened), (slot.scheduled, 0));
        slot.response.max().expect("responses")
    }

    #[test]
    fn a_target_that_stands_still_as_a_visit_begins_is_waited_for_by_requests_that_are_due() {
        let waited_for = slowest_of_a_visit_that_waits_for_its_connections(None);
        let seen = slowest_of_a_visit_that_waits_for_its_connections(Some(Duration::from_millis(20)));
        assert!(seen >= Duration::from_millis(300) && waited_for < seen, "{waited_for:?} {seen:?}");
    }

    #[test]
    fn time_that_ran_out_stands_in_the_phase_in_which_it_did() {
        let silent = slot("");
        assert_eq!((silent.errors["timeout"], silent.phases.receive_ns), (1, 0));
        assert!(silent.phases.wait_ns >= 50_000_000, "{:?}", silent.phases);
        let half = slot("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
        assert_eq!((half.errors["timeout"], half.phases.wait_ns), (1, 0));
        assert!(half.phases.receive_ns >= 50_000_000, "{:?}", half.phases);
    }
}
