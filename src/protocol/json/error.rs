//! Why JSON is refused, for whoever wrote it.

use crate::protocol::untrusted::one_line;
use serde_json::error::Category;
use serde_path_to_error::Path;

/// Why JSON is refused. It says where and what is expected, and never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Bytes that are no text.
    #[error("it is not UTF-8")]
    NotUtf8,
    /// Not the grammar of JSON (RFC 8259), or something behind it.
    #[error("it is not JSON: look near line {line}, character {column}")]
    Syntax {
        /// Counted from 1.
        line: usize,
        /// In bytes, from 1.
        column: usize,
    },
    /// JSON, and not of the form that is asked for.
    #[error("{0}")]
    Form(String),
}

impl Error {
    pub(super) fn of(error: &serde_json::Error) -> Self {
        Self::with(error, |message| message.to_owned())
    }

    pub(super) fn at(error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        Self::with(error.inner(), |message| form(error.path(), message))
    }

    fn with(error: &serde_json::Error, said: impl FnOnce(&str) -> String) -> Self {
        let (line, column) = (error.line(), error.column());
        let message = error.to_string();
        let place = format!(" at line {line} column {column}");
        match error.classify() {
            Category::Data => Self::Form(said(message.strip_suffix(&place).unwrap_or(&message))),
            _ => Self::Syntax { line, column },
        }
    }
}

/// Which value is not of its form, and what is expected there. Not the value, which serde's own messages quote; those of
/// our own types (`try_from`) say what is expected and nothing else.
pub(in crate::protocol) fn form(path: &Path, message: &str) -> String {
    let quoting = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant "];
    let said = if quoting.iter().any(|start| message.starts_with(start)) {
        // What is expected comes last, and is the type's own text.
        let expected = message.rsplit_once(", expected ").map_or("another value", |(_, expected)| expected);
        format!("{expected} is expected")
    } else {
        message.to_owned()
    };
    let said = if path.iter().next().is_none() { said } else { format!("{path}: {said}") };
    // A member's name stands in it, which may be anything.
    one_line(&said).into_owned()
}
