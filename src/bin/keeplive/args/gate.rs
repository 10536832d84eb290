//! The arguments of `keeplive gate`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use keeplive::duration::parse as duration;
use keeplive::gate::against::Subject;
use keeplive::gate::metric::Metric;

use super::{ArrivalsArg, PoolArgs, RequestArgs, TlsArgs, WayArgs};

/// Has the head become worse than the base?
///
/// Loads two servers in short slots in random order and compares them round by round, or, with --baseline, one saved
/// run with earlier ones. Each metric has a tolerance (a change below it does not matter) and a change that must be
/// detected. At most one session in a hundred fails two servers that do not differ, whatever the machine does
/// meanwhile.
///
/// Exit codes: 0 PASS; 1 REGRESSED; 2 could not run; 3 INCONCLUSIVE; 4 INVALID (the generator or the set-up was the
/// limit); 130 interrupted.
// As in curl, the last of an option that is given twice counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true, verbatim_doc_comment)]
pub(crate) struct GateArgs {
    /// URL of the base: what the head is held against. {port} stands for a free port, chosen for --base-cmd
    #[arg(long, value_name = "URL", required_unless_present_any = ["baseline", "base_cmd"])]
    pub(crate) base: Option<String>,
    /// URL of the head: what is judged
    #[arg(long, value_name = "URL", required_unless_present_any = ["baseline", "head_cmd"])]
    pub(crate) head: Option<String>,

    #[command(flatten)]
    pub(crate) servers: ServerArgs,
    #[command(flatten)]
    pub(crate) asked: AskedArgs,
    #[command(flatten)]
    pub(crate) load: LoadArgs,
    #[command(flatten)]
    pub(crate) baseline: BaselineArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) way: WayArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    #[command(flatten)]
    pub(crate) output: GateOutput,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Servers that the gate starts, and ends")]
pub(crate) struct ServerArgs {
    /// Command that starts the base, run by `sh -c`; {port} in it stands for a free port. Without --base its URL is
    /// http://127.0.0.1:{port}/
    #[arg(long, value_name = "CMD")]
    pub(crate) base_cmd: Option<String>,
    /// Command that starts the head
    #[arg(long, value_name = "CMD")]
    pub(crate) head_cmd: Option<String>,
    /// Start both anew after so many rounds, so that the luck of one process is not taken for its build. Rounds that
    /// met the same processes count as one; 0: never
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) restart_every: u32,
    /// How long a started server may take to answer with a status below 500 [unit: s, or with a suffix]
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub(crate) start_timeout: Duration,
    /// Process of the base, where somebody else started it on this machine: its CPU time is gated
    #[arg(long, value_name = "PID", conflicts_with = "base_cmd", value_parser = process)]
    pub(crate) base_pid: Option<u32>,
    /// Process of the head
    #[arg(long, value_name = "PID", conflicts_with = "head_cmd", value_parser = process)]
    pub(crate) head_pid: Option<u32>,
}

impl ServerArgs {
    /// Those that were given.
    pub(crate) fn commands(&self) -> Vec<&str> {
        self.base_cmd.iter().chain(&self.head_cmd).map(String::as_str).collect()
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is gated")]
pub(crate) struct AskedArgs {
    /// Metric to gate: p50, p90, p95, p99, p99.9 (open loop), rps (requests/s, closed loop), errors, cpu (of the
    /// target, per request), reuse, connections; may be given more than once. With --baseline also ARM:METRIC and
    /// ARM/ARM:METRIC (on/off:p50) [default: p50, p90, p99 as far as the load carries them, or rps; errors, reuse; cpu
    /// when the processes are known; with --baseline p50]
    #[arg(long = "metric", value_name = "METRIC")]
    pub(crate) metrics: Vec<Subject>,
    /// Change for the worse that does not matter; may be given more than once [default: p50, p90, rps 1%; p95, p99,
    /// cpu 2%; p99.9, connections 5%; in percentage points: errors 0.1%, reuse 1%]
    #[arg(long, value_name = "METRIC=PERCENT", value_parser = amount)]
    pub(crate) tolerance: Vec<(Metric, f64)>,
    /// Change for the worse that must be detected; may be given more than once [default: p50, rps 5%; p90 7%; p95,
    /// p99, cpu 10%; p99.9 20%; connections 25%; in percentage points: errors 1%, reuse 5%]
    #[arg(long, value_name = "METRIC=PERCENT", value_parser = amount)]
    pub(crate) detect: Vec<(Metric, f64)>,
    /// Gate quantiles however few responses lie above them; otherwise p90 and beyond are refused where a shared
    /// machine's noise would hide what must be detected
    #[arg(long)]
    pub(crate) thin_tails: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Load")]
pub(crate) struct LoadArgs {
    /// How long to measure at most; it is looked after a third, two thirds and all of it, and a verdict ends it. The
    /// warm-up and starting servers come on top [unit: s, or with a suffix: ms, s, m]
    #[arg(long, default_value = "60s", value_name = "TIME", value_parser = duration)]
    pub(crate) budget: Duration,
    /// How long a server is measured in each round [unit: s, or with a suffix]
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = duration)]
    pub(crate) slot: Duration,
    /// How long requests flow uncounted before each slot [unit: s, or with a suffix]
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = duration)]
    pub(crate) washout: Duration,
    /// Most connections at a time
    #[arg(short, long, default_value_t = 16, value_name = "N")]
    pub(crate) connections: usize,
    /// Threads that send; connections and rate are split among them
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,
    /// Open loop: requests per second, the same for both [default: half of the smaller capacity of the two, found in
    /// a short closed-loop search at full speed; less, where that keeps a thread too busy]
    #[arg(short, long, value_name = "R", conflicts_with = "closed", allow_negative_numbers = true, value_parser = super::per_second)]
    pub(crate) rate: Option<f64>,
    /// How arrivals of the open loop are spaced
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Poisson)]
    pub(crate) arrivals: ArrivalsArg,
    /// Closed loop: every connection sends its next request when its last is done; requests per second are gated
    #[arg(long)]
    pub(crate) closed: bool,
    /// What the order of slots and the arrivals are drawn from [default: drawn anew, and saved]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Saved runs")]
