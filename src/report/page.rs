//! [`Page`]: lines of a report for a terminal, with or without colours, never wider than asked.

use std::io;

use super::table::Table;
use super::wrap::wrap;

/// Below this width tables cannot stand.
const NARROWEST: usize = 40;

/// How to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Whether to colour with ANSI escapes.
    pub colour: bool,
    /// The longest line, in characters; at least 40.
    pub width: u16,
}

/// How a whole line looks. Colours stand here and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Paint {
    Plain,
    Strong,
    Faint,
    Good,
    Bad,
}

impl Paint {
    pub(super) fn on(self, line: &str, colour: bool) -> String {
        let code = match self {
            Paint::Strong => "1",
            Paint::Faint => "2",
            Paint::Good => "32",
            Paint::Bad => "31",
            Paint::Plain => "",
        };
        if !colour || code.is_empty() || line.is_empty() {
            return line.to_owned();
        }
        format!("\x1b[{code}m{line}\x1b[0m")
    }
}

/// A report as it grows.
pub(super) struct Page {
    lines: Vec<(Paint, String)>,
    pub(super) width: usize,
}

impl Page {
    pub(super) fn new(style: Style) -> Page {
        Page { lines: Vec::new(), width: usize::from(style.width).max(NARROWEST) }
    }

    pub(super) fn line(&mut self, paint: Paint, line: impl Into<String>) {
        self.lines.push((paint, line.into()));
    }

    pub(super) fn gap(&mut self) {
        self.line(Paint::Plain, "");
    }

    pub(super) fn paragraph(&mut self, paint: Paint, text: &str, indent: usize) {
        for line in wrap(text, self.width, indent) {
            self.line(paint, line);
        }
    }

    pub(super) fn table(&mut self, table: &Table) {
        for lines in table.tables(self.width) {
            self.gap();
            for (nth, line) in lines.into_iter().enumerate() {
                self.line(if nth == 0 { Paint::Strong } else { Paint::Plain }, line);
            }
        }
    }

    pub(super) fn write(&self, style: Style, out: &mut impl io::Write) -> io::Result<()> {
        self.lines.iter().try_for_each(|(paint, line)| writeln!(out, "{}", paint.on(line, style.colour)))
    }
}
