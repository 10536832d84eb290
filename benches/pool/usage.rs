//! Processor time from the kernel's accounting, of this process: the other side is another one.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeValLike;
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Processor time so far, nanoseconds. The sum is exact; Linux parts it into user and system by what it saw at its
/// ticks (unless it was built to account for every switch), so the parts are estimates.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) total: f64,
    pub(crate) user: f64,
}

impl Cpu {
    pub(crate) fn now() -> Cpu {
        let exact = clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).expect("Linux has this clock");
        let usage = getrusage(UsageWho::RUSAGE_SELF).expect("a process may ask for its own usage");
        Cpu { total: exact.num_nanoseconds() as f64, user: usage.user_time().num_microseconds() as f64 * 1e3 }
    }

    pub(crate) fn since(self, before: Cpu) -> Cpu {
        Cpu { total: self.total - before.total, user: self.user - before.user }
    }

    pub(crate) fn per(self, n: f64) -> Cpu {
        Cpu { total: self.total / n, user: self.user / n }
    }
}

/// As many descriptors as this process may have.
pub(crate) fn allow_descriptors() {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a process may ask for its limits");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("up to the hard limit");
}

/// The processors that the calling thread may use, in order.
pub(crate) fn processors() -> Vec<usize> {
    let set = sched_getaffinity(Pid::from_raw(0)).expect("a process may ask where it runs");
    (0..CpuSet::count()).filter(|&processor| set.is_set(processor).unwrap_or(false)).collect()
}

/// The calling thread, and those that it starts, run on the first of the processors that it may use now.
pub(crate) fn pin_to_first() {
    pin(&processors()[..1]);
}

/// The same on the last one, which on a machine with only one is the first.
pub(crate) fn pin_to_last() {
    let all = processors();
    pin(&all[all.len() - 1..]);
}

/// The calling thread, and those that it starts from now on, run on these.
pub(crate) fn pin(to: &[usize]) {
    let mut set = CpuSet::new();
    for &processor in to {
        set.set(processor).expect("a number that the kernel named");
    }
    sched_setaffinity(Pid::from_raw(0), &set).expect("a thread may choose among its processors");
}
