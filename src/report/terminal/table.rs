//! [`Table`]: named rows, a column per arm, aligned to the right, as wide as the page allows.

/// A table whose first line is its title and the columns' names.
#[derive(Clone, Debug)]
pub(super) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(super) fn new(title: &str, columns: impl Iterator<Item = String>) -> Table {
        Table { title: title.to_owned(), columns: columns.collect(), rows: Vec::new() }
    }

    pub(super) fn row(&mut self, name: &str, cells: impl Iterator<Item = String>) {
        self.rows.push((name.to_owned(), cells.collect()));
    }

    /// The lines, none wider than `width`. A title that does not fit beside the columns' names stands above them.
    pub(super) fn lines(&self, width: usize) -> Vec<String> {
        let names = self.rows.iter().map(|(name, _)| length(name) + 2).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(|column| self.column_width(column)).collect();
        let room: usize = widths.iter().map(|width| width + 3).sum();
        if names + room > width {
            return self.stacked(width);
        }
        let spread = ((width - names - room) / self.columns.len().max(1)).min(6);
        let line = |name: &str, cells: &[String]| {
            let mut text = format!("{name}{}", " ".repeat(names.saturating_sub(length(name))));
            for (cell, width) in cells.iter().zip(&widths) {
                text.push_str(&" ".repeat(width + 3 + spread - length(cell)));
                text.push_str(cell);
            }
            text.trim_end().to_owned()
        };
        let mut lines = Vec::new();
        if length(&self.title) > names {
            lines.push(cut(&self.title, width));
            lines.push(line("", &self.columns));
        } else {
            lines.push(line(&self.title, &self.columns));
        }
        lines.extend(self.rows.iter().map(|(name, cells)| line(&format!("  {name}"), cells)));
        lines
    }

    fn column_width(&self, column: usize) -> usize {
        let cells = self.rows.iter().filter_map(|(_, cells)| cells.get(column));
        cells.chain(self.columns.get(column)).map(|cell| length(cell)).max().unwrap_or(0)
    }

    /// One cell a line, for what does not fit side by side.
    fn stacked(&self, width: usize) -> Vec<String> {
        let mut lines = vec![cut(&self.title, width)];
        for (name, cells) in &self.rows {
            for (cell, column) in cells.iter().zip(&self.columns) {
                lines.push(cut(&format!("  {name}, {column}: {cell}"), width));
            }
        }
        lines
    }
}

fn length(text: &str) -> usize {
    text.chars().count()
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(cell: &str) -> Table {
        let mut table = Table::new("Times", ["on", "off"].map(String::from).into_iter());
        table.row("p50", [cell, "2 ms"].map(String::from).into_iter());
        table
    }

    #[test]
    fn columns_are_aligned_to_the_right() {
        let lines = table("1.00 ms").lines(24);
        assert_eq!(lines, ["Times         on     off", "  p50    1.00 ms    2 ms"]);
    }

    #[test]
    fn what_does_not_fit_side_by_side_is_stacked() {
        let lines = table("a cell much wider than that").lines(30);
        assert_eq!(lines[0], "Times");
        assert!(lines.iter().all(|line| length(line) <= 30), "{lines:?}");
    }
}
