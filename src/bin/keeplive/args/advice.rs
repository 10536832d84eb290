//! What is asked of a probe's findings: the same for a fresh probe and for a saved one.

use std::time::Duration;

use keeplive::duration::parse as duration;
use keeplive::expect::Expectation;
use keeplive::report::probe::Questions;

#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Expectations (exit code 1: one does not hold; 3: one is not decided)")]
pub(crate) struct AdviceArgs {
    /// Demand an idle timeout: '>=60s', '>60s', '<=2m', '<90s', '=75s' (within 1 s) or '=75s±250ms'; may be given
    /// more than once
    #[arg(long, value_name = "TIME", value_parser = Expectation::idle)]
    pub(crate) expect_idle: Vec<Expectation>,
    /// Demand how idle connections end: fin, rst, 408, rst-on-send or silent
    #[arg(long, value_name = "HOW", value_parser = Expectation::close)]
    pub(crate) expect_close: Vec<Expectation>,
    /// Demand how many requests a connection carries: '>=1000', '=100'
    #[arg(long, value_name = "N", value_parser = Expectation::requests)]
    pub(crate) expect_requests: Vec<Expectation>,
    /// Judge a client pool's idle timeout: at risk is exit code 1 [unit: s, or with a suffix]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(crate) client_idle: Option<Duration>,
    /// How long that client's connections are idle between two requests, on average [unit: s, or with a suffix;
    /// default: the worst case]
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "client_idle")]
    pub(crate) gap: Option<Duration>,
}

impl AdviceArgs {
    pub(crate) fn questions(&self) -> Questions {
        let expectations = [&self.expect_idle, &self.expect_close, &self.expect_requests];
        Questions {
            client_idle: self.client_idle,
            gap: self.gap,
            expectations: expectations.into_iter().flatten().cloned().collect(),
        }
    }

    /// Whether anything is asked.
    pub(crate) fn is_empty(&self) -> bool {
        self.client_idle.is_none() && self.questions().expectations.is_empty()
    }
}
