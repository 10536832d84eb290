//! A probe's report as JUnit XML, as CI services show it: one case per expectation, and one for a client's
//! setting that is to be judged. One that is not decided is an
//! error, for it has not passed.

use std::io;

use quick_junit::{NonSuccessKind, TestCase, TestCaseStatus, TestSuite};

use super::Report;
use crate::advice::Risk;
use crate::duration::say;
use crate::expect::{Judged, Outcome};

/// Writes the report.
///
/// # Errors
///
/// What `out` says.
pub fn write(report: &Report, out: &mut impl io::Write) -> io::Result<()> {
    let mut suite = TestSuite::new(report.findings.target.url.clone());
    suite.set_time(report.findings.took);
    suite.add_test_cases(report.expectations.iter().map(case));
    suite.add_test_cases(report.risk.as_ref().map(|risk| case(&setting(risk))));
    suite.set_system_out(report.headline());
    let mut document = quick_junit::Report::new("keeplive probe");
    document.set_time(report.findings.took);
    document.add_test_suite(suite);
    document.serialize(out).map_err(io::Error::other)
}

fn setting(risk: &Risk) -> Judged {
    Judged {
        expectation: format!("client idle {}", say(risk.client_idle)),
        outcome: risk.safety.into(),
        sentence: risk.sentences.join(" "),
    }
}

fn case(judged: &Judged) -> TestCase {
    let mut status = match judged.outcome {
        Outcome::Holds => TestCaseStatus::success(),
        Outcome::Fails => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Undecided => TestCaseStatus::non_success(NonSuccessKind::Error),
    };
    if judged.outcome != Outcome::Holds {
        status.set_message(judged.sentence.clone());
    }
    let mut case = TestCase::new(judged.expectation.clone(), status);
    case.set_classname("keeplive.probe");
    case.set_system_out(judged.sentence.clone());
    case
}
