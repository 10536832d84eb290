//! The race window: how long before a server's timeout a request may be lost, because the server closes while the
//! request is on its way (RFC 9112, section 9.5).

use std::time::Duration;

use super::crew::Crew;
use super::field::{Errand, Outcome, Over, Start};
use crate::findings::{CloseKind, Fate, RaceWindow, Role, Tally};

/// How long before the timeout requests are sent, in quarters of a round trip: a request must arrive before the
/// server's time is up, so that one round trip before it (as we count) the danger begins.
const QUARTERS: [u32; 8] = [16, 8, 6, 4, 3, 2, 1, 0];

/// Requests at each of them.
const EACH: usize = 10;

/// A round trip is at least so long, for a server's clock has its own grain.
const GRAIN: Duration = Duration::from_millis(1);

/// Asks close to the timeout, as often as the budget allows; `None`: it did not.
pub(super) async fn window(
    crew: &mut Crew<'_>,
    wave: u32,
    timeout: Duration,
    round_trip: Duration,
) -> Option<RaceWindow> {
    let round_trip = round_trip.max(GRAIN);
    let before = crew.home.len();
    let over = Over::new();
    if !crew.can_afford(timeout) {
        return None;
    }
    for _ in 0..EACH {
        for quarters in QUARTERS {
            let errand = Errand {
                role: Role::Race,
                wave,
                ask_after: timeout.checked_sub(round_trip * quarters / 4),
                appointment: None,
                watch_for: timeout * 2,
                start: Start::Answer,
                keepalive: None,
            };
            crew.send_out(errand, &over);
        }
    }
    crew.all_home().await;
    crew.call_home(&over).await;
    Some(judge(timeout, &crew.home[before..]))
}

fn judge(timeout: Duration, outcomes: &[Outcome]) -> RaceWindow {
    let is_lost = |home: &&Outcome| {
        home.sample.fate == Fate::Dead
            && matches!(home.sample.close, Some(CloseKind::Race | CloseKind::ResetOnSend) | None)
    };
    let lost: Vec<_> = outcomes.iter().filter(is_lost).map(|home| home.sample.idle).collect();
    let width = lost.iter().min().map(|first| timeout.saturating_sub(*first));
    let since = timeout.saturating_sub(width.unwrap_or_default());
    let sent = outcomes
        .iter()
        .filter(|home| home.sample.idle >= since)
        .filter(|home| is_lost(home) || matches!(home.sample.fate, Fate::Alive | Fate::GatewayError));
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let of = if width.is_some() {
        sent.count()
    } else {
        outcomes.iter().filter(|home| home.sample.fate == Fate::Alive).count()
    };
    RaceWindow { width, lost: Tally { hits: count(lost.len()), of: count(of) } }
}
