//! Several targets.

use std::path::PathBuf;

use clap::ValueEnum;

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Several targets")]
pub(crate) struct TargetsArgs {
    /// Ask for what this file lists, in vegeta's text format or as JSON lines; -: stdin. Bodies in files are found from
    /// its folder. What -H and the like say is added where a target does not say it, -d where it has no body
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "request"])]
    pub(crate) targets: Option<PathBuf>,
    /// How often each target is asked for, against the others, in their order [default: the file's `weight`, or 1]
    #[arg(long, value_name = "N,N,...", value_delimiter = ',')]
    pub(crate) weights: Vec<u32>,
    /// Which target is next; random ones are drawn by --seed
    #[arg(long, value_enum, default_value_t = OrderArg::RoundRobin, value_name = "ORDER")]
    pub(crate) targets_order: OrderArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OrderArg {
    /// In turn, spread evenly by their weights
    RoundRobin,
    /// Drawn by their weights
    Random,
}
