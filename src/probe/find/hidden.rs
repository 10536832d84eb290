//! Ends that nobody sees: narrowed down by senders, and both sides tried again.
//!
//! *Design.* What is opened after the answer waits for as long as the answer says. So those who are to confirm it are
//! opened while it is still being narrowed down, and are told only then when to ask. And nobody waits for the last
//! retransmission of a lost question: once it is in doubt, the next who are needed are opened, and if the doubt was
//! wrong, nothing is lost but their time.

use std::time::Duration;

use super::super::Progress;
use super::super::crew::Moment;
use super::super::field::{Appointments, Errand, Outcome, Over};
use super::super::judge;
use super::{Bracket, Search, asked_of, count, is_alive, margin};
use crate::clock;
use crate::findings::{Caveat, CaveatKind, CloseKind, Fate, IdleTimeout, Role, Tally, Verdict};

/// Senders that share a bracket. With the reserve they fit into the places that a probe has, beside those that wait
/// for something else; and into the connections that it may open in two seconds.
const REFINERS: u32 = 8;

/// So many dead ones end the narrowing down of a bracket, once all that waited less are home.
const DEAD_ENOUGH: usize = 2;

/// The reserve: connections that confirm each side, and such as go between.
const EACH_SIDE: usize = 5;
const WITHIN: u32 = 2;

/// Under a timer shorter than this nobody goes between: they would have to wait for their turn longer than they gain.
const SHORT: Duration = Duration::from_secs(4);

/// A question is in doubt after so long, and a few round trips more: two lost segments (Linux: a tail loss probe after
/// 200 ms and two round trips, then a retransmission time-out).
const IN_DOUBT: Duration = Duration::from_millis(550);

/// Those who narrow a bracket down, and those who will confirm what they find.
struct Party {
    senders: u32,
    planned: Vec<Duration>,
    over: Over,
    reserve: Option<Reserve>,
}

/// Connections that are idle already and will be told when to ask.
struct Reserve {
    wave: u32,
    appointments: Appointments,
    over: Over,
}

impl Drop for Reserve {
    fn drop(&mut self) {
        self.over.call();
    }
}

impl Search<'_, '_> {
    /// Senders that share the bracket, then both of its sides again. `None`: what was dead had died by accident.
    pub(super) async fn hidden(&mut self, bracket: Bracket) -> Option<IdleTimeout> {
        self.crew.tell(Progress::Bracketed { alive: bracket.alive, dead: bracket.dead });
        if !self.crew.can_afford(bracket.dead + IN_DOUBT) {
            self.beyond.drain(..).for_each(|over| over.call());
            return Some(self.as_it_stands().await);
        }
        let party = self.narrow_down(bracket).await;
        party.over.call();
        match (self.bracket_in_doubt(), party.reserve) {
            _ if self.dead_in(party.senders).is_empty() => {}
            (Some(finer), Some(reserve)) => self.confirm_hidden(finer, reserve).await,
            (Some(finer), None) => self.confirm_afresh(finer).await,
            (None, _) => {}
        }
        self.beyond.drain(..).for_each(|over| over.call());
        // Whoever was in doubt knows by now, or soon.
        self.crew.call_home(&party.over).await;
        let died = !self.dead_in(party.senders).is_empty();
        match self.bracket().filter(|_| died) {
            Some(last) => Some(self.judge_hidden(last)),
            None if self.crew.is_over() => Some(self.as_it_stands().await),
            None if self.forget_band() || !died => None,
            None => Some(self.mixed()),
        }
    }

    /// Shares a bracket among senders, the last of them a little beyond its end.
    async fn narrow_down(&mut self, bracket: Bracket) -> Party {
        self.wave += 1;
        let step = (bracket.dead - bracket.alive) / REFINERS;
        let planned: Vec<_> = (1..=REFINERS).map(|n| bracket.alive + step * n).collect();
        let mut party = Party { senders: self.wave, planned, over: Over::new(), reserve: None };
        for &idle in &party.planned {
            self.send(Role::Sender, Some(idle), &party.over);
        }
        self.send(Role::Sender, Some(bracket.dead + step), &party.over);
        // What a reserve is behind by: until the finer bracket is known, it must not be as old as that says.
        let round_trip = self.crew.field.notes().connects.iter().max().copied().unwrap_or_default();
        let behind = step * (DEAD_ENOUGH as u32 + 1) + IN_DOUBT + round_trip * 4 + margin(bracket.dead);
        let began = clock::now();
        while self.crew.moment().await == Moment::On
            && !self.is_narrow(&party)
            && !self.crew.is_home(party.senders)
        {
            if party.reserve.is_none() && clock::now() - began >= behind {
                party.reserve = Some(self.call_up(bracket.dead));
            }
        }
        party
    }

