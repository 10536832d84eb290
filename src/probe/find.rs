//! The idle timeout between requests: watchers and senders side by side, then both sides of the answer again.
//!
//! *Design.* A search by bisection would pay for every step with the idle time itself. Here a watcher sees a visible
//! close in one pass, and senders at growing idle times, all begun together, bracket what nobody sees. Every sender
//! is a watcher until its time has come, so that a visible close is seen by all of them. Two passes find and confirm
//! what nobody sees, too ([`hidden`]).

mod hidden;
mod verdict;

use std::time::Duration;

use super::crew::{Crew, Moment};
use super::field::{Doubt, Errand, Outcome, Over, Start};
use super::judge::{self, End, QUORUM, Shape};
use super::{Progress, behind};
use crate::clock;
use crate::findings::{Caveat, CaveatKind, CloseKind, Fate, IdleTimeout, Role, Spread, Tally, Verdict};

/// Connections that only watch.
const WATCHERS: usize = 5;

/// The first sender's idle time, and how much longer each next one waits: below a second, where everything is soon
/// tried again, by a half; from there on by 15 %, which brackets a silent drop as closely in one pass, with some 50
/// connections up to ten minutes.
const FIRST: Duration = Duration::from_millis(250);
const COARSE: f64 = 1.5;
const RATIO: f64 = 1.15;

/// Senders begin when this share of their idle time has passed, but for the first moment: the shorter ones, which are
/// needed first, do not wait behind longer ones for their turn, and those hardly lose anything.
const LAG: u32 = 20;
const AT_ONCE: Duration = Duration::from_millis(200);

/// Connections opened within this time of the first one count for an early answer.
const HEAD_START: Duration = Duration::from_millis(600);

/// Two senders wait no longer than this, compared with the first dead one.
const BEYOND: f64 = RATIO * RATIO * 1.01;

/// Senders where the hop behind seems to give up its connection.
const HUNTERS: u32 = 8;

/// Their wave: no part of the search.
const HUNT: u32 = 1000;

/// How often the search begins again after something that was no timer.
const ATTEMPTS: u32 = 3;

/// What was found, and what has to be said with it.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) timeout: IdleTimeout,
    pub(super) caveats: Vec<Caveat>,
}

pub(super) struct Search<'a, 'w> {
    pub(super) crew: &'a mut Crew<'w>,
    pub(super) max_idle: Duration,
    /// Idle times worth asking about: what the server advertises.
    pub(super) hints: Vec<Duration>,
    wave: u32,
    /// Idle times, from and to, around which questions were lost though others that waited longer were answered: an
    /// accident, or the doing of the hop behind.
    bands: Vec<(Duration, Duration)>,
    /// Waves in which something else than a timer ended connections: nothing that died in them tells of one.
    disowned: Vec<u32>,
    /// Senders of the pass that go on while a bracket is narrowed down, to show whether what waits longer is dead, too.
    beyond: Vec<Over>,
    caveats: Vec<Caveat>,
}

/// What one pass saw.
enum Pass {
    /// One timer, or one moment, that ended all connections.
    Ended(Spread),
    /// Connections that look alive are dead from somewhere in here on.
    Hidden(Bracket),
    /// Ends, but not of one timer.
    Mixed,
    /// Everything lived.
    Lived,
    /// Not a single end could be dated, or none began.
    Nothing,
    Halted,
}

#[derive(Clone, Copy, Debug)]
struct Bracket {
    /// The longest idle time below all dead ones that was lived through.
    alive: Duration,
    dead: Duration,
}

impl<'a, 'w> Search<'a, 'w> {
    pub(super) fn new(crew: &'a mut Crew<'w>, max_idle: Duration, hints: Vec<Duration>) -> Search<'a, 'w> {
        Search {
            crew,
            max_idle,
            hints,
            wave: 0,
            bands: Vec::new(),
            disowned: Vec::new(),
            beyond: Vec::new(),
            caveats: Vec::new(),
        }
    }

