//! What was measured: a table for people, JSON for programs.

use std::fmt::Write;

use serde::Serialize;

/// One measurement of several columns.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What was done.
    pub title: String,
    /// What the columns are.
    pub columns: Vec<String>,
    /// What was found.
    pub rows: Vec<Row>,
    /// What is to be said about it.
    pub notes: Vec<String>,
}

/// One figure of each column.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What it is, with its unit.
    pub what: String,
    /// One for each column; none where there is nothing.
    pub values: Vec<Option<f64>>,
}

impl Report {
    pub(super) fn new(title: String, columns: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { title, columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new(), notes: Vec::new() }
    }

    pub(super) fn row(&mut self, what: &str, values: impl IntoIterator<Item = Option<f64>>) {
        self.rows.push(Row { what: what.to_owned(), values: values.into_iter().collect() });
    }

    /// As a table of Markdown, which people can read as it is.
    #[must_use]
    pub fn table(&self) -> String {
        let value = |value: &Option<f64>| value.map_or_else(|| "–".to_owned(), figure);
        let cells: Vec<Vec<String>> = self.rows.iter().map(|row| row.values.iter().map(value).collect()).collect();
        let first = self.rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
        let width = |n: usize, name: &str| {
            cells.iter().filter_map(|row| row.get(n)).map(|c| c.chars().count()).fold(name.chars().count(), usize::max)
        };
        let widths: Vec<_> = self.columns.iter().enumerate().map(|(n, name)| width(n, name)).collect();
        let mut text = format!("{}\n\n| {:first$} |", self.title, "");
        // Writing into a text can't fail.
        let _ = self.columns.iter().zip(&widths).try_for_each(|(name, width)| write!(text, " {name:>width$} |"));
        let _ = write!(text, "\n|{}|", "-".repeat(first + 2));
        let _ = widths.iter().try_for_each(|width| write!(text, "{}:|", "-".repeat(width + 1)));
        for (row, cells) in self.rows.iter().zip(&cells) {
            let _ = write!(text, "\n| {:first$} |", row.what);
            let _ = cells.iter().zip(&widths).try_for_each(|(cell, width)| write!(text, " {cell:>width$} |"));
        }
        text.push('\n');
        let _ = self.notes.iter().try_for_each(|note| write!(text, "\n{note}\n"));
        text
    }
}

/// Three digits, or all that are before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
