//! The command lines of `probe` and `soak`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use keeplive::duration::parse as duration;

use crate::args::{AdviceArgs, ProbeFormatArg, RequestArgs, TlsArgs};

/// Finds how long a path keeps an idle connection, and how it ends it: some connections watch in silence, others
/// ask again after growing idle times; then both sides of the answer are tried again.
// As in curl, the last of an option that is given twice counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct ProbeArgs {
    /// http://, https:// or tcp://host:port
    pub(crate) url: String,

    /// Also wait for the end of connections that send no request at all, up to --max-idle; otherwise they are
    /// watched only while the rest goes on
    #[arg(long)]
    pub(crate) first_request: bool,
    /// Most requests to send on one connection, 200 a second, to see whether their number is limited; 0: none
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub(crate) requests: u64,
    /// Follow connections in use up to this age, to see whether that is limited [unit: s, or with a suffix;
    /// default: they are not followed]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) lifetime: Option<Duration>,
    /// Ask close to the timeout, to see from when on requests are lost
    #[arg(long)]
    pub(crate) race: bool,
    /// Try which keep-alive holds the path open: TCP's, or requests; takes twice the timeout more
    #[arg(long)]
    pub(crate) layer: bool,

    #[command(flatten)]
    pub(crate) bounds: BoundsArgs,
    #[command(flatten)]
    pub(crate) bytes: BytesArgs,
    #[command(flatten)]
    pub(crate) advice: AdviceArgs,
    /// What goes to stdout
    #[arg(long, value_enum, default_value_t = ProbeFormatArg::Text, help_heading = "Output")]
    pub(crate) format: ProbeFormatArg,
    #[command(flatten)]
    pub(crate) output: SaveArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct SaveArgs {
    /// Folder in which the result is saved
    #[arg(short, long, default_value = "results", value_name = "FOLDER", value_parser = crate::args::folder)]
    pub(crate) out: PathBuf,
    /// Save nothing
    #[arg(long, conflicts_with = "out")]
    pub(crate) no_save: bool,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Bounds")]
pub(crate) struct BoundsArgs {
    /// The longest idle time to try [unit: s, or with a suffix: ms, s, m, h]
    #[arg(long, default_value = "10m", value_name = "TIME", value_parser = duration)]
    pub(crate) max_idle: Duration,
    /// The longest that the whole probe may take [unit: s, or with a suffix; default: four times --max-idle]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) budget: Option<Duration>,
    /// Most connections held at a time
    #[arg(short, long, default_value_t = 32, value_name = "N")]
    pub(crate) connections: u32,
    /// Most connections opened in a second
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) connects_per_second: u32,
    /// How long lookup, TCP and TLS may take together [unit: s, or with a suffix]
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
}

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Plain TCP (tcp://host:port)")]
pub(crate) struct BytesArgs {
    /// Bytes to send first, and again to ask whether the connection lives; \r \n \t \0 \\ and \xHH are understood
    /// [default: nothing, so that only a close that can be seen is found]
    #[arg(long, value_name = "BYTES")]
    pub(crate) send: Option<String>,
    /// What the answer, or the greeting, contains; the same escapes [default: anything]
    #[arg(long, value_name = "BYTES")]
    pub(crate) expect_bytes: Option<String>,
}

/// Holds many connections idle for a chosen time, asks again on each, and counts those that died and how. Exit code 0:
/// all lived; 1: some died.
// As in curl, the last of an option that is given twice counts.
#[derive(Debug, Parser)]
#[command(args_override_self = true)]
pub(crate) struct SoakArgs {
    /// http://, https:// or tcp://host:port (which needs --send)
    pub(crate) url: String,

    /// The idle time to judge, such as the idle timeout of a client's pool [unit: s, or with a suffix: ms, s, m, h]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) idle: Duration,
    /// Connections held at a time
    #[arg(short, long, default_value_t = 100, value_name = "N")]
    pub(crate) connections: u32,
    /// How often each of them is replaced by a new one
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) rounds: u32,
    /// The longest that the whole soak may take [unit: s, or with a suffix; default: as long as the rounds take]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) budget: Option<Duration>,
    /// Most connections opened in a second
    #[arg(long, default_value_t = 20, value_name = "N")]
    pub(crate) connects_per_second: u32,
    /// How long lookup, TCP and TLS may take together [unit: s, or with a suffix]
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub(crate) connect_timeout: Duration,
    /// What goes to stdout
    #[arg(long, value_enum, default_value_t = SoakFormatArg::Text, help_heading = "Output")]
    pub(crate) format: SoakFormatArg,
    #[command(flatten)]
    pub(crate) output: SaveArgs,

    #[command(flatten)]
    pub(crate) bytes: BytesArgs,
    #[command(flatten)]
    pub(crate) request: RequestArgs,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SoakFormatArg {
    /// Sentences
    Text,
    /// One JSON document (schema keeplive.soak/1)
    Json,
    /// JUnit XML: one case, which fails when a connection was lost
    Junit,
    /// One page to look at
    Html,
}
