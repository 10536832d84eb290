//! Which layer's keep-alive holds a path open: TCP keepalive, nothing, and requests, side by side.

use std::sync::Arc;
use std::time::Duration;

use super::crew::Crew;
use super::field::{Errand, Outcome, Over, Start};
use super::{judge, limits};
use crate::findings::{CloseKind, Fate, Held, Layer, LayerVerdict, Role, Sample};

/// Connections of each kind.
const EACH: usize = 3;

/// Ends this near to the timeout are the same timer's.
fn about(timeout: Duration) -> Duration {
    timeout + Duration::from_millis(300).max(timeout / 10)
}

/// Tries all three for a little more than twice the timeout; `None`: the budget does not allow it, or the kernel's
/// keepalive, which counts in whole seconds, is too coarse for this timeout.
pub(super) async fn layer(crew: &mut Crew<'_>, wave: u32, timeout: Duration) -> Option<(Layer, Vec<Sample>)> {
    let keepalive = Duration::from_secs((timeout.as_secs() / 3).max(1));
    let watched = timeout * 2 + Duration::from_secs(1).max(timeout / 4);
    if keepalive >= timeout || !crew.can_afford(watched) {
        return None;
    }
    let before = crew.home.len();
    let over = Over::new();
    let busy = {
        let (field, over) = (Arc::clone(&crew.field), over.clone());
        tokio::spawn(limits::lifetime(field, Role::LayerRequests, timeout / 2, watched, over))
    };
    for _ in 0..EACH {
        for (role, keepalive) in [(Role::LayerKeepalive, Some(keepalive)), (Role::LayerNothing, None)] {
            let ask_after = crew.field.speech.can_ask().then_some(watched);
            let errand = Errand {
                role,
                wave,
                ask_after,
                appointment: None,
                watch_for: watched,
                start: Start::Answer,
                keepalive,
            };
            crew.send_out(errand, &over);
        }
    }
    crew.all_home().await;
    let halted = crew.is_over();
    if halted {
        over.call();
    }
    let (_, busy) = busy.await.ok()?;
    crew.call_home(&over).await;
    if halted {
        return None;
    }
    let of = |role, every| held(role, every, watched, timeout, &crew.home[before..]);
    let (tcp_keepalive, nothing) = (of(Role::LayerKeepalive, Some(keepalive)), of(Role::LayerNothing, None));
    let requests = held_busy(timeout / 2, watched, &busy);
    let verdict = verdict(&tcp_keepalive, &nothing, &requests, timeout);
    let peer_probes = crew.field.notes().peer_probes;
    Some((Layer { tcp_keepalive, nothing, requests, verdict, peer_probes }, busy))
}

fn held(
    role: Role,
    every: Option<Duration>,
    watched: Duration,
    timeout: Duration,
    outcomes: &[Outcome],
) -> Held {
    let told: Vec<_> = outcomes
        .iter()
        .map(|home| &home.sample)
        .filter(|sample| sample.role == role && matches!(sample.fate, Fate::Alive | Fate::Dead))
        .collect();
    let dead = || told.iter().filter(|sample| sample.fate == Fate::Dead);
    let close = judge::usual_close(dead().filter_map(|sample| sample.close));
    // Where nobody sees the end, the control died when the search found that it does.
    let unseen = matches!(close, Some(CloseKind::Silent | CloseKind::ResetOnSend)) && every.is_none();
    let ended = dead().map(|sample| if unseen { timeout } else { sample.idle });
    Held {
        every,
        ended: judge::spread(ended),
        close,
        watched,
        samples: u32::try_from(told.len()).unwrap_or(u32::MAX),
    }
}

fn held_busy(every: Duration, watched: Duration, samples: &[Sample]) -> Held {
    let dead = || samples.iter().filter(|sample| sample.fate == Fate::Dead);
    Held {
        every: Some(every),
        ended: judge::spread(dead().map(|sample| sample.idle)),
        close: judge::usual_close(dead().filter_map(|sample| sample.close)),
        watched,
        samples: u32::try_from(samples.len()).unwrap_or(u32::MAX),
    }
}

fn verdict(keepalive: &Held, nothing: &Held, requests: &Held, timeout: Duration) -> LayerVerdict {
    let all_ended = |held: &Held| held.samples > 0 && held.ended.is_some_and(|ended| ended.n == held.samples);
    let is_held = |held: &Held| held.samples > 0 && held.ended.is_none();
    let hidden = matches!(keepalive.close, Some(CloseKind::Silent | CloseKind::ResetOnSend));
    match () {
        () if is_held(nothing) => LayerVerdict::NoTimer,
        () if !all_ended(nothing) => LayerVerdict::Undecided,
        () if all_ended(requests) => LayerVerdict::Neither,
        () if is_held(keepalive) => LayerVerdict::Packets,
        () if !all_ended(keepalive) || hidden => LayerVerdict::Undecided,
        () if keepalive.ended.is_some_and(|ended| ended.max <= about(timeout)) => LayerVerdict::Http,
        () if keepalive.ended.is_some_and(|ended| ended.min > about(timeout)) => LayerVerdict::Both,
        () => LayerVerdict::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(after_s: Option<u64>, close: CloseKind) -> Held {
        let ended = after_s.and_then(|s| judge::spread([Duration::from_secs(s); 3]));
        let close = ended.map(|_| close);
        Held { every: None, ended, close, watched: Duration::from_secs(25), samples: 3 }
    }

    #[test]
    fn what_outlives_what_tells_the_layer() {
        use CloseKind::{Fin, Silent};
        for (keepalive, nothing, requests, expected) in [
            (ended(None, Silent), ended(Some(10), Silent), ended(None, Fin), LayerVerdict::Packets),
            (ended(Some(10), Fin), ended(Some(10), Fin), ended(None, Fin), LayerVerdict::Http),
            (ended(Some(15), Fin), ended(Some(10), Silent), ended(None, Fin), LayerVerdict::Both),
            (ended(Some(10), Fin), ended(Some(10), Fin), ended(Some(5), Fin), LayerVerdict::Neither),
            (ended(None, Fin), ended(None, Fin), ended(None, Fin), LayerVerdict::NoTimer),
            (ended(Some(25), Silent), ended(Some(10), Silent), ended(None, Fin), LayerVerdict::Undecided),
        ] {
            assert_eq!(verdict(&keepalive, &nothing, &requests, Duration::from_secs(10)), expected);
        }
    }
}