    fn call_up(&mut self, dead: Duration) -> Reserve {
        self.wave += 1;
        let reserve = Reserve { wave: self.wave, appointments: Appointments::new(), over: Over::new() };
        let within = if dead < SHORT { 0 } else { WITHIN as usize };
        for number in 0..EACH_SIDE * 2 + within {
            let appointment = Some((number, reserve.appointments.clone()));
            let errand = Errand { appointment, ..self.errand(Role::Confirm, None) };
            self.crew.send_out(errand, &reserve.over);
        }
        reserve
    }

    /// After which idle times, as planned, connections of this wave were dead, or are in doubt.
    fn dead_in(&self, wave: u32) -> Vec<Duration> {
        let home = self.crew.home.iter().filter(|home| home.wave == wave);
        let dead = home.filter(|home| asked_of(home).is_some_and(|(_, alive)| !alive));
        let doubts = self.doubts().into_iter().filter(|doubt| doubt.wave == wave);
        dead.filter_map(|home| home.sample.planned_idle).chain(doubts.map(|doubt| doubt.planned)).collect()
    }

    /// Whether enough are dead, and all that waited less than the first of them are home.
    fn is_narrow(&self, party: &Party) -> bool {
        let dead = self.dead_in(party.senders);
        let Some(first) = dead.iter().min() else { return false };
        let waited_less = |idle: &Duration| idle < first;
        let home = self.crew.home.iter().filter(|home| home.wave == party.senders);
        let home = home.filter_map(|home| home.sample.planned_idle).filter(waited_less).count();
        dead.len() >= DEAD_ENOUGH && home >= party.planned.iter().filter(|idle| waited_less(idle)).count()
    }

    /// Forgets what was lost although others that waited longer were answered; whether it was so.
    fn forget_band(&mut self) -> bool {
        let lost: Vec<_> = self.asked().filter(|(_, alive)| !alive).map(|(idle, _)| idle).collect();
        let Some((&from, &to)) = lost.iter().min().zip(lost.iter().max()) else { return true };
        let answered = self.asked().any(|(idle, alive)| alive && idle + margin(idle) > to);
        if !answered {
            return false;
        }
        let text = match lost.len() {
            1 => format!(
                "a connection was lost after {to:.1?} of idleness, and others that were idle as long were not"
            ),
            n => format!(
                "{n} requests were lost that were sent after {from:.2?} to {to:.2?} of idleness, and others, sent after \
                 more, were answered"
            ),
        };
        let kind = if lost.len() == 1 { CaveatKind::Restarted } else { CaveatKind::Other };
        self.caveats.push(Caveat { kind, text });
        let margin = margin(to);
        self.bands.push((from.saturating_sub(margin), to + margin));
        true
    }

    /// Tells the reserve when to ask: on both sides of what was found, and between.
    async fn confirm_hidden(&mut self, finer: Bracket, reserve: Reserve) {
        reserve.appointments.make(appointments(finer));
        let mut moment = Moment::On;
        while moment == Moment::On && !self.crew.is_home(reserve.wave) {
            moment = self.crew.moment().await;
        }
        drop(reserve);
        // A reserve that was opened too late, or an answer that came too soon for it.
        let (alive, dead) = self.confirmations();
        if moment != Moment::Halt && (alive.of as usize).min(dead.of as usize) < EACH_SIDE {
            self.confirm_afresh(finer).await;
        }
    }

    /// With connections that are opened for it now.
    async fn confirm_afresh(&mut self, finer: Bracket) {
        self.ask_all(Role::Confirm, appointments(finer)).await;
    }