    pub(super) async fn run(mut self) -> Found {
        for attempt in 1..=ATTEMPTS {
            let pass = self.pass().await;
            let first = self.wave;
            let timeout = match pass {
                Pass::Ended(seen) => match self.confirm_twice(seen).await {
                    Confirmed::Yes => Some(self.ended(seen)),
                    Confirmed::Halted => Some(self.unconfirmed(seen)),
                    Confirmed::No if attempt < ATTEMPTS => {
                        self.disown(first, seen);
                        None
                    }
                    Confirmed::No => Some(self.mixed()),
                },
                Pass::Hidden(bracket) => self.hidden(bracket).await,
                Pass::Mixed => Some(self.mixed()),
                Pass::Lived => Some(self.lived()),
                Pass::Nothing if attempt < ATTEMPTS && !self.crew.is_over() => None,
                Pass::Nothing | Pass::Halted => Some(self.unknown()),
            };
            if let Some(timeout) = timeout {
                return Found { timeout, caveats: self.caveats };
            }
        }
        let timeout = self.mixed();
        Found { timeout, caveats: self.caveats }
    }

    /// Watchers and senders, until they have an answer.
    async fn pass(&mut self) -> Pass {
        self.wave += 1;
        let over = Over::new();
        let first = clock::now();
        for _ in 0..WATCHERS {
            self.send(Role::Watcher, None, &over);
        }
        let can_ask = self.crew.field.speech.can_ask();
        let grid = if can_ask { grid(self.max_idle, &self.hints) } else { Vec::new() };
        let mut grid = grid.into_iter().peekable();
        let mut senders: Vec<(Duration, Over)> = Vec::new();
        let head_start = self.crew.field.since_began(first) + HEAD_START;
        let pass = loop {
            let passed = clock::now().saturating_duration_since(first);
            while let Some(idle) = grid.next_if(|idle| *idle / LAG <= passed + AT_ONCE) {
                let own = Over::new();
                self.send(Role::Sender, Some(idle), &own);
                senders.push((idle, own));
            }
            let moment = self.crew.moment().await;
            if let Some(pass) = self.early_answer(head_start) {
                break pass;
            }
            match moment {
                Moment::On => {}
                Moment::Empty => break self.late_answer(),
                Moment::Halt => break Pass::Halted,
            }
        };
        // Whoever is in doubt goes on until it knows; nobody has to wait for that.
        over.call();
        let beyond = |idle: Duration| match &pass {
            Pass::Hidden(bracket) => idle > bracket.dead && idle <= bracket.dead.mul_f64(BEYOND),
            _ => false,
        };
        for (idle, own) in senders {
            if beyond(idle) { self.beyond.push(own) } else { own.call() }
        }
        if !matches!(pass, Pass::Hidden(_)) {
            self.crew.call_home(&over).await;
        }
        pass
    }

    /// Three ends and nobody left who should have ended too; or senders in a row that found nobody.
    fn early_answer(&self, head_start: Duration) -> Option<Pass> {
        let ends = self.ends(self.wave);
        if ends.len() >= QUORUM {
            let last = ends.iter().map(|end| end.idle).max()?;
            let beyond = last + Duration::from_millis(100).max(last / 50);
            if self.anybody_waits(head_start, beyond) {
                return None;
            }
            return match judge::shape(&ends) {
                Shape::Timer(seen) | Shape::Moment(seen) if !self.anybody_lived_beyond(seen.max) => {
                    Some(Pass::Ended(seen))
                }
                _ => None,
            };
        }
        if !ends.is_empty() {
            return None;
        }
        // One may be an accident, or only slow to be acknowledged: those that narrow it down tell.
        self.bracket_in_doubt().map(Pass::Hidden)
    }

