//! A run while it runs, on stderr: a view on a terminal, plain lines elsewhere. And where it is asked for, over HTTP.

use std::io::{self, IsTerminal};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use keeplive::load::live::Window;
use keeplive::load::{Companion, Live, Progress, Stop};
use keeplive::report::live::{Now, Watch, view};
use keeplive::report::terminal::Style;

use crate::args::WatchArgs;
use crate::metrics::Metrics;
use crate::progress::sentence;
use crate::say::{draw, end_view, say, size};

/// How often the view is drawn.
const FRAME: Duration = Duration::from_millis(250);

/// What the view calls lately.
const LATELY: Duration = Duration::from_secs(2);

/// How often it is looked whether a line is due.
const LOOK: Duration = Duration::from_millis(50);

/// What is watched: one window, or rounds of many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One window, of so many requests where a number of them ends it.
    Window(Option<u64>),
    /// Slots by the dozen, each too short to tell of.
    Rounds,
}

/// Accompanies a run and shows it.
pub(crate) struct Watcher {
    kind: Kind,
    live: Live,
    told: Arc<Mutex<Told>>,
    shows: bool,
    thread: Option<(Sender<()>, JoinHandle<()>)>,
    _metrics: Option<Metrics>,
}

/// What was told last, and when.
#[derive(Default)]
struct Told {
    doing: String,
    left: Option<(Duration, Instant)>,
    of: Option<Duration>,
}

impl Watcher {
    /// Shows a run from now on.
    ///
    /// # Errors
    ///
    /// When the metrics cannot be served where they should be.
    pub(crate) fn new(kind: Kind, args: &WatchArgs, stop: &Stop) -> io::Result<Watcher> {
        let live = Live::default();
        let metrics = args.metrics.map(|address| Metrics::serve(address, live.clone())).transpose()?;
        let shows = io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let told = Arc::new(Mutex::new(Told::default()));
        let shown = Shown { kind, live: live.clone(), told: Arc::clone(&told), stop: stop.clone() };
        let (end, ended) = mpsc::channel();
        let work = move || if shows { shown.on_a_terminal(&ended) } else { shown.in_a_log(&ended) };
        if shows {
            let hook = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                end_view();
                hook(panic);
            }));
        }
        let thread = Some((end, thread::spawn(work)));
        Ok(Watcher { kind, live, told, shows, thread, _metrics: metrics })
    }

    /// Takes the view away: the report follows.
    pub(crate) fn finish(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            let _ = thread.join();
            end_view();
        }
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Companion for Watcher {
    fn tell(&mut self, progress: Progress) {
        let mut told = lock(&self.told);
        told.doing = sentence(&progress);
        let mut is_worth_a_line = true;
        if let Progress::Slot { round, rounds, arm, left } = &progress {
            told.left = Some((*left, self.live.read().at));
            told.of.get_or_insert(*left);
            // How long a number of requests takes is not known.
            is_worth_a_line = round % 5 == 1 && !matches!(self.kind, Kind::Window(Some(_)));
            if self.shows {
                told.doing = format!("round {round} of {rounds}, arm {arm}");
            }
        }
        if !self.shows && is_worth_a_line {
            say(&told.doing);
        }
    }

    fn live(&self) -> Live {
        self.live.clone()
    }
}

fn lock(told: &Mutex<Told>) -> MutexGuard<'_, Told> {
    told.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the thread that shows has.
struct Shown {
    kind: Kind,
    live: Live,
    told: Arc<Mutex<Told>>,
    stop: Stop,
}

impl Shown {
    fn requests(&self) -> Option<u64> {
        match self.kind {
            Kind::Window(requests) => requests,
            Kind::Rounds => None,
        }
    }

    fn on_a_terminal(&self, ended: &mpsc::Receiver<()>) {
        let mut watch = Watch::new(self.requests(), LATELY);
        let style = anstream::AutoStream::choice(&io::stderr());
        let colour = style != anstream::ColorChoice::Never;
        while is_on(ended, FRAME) {
            let reading = self.live.read();
            let now = self.now(reading.at, reading.window);
            watch.see(reading);
            let (width, height) = size().unwrap_or((80, 24));
            let widths = |lines: &[String]| lines.iter().map(|line| line.chars().count()).collect();
            // The last row is the cursor's; what is beyond the first cannot be reached.
            let most = usize::from(height).saturating_sub(1);
            let plain: Vec<_> = view(&watch, &now, Style { colour: false, width });
            let mut lines = if colour { view(&watch, &now, Style { colour, width }) } else { plain.clone() };
            lines.truncate(most);
            draw(&lines, widths(&plain[..lines.len()]));
        }
    }

    fn now(&self, at: Instant, window: Option<Window>) -> Now {
        let told = lock(&self.told);
        let stopping = self.stop.is_set();
        match (self.kind, window) {
            (Kind::Window(requests), Some(window)) => Now {
                doing: String::new(),
                left: requests.is_none().then(|| window.lasts.saturating_sub(passed(at, window))),
                of: Some(window.lasts),
                stopping,
            },
            _ => {
                let left =
                    told.left.map(|(left, told)| left.saturating_sub(at.saturating_duration_since(told)));
                Now { doing: told.doing.clone(), left, of: told.of, stopping }
            }
        }
    }

    /// A line when the window has been open for another while; rounds have lines of their own.
    fn in_a_log(&self, ended: &mpsc::Receiver<()>) {
        let mut watch = Watch::new(self.requests(), Duration::ZERO);
        // Between lines the thread sleeps: what it used would be the workers'.
        let (mut due, mut wait) = (0, LOOK);
        while self.kind != Kind::Rounds && is_on(ended, wait) {
            let Some(window) = self.live.window() else { continue };
            if self.stop.is_set() {
                return;
            }
            let reading = self.live.read();
            let (every, at) = (every(window), reading.at);
            if at >= window.opens + every * due {
                watch.see(reading);
                // The first look is what the first line is counted from.
                if due > 0
                    && let Some(line) = watch.line()
                {
                    say(&line);
                }
                due = passed(at, window).div_duration_f64(every) as u32 + 1;
            }
            wait = (window.opens + every * due).saturating_duration_since(at);
        }
    }
}

/// How often a window of that length has a line: five times, but not more than once a second, nor less than once in
/// five.
fn every(window: Window) -> Duration {
    Duration::from_secs((window.lasts.as_secs() / 5).clamp(1, 5))
}

fn passed(at: Instant, window: Window) -> Duration {
    at.saturating_duration_since(window.opens)
}

/// Waits; `false`: it is over.
fn is_on(ended: &mpsc::Receiver<()>, wait: Duration) -> bool {
    ended.recv_timeout(wait) == Err(RecvTimeoutError::Timeout)
}
