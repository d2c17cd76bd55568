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

    /// The figure of this row and column, if there is one.
    #[must_use]
    pub fn value(&self, what: &str, column: &str) -> Option<f64> {
        let column = self.columns.iter().position(|name| name == column)?;
        let row = self.rows.iter().find(|row| row.what == what)?;
        *row.values.get(column)?
    }

    /// As a table of Markdown, which people can read as it is.
    #[must_use]
    pub fn table(&self) -> String {
        format!("{}\n\n{}", self.title, self.body())
    }

    /// The table without its title.
    pub(super) fn body(&self) -> String {
        let cells = |row: &Row| (row.what.clone(), row.values.iter().map(|value| cell(*value)).collect());
        let columns: Vec<_> = self.columns.iter().map(String::as_str).collect();
        let mut text = grid(&columns, &self.rows.iter().map(cells).collect::<Vec<_>>());
        // Writing into a text can't fail.
        let _ = self.notes.iter().try_for_each(|note| write!(text, "\n{note}\n"));
        text
    }
}

/// A table of Markdown: each row has a name, and a cell for each column.
pub(super) fn grid(columns: &[&str], rows: &[(String, Vec<String>)]) -> String {
    let first = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let width = |n: usize, name: &str| {
        let cells = rows.iter().filter_map(|(_, cells)| cells.get(n));
        cells.map(|cell| cell.chars().count()).fold(name.chars().count(), usize::max)
    };
    let widths: Vec<_> = columns.iter().enumerate().map(|(n, name)| width(n, name)).collect();
    let mut text = format!("| {:first$} |", "");
    // Writing into a text can't fail.
    let _ = columns.iter().zip(&widths).try_for_each(|(name, width)| write!(text, " {name:>width$} |"));
    let _ = write!(text, "\n|{}|", "-".repeat(first + 2));
    let _ = widths.iter().try_for_each(|width| write!(text, "{}:|", "-".repeat(width + 1)));
    for (name, cells) in rows {
        let _ = write!(text, "\n| {name:first$} |");
        let _ = cells.iter().zip(&widths).try_for_each(|(cell, width)| write!(text, " {cell:>width$} |"));
    }
    text.push('\n');
    text
}

/// A figure, or that there is none.
pub(super) fn cell(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), figure)
}

/// Three digits, or all that are before the point.
fn figure(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
