//! What measuring costs this machine, from the kernel's own accounting.

use std::fs;
use std::path::PathBuf;

/// Processor time and waiting time of one thread so far.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ThreadUse {
    /// User and kernel time, nanoseconds.
    pub(super) cpu_ns: u64,
    /// Ready to run, and no processor free, nanoseconds.
    pub(super) run_queue_ns: u64,
}

impl ThreadUse {
    /// The calling thread's.
    pub(super) fn now() -> ThreadUse {
        let cpu = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let cpu_ns = cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64;
        let waited = fs::read_to_string("/proc/thread-self/schedstat").ok();
        let run_queue_ns = waited.and_then(|text| second_field(&text)).unwrap_or(0);
        ThreadUse { cpu_ns, run_queue_ns }
    }

    pub(super) fn since(self, before: ThreadUse) -> ThreadUse {
        ThreadUse {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            run_queue_ns: self.run_queue_ns.saturating_sub(before.run_queue_ns),
        }
    }
}

/// `/proc/…/schedstat`: time on a processor, time waiting for one, time slices (Linux, Documentation/scheduler).
fn second_field(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().nth(1)?.parse().ok()
}

/// Nanoseconds for which this process's control group, or one above it, was throttled so far; 0 where that is not known.
///
/// The group is in the second version of control groups that of `/proc/self/cgroup`, in the first one its part for `cpu`
/// (cgroups(7)). A container may see the names of its host there and find its own group at the root.
pub(super) fn throttled_ns() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let stats = accounts(&own).into_iter().filter_map(|file| fs::read_to_string(file).ok());
    stats.filter_map(|stat| throttled_in(&stat)).max().unwrap_or(0)
}

/// Where the groups' accounts may lie, up to the root.
fn accounts(cgroup: &str) -> Vec<PathBuf> {
    let group = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        let is_of_cpu = controllers.split(',').any(|one| one == "cpu");
        (controllers.is_empty() || is_of_cpu)
            .then(|| (PathBuf::from("/sys/fs/cgroup").join(controllers), PathBuf::from(path)))
    };
    let above = |(mount, path): (PathBuf, PathBuf)| {
        path.ancestors().map(|group| mount.join(group).join("cpu.stat")).collect::<Vec<_>>()
    };
    cgroup.lines().filter_map(group).flat_map(above).collect()
}

/// Version 2 counts microseconds, version 1 nanoseconds.
fn throttled_in(stat: &str) -> Option<u64> {
    let field = |name: &str| {
        let mut words = stat.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace();
        words.next()?.parse::<u64>().ok()
    };
    field("throttled_usec ").map(|us| us.saturating_mul(1000)).or_else(|| field("throttled_time "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_field_of_schedstat_is_the_wait_for_a_processor() {
        assert_eq!(second_field("123456 789 42\n"), Some(789));
        assert_eq!(second_field(""), None);
    }

    #[test]
    fn both_versions_of_control_groups_tell_how_long_they_were_throttled() {
        let second = "usage_usec 9\nnr_periods 4\nnr_throttled 2\nthrottled_usec 1500\n";
        assert_eq!(throttled_in(second), Some(1_500_000));
        assert_eq!(throttled_in("nr_periods 4\nnr_throttled 2\nthrottled_time 1500\n"), Some(1_500));
        assert_eq!(throttled_in("usage_usec 9\n"), None);
    }

    #[test]
    fn a_group_is_looked_for_where_it_is_and_above() {
        let paths =
            |cgroup| accounts(cgroup).iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let at = |path: &str| format!("/sys/fs/cgroup{path}/cpu.stat");
        assert_eq!(paths("0::/a/b\n"), [at("/a/b"), at("/a"), at("")]);
        assert_eq!(paths("0::/\n"), [at("")]);
        let first = "9:name=systemd:/x\n4:cpu,cpuacct:/a\n3:cpuset:/c\n";
        assert_eq!(paths(first), [at("/cpu,cpuacct/a"), at("/cpu,cpuacct")]);
    }

    #[test]
    fn a_busy_thread_uses_processor_time() {
        let before = ThreadUse::now();
        let mut n = 0_u64;
        while ThreadUse::now().since(before).cpu_ns < 1_000_000 {
            n = n.wrapping_add(1);
        }
        assert!(n > 0);
    }
}