    /// Those that were to confirm the answer, below its bracket and above it, and how many were as expected.
    fn confirmations(&self) -> (Tally, Tally) {
        let told = || {
            self.crew.home.iter().filter(|home| home.sample.role == Role::Confirm && asked_of(home).is_some())
        };
        let planned = |home: &&Outcome| home.sample.planned_idle;
        let (below, above) =
            (told().filter_map(|home| planned(&home)).min(), told().filter_map(|home| planned(&home)).max());
        let tally = |dead: bool| {
            let tried = told().filter(|home| planned(home) == if dead { above } else { below });
            Tally { hits: count(tried.clone().filter(|home| is_alive(home) != dead)), of: count(tried) }
        };
        (tally(false), tally(true))
    }

    fn judge_hidden(&mut self, last: Bracket) -> IdleTimeout {
        let (confirmed_alive, confirmed_dead) = self.confirmations();
        let margin = margin(last.dead);
        if (confirmed_alive.of as usize).min(confirmed_dead.of as usize) < EACH_SIDE {
            self.say_unconfirmed();
        }
        let dead = self.crew.home.iter().filter(|home| home.sample.fate == Fate::Dead);
        let close = judge::usual_close(dead.filter_map(|home| home.sample.close));
        if close == Some(CloseKind::Race) {
            let text =
                "nothing was seen while connections were idle, and the next request was met by a FIN: so do \
                        proxies (HAProxy) whose own connection to the hop behind them has gone"
                    .to_owned();
            self.caveats.push(Caveat { kind: CaveatKind::Other, text });
        }
        IdleTimeout {
            verdict: Verdict::Found,
            lower: self.lived_below(last.alive.saturating_sub(margin / 2)),
            upper: self.dead_above(last.dead + margin / 2).or(Some(last.dead)),
            close,
            seen: None,
            samples: u32::try_from(self.asked().count()).unwrap_or(u32::MAX),
            confirmed_alive,
            confirmed_dead,
            clusters: Vec::new(),
        }
    }

    /// What is known where no time is left to know it better.
    async fn as_it_stands(&mut self) -> IdleTimeout {
        self.crew.call_home(&Over::new()).await;
        let Some(bracket) = self.bracket() else { return self.unknown() };
        self.say_unconfirmed();
        let dead = self.crew.home.iter().filter(|home| home.sample.fate == Fate::Dead);
        IdleTimeout {
            verdict: Verdict::Found,
            lower: bracket.alive,
            upper: Some(bracket.dead),
            close: judge::usual_close(dead.filter_map(|home| home.sample.close)),
            seen: None,
            samples: u32::try_from(self.asked().count()).unwrap_or(u32::MAX),
            confirmed_alive: Tally::default(),
            confirmed_dead: Tally::default(),
            clusters: Vec::new(),
        }
    }

    fn say_unconfirmed(&mut self) {
        let text = "the answer was not confirmed: the budget was spent, or the probe was stopped".to_owned();
        self.caveats.push(Caveat { kind: CaveatKind::BudgetSpent, text });
    }

    /// The longest idle time up to this that was lived through.
    fn lived_below(&self, idle: Duration) -> Duration {
        let alive = self.asked().filter(|(_, alive)| *alive).map(|(idle, _)| idle);
        alive.filter(|alive| *alive <= idle).max().unwrap_or_default()
    }

    /// The shortest idle time from this on that found a connection dead.
    fn dead_above(&self, idle: Duration) -> Option<Duration> {
        let dead = self.asked().filter(|(_, alive)| !alive).map(|(idle, _)| idle);
        dead.filter(|dead| *dead >= idle).min()
    }

    /// Asks after all these idle times.
    async fn ask_all(&mut self, role: Role, after: Vec<Duration>) {
        let longest = after.iter().max().copied().unwrap_or_default();
        if !self.crew.can_afford(longest) {
            return;
        }
        self.wave += 1;
        let over = Over::new();
        for idle in after {
            self.send(role, Some(idle), &over);
        }
        let wave = self.wave;
        while self.crew.moment().await == Moment::On && !self.crew.is_home(wave) {}
        over.call();
    }
}

/// When to ask for a bracket: both sides of it, and between.
fn appointments(finer: Bracket) -> Vec<Duration> {
    let margin = margin(finer.dead);
    let (below, above) = (finer.alive.saturating_sub(margin), finer.dead + margin);
    let sides = (0..EACH_SIDE).flat_map(|_| [below, above]);
    let parts = if finer.dead < SHORT { 1 } else { WITHIN + 1 };
    let within = (1..parts).map(|n| finer.alive + (finer.dead - finer.alive) / parts * n);
    sides.chain(within).collect()
}
