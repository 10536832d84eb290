//! What measuring costs this machine, from the kernel's own accounting.

use std::fs;

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

/// Nanoseconds for which this process's control group was throttled so far; 0 where that is not known.
pub(super) fn throttled_ns() -> u64 {
    let field = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("throttled_usec"))?;
        line.split(' ').nth(1)?.parse::<u64>().ok()
    };
    let stat = fs::read_to_string("/sys/fs/cgroup/cpu.stat").unwrap_or_default();
    field(&stat).unwrap_or(0) * 1000
}

/// Sockets in TIME_WAIT on this machine; 0 where that is not known.
pub(super) fn time_wait() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let tcp = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    let mut words = tcp.split(' ').skip_while(|&word| word != "tw");
    words.nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
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
    fn a_busy_thread_uses_processor_time() {
        let before = ThreadUse::now();
        let mut n = 0_u64;
        while ThreadUse::now().since(before).cpu_ns < 1_000_000 {
            n = n.wrapping_add(1);
        }
        assert!(n > 0);
    }
}
