//! The command line. clap stops here: what the verbs get is plain data.

mod advice;
mod gate;
mod request;
mod targets;
mod watch;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Parser, Subcommand, ValueEnum};
use keeplive::duration::parse as duration;
use keeplive::plan::{Goal, Stage, Think};
use keeplive::server::Profile;

pub(crate) use advice::AdviceArgs;
pub(crate) use gate::{AskedArgs, BaselineArgs, GateArgs, GateFormatArg, GateOutput, ServerArgs};
pub(crate) use request::{LocalAddrs, RequestArgs, WayArgs};
pub(crate) use targets::{OrderArg, TargetsArgs};
pub(crate) use watch::WatchArgs;

/// Measures what HTTP/1.1 keep-alive saves, with confidence intervals.
///
/// Exit codes: 0 done, or passed; 1 regressed, or an expectation did not hold; 2 could not run (usage, I/O, target
/// unreachable); 3 inconclusive, or an expectation was not decided; 4 invalid (the generator or the set-up was the limit, not the target); 130 interrupted
/// (what was measured is printed and saved).
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// What does keep-alive save me? Without a URL it starts its own HTTPS server and measures that.
    Compare(Box<CompareArgs>),
    /// How does a target behave at this load? One run, second by second.
    Load(Box<LoadArgs>),
    /// Has the head become worse than the base? A verdict for CI.
    Gate(Box<GateArgs>),
    /// How long does this path keep an idle connection, and how does it end it?
    Probe(Box<crate::args_probe::ProbeArgs>),
    /// Is this idle time safe? Holds many connections idle and counts what dies.
    Soak(Box<crate::args_probe::SoakArgs>),
    /// Shows a saved result again, without any network.
    Report(ReportArgs),
    /// Prints the JSON Schema of what is saved or printed as JSON.
    Schema(SchemaArgs),
    /// Starts the embedded server and prints its URL.
    Serve(ServeArgs),
}

/// Sends the same request over kept connections (arm `on`) and over a new connection each (arm `off`; over TLS
/// `off-resumed` and `off-full`), in short slots in random order, and prints what keep-alive saves.
// As in curl, the last of an option that is given twice counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct CompareArgs {
    /// http:// or https:// URL of the target; without one, the embedded server; several are asked for in turn
    pub(crate) url: Vec<String>,

    /// Most connections at a time, of each arm
    #[arg(short, long, default_value_t = 16, value_name = "N")]
    pub(crate) connections: usize,
    /// Threads that send; connections and rate are split among them
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,
    /// Open loop: requests per second, the same for every arm [default: half of the smallest capacity of any
    /// arm, found in a short closed-loop search at full speed; less, where that keeps a thread too busy]
    #[arg(short, long, value_name = "R", conflicts_with = "closed", allow_negative_numbers = true, value_parser = per_second)]
    pub(crate) rate: Option<f64>,
    /// How arrivals of the open loop are spaced
    #[arg(long, value_enum, default_value_t = ArrivalsArg::Poisson)]
    pub(crate) arrivals: ArrivalsArg,
    /// Closed loop: every connection sends its next request when its last is done. Requests per second are
    /// then comparable, latencies are not
    #[arg(long)]
    pub(crate) closed: bool,
    /// Rounds; each visits every arm once, in a fresh random order [default: 20; 12 against the embedded server]
    #[arg(long, value_name = "N")]
    pub(crate) rounds: Option<u32>,
    /// How long an arm is measured in each round [unit: s, or with a suffix: ms, s, m]
    #[arg(long, default_value = "500ms", value_name = "TIME", value_parser = duration)]
    pub(crate) slot: Duration,
    /// How long requests flow uncounted before each slot [unit: s, or with a suffix]
    #[arg(long, default_value = "100ms", value_name = "TIME", value_parser = duration)]
    pub(crate) washout: Duration,
    /// What the order of arms and the arrivals are drawn from [default: drawn anew, and saved]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) way: WayArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// Sends requests for a while, in a closed loop (every connection sends its next request when its last is done) or,