    fn late_answer(&self) -> Pass {
        let ends = self.ends(self.wave);
        let dead = self.asked().filter(|(_, alive)| !alive).count();
        match judge::shape(&ends) {
            Shape::Timer(seen) | Shape::Moment(seen) if !self.anybody_lived_beyond(seen.max) => {
                Pass::Ended(seen)
            }
            Shape::Few if ends.is_empty() && dead == 0 && self.anybody_lived_beyond(Duration::ZERO) => {
                Pass::Lived
            }
            Shape::Few if ends.is_empty() && dead > 0 => self.bracket().map_or(Pass::Mixed, Pass::Hidden),
            Shape::Few if ends.is_empty() => Pass::Nothing,
            _ => Pass::Mixed,
        }
    }

    /// Whether a connection of this pass that had a head start is still idle, and could yet end as the others did.
    fn anybody_waits(&self, head_start: Duration, beyond: Duration) -> bool {
        let now = clock::now();
        let field = &self.crew.field;
        let notes = field.notes();
        notes.idle.values().filter(|idle| idle.wave == self.wave).any(|idle| {
            let for_now = now.saturating_duration_since(idle.since);
            field.since_began(idle.since) <= head_start && for_now <= beyond
        })
    }

    /// Whether a connection of this pass lived, or lives, past an end.
    fn anybody_lived_beyond(&self, end: Duration) -> bool {
        let beyond = end + Duration::from_millis(50).max(end / 50);
        let now = clock::now();
        let mut lived =
            self.crew.home.iter().filter(|home| home.wave == self.wave).filter(|home| is_alive(home));
        lived.any(|home| home.sample.idle > beyond)
            || self
                .crew
                .field
                .notes()
                .idle
                .values()
                .any(|idle| idle.wave == self.wave && now.saturating_duration_since(idle.since) > beyond)
    }

    /// Ends while idle in one wave.
    fn ends(&self, wave: u32) -> Vec<End> {
        self.crew.home.iter().filter(|home| home.wave == wave).filter_map(end_of).collect()
    }

