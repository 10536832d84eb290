//! [`Table`]: names on the left, values side by side, in as many columns as fit.

use maud::{Markup, html};

use super::export::escape;
use super::html::unbroken;
use super::wrap::{cut, length};

/// Two blanks between columns.
const GAP: usize = 2;
/// No column is made narrower, so that few arms stand evenly.
const NARROWEST: usize = 13;

/// Rows of values under column names.
pub(super) struct Table {
    title: String,
    columns: Vec<String>,
    rows: Vec<(String, Vec<String>)>,
}

impl Table {
    pub(super) fn new<C: Into<String>>(title: &str, columns: impl IntoIterator<Item = C>) -> Table {
        let columns = columns.into_iter().map(Into::into).collect();
        Table { title: title.to_owned(), columns, rows: Vec::new() }
    }

    /// Adds a row with a value for every column.
    pub(super) fn row(&mut self, name: &str, values: impl IntoIterator<Item = String>) {
        self.rows.push((name.to_owned(), values.into_iter().collect()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The lines, none longer than `width`. Columns that do not fit beside the others stand in a further table
    /// below; of each table the first line holds the title and the columns' names.
    pub(super) fn tables(&self, width: usize) -> Vec<Vec<String>> {
        let names = self.rows.iter().map(|(name, _)| name).chain([&self.title]);
        let name_width = names.map(|name| length(name)).max().unwrap_or(0).min(width / 2);
        let most = width - name_width - GAP;
        let widths: Vec<usize> =
            (0..self.columns.len()).map(|nth| self.column_width(nth).min(most)).collect();
        let mut tables = Vec::new();
        let mut from = 0;
        while from < widths.len() {
            let to = from + fitting(&widths[from..], width - name_width);
            tables.push(self.lines(name_width, &widths, from, to));
            from = to;
        }
        tables
    }

    /// The same for a page that is read in a browser.
    pub(super) fn markup(&self) -> Markup {
        let remarks = self.rows.iter().filter(|(_, values)| values.is_empty());
        html! {
            div.scroll tabindex="0" role="region" aria-label=(self.title) { (self.bare()) }
            @for (remark, _) in remarks { p.about { (remark) } }
        }
    }

    /// The table alone.
    pub(super) fn bare(&self) -> Markup {
        html! {
            table {
                thead { tr {
                    th scope="col" { (self.title) }
                    @for column in &self.columns { th.number scope="col" { (column) } }
                } }
                tbody {
                    @for (name, values) in self.rows.iter().filter(|(_, values)| !values.is_empty()) {
                        tr {
                            th scope="row" { (name.trim_start()) }
                            @for value in values { td.number { (unbroken(value.trim_start())) } }
                        }
                    }
                }
            }
        }
    }

    /// The same as GitHub-flavoured Markdown, with a blank line behind it.
    pub(super) fn markdown(&self) -> String {
        let row = |name: &str, values: &[String]| {
            let cells: Vec<String> = values.iter().map(|value| escape(value.trim())).collect();
            format!("| {} | {} |\n", escape(name.trim()), cells.join(" | "))
        };
        let mut text = row(&self.title, &self.columns);
        text.push_str(&format!("|---|{}\n", "---:|".repeat(self.columns.len())));
        for (name, values) in self.rows.iter().filter(|(_, values)| !values.is_empty()) {
            text.push_str(&row(name, values));
        }
        text.push('\n');
        text
    }

    fn column_width(&self, nth: usize) -> usize {
        let values = self.rows.iter().filter_map(|(_, values)| values.get(nth));
        let widest = values.chain([&self.columns[nth]]).map(|value| length(value)).max().unwrap_or(0);
        widest.max(NARROWEST)
    }

    fn lines(&self, name_width: usize, widths: &[usize], from: usize, to: usize) -> Vec<String> {
        let line = |name: &str, values: &[String]| {
            let mut text = format!("{:<name_width$}", cut(name, name_width));
            for (value, &width) in values.iter().zip(widths).take(to).skip(from) {
                text.push_str(&" ".repeat(GAP));
                text.push_str(&format!("{:>width$}", cut(value, width)));
            }
            text.trim_end().to_owned()
        };
        let head = line(&self.title, &self.columns);
        std::iter::once(head).chain(self.rows.iter().map(|(name, values)| line(name, values))).collect()
    }
}

/// How many of the first columns fit into `room` together: at least one.
fn fitting(widths: &[usize], room: usize) -> usize {
    let mut used = 0;
    let fit = widths.iter().take_while(|&&width| {
        used += GAP + width;
        used <= room
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(columns: usize) -> Table {
        let mut table = Table::new("Time", (0..columns).map(|nth| format!("arm {nth}")));
        table.row("p50", (0..columns).map(|nth| format!("{nth} ms")));
        table
    }

    #[test]
    fn columns_stand_side_by_side_and_are_flush_right() {
        assert_eq!(
            table(2).tables(40),
            [["Time          arm 0          arm 1", "p50            0 ms           1 ms"]]
        );
    }

    #[test]
    fn columns_that_do_not_fit_stand_below_and_none_is_lost() {
        let tables = table(5).tables(40);
        assert_eq!(tables.len(), 3);
        assert!(tables.iter().flatten().all(|line| length(line) <= 40));
        let text = tables.concat().concat();
        assert!((0..5).all(|nth| text.contains(&format!("{nth} ms"))));
    }

    #[test]
    fn a_value_wider_than_the_page_is_cut() {
        let mut table = Table::new("a long title of a table", ["x"]);
        table.row("name", ["y".repeat(100)]);
        assert!(table.tables(30).concat().iter().all(|line| length(line) <= 30));
    }
}
