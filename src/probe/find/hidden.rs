//! Ends that nobody sees: narrowed down by senders, and both sides tried again.

use std::time::Duration;

use super::super::Progress;
use super::super::crew::Moment;
use super::super::field::Over;
use super::super::judge;
use super::{Bracket, DEAD_ENOUGH, REFINERS, Search, asked_of, confirmations, count, is_alive, margin};
use crate::findings::{Caveat, CaveatKind, CloseKind, Fate, IdleTimeout, Role, Tally, Verdict};

impl Search<'_, '_> {
    /// Senders that share the bracket, then both of its sides again. `None`: what was dead had died by accident.
    pub(super) async fn hidden(&mut self, bracket: Bracket) -> Option<IdleTimeout> {
        self.crew.tell(Progress::Bracketed { alive: bracket.alive, dead: bracket.dead });
        let died = self.narrow_down(bracket).await;
        if died == 0 && !self.crew.is_over() {
            self.forget_accidents(bracket);
            return None;
        }
        Some(match self.bracket() {
            Some(finer) => self.confirm_hidden(finer).await,
            None => self.mixed(),
        })
    }

    /// Shares a bracket among senders, the last of them at its end; how many of them found their connection dead.
    async fn narrow_down(&mut self, bracket: Bracket) -> usize {
        if !self.crew.can_afford(bracket.dead) {
            return 0;
        }
        self.wave += 1;
        let over = Over::new();
        let step = (bracket.dead - bracket.alive) / REFINERS;
        let planned: Vec<_> = (1..=REFINERS).map(|n| bracket.alive + step * n).collect();
        for &idle in &planned {
            self.send(Role::Sender, Some(idle), &over);
        }
        self.send(Role::Sender, Some(bracket.dead + step), &over);
        while self.crew.moment().await == Moment::On && !self.is_narrow(&planned) {}
        self.crew.call_home(&over).await;
        self.dead_in_wave().count()
    }

    fn dead_in_wave(&self) -> impl Iterator<Item = Duration> + '_ {
        let home = self.crew.home.iter().filter(|home| home.wave == self.wave);
        home.filter_map(asked_of).filter(|(_, alive)| !alive).map(|(idle, _)| idle)
    }

    /// Whether enough are dead, and all that waited less than the first of them are home.
    fn is_narrow(&self, planned: &[Duration]) -> bool {
        let Some(first) = self.dead_in_wave().min() else { return false };
        let waited_less = |idle: &Duration| *idle < first;
        let home = self.crew.home.iter().filter(|home| home.wave == self.wave);
        let home = home.filter_map(|home| home.sample.planned_idle).filter(waited_less).count();
        self.dead_in_wave().count() >= DEAD_ENOUGH
            && home >= planned.iter().filter(|idle| waited_less(idle)).count()
    }

    fn forget_accidents(&mut self, bracket: Bracket) {
        let lost: Vec<_> = self.asked().filter(|(_, alive)| !alive).map(|(idle, _)| idle).collect();
        self.accidents.extend(lost);
        let text = format!(
            "a connection was lost after {:.1?} of idleness, and others that were idle as long were not",
            bracket.dead
        );
        self.caveats.push(Caveat { kind: CaveatKind::Restarted, text });
    }

    async fn confirm_hidden(&mut self, finer: Bracket) -> IdleTimeout {
        let margin = margin(finer.dead);
        let (below, above) = (finer.alive.saturating_sub(margin), finer.dead + margin);
        let n = u32::try_from(confirmations(finer.dead)).unwrap_or(5);
        let before = self.crew.home.len();
        let sides = (0..n).flat_map(|_| [below, above]);
        let within = (1..8).map(|n| finer.alive + (finer.dead - finer.alive) / 8 * n);
        let halted = !self.ask_all(Role::Confirm, sides.chain(within).collect()).await;
        let Some(last) = self.bracket() else { return self.mixed() };
        let confirmed = |dead: bool| {
            let tried = self.crew.home[before..].iter().filter(|home| {
                asked_of(home).is_some()
                    && home
                        .sample
                        .planned_idle
                        .is_some_and(|idle| if dead { idle >= above } else { idle <= below })
            });
            Tally { hits: count(tried.clone().filter(|home| is_alive(home) != dead)), of: count(tried) }
        };
        let (confirmed_alive, confirmed_dead) = (confirmed(false), confirmed(true));
        if halted {
            let text =
                "the answer was not confirmed: the budget was spent, or the probe was stopped".to_owned();
            self.caveats.push(Caveat { kind: CaveatKind::BudgetSpent, text });
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
            lower: self.lived_below(last.alive.saturating_sub(margin)),
            upper: self.dead_above(last.dead + margin).or(Some(last.dead)),
            close,
            seen: None,
            samples: u32::try_from(self.asked().count()).unwrap_or(u32::MAX),
            confirmed_alive,
            confirmed_dead,
            clusters: Vec::new(),
        }
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

    /// Asks after all these idle times; whether all came home.
    async fn ask_all(&mut self, role: Role, after: Vec<Duration>) -> bool {
        let longest = after.iter().max().copied().unwrap_or_default();
        if !self.crew.can_afford(longest) {
            return false;
        }
        self.wave += 1;
        let over = Over::new();
        for idle in after {
            self.send(role, Some(idle), &over);
        }
        let moment = self.crew.all_home().await;
        self.crew.call_home(&over).await;
        moment == Moment::Empty
    }
}