    /// Every question of this search that was answered or should have been: after which idle time, and whether it was.
    fn asked(&self) -> impl Iterator<Item = (Duration, bool)> + '_ {
        let is_ours = |home: &&Outcome| is_alive(home) || !self.disowned.contains(&home.wave);
        let told = self.crew.home.iter().filter(is_ours).filter_map(asked_of);
        let in_band = |idle: Duration| self.bands.iter().any(|&(from, to)| (from..=to).contains(&idle));
        told.filter(move |&(idle, alive)| alive || !in_band(idle))
    }

    /// Between which idle times the living and the dead part; `None` when none is dead, or when they do not.
    fn bracket(&self) -> Option<Bracket> {
        part(self.asked())
    }

    /// The same, taking those in doubt for dead.
    fn bracket_in_doubt(&self) -> Option<Bracket> {
        part(self.asked().chain(self.doubts().into_iter().map(|doubt| (doubt.idle, false))))
    }

    /// Questions that seem to be lost.
    fn doubts(&self) -> Vec<Doubt> {
        self.crew.field.notes().doubts.values().copied().collect()
    }

    fn send(&mut self, role: Role, ask_after: Option<Duration>, over: &Over) {
        let errand = self.errand(role, ask_after);
        self.crew.send_out(errand, over);
    }

    fn errand(&self, role: Role, ask_after: Option<Duration>) -> Errand {
        Errand {
            role,
            wave: self.wave,
            ask_after,
            appointment: None,
            watch_for: self.max_idle,
            start: Start::Answer,
            keepalive: None,
        }
    }

    /// Where a timer's ends spread, later ones may be earlier than the first were: then the alive side is tried again,
    /// below all of them.
    async fn confirm_twice(&mut self, seen: Spread) -> Confirmed {
        let first = self.confirm_ended(seen).await;
        let ends = self.ends(self.wave);
        let all = judge::spread(ends.iter().map(|end| end.idle).chain([seen.min, seen.max])).unwrap_or(seen);
        let died = self.crew.home.iter().any(|home| {
            home.wave == self.wave && home.sample.planned_idle.is_some() && home.sample.fate == Fate::Dead
        });
        if first != Confirmed::Yes || !died || !self.crew.can_afford(all.max * 2) {
            return first;
        }
        self.confirm_ended(all).await
    }

    /// Both sides of a visible close: senders just below it must live, watchers must end as the others did.
    async fn confirm_ended(&mut self, seen: Spread) -> Confirmed {
        self.crew.tell(Progress::Found { idle: seen.median });
        self.wave += 1;
        let (n, below) = (confirmations(seen.max), self.just_below(seen.min));
        let beyond = seen.max + Duration::from_millis(100).max(seen.max / 50);
        if !self.crew.can_afford(beyond + Duration::from_secs(2)) {
            return Confirmed::Halted;
        }
        let over = Over::new();
        self.hunt(below, &over);
        for _ in 0..n {
            self.send(Role::Confirm, None, &over);
            if let (true, Some(below)) = (self.crew.field.speech.can_ask(), below) {
                self.send(Role::Confirm, Some(below), &over);
            }
        }
        let confirmed = loop {
            let moment = self.crew.moment().await;
            if self.outlived(beyond, seen.min) {
                break Confirmed::No;
            }
            match moment {
                Moment::On => {}
                Moment::Empty => break self.agrees(seen),
                Moment::Halt => break Confirmed::Halted,
            }
        };
        self.crew.call_home(&over).await;
        confirmed
    }

    /// Where answers begin to take longer, the hop behind has given up its connection: whether requests are lost there is
    /// tried beside the rest, once.
    fn hunt(&mut self, below: Option<Duration>, over: &Over) {
        let samples: Vec<_> = self.crew.home.iter().map(|home| home.sample.clone()).collect();
        let Some(step) =
            behind::redial(&samples).filter(|_| samples.iter().all(|it| it.role != Role::Behind))
        else {
            return;
        };
        for n in 0..HUNTERS {
            let after = step.shorter + (step.longer - step.shorter) / HUNTERS * n;
            if below.is_some_and(|below| after < below) {
                let errand = self.errand(Role::Behind, Some(after));
                self.crew.send_out(Errand { wave: HUNT, ..errand }, over);
            }
        }
    }

    /// The longest idle time that a request should survive, on the way to a server that closes at `end`: it must
    /// arrive before.
    fn just_below(&self, end: Duration) -> Option<Duration> {
        let round_trip = self.crew.field.notes().connects.iter().max().copied().unwrap_or_default();
        end.checked_sub(margin(end) + round_trip).filter(|below| !below.is_zero())
    }

    /// Whether a watcher of this wave lives on though its time has come. One sweep more is allowed to servers that
    /// look at their timers once in a second, and whose ends therefore differ.
    fn outlived(&self, beyond: Duration, min: Duration) -> bool {
        let allowed = beyond.max(min + min.min(Duration::from_millis(1200)));
        let now = clock::now();
        let notes = self.crew.field.notes();
        let watchers = notes.idle.values().filter(|idle| idle.wave == self.wave && idle.planned.is_none());
        watchers.map(|idle| now.saturating_duration_since(idle.since)).any(|idle| idle > allowed)
    }

    fn agrees(&self, seen: Spread) -> Confirmed {
        let ends = self.ends(self.wave);
        let all = judge::spread(ends.iter().map(|end| end.idle).chain([seen.min, seen.max]));
        let together = all.is_some_and(judge::is_one);
        // The machine may have been late for some of them.
        if !ends.is_empty() && together { Confirmed::Yes } else { Confirmed::No }
    }

    /// What ended the connections of the pass and was not confirmed is no timer; `first` is the pass's wave.
    fn disown(&mut self, first: u32, seen: Spread) {
        let anybody_was_held = self.crew.home.iter().any(|home| home.wave == self.wave && is_told(home));
        let later = if anybody_was_held { "later ones did not" } else { "no later one could be held" };
        let text = format!(
            "{} connections ended after {:.1?} to {:.1?} of idleness, and {later}: something else than a timer ended them \
             (a restart, a reload, or shedding of load)",
            seen.n, seen.min, seen.max
        );
        self.disowned.push(first);
        self.caveats.push(Caveat { kind: CaveatKind::Restarted, text });
    }

    /// The answer for a visible close.
    fn ended(&mut self, seen: Spread) -> IdleTimeout {
        let ends: Vec<End> = (1..=self.wave)
            .filter(|wave| !self.disowned.contains(wave))
            .flat_map(|wave| self.ends(wave))
            .collect();
        let all = judge::spread(ends.iter().map(|end| end.idle)).unwrap_or(seen);
        if !judge::is_tight(all) {
            let text = format!(
                "ends lie {:.1?} apart: a server that looks at its timers once in a second does so, and so would backends \
                 whose timers differ by less",
                all.max - all.min
            );
            self.caveats.push(Caveat { kind: CaveatKind::Other, text });
        }
        // A question may have been asked at the same moment as the server closed.
        let alive =
            self.asked().filter(|(idle, alive)| *alive && *idle <= all.min).map(|(idle, _)| idle).max();
        let confirm = |planned: bool| {
            let wave = self.wave;
            self.crew
                .home
                .iter()
                .filter(move |home| home.wave == wave && home.sample.planned_idle.is_some() == planned)
        };
        let tally = |planned: bool, fate: Fate| Tally {
            hits: count(
                confirm(planned)
                    .filter(|home| home.sample.fate == fate || fate == Fate::Alive && is_alive(home)),
            ),
            of: count(confirm(planned).filter(|home| is_told(home))),
        };
        IdleTimeout {
            verdict: Verdict::Found,
            // Where nobody can be asked, those that watched were open until then.
            lower: alive.unwrap_or_else(|| match self.crew.field.speech.can_ask() {
                true => Duration::ZERO,
                false => all.min.saturating_sub(margin(all.min)),
            }),
            upper: Some(all.max),
            close: judge::usual_close(ends.iter().map(|end| end.close)),
            seen: Some(all),
            samples: all.n,
            confirmed_alive: tally(true, Fate::Alive),
            confirmed_dead: tally(false, Fate::Dead),
            clusters: Vec::new(),
        }
    }

    fn unconfirmed(&mut self, seen: Spread) -> IdleTimeout {
        let text = "the answer was not confirmed: the budget was spent, or the probe was stopped".to_owned();
        self.caveats.push(Caveat { kind: CaveatKind::BudgetSpent, text });
        let mut timeout = self.ended(seen);
        timeout.confirmed_alive = Tally::default();
        timeout.confirmed_dead = Tally::default();
        timeout
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Confirmed {
    Yes,
    No,
    Halted,
}

/// Connections on each side of an answer: more where the idle time is long anyway.
fn confirmations(idle: Duration) -> usize {
    if idle < Duration::from_secs(10) { 5 } else { 10 }
}

/// How far from an answer its sides are tried: this machine and the server date their events to some milliseconds.
fn margin(idle: Duration) -> Duration {
    Duration::from_millis(10).max(idle / 500)
}

/// The longest idle time that was lived through and the shortest that was not, if they part: to within the margin on
/// both sides, for two clocks never agree to the microsecond.
fn part(asked: impl Iterator<Item = (Duration, bool)>) -> Option<Bracket> {
    let (alive, dead): (Vec<_>, Vec<_>) = asked.partition(|(_, alive)| *alive);
    let dead = dead.into_iter().map(|(idle, _)| idle).min()?;
    let alive = alive.into_iter().map(|(idle, _)| idle).max().unwrap_or_default();
    let parted = alive < dead + margin(dead) * 2;
    parted.then_some(Bracket { alive: alive.min(dead), dead: alive.max(dead) })
}

/// The idle times of senders: each longer than the last by the same share, up to the longest, with one on each side
/// of every hint.
fn grid(max_idle: Duration, hints: &[Duration]) -> Vec<Duration> {
    let second = Duration::from_secs(1);
    let coarse = std::iter::successors(Some(FIRST), |idle| Some(idle.mul_f64(COARSE)));
    let fine = std::iter::successors(Some(second), |idle| Some(idle.mul_f64(RATIO)));
    let times = coarse.take_while(|idle| *idle < second).chain(fine.take_while(|idle| *idle < max_idle));
    let mut times: Vec<Duration> = times.filter(|idle| *idle < max_idle).collect();
    times.extend(
        hints
            .iter()
            // A server may announce more than can be multiplied.
            .filter(|hint| **hint < max_idle * 2)
            .flat_map(|hint| [hint.mul_f64(0.97), hint.mul_f64(1.03)])
            .filter(|idle| *idle < max_idle),
    );
    times.push(max_idle);
    times.sort_unstable();
    times
}

/// The end of a connection that was idle, if it was one and can be dated.
fn end_of(home: &Outcome) -> Option<End> {
    let sample = &home.sample;
    let close = sample.close.filter(|close| {
        matches!(close, CloseKind::Fin | CloseKind::Reset | CloseKind::Answered408 | CloseKind::Unsolicited)
    })?;
    (sample.fate == Fate::Dead).then_some(End { idle: sample.idle, at: home.at, close })
}

/// After which idle time a question was asked, and whether it was answered.
fn asked_of(home: &Outcome) -> Option<(Duration, bool)> {
    home.sample.planned_idle.filter(|_| home.wave != HUNT)?;
    match home.sample.fate {
        Fate::Alive | Fate::GatewayError => Some((home.sample.idle, true)),
        Fate::Dead if end_of(home).is_none() => Some((home.sample.idle, false)),
        _ => None,
    }
}

fn is_alive(home: &Outcome) -> bool {
    matches!(home.sample.fate, Fate::Alive | Fate::GatewayError)
}

/// Whether a fate says anything.
fn is_told(home: &Outcome) -> bool {
    !matches!(home.sample.fate, Fate::Late | Fate::Abandoned)
}

fn count<'a>(outcomes: impl Iterator<Item = &'a Outcome>) -> u32 {
    u32::try_from(outcomes.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_and_the_dead_part_or_they_do_not() {
        let ms = Duration::from_millis;
        let parts = |alive: &[u64], dead: &[u64]| {
            let all =
                alive.iter().map(|idle| (ms(*idle), true)).chain(dead.iter().map(|idle| (ms(*idle), false)));
            part(all).map(|bracket| (bracket.alive.as_millis(), bracket.dead.as_millis()))
        };
        assert_eq!(parts(&[100, 200], &[300, 400]), Some((200, 300)));
        assert_eq!(parts(&[], &[300]), Some((0, 300)));
        assert_eq!(parts(&[100], &[]), None);
        // Two milliseconds are two clocks; a hundred are no timer.
        assert_eq!(parts(&[302], &[300]), Some((300, 302)));
        assert_eq!(parts(&[400], &[300]), None);
    }

    #[test]
    fn senders_grow_by_a_share_up_to_the_longest_and_stand_on_both_sides_of_a_hint() {
        let s = Duration::from_secs;
        let grid = grid(s(600), &[s(5)]);
        assert_eq!((grid[0], *grid.last().unwrap()), (FIRST, s(600)));
        assert!(grid.contains(&s(5).mul_f64(0.97)) && grid.contains(&s(5).mul_f64(1.03)));
        assert!(grid.len() < 64, "{}", grid.len());
        let is_near = |two: &[Duration]| {
            let ratio = if two[1] <= s(1) { COARSE } else { RATIO };
            two[1].as_secs_f64() <= two[0].as_secs_f64() * ratio * 1.001
        };
        assert!(grid.windows(2).all(is_near));
    }

    #[test]
    fn a_hint_beyond_what_can_be_counted_has_no_sender() {
        let s = Duration::from_secs;
        assert_eq!(grid(s(2), &[s(u64::MAX), s(u64::MAX / 2)]), grid(s(2), &[]));
    }
}
