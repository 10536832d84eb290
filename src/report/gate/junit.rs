//! A gate's report as JUnit XML: one case for each metric. What regressed has failed; what could not be decided was
//! skipped, for nothing is known of it; when the measurement is invalid every case is an error.

use std::io;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::targets;
use crate::gate::Verdict;
use crate::gate::result::{Gate, Judged};

/// Writes the report.
///
/// # Errors
///
/// What `out` says.
pub fn write(gate: &Gate, out: &mut impl io::Write) -> io::Result<()> {
    let mut suite = TestSuite::new(targets(gate));
    suite.add_test_cases(gate.findings.iter().map(|one| case(gate, one)));
    suite.set_system_out(gate.headline.clone());
    let mut document = Report::new("keeplive gate");
    document.add_test_suite(suite);
    document.serialize(out).map_err(io::Error::other)
}

fn case(gate: &Gate, one: &Judged) -> TestCase {
    let is_invalid = gate.verdict == Verdict::Invalid;
    let verdict = if is_invalid { Verdict::Invalid } else { one.verdict };
    let mut status = match verdict {
        Verdict::Pass => TestCaseStatus::success(),
        Verdict::Regressed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Inconclusive => TestCaseStatus::skipped(),
        Verdict::Invalid => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    if verdict != Verdict::Pass {
        status.set_message(if is_invalid { gate.headline.clone() } else { one.sentence.clone() });
    }
    let mut case = TestCase::new(one.metric.clone(), status);
    case.set_classname("keeplive.gate");
    case.set_system_out(one.sentence.clone());
    case
}