/// with --rate, on a schedule that waits for nobody, and tells what became of them.
// As in curl, the last of an option that is given twice counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct LoadArgs {
    /// http:// or https:// URL of the target; several are asked for in turn
    #[arg(required_unless_present = "targets")]
    pub(crate) url: Vec<String>,

    /// Most connections at a time, to all targets together
    #[arg(short, long, default_value_t = 16, value_name = "N")]
    pub(crate) connections: usize,
    /// Threads that send; connections and rate are split among them
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,
    /// How long to measure [unit: s, or with a suffix: ms, s, m]
    #[arg(short = 'z', long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub(crate) duration: Duration,
    /// How many requests to measure, instead of a duration; in an open loop they are due within N / RATE
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) requests: Option<u64>,
    /// Open loop: requests per second [default: closed loop]
    #[arg(short, long, value_name = "R", allow_negative_numbers = true, value_parser = per_second)]
    pub(crate) rate: Option<f64>,
    /// Open loop in stages, one after another: TIME:RATE, or TIME:FROM..TO for a straight line; may be given more than
    /// once
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["rate", "requests", "duration"])]
    pub(crate) stage: Vec<Stage>,
    /// Open loop at the highest rate that holds a goal, such as 'p99<5ms,errors<0.1%' (without errors, errors<1% is
    /// meant), found by doubling and bisection and then measured for --duration
    #[arg(long, value_name = "GOAL", conflicts_with_all = ["rate", "stage", "think", "requests"])]
    pub(crate) search: Option<Goal>,
    /// How long each look of --search at a rate lasts; up to ten times as long where fewer than ten requests would lie beyond
    /// the goal's quantile [unit: s, or with a suffix]
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = duration, requires = "search")]
    pub(crate) look: Duration,
    /// Closed loop: the pause of a connection after each response, TIME or exp:TIME for exponential ones of that mean
    /// [unit: s, or with a suffix; default: none]
    #[arg(long, value_name = "TIME", conflicts_with_all = ["rate", "stage"])]
    pub(crate) think: Option<Think>,
    /// How arrivals of the open loop are spaced [default: poisson]
    #[arg(long, value_enum)]
    pub(crate) arrivals: Option<ArrivalsArg>,
    /// How long requests flow uncounted before, after up to five looks of half a second until two agree, with all
    /// connections open; 0: nothing is sent before but the four requests of the first look. With --requests, any other
    /// time asks for the looks and the connections alone [unit: s, or with a suffix; default: 500ms, with --requests 0]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) warm_up: Option<Duration>,
    /// Keep connections (on), use each once (off), or close each after N requests
    #[arg(long, default_value = "on", value_name = "on|off|N", value_parser = keep_alive)]
    pub(crate) keep_alive: KeepAliveArg,
    /// With --keep-alive off, resume TLS sessions
    #[arg(long)]
    pub(crate) resume: bool,
    /// What the arrivals are drawn from [default: drawn anew, and saved]
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,

    #[command(flatten)]
    pub(crate) targets: TargetsArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) way: WayArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
    #[command(flatten)]
    pub(crate) pool: PoolArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
    #[command(flatten)]
    pub(crate) watch: WatchArgs,
}

/// What becomes of a connection after a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KeepAliveArg {
    On,
    Off,
    Requests(u32),
}

fn keep_alive(text: &str) -> Result<KeepAliveArg, String> {
    match text {
        "on" => Ok(KeepAliveArg::On),
        "off" => Ok(KeepAliveArg::Off),
        n => match n.parse() {
            Ok(n) if n > 0 => Ok(KeepAliveArg::Requests(n)),
            _ => Err(format!("`{text}` is neither on, off, nor a number of requests above 0")),
        },
    }
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Trust any server certificate
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,
    /// Root certificates to trust instead of the system's, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
    /// Certificate to show to a server that demands one, and those that lead from it to its root, PEM
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Its key, PEM, not encrypted [default: in the same file as the certificate]
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub(crate) key: Option<PathBuf>,
    /// Highest TLS version to offer
    #[arg(long, value_enum, default_value_t = TlsArg::V13, value_name = "VERSION")]
    pub(crate) tls_max: TlsArg,
    /// Offer TLS 1.2 and later (the default; earlier versions are never offered)
    #[arg(long = "tlsv1.2")]
    pub(crate) tlsv12: bool,
    /// Offer TLS 1.3 and later only
    #[arg(long = "tlsv1.3", conflicts_with = "tlsv12")]
    pub(crate) tlsv13: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Pool (the same in every arm)")]
pub(crate) struct PoolArgs {
    /// Close a connection that was idle for so long; 0: never [unit: s, or with a suffix]
    #[arg(long, default_value = "4s", value_name = "TIME", value_parser = duration)]
    pub(crate) idle_timeout: Duration,
    /// How long a request may wait for a connection; 0: for ever [unit: s, or with a suffix]
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = duration)]
    pub(crate) acquire_timeout: Duration,
    /// How long lookup, TCP and TLS may take together; 0: as long as the system lets them [unit: s, or with a
    /// suffix]
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
    /// Reuse no connection older than this [unit: s, or with a suffix; default: any age]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) max_lifetime: Option<Duration>,
    /// Close a connection after so many requests [default: any number]
    #[arg(long, value_name = "N")]
    pub(crate) max_exchanges: Option<u32>,
    /// Most idle connections to keep, over all threads [default: as many as --connections]
    #[arg(long, value_name = "N")]
    pub(crate) max_idle: Option<usize>,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// What goes to stdout
    #[arg(long, value_enum, default_value_t = FormatArg::Text)]
    pub(crate) format: FormatArg,
    /// Folder in which the result is saved
    #[arg(short, long, default_value = "results", value_name = "FOLDER", value_parser = folder)]
    pub(crate) out: PathBuf,
    /// Save nothing
    #[arg(long, conflicts_with = "out")]
    pub(crate) no_save: bool,
    /// Also write the report as one HTML file
    #[arg(long, value_name = "FILE", value_parser = file)]
    pub(crate) html: Option<PathBuf>,
    /// Show the numbers of an invalid run too, marked; otherwise only why it is invalid. The exit code is 4 in both cases
    #[arg(long)]
    pub(crate) allow_invalid: bool,
}

