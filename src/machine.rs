//! [`Machine`]: where a measurement was made, as far as it matters for the numbers.

use std::fs;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The machine that measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Machine {
    /// Operating system and architecture.
    pub os: String,
    /// Kernel release.
    pub kernel: Option<String>,
    /// Processor model.
    pub cpu_model: Option<String>,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: Option<u64>,
    /// What `CLOCK_MONOTONIC` is read from; anything but a processor's own counter is slow.
    pub clocksource: Option<String>,
    /// Load average over one minute before the run.
    pub load_average: Option<f64>,
    /// The range of local ports.
    pub port_range: Option<String>,
    /// The limit on open files.
    pub max_open_files: Option<u64>,
    /// Whether a CI service's environment was seen, and which.
    pub ci: Option<String>,
    /// A fingerprint of what should be equal for two results to be comparable in absolute terms.
    pub fingerprint: String,
}

impl Machine {
    /// Looks at this machine.
    pub fn this() -> Machine {
        let mut machine = Machine {
            os: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu_model: fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| value(&text, "model name")),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: fs::read_to_string("/proc/meminfo").ok().and_then(|text| kilobytes(&text)),
            clocksource: line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            load_average: line("/proc/loadavg").and_then(|text| text.split(' ').next()?.parse().ok()),
            port_range: line("/proc/sys/net/ipv4/ip_local_port_range").map(|text| text.replace('\t', "-")),
            max_open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            ci: ci(),
            fingerprint: String::new(),
        };
        machine.fingerprint = machine.digest();
        machine
    }

    fn digest(&self) -> String {
        let text = format!(
            "{}|{:?}|{:?}|{}|{:?}",
            self.os, self.kernel, self.cpu_model, self.cpus, self.clocksource
        );
        hex(&Sha256::digest(text.as_bytes())[..8])
    }
}

/// A short fingerprint of some text.
pub(crate) fn fingerprint(text: &[u8]) -> String {
    hex(&Sha256::digest(text)[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// The value of the first `key : value` line.
fn value(text: &str, key: &str) -> Option<String> {
    let (_, value) = text.lines().find(|line| line.starts_with(key))?.split_once(':')?;
    Some(value.trim().to_owned())
}

fn kilobytes(meminfo: &str) -> Option<u64> {
    value(meminfo, "MemTotal")?.split(' ').next()?.parse::<u64>().ok().map(|kb| kb * 1024)
}

fn ci() -> Option<String> {
    let known =
        [("GITHUB_ACTIONS", "github"), ("GITLAB_CI", "gitlab"), ("BUILDKITE", "buildkite"), ("CI", "ci")];
    known.iter().find(|(name, _)| std::env::var_os(name).is_some()).map(|&(_, service)| service.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_as_linux_writes_them() {
        assert_eq!(value("processor\t: 0\nmodel name\t: AMD EPYC\n", "model name").unwrap(), "AMD EPYC");
        assert_eq!(kilobytes("MemTotal:       24576 kB\nMemFree: 1 kB\n"), Some(24576 * 1024));
    }
}
