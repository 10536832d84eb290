//! What a set of ends is: one timer, several, or none at all. Pure: idle times in, a shape out.

use std::time::Duration;

use crate::findings::{CloseKind, Cluster, Spread};

/// A connection that ended while it was idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// How long it had been idle.
    pub(super) idle: Duration,
    /// When that was, since the probe began.
    pub(super) at: Duration,
    pub(super) close: CloseKind,
}

/// What ends look like together.
#[derive(Clone, Debug)]
pub(super) enum Shape {
    /// Fewer than three: nothing can be said.
    Few,
    /// One timer.
    Timer(Spread),
    /// All ended at one moment, whenever they had begun to be idle: a reload or a restart, or a server that looks at
    /// its connections only now and then.
    Moment(Spread),
    /// One timer, and ends before it that are none of it.
    TimerAndShed(Spread, usize),
    /// Several timers.
    Several(Vec<Cluster>),
    /// No timer.
    Scattered,
}

/// The fewest ends that make a shape.
pub(super) const QUORUM: usize = 3;

/// Idle times this far apart may still come from one timer: what processors and networks add.
fn near(idle: Duration) -> Duration {
    Duration::from_millis(150).max(idle / 25)
}

/// Ends of one timer lie within this of each other: the lazy timers of servers (nginx re-arms within 300 ms, Apache
/// rounds up to 100 ms).
fn tight(min: Duration) -> Duration {
    Duration::from_millis(250).max(min / 20)
}

/// Some servers look at their timers only once in a second (Tomcat, gunicorn, Kestrel).
const SWEEP: Duration = Duration::from_millis(1100);

/// Ends within so short a time are one moment.
const MOMENT: Duration = Duration::from_millis(100);

/// The range and the middle of some durations; `None` of none.
pub(super) fn spread(durations: impl IntoIterator<Item = Duration>) -> Option<Spread> {
    let mut all: Vec<_> = durations.into_iter().collect();
    all.sort_unstable();
    let (min, max) = (*all.first()?, *all.last()?);
    let n = u32::try_from(all.len()).unwrap_or(u32::MAX);
    Some(Spread { n, min, median: all[(all.len() - 1) / 2], max })
}

/// The kind that most ends have.
pub(super) fn usual_close(kinds: impl IntoIterator<Item = CloseKind>) -> Option<CloseKind> {
    let mut counts = std::collections::BTreeMap::new();
    for kind in kinds {
        *counts.entry(kind).or_insert(0) += 1;
    }
    counts.into_iter().max_by_key(|&(_, n)| n).map(|(kind, _)| kind)
}

/// What these ends are together.
pub(super) fn shape(ends: &[End]) -> Shape {
    if ends.len() < QUORUM {
        return Shape::Few;
    }
    let mut ends = ends.to_vec();
    ends.sort_unstable_by_key(|end| end.idle);
    let Some(all) = spread(ends.iter().map(|end| end.idle)) else { return Shape::Few };
    if is_moment(&ends, all) {
        return Shape::Moment(all);
    }
    let clusters = clusters(&ends);
    // Within one look of a server that looks once in a second, ends form groups by chance; but not by idle time.
    if is_one(all) {
        return timers_of_their_own(&clusters, &ends).map_or(Shape::Timer(all), Shape::Several);
    }
    if let Some(several) = several(&clusters, ends.len()) {
        return Shape::Several(several);
    }
    match clusters.last() {
        Some(last) if last.len() >= QUORUM && 2 * last.len() >= ends.len() && is_tight_group(last) => {
            let timer = spread(last.iter().map(|end| end.idle)).unwrap_or(all);
            Shape::TimerAndShed(timer, ends.len() - last.len())
        }
        _ => Shape::Scattered,
    }
}

/// Whether one timer explains all of it: tight, or within one look of a server that looks once in a second.
pub(super) fn is_one(all: Spread) -> bool {
    let width = all.max - all.min;
    is_tight(all) || (width <= SWEEP && all.min >= width * 3 / 2)
}

/// Whether nothing but one timer and a little lateness is needed to explain it.
pub(super) fn is_tight(all: Spread) -> bool {
    all.max - all.min <= tight(all.min)
}

fn is_moment(ends: &[End], all: Spread) -> bool {
    let Some(at) = spread(ends.iter().map(|end| end.at)) else { return false };
    let (idle, moment) = (all.max - all.min, at.max - at.min);
    moment <= MOMENT && idle >= (moment * 3).max(near(all.min))
}

/// Sorted ends, parted where the next one is not near.
fn clusters(ends: &[End]) -> Vec<&[End]> {
    ends.chunk_by(|one, next| next.idle - one.idle <= near(one.idle)).collect()
}

fn is_tight_group(cluster: &[End]) -> bool {
    cluster.first().is_some_and(|first| width(cluster) <= tight(first.idle))
}

fn width(cluster: &[End]) -> Duration {
    cluster.first().zip(cluster.last()).map_or(Duration::ZERO, |(first, last)| last.idle - first.idle)
}

/// Groups that a server's looks at its clock cannot explain. One look ends all of a group at one moment, however long each
/// had been idle; a timer ends each after its own idle time, at moments as far apart as they had begun.
fn timers_of_their_own(clusters: &[&[End]], ends: &[End]) -> Option<Vec<Cluster>> {
    let by_idle_time = |cluster: &&[End]| {
        let at = spread(cluster.iter().map(|end| end.at));
        at.is_some_and(|at| at.max - at.min >= APART.max(width(cluster) * 3))
    };
    let groups = several(clusters, ends.len())?;
    clusters.iter().filter(|cluster| cluster.len() >= QUORUM).all(by_idle_time).then_some(groups)
}

