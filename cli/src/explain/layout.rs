//! Labels on the left, aligned columns on the right.

use crate::printer::one_line;

/// A text of labelled blocks. No text of a manifest or of a request makes two lines of one, or commands of a terminal.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// Adds lines under a label; none, and nothing is added.
    pub(super) fn block<T: AsRef<str>>(&mut self, label: &str, lines: impl IntoIterator<Item = T>) {
        let mut label = label;
        for line in lines {
            let line = format!("{label:WIDTH$}{}", one_line(line.as_ref()));
            self.text.push_str(line.trim_end());
            self.text.push('\n');
            label = "";
        }
    }

    /// Adds a line behind an indent, without a label.
    pub(super) fn line(&mut self, indent: &str, line: &str) {
        self.text.push_str(indent);
        self.text.push_str(&one_line(line));
        self.text.push('\n');
    }

    /// Adds a table under a label, its columns as wide as their widest cell.
    pub(super) fn table(&mut self, label: &str, rows: &[Vec<String>]) {
        self.block(label, aligned(rows));
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// The rows as lines.
pub(super) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cell = |row: &Vec<String>, column: usize| row.get(column).map(|cell| one_line(cell)).unwrap_or_default();
    let widths: Vec<usize> = (0..columns)
        .map(|column| {
            rows.iter()
                .map(|row| cell(row, column).chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &Vec<String>| {
        let cells = widths
            .iter()
            .enumerate()
            .filter(|(_, width)| **width > 0)
            .map(|(column, width)| format!("{:width$}", cell(row, column), width = *width));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Of the column of labels.
const WIDTH: usize = 11;
