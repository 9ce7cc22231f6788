//! Tables in Markdown, and verdicts.

use crate::stats::Spread;

/// A table with a header row; columns are padded so that it reads well in a terminal.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these column names.
    pub(crate) fn new(names: &[&str]) -> Self {
        Self {
            rows: vec![names.iter().map(|&name| name.to_owned()).collect()],
        }
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as text.
    pub(crate) fn render(&self) -> String {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows
                .iter()
                .filter_map(|row| row.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for (index, row) in self.rows.iter().enumerate() {
            let cells: Vec<String> = widths
                .iter()
                .zip(row)
                .map(|(&width, cell)| format!(" {cell:<width$} "))
                .collect();
            text.extend(["|", &cells.join("|"), "|\n"]);
            if index == 0 {
                let rule: Vec<String> = widths.iter().map(|width| "-".repeat(width + 2)).collect();
                text.extend(["|", &rule.join("|"), "|\n"]);
            }
        }
        text
    }

    /// Prints it with an empty line after it.
    pub(crate) fn print(&self) {
        println!("{}", self.render());
    }
}

/// `min / **median** / max` with `digits` after the point; a dash without values.
pub(crate) fn spread(values: &[f64], digits: usize) -> String {
    Spread::of(values).map_or_else(
        || "-".to_owned(),
        |s| format!("{:.digits$} / **{:.digits$}** / {:.digits$}", s.min, s.median, s.max),
    )
}

/// Whether `value` is within `limit`, in words that name the limit.
pub(crate) fn verdict(value: Option<f64>, limit: f64, unit: &str) -> String {
    match value {
        None => format!("not measured (asked: <= {limit}{unit})"),
        Some(value) if value <= limit => format!("pass (<= {limit}{unit})"),
        Some(_) => format!("FAIL (asked: <= {limit}{unit})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_markdown_with_aligned_columns() {
        let mut table = Table::new(&["a", "long"]);
        table.row(vec!["wide cell".to_owned(), "1".to_owned()]);
        assert_eq!(
            table.render(),
            "| a         | long |\n|-----------|------|\n| wide cell | 1    |\n"
        );
    }

    #[test]
    fn verdicts_compare_with_the_limit() {
        assert_eq!(verdict(Some(1.0), 1.0, "x"), "pass (<= 1x)");
        assert_eq!(verdict(Some(1.01), 1.0, "x"), "FAIL (asked: <= 1x)");
        assert_eq!(verdict(None, 0.6, "x"), "not measured (asked: <= 0.6x)");
    }

    #[test]
    fn spreads_show_three_figures() {
        assert_eq!(spread(&[2.0, 1.0, 4.0], 1), "1.0 / **2.0** / 4.0");
        assert_eq!(spread(&[], 1), "-");
    }
}
