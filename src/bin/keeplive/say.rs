//! Words for a person, on stderr. Nobody may be listening any more (`2>&1 | head`): that is no reason to lose a
//! measurement.

use std::io::Write;

pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
