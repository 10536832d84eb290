//! Exit codes, the same for every verb.

use std::process::ExitCode;

/// How the program ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// 0: done, or passed.
    Done,
    /// 1: regressed, or an expectation did not hold.
    Unmet,
    /// 2: could not run: usage, I/O, target unreachable.
    Unusable,
    /// 3: inconclusive: what was seen does not decide it.
    Inconclusive,
    /// 4: the generator or the set-up was the limit, not the target.
    Invalid,
    /// 130: interrupted; what was measured was printed and saved.
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Unmet => 1,
            Exit::Unusable => 2,
            Exit::Inconclusive => 3,
            Exit::Invalid => 4,
            Exit::Interrupted => 130,
        })
    }
}
