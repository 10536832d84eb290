//! What the hop behind does, as far as it can be seen from here: errors of the gateway, requests that are lost though
//! others that waited longer are answered, and answers that take longer from some idle time on, for a connection
//! behind has to be opened anew. Pure: samples in, an opinion out.

use std::time::Duration;

use super::judge;
use crate::findings::{Behind, CloseKind, Fate, IdleTimeout, Redial, Role, Sample, Tally, Verdict};

/// The fewest answers on each side of a step in how long they take.
const EACH_SIDE: usize = 4;

/// A step is at least so high, and this share of what answers took before it: below that, it is noise.
const STEP: Duration = Duration::from_millis(5);
const SHARE: f64 = 0.25;

/// The fewest lost requests that are no accident.
const NO_ACCIDENT: usize = 2;

/// What was seen of it; `None`: nothing. `first`: the status of the very first answer: where that was a gateway's error,
/// another one says nothing.
pub(super) fn behind(samples: &[Sample], timeout: &IdleTimeout, first: Option<u16>) -> Option<Behind> {
    let is_error = |sample: &&Sample| sample.fate == Fate::GatewayError;
    let told = first.is_none_or(|status| !(502..=504).contains(&status));
    let errors: Vec<&Sample> = samples.iter().filter(is_error).filter(|_| told).collect();
    let lost: Vec<&Sample> = samples.iter().filter(|sample| is_lost(sample, timeout)).collect();
    let lost = if lost.len() < NO_ACCIDENT { Vec::new() } else { lost };
    let redial = redial(samples);
    let from = errors.iter().chain(&lost).map(|sample| sample.idle).min();
    let from = from.or(redial.map(|redial| redial.longer))?;
    let mut statuses: Vec<u16> = errors.iter().filter_map(|sample| sample.status).collect();
    statuses.sort_unstable();
    statuses.dedup();
    let answered = samples.iter().filter(|sample| sample.status.is_some() && sample.idle >= from);
    // Lost requests lie in a band, and only what was asked within it counts.
    let to = lost.iter().map(|sample| sample.idle).max().unwrap_or_default();
    let asked = samples.iter().filter(|sample| (from..=to).contains(&sample.idle));
    let asked = asked.filter(|sample| is_lost(sample, timeout) || sample.status.is_some());
    Some(Behind {
        statuses,
        from,
        seen: Tally { hits: count(errors.len()), of: count(answered.count()) },
        lost: Tally { hits: count(lost.len()), of: count(asked.count()) },
        redial,
    })
}

/// Whether a request was lost though the timer was not near.
fn is_lost(sample: &Sample, timeout: &IdleTimeout) -> bool {
    let far = timeout.verdict == Verdict::Found && sample.idle.mul_f64(1.02) < timeout.lower
        || timeout.verdict == Verdict::Longer;
    far && matches!(sample.role, Role::Sender | Role::Confirm | Role::Behind)
        && sample.fate == Fate::Dead
        && !sample.said_close
        && matches!(sample.close, Some(CloseKind::Race | CloseKind::ResetOnSend))
}

/// From which idle time on answers take longer, if there is one step that parts them.
pub(super) fn redial(samples: &[Sample]) -> Option<Redial> {
    let mut asked: Vec<(Duration, Duration)> = samples
        .iter()
        .filter(|sample| {
            sample.fate == Fate::Alive && matches!(sample.role, Role::Sender | Role::Confirm | Role::Behind)
        })
        .filter_map(|sample| Some((sample.idle, sample.answered_in?)))
        .collect();
    asked.sort_unstable();
    let splits = EACH_SIDE..asked.len().saturating_sub(EACH_SIDE - 1);
    splits.filter_map(|at| step(&asked, at)).max_by_key(|redial| redial.slower_by)
}

/// Whether all before this place answered faster than all from it on, by enough.
fn step(asked: &[(Duration, Duration)], at: usize) -> Option<Redial> {
    let (quick, slow) = asked.split_at(at);
    let took = |part: &[(Duration, Duration)]| judge::spread(part.iter().map(|(_, took)| *took));
    let (before, after) = (took(quick)?, took(slow)?);
    let slower_by = after.median.saturating_sub(before.median);
    let high = slower_by >= STEP.max(before.median.mul_f64(SHARE));
    // Half of the step must lie between the slowest before and the fastest after.
    let parted = before.max + slower_by / 2 <= after.min;
    let redial = Redial { shorter: quick.last()?.0, longer: slow.first()?.0, slower_by };
    (high && parted).then_some(redial)
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(idle_ms: u64, took_ms: u64) -> Sample {
        let ms = Duration::from_millis;
        Sample {
            role: Role::Sender,
            opened: Duration::ZERO,
            planned_idle: Some(ms(idle_ms)),
            idle: ms(idle_ms),
            fate: Fate::Alive,
            close: None,
            status: Some(200),
            answered_in: Some(ms(took_ms)),
            said_close: false,
            requests: 2,
            tcp: None,
        }
    }

    fn steps(samples: &[(u64, u64)]) -> Option<(u128, u128, u128)> {
        let samples: Vec<_> = samples.iter().map(|&(idle, took)| answered(idle, took)).collect();
        redial(&samples).map(|it| (it.shorter.as_millis(), it.longer.as_millis(), it.slower_by.as_millis()))
    }

    #[test]
    fn answers_that_take_longer_from_an_idle_time_on_show_a_connection_that_is_opened_anew() {
        let one = [(1, 101), (2, 104), (3, 100), (4, 102), (5, 203), (6, 201), (7, 205), (8, 202)];
        assert_eq!(steps(&one), Some((4, 5, 101)));
    }

    #[test]
    fn noise_a_slope_and_too_few_are_no_step() {
        for none in [
            // Below what timers and processors add.
            &[(1, 1), (2, 2), (3, 1), (4, 2), (5, 4), (6, 4), (7, 4), (8, 4)][..],
            // One slow answer among the early ones.
            &[(1, 100), (2, 230), (3, 100), (4, 100), (5, 200), (6, 200), (7, 200), (8, 200)],
            &[(1, 100), (2, 120), (3, 140), (4, 160), (5, 180), (6, 200), (7, 220), (8, 240)],
            &[(1, 100), (2, 100), (3, 100), (4, 200), (5, 200), (6, 200)],
        ] {
            assert_eq!(steps(none), None, "{none:?}");
        }
    }
}
