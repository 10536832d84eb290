//! One tool's answer to one case, and who may try again.

use std::fmt::Write as _;

use super::tools::Tool;

/// How often who fails narrowly may try.
const RUNS: u32 = 5;

/// What one tool made of one case.
pub(crate) struct Row {
    pub(crate) lines: String,
    /// For the matrix.
    pub(crate) cell: String,
    pub(crate) misses: usize,
    /// Whether the machine alone may be why it failed.
    pub(crate) near: bool,
}

impl Row {
    pub(crate) fn not_asked(tool: &Tool) -> Row {
        Row { lines: format!("  {:<10} n/a\n", tool.name), cell: "n/a".into(), misses: 0, near: false }
    }
}

/// The best of up to [`RUNS`], and which it was.
pub(crate) fn best(mut run: impl FnMut() -> Row) -> Row {
    let mut best = run();
    let (mut nth, mut of) = (1, 1);
    while best.near && of < RUNS {
        of += 1;
        let row = run();
        if row.misses < best.misses {
            (best, nth) = (row, of);
        }
    }
    if of > 1 {
        let _ = writeln!(best.lines, "    the best of {of} tries, number {nth}");
        let _ = write!(best.cell, " (try {nth} of {of})");
    }
    best
}