/// Connections that were opened so far apart show whether they ended after their idle times or at one moment.
const APART: Duration = Duration::from_millis(15);

/// Groups that are each very tight, each of three ends or more, and together almost all: a few may have met by chance.
fn several(clusters: &[&[End]], all: usize) -> Option<Vec<Cluster>> {
    let is_group =
        |cluster: &&&[End]| cluster.len() >= QUORUM && width(cluster) <= tight(cluster[0].idle) / 2;
    let groups: Vec<_> = clusters.iter().filter(is_group).collect();
    let within: usize = groups.iter().map(|group| group.len()).sum();
    if groups.len() < 2 || within * 20 < all * 19 {
        return None;
    }
    let cluster = |group: &&&[End]| {
        let at = spread(group.iter().map(|end| end.idle))?;
        Some(Cluster { at, close: usual_close(group.iter().map(|end| end.close))? })
    };
    groups.iter().map(cluster).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Connections opened 50 ms apart that ended after these idle times.
    fn ends(idle_ms: &[u64]) -> Vec<End> {
        let ms = Duration::from_millis;
        (0..)
            .zip(idle_ms)
            .map(|(n, &idle)| End { idle: ms(idle), at: ms(n * 50 + idle), close: CloseKind::Fin })
            .collect()
    }

    fn name(shape: &Shape) -> String {
        match shape {
            Shape::Few => "few".into(),
            Shape::Timer(s) => format!("timer {}..{}", s.min.as_millis(), s.max.as_millis()),
            Shape::Moment(_) => "moment".into(),
            Shape::TimerAndShed(s, early) => format!("timer {} after {early}", s.median.as_millis()),
            Shape::Several(all) => format!("several {}", all.len()),
            Shape::Scattered => "scattered".into(),
        }
    }

    #[test]
    fn ends_are_one_timer_several_or_none() {
        for (idle, expected) in [
            (&[1700, 1701][..], "few"),
            (&[1700, 1701, 1702, 1700, 1704], "timer 1700..1704"),
            (&[75_000, 75_020, 75_300], "timer 75000..75300"),
            // A server that looks once in a second, at moments of its own for each connection.
            (&[2010, 2340, 2700, 2950], "timer 2010..2950"),
            (&[2020, 2120, 2220, 2320, 2420, 2970, 2971, 2972], "timer 2020..2972"),
            // Less than a second apart, and no look of one server's: each after its own idle time.
            (&[1700, 1701, 1702, 2200, 2201, 2203], "several 2"),
            (&[1000, 1001, 1002, 1900, 1901, 1903], "several 2"),
            (&[5000, 5001, 65_000, 65_010, 5003, 65_001, 65_002], "several 2"),
            (&[232, 696, 771, 819, 1700, 1701, 1702, 1700, 1703], "timer 1701 after 4"),
            (&[265, 313, 881, 882, 1700, 1701, 1702, 1700, 1703], "timer 1701 after 4"),
            (&[100, 400, 1702, 1700, 1701, 1703, 1700], "timer 1701 after 2"),
            (&[100, 400, 800, 1200, 1900, 600], "scattered"),
            (&[130, 150, 700, 720, 1300, 1900], "scattered"),
        ] {
            assert_eq!(name(&shape(&ends(idle))), expected, "{idle:?}");
        }
    }

    #[test]
    fn groups_that_a_look_at_the_clock_ended_are_one_timer() {
        let ms = Duration::from_millis;
        // Opened at two times, and ended by two looks, a second apart.
        let look = |opened: u64, at: u64| End { idle: ms(at - opened), at: ms(at), close: CloseKind::Fin };
        let ends: Vec<_> = [0, 20, 40].iter().map(|&opened| look(opened, 2100)).collect();
        let later: Vec<_> = [500, 520, 540].iter().map(|&opened| look(opened, 3100)).collect();
        assert_eq!(name(&shape(&[ends, later].concat())), "timer 2060..2600");
    }

    #[test]
    fn what_ended_at_one_moment_was_ended_by_something_else_than_idleness() {
        let ms = Duration::from_millis;
        let restart: Vec<_> = (0..6)
            .map(|n| End { idle: ms(1250 - n * 50), at: ms(1300 + n), close: CloseKind::Reset })
            .collect();
        assert_eq!(name(&shape(&restart)), "moment");
    }

    proptest::proptest! {
        #[test]
        fn a_timer_is_found_whatever_its_length_and_however_many_watched(
            t in 100_u64..600_000, jitter in proptest::collection::vec(0_u64..40, 3..40),
        ) {
            let idle: Vec<_> = jitter.iter().map(|late| t + late).collect();
            proptest::prop_assert!(matches!(shape(&ends(&idle)), Shape::Timer(_)));
        }

        #[test]
        fn uniform_ends_are_never_called_a_timer(seed in proptest::collection::vec(0.0_f64..1.0, 12..40)) {
            // Enough of them, over all of the range, that chance alone makes no timer.
            let n = seed.len() as f64;
            let idle: Vec<_> =
                (0..).zip(&seed).map(|(nth, part)| ((f64::from(nth) + part) / n * 4000.0) as u64).collect();
            let shape = shape(&ends(&idle));
            proptest::prop_assert!(!matches!(shape, Shape::Timer(_) | Shape::Several(_)), "{shape:?}");
        }
    }
}