/// Prints a JSON Schema (draft 2020-12).
#[derive(Debug, Parser)]
pub(crate) struct SchemaArgs {
    /// What to print the schema of: a name, or what stands under `schema` in a document [default: lists the names]
    pub(crate) name: Option<String>,
}

// As in curl, the last of an option that is given twice counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct ReportArgs {
    /// A result that `keeplive compare`, `load`, `gate`, `probe` or `soak` saved
    pub(crate) file: PathBuf,
    /// Further results of `compare` or `load`, to be set beside it
    pub(crate) others: Vec<PathBuf>,
    /// What goes to stdout
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = any_format())]
    pub(crate) format: AnyFormat,
    /// Show the numbers of an invalid run too, marked
    #[arg(long)]
    pub(crate) allow_invalid: bool,

    #[command(flatten)]
    pub(crate) advice: AdviceArgs,
}

/// A format by its name, for a file whose kind is known only when it has been read.
#[derive(Clone, Debug)]
pub(crate) struct AnyFormat(String);

impl AnyFormat {
    /// The format, when the kind of result at hand has it; otherwise which it has.
    pub(crate) fn of<F: ValueEnum + 'static>(&self, kind: &str) -> Result<F, String> {
        F::from_str(&self.0, false).map_err(|_| {
            let names = names::<F>().map(|name| name.get_name().to_owned()).collect::<Vec<_>>();
            format!("{kind} is not shown as {}; choose one of: {}", self.0, names.join(", "))
        })
    }
}

fn names<F: ValueEnum + 'static>() -> impl Iterator<Item = PossibleValue> {
    F::value_variants().iter().filter_map(ValueEnum::to_possible_value)
}

/// Every name that any kind of result knows, once.
fn any_format() -> impl TypedValueParser<Value = AnyFormat> {
    let mut all = names::<FormatArg>().collect::<Vec<_>>();
    for name in names::<GateFormatArg>().chain(names::<ProbeFormatArg>()) {
        match all.iter_mut().find(|known| known.get_name() == name.get_name()) {
            Some(known) => *known = name,
            None => all.push(name),
        }
    }
    PossibleValuesParser::new(all).map(AnyFormat)
}

