//! Words for a person, on stderr. Nobody may be listening any more (`2>&1 | head`): that is no reason to lose a
//! measurement.
//!
//! On a terminal a view may stand below what was said: lines that are drawn again and again where they are. It is part
//! of the same stream, so whoever says something takes it away first. Nothing of the terminal's state is changed (no raw
//! mode, no hidden cursor, no other screen): however the program ends, there is nothing to restore.

use std::io::Write;
use std::sync::{Mutex, PoisonError, TryLockError};

use keeplive::report::plain;

/// The widths of the lines that now stand at the bottom; `None`: nothing is drawn any more.
static DRAWN: Mutex<Option<Vec<usize>>> = Mutex::new(Some(Vec::new()));

pub(crate) fn say(text: &str) {
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    let erased = drawn.as_mut().map(|lines| erasing(&std::mem::take(lines), columns())).unwrap_or_default();
    let _ = writeln!(std::io::stderr(), "{erased}{}", harmless(text));
}

/// Line by line, so that nothing in it commands the terminal: what was read from files and servers stands in errors.
fn harmless(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

/// Draws the view over what it was.
pub(crate) fn draw(lines: &[String], widths: Vec<usize>) {
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(before) = drawn.as_mut() {
        // In one write, and between the marks of a synchronized update, which terminals that know it not pass over.
        let frame = format!("\x1b[?2026h{}{}\n\x1b[?2026l", erasing(before, columns()), lines.join("\n"));
        let _ = std::io::stderr().write_all(frame.as_bytes());
        *before = widths;
    }
}

/// Takes the view away, for good: what a panic says must stay. A panic while something is drawn leaves it.
pub(crate) fn end_view() {
    let mut drawn = match DRAWN.try_lock() {
        Ok(drawn) => drawn,
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
        Err(TryLockError::WouldBlock) => return,
    };
    if let Some(lines) = drawn.take() {
        let _ = std::io::stderr().write_all(erasing(&lines, columns()).as_bytes());
    }
}

/// Back to the beginning of lines of these widths, and all below cleared. Where the terminal has become narrower a
/// line takes several rows.
fn erasing(widths: &[usize], columns: usize) -> String {
    let rows: usize = widths.iter().map(|width| width.div_ceil(columns.max(1)).max(1)).sum();
    if rows == 0 { String::new() } else { format!("\r\x1b[{rows}A\x1b[J") }
}

fn columns() -> usize {
    size().map_or(80, |(columns, _)| usize::from(columns))
}

/// Columns and rows of the terminal that stderr is; `None`: it is none, or does not say.
pub(crate) fn size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(std::io::stderr()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_not_said_to_it() {
        assert_eq!(harmless("a \u{1b}]0;x\u{7} b\u{9b}\u{202e}\n  c"), "a ?]0;x? b??\n  c");
    }

    #[test]
    fn a_view_is_erased_row_by_row_also_when_the_terminal_has_become_narrower() {
        assert_eq!(erasing(&[], 80), "");
        assert_eq!(erasing(&[40, 0, 40], 80), "\r\x1b[3A\x1b[J");
        assert_eq!(erasing(&[40, 0, 41], 40), "\r\x1b[4A\x1b[J");
    }
}
