//! How many requests one connection may carry, and how old it may become.

use std::sync::Arc;
use std::time::Duration;

use super::field::{Field, Over, Start};
use super::judge;
use super::line::{Line, Reply};
use crate::clock;
use crate::findings::{CloseKind, Fate, MaxLifetime, MaxRequests, Role, Sample};

/// Requests per second on the connection that counts; the second one goes half as fast, so that a limit on requests
/// can be told from one on age.
const PACE: u32 = 200;

/// Connections that grow old.
const ELDERS: usize = 3;

/// Why a connection could not carry another request.
#[derive(Clone, Debug, Default)]
struct Worn {
    sample: Option<Sample>,
    /// Answers on it.
    requests: u64,
    age: Duration,
    /// Whether it ended, and not only the patience with it.
    ended: bool,
    announced: bool,
    /// `max=` of its first and its last answer.
    max: (Option<u64>, Option<u64>),
}

/// Counts the requests that a connection carries, at two paces at once, up to so many; `None`: nothing could be
/// counted.
pub(super) async fn requests(field: Arc<Field>, most: u64, over: Over) -> (Option<MaxRequests>, Vec<Sample>) {
    let gap = Duration::from_secs(1) / PACE;
    let fast_done = Over::new();
    let slow = {
        let (field, over, done) = (Arc::clone(&field), over.clone(), fast_done.clone());
        tokio::spawn(async move {
            let wear = wear(&field, Role::Requests, gap * 2, most, Duration::MAX, &over);
            // Without a limit in sight there is nothing to compare.
            done.unless(wear).await.flatten()
        })
    };
    let fast = wear(&field, Role::Requests, gap, most, Duration::MAX, &over).await;
    if fast.as_ref().is_none_or(|fast| !fast.ended) {
        fast_done.call();
    }
    let slow = slow.await.ok().flatten();
    let samples = fast.iter().chain(&slow).filter_map(|worn| worn.sample.clone()).collect();
    (fast.map(|fast| judge_requests(&fast, slow.as_ref())), samples)
}

fn judge_requests(fast: &Worn, slow: Option<&Worn>) -> MaxRequests {
    let same = slow.is_some_and(|slow| slow.ended && slow.requests == fast.requests);
    let (first, last) = fast.max;
    MaxRequests {
        value: fast.ended.then_some(fast.requests),
        announced: fast.announced,
        counted_down: first.zip(last).is_some_and(|(first, last)| last < first),
        tried: fast.requests.max(slow.map_or(0, |slow| slow.requests)),
        repeated: fast.ended && same,
    }
}

/// Lets connections grow old, with a request now and then, until they end or are of this age.
pub(super) async fn lifetime(
    field: Arc<Field>,
    role: Role,
    every: Duration,
    tried: Duration,
    over: Over,
) -> (Option<MaxLifetime>, Vec<Sample>) {
    let elders: Vec<_> = (0..ELDERS)
        .map(|_| {
            let (field, over) = (Arc::clone(&field), over.clone());
            tokio::spawn(async move { wear(&field, role, every, u64::MAX, tried, &over).await })
        })
        .collect();
    let mut worn = Vec::new();
    for elder in elders {
        worn.extend(elder.await.ok().flatten());
    }
    let ended = || worn.iter().filter(|worn| worn.ended);
    let lifetime = worn.iter().map(|worn| worn.age).max().map(|tried| MaxLifetime {
        ended: judge::spread(ended().map(|worn| worn.age)),
        announced: ended().next().is_some() && ended().all(|worn| worn.announced),
        tried,
    });
    (lifetime, worn.into_iter().filter_map(|worn| worn.sample).collect())
}

/// Request after request on one connection, until it ends, has carried so many, or is so old.
async fn wear(
    field: &Field,
    role: Role,
    every: Duration,
    most: u64,
    oldest: Duration,
    over: &Over,
) -> Option<Worn> {
    let _place = over.unless(field.gate.enter()).await?;
    let opened = clock::now();
    let (mut line, head) = over.unless(field.ready(Start::Answer)).await??;
    let (mut worn, mut close, mut fate) = (Worn::default(), None, Fate::Alive);
    let mut said_close = false;
    let mut due = clock::now();
    if let Some(head) = head {
        let max = head.keep_alive.as_deref().and_then(|text| super::answer::keep_alive(text).1);
        worn.max = (max, max);
        said_close = head.says_close;
    }
    while !said_close && line.answered < most && clock::now() - opened < oldest {
        due = (due + every).max(clock::now());
        let ask = next(field, &mut line, due.min(opened.checked_add(oldest).unwrap_or(due)));
        let Some(reply) = over.unless(ask).await else {
            fate = Fate::Abandoned;
            break;
        };
        match reply {
            Ok(Reply::Answered(head)) => {
                said_close = head.says_close;
                let max = head.keep_alive.as_deref().and_then(|text| super::answer::keep_alive(text).1);
                worn.max.1 = max.or(worn.max.1);
            }
            Ok(Reply::Ended(kind)) | Err(kind) => {
                (close, fate) = (Some(kind), Fate::Dead);
                break;
            }
            Ok(_) => {
                fate = Fate::Dead;
                break;
            }
        }
    }
    worn.requests = line.answered;
    worn.age = clock::now() - opened;
    worn.announced = said_close;
    worn.ended = said_close || close.is_some();
    worn.sample = Some(Sample {
        role,
        opened: field.since_began(opened),
        planned_idle: None,
        idle: clock::now().saturating_duration_since(line.quiet_since),
        fate: if said_close { Fate::Dead } else { fate },
        close,
        status: None,
        answered_in: None,
        said_close,
        requests: line.answered,
        tcp: None,
    });
    Some(worn)
}

/// The next question when its time has come, or the end that came before.
async fn next(field: &Field, line: &mut Line, due: std::time::Instant) -> Result<Reply, CloseKind> {
    if let Ok(ending) = tokio::time::timeout_at(due.into(), line.listen()).await {
        return Err(ending.kind);
    }
    Ok(line.ask(&field.speech, field.patience, field.diag.as_ref()).await)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worn(requests: u64, ended: bool, max: (Option<u64>, Option<u64>)) -> Worn {
        Worn { requests, ended, announced: ended, max, ..Worn::default() }
    }

    #[test]
    fn a_limit_on_requests_is_the_same_at_every_pace() {
        let limit =
            judge_requests(&worn(100, true, (Some(99), Some(0))), Some(&worn(100, true, (None, None))));
        assert_eq!((limit.value, limit.counted_down, limit.repeated), (Some(100), true, true));
        let age = judge_requests(&worn(100, true, (None, None)), Some(&worn(50, true, (None, None))));
        assert_eq!((age.value, age.repeated), (Some(100), false));
        let none = judge_requests(&worn(2000, false, (Some(5), Some(5))), None);
        assert_eq!((none.value, none.tried, none.counted_down), (None, 2000, false));
    }
}