// As in curl, the last of an option that is given twice counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct ServeArgs {
    /// Address and port to listen on; port 0: any free one
    #[arg(short, long, default_value = "127.0.0.1:0", value_name = "ADDRESS:PORT")]
    pub(crate) listen: SocketAddr,
    /// Speak TLS, with a certificate made now
    #[arg(long)]
    pub(crate) tls: bool,
    /// TLS versions to speak
    #[arg(long, value_enum, default_value_t = ServeTlsArg::Both, requires = "tls")]
    pub(crate) tls_versions: ServeTlsArg,
    /// Resume no TLS session
    #[arg(long, requires = "tls")]
    pub(crate) no_resumption: bool,
    /// Write the certificate to this file, for --cacert
    #[arg(long, value_name = "FILE", requires = "tls")]
    pub(crate) write_cert: Option<PathBuf>,
    /// Length of every response body [unit: bytes]
    #[arg(long, default_value_t = 13, value_name = "BYTES", value_parser = body_len)]
    pub(crate) body: usize,
    /// Status of every response
    #[arg(long, default_value_t = 200, value_name = "STATUS")]
    pub(crate) status: u16,
    /// Wait so long before each response [unit: s, or with a suffix]
    #[arg(long, default_value = "0", value_name = "TIME", value_parser = duration)]
    pub(crate) delay: Duration,
    /// Close a connection that was idle for so long; 0: never [unit: s, or with a suffix]
    #[arg(long, default_value = "75s", value_name = "TIME", value_parser = duration)]
    pub(crate) idle_timeout: Duration,
    /// Close every connection after one response
    #[arg(long)]
    pub(crate) no_keep_alive: bool,
    /// Close a connection after so many responses; 0: never
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) close_after: u64,
    /// Reset every so many-th connection when its request has come; 0: none
    #[arg(long, default_value_t = 0, value_name = "N")]
    pub(crate) reset_every: u64,
    /// Answer nothing more after so many requests [default: answer all]
    #[arg(long, value_name = "N", conflicts_with = "profile")]
    pub(crate) stall_after: Option<u64>,
    /// Misbehave on purpose, and keep a log at /__truth (JSON), /__truth/log (CSV). May be given several times:
    /// const:D kth:K,D1,D2 stall:T,S once:T0,S conn-stall:K,D rate-cap:R slow-accept:D tls-cost:D two-write:D
    /// close-after:N ignore-close error:K truncate:K dribble:N,D idle-close:D idle-reset:D idle-408:D
    /// idle-silence:D. T, S and D are durations, K and N numbers, R requests per second
    #[arg(long, value_name = "NAME:ARGUMENTS", conflicts_with_all = ["delay", "reset_every", "close_after"])]
    pub(crate) profile: Vec<Profile>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatArg {
    /// A report to read
    Text,
    /// One JSON document (schema keeplive.summary/1)
    Json,
    /// One HTML file with pictures, readable without network or script
    Html,
    /// Markdown, for a pull request or $GITHUB_STEP_SUMMARY
    Markdown,
    /// One row for each slot
    Csv,
    /// HdrHistogram's percentile distribution, for its plotter
    Hgrm,
    /// HdrHistogram's interval log
    Hlog,
    /// Go's benchmark format, for benchstat
    Benchfmt,
    /// github-action-benchmark's customSmallerIsBetter
    GithubBenchmark,
    /// Bencher Metric Format
    Bencher,
    /// Prometheus' text format
    Prometheus,
}

/// The forms of several results side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SideFormatArg {
    /// Tables to read
    Text,
    /// One JSON document
    Json,
    /// Markdown
    Markdown,
    /// One HTML file
    Html,
}

/// The forms of a probe's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProbeFormatArg {
    /// A report to read
    Text,
    /// One JSON document (a comparison: schema keeplive.summary/1; a gate: keeplive.gate/1; a probe: keeplive.probe/1)
    Json,
    /// JUnit XML with a case for each metric of a gate, or each expectation of a probe
    Junit,
    /// One HTML file with pictures; of a probe, with settings to paste
    Html,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArrivalsArg {
    /// As independent users arrive: exponential gaps
    Poisson,
    /// One every 1/rate
    Constant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum TlsArg {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ServeTlsArg {
    #[value(name = "1.2")]
    V12,
    #[value(name = "1.3")]
    V13,
    Both,
}

/// A folder, which need not be there yet.
pub(crate) fn folder(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match std::fs::metadata(&path) {
        Ok(known) if !known.is_dir() => {
            Err("it is a file, and results are saved in a folder; --no-save saves \
                                             nothing, and `keeplive report` writes into named files"
                .into())
        }
        _ => Ok(path),
    }
}

/// A rate; `/s` may stand behind it. Whether it can be offered is seen with all that it depends on.
pub(crate) fn per_second(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number.parse().map_err(|_| "write requests per second as a number, such as 500 or 0.5".into())
}

/// The server has its body in memory.
fn body_len(text: &str) -> Result<usize, String> {
    let most = 1_usize << 30;
    match text.parse() {
        Ok(bytes) if bytes <= most => Ok(bytes),
        _ => Err(format!("`{text}` is no length of a body: write a number of bytes up to {most}")),
    }
}

/// A file to be written when all is done: better to hear now that it cannot be.
pub(crate) fn file(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_dir() {
        return Err("it is a folder: name a file".into());
    }
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
            Err(format!("there is no folder {}: make it first", folder.display()))
        }
        _ => Ok(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_fits_together() {
        Args::command().debug_assert();
    }
}