pub(crate) struct BaselineArgs {
    /// Earlier results of `keeplive load`, `compare` or `gate`, ten or more, instead of a base that runs: --baseline
    /// FILE... CURRENT. Fewer, or of another machine or plan, carry no verdict but an advisory (exit code 0)
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["base", "head", "base_cmd", "head_cmd"])]
    pub(crate) baseline: Vec<PathBuf>,
    /// With --baseline: the run that is judged [default: the last FILE]
    #[arg(requires = "baseline")]
    pub(crate) current: Option<PathBuf>,
    /// An advisory is INCONCLUSIVE (exit code 3)
    #[arg(long, requires = "baseline")]
    pub(crate) strict: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct GateOutput {
    /// What goes to stdout
    #[arg(long, value_enum, default_value_t = GateFormatArg::Text)]
    pub(crate) format: GateFormatArg,
    /// Write the report as one file for a browser as well
    #[arg(long, value_name = "FILE", value_parser = super::file)]
    pub(crate) html: Option<PathBuf>,
    /// Write JUnit XML to this file as well
    #[arg(long, value_name = "FILE", value_parser = super::file)]
    pub(crate) junit: Option<PathBuf>,
    /// Folder in which the result is saved
    #[arg(short, long, default_value = "results", value_name = "FOLDER", value_parser = super::folder)]
    pub(crate) out: PathBuf,
    /// Save nothing
    #[arg(long, conflicts_with = "out")]
    pub(crate) no_save: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GateFormatArg {
    /// A report to read
    Text,
    /// One JSON document (schema keeplive.gate/1)
    Json,
    /// Markdown, for a pull request or $GITHUB_STEP_SUMMARY
    Markdown,
    /// JUnit XML with a case for each metric
    Junit,
    /// One file for a browser, without network or script
    Html,
}

/// `p99=2%`.
fn amount(text: &str) -> Result<(Metric, f64), String> {
    let wrong = || format!("`{text}` is not METRIC=PERCENT, such as p99=2%");
    let (metric, amount) = text.split_once('=').ok_or_else(wrong)?;
    let percent = amount.trim().strip_suffix('%').ok_or_else(wrong)?.trim();
    let percent: f64 = percent.parse().map_err(|_| wrong())?;
    Ok((metric.trim().parse()?, percent / 100.0))
}

/// The id of a process that is there.
fn process(text: &str) -> Result<u32, String> {
    let pid: u32 = text.parse().map_err(|_| "a process is given by its id, a whole number".to_owned())?;
    let seen = !cfg!(target_os = "linux") || std::path::Path::new("/proc").join(pid.to_string()).exists();
    if seen { Ok(pid) } else { Err("there is no such process".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_a_metric_and_per_cent() {
        assert_eq!(amount("p99=2%"), Ok((Metric::P99, 0.02)));
        assert_eq!(amount("errors = 0.1 %"), Ok((Metric::Errors, 0.001)));
        for wrong in ["p99", "p99=2", "p99=x%", "p42=2%"] {
            assert!(amount(wrong).is_err(), "{wrong}");
        }
    }
}
