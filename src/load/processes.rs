//! What a target's processes use of this machine's processors: a process and all its descendants, from /proc.

use std::collections::BTreeMap;
use std::fs;

/// The unit of `/proc/PID/stat`: Linux shows 100 ticks a second to programs on every architecture (`USER_HZ`).
const NS_PER_TICK: u64 = 10_000_000;

/// Processor time of a process and its descendants so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Use {
    /// Each thread's, exactly.
    threads: BTreeMap<u32, u64>,
    /// The processes' together, and that of children that have ended: in steps of 10 ms, and nothing is missing.
    ticks_ns: u64,
    /// How many processes that is.
    processes: u64,
}

impl Use {
    /// As of now; `None` when there is no such process, or no /proc.
    pub(super) fn of(process: u32) -> Option<Use> {
        let stats = stats();
        stats.get(&process)?;
        let mut used = Use::default();
        for pid in family(process, &stats) {
            used.ticks_ns += stats.get(&pid).map_or(0, |stat| stat.ticks * NS_PER_TICK);
            used.processes += 1;
            used.threads.extend(threads(pid));
        }
        Some(used)
    }

    /// What was used since: exactly while the threads are the same, in steps of 10 ms when some have come or gone, or
    /// come and gone meanwhile. `None` when a process that had used some is gone.
    pub(super) fn since(&self, before: &Use) -> Option<u64> {
        let in_ticks = self.ticks_ns.checked_sub(before.ticks_ns);
        if self.threads.is_empty() || !self.threads.keys().eq(before.threads.keys()) {
            return in_ticks;
        }
        let pairs = self.threads.values().zip(before.threads.values());
        let exact = pairs.map(|(now, before)| now.saturating_sub(*before)).sum();
        // User and kernel time are rounded down, both, at both ends.
        let rounding = 2 * NS_PER_TICK * self.processes;
        in_ticks.filter(|&ticks| ticks > exact + rounding).or(Some(exact))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    ticks: u64,
}

/// Every process that can be seen.
fn stats() -> BTreeMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return BTreeMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// proc_pid_stat(5): the name in field 2 may hold anything, so it is counted from its last parenthesis: field 4 is
/// the parent; 14 to 17 are user and kernel time, the process's own and that of its children that were waited for.
fn stat(text: &str) -> Option<Stat> {
    let mut fields = text.rsplit_once(") ")?.1.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let times: Vec<u64> = fields.skip(9).take(4).map(|field| field.parse().unwrap_or(0)).collect();
    (times.len() == 4).then(|| Stat { parent, ticks: times.iter().sum() })
}

/// A process and its descendants.
fn family(process: u32, stats: &BTreeMap<u32, Stat>) -> Vec<u32> {
    let mut family = vec![process];
    let mut nth = 0;
    while let Some(&parent) = family.get(nth) {
        family.extend(stats.iter().filter(|(_, stat)| stat.parent == parent).map(|(pid, _)| *pid));
        nth += 1;
    }
    family
}

/// The threads of a process with the time that each has had, in nanoseconds (`schedstat`'s first field).
fn threads(process: u32) -> Vec<(u32, u64)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    let ids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let time = |id: u32| {
        let text = fs::read_to_string(format!("/proc/{process}/task/{id}/schedstat")).ok()?;
        text.split_whitespace().next()?.parse().ok()
    };
    ids.filter_map(|id| Some((id, time(id)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_does_not_shift_the_fields() {
        let text = "7 (a) b (c) S 3 7 7 0 -1 4194304 100 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        assert_eq!(stat(text), Some(Stat { parent: 3, ticks: 110 }));
        assert_eq!(stat("nothing"), None);
    }

    #[test]
    fn a_family_is_a_process_and_all_that_descend_from_it() {
        let of = |parent| Stat { parent, ticks: 0 };
        let stats = BTreeMap::from([(1, of(0)), (5, of(1)), (6, of(5)), (7, of(6)), (8, of(1))]);
        assert_eq!(family(5, &stats), [5, 6, 7]);
    }

    #[test]
    fn time_is_exact_while_the_threads_are_the_same_and_in_ticks_when_they_are_not() {
        let used = |threads: &[(u32, u64)], ticks_ns| Use {
            threads: threads.iter().copied().collect(),
            ticks_ns,
            processes: 1,
        };
        let before = used(&[(1, 100), (2, 50)], 10);
        assert_eq!(used(&[(1, 130), (2, 51)], 20).since(&before), Some(31));
        assert_eq!(used(&[(1, 130), (3, 1)], 30).since(&before), Some(20));
        assert_eq!(used(&[(1, 130)], 0).since(&before), None, "what is gone cannot be told");
        let with_a_short_one = used(&[(1, 130), (2, 51)], 50_000_010);
        assert_eq!(with_a_short_one.since(&before), Some(50_000_000), "one came and went");
    }

    #[test]
    fn this_process_has_used_some_and_there_is_no_process_0() {
        let before = Use::of(std::process::id()).expect("it runs");
        assert!(before.threads.values().sum::<u64>() > 0);
        assert_eq!(Use::of(0), None);
    }
}
