//! Why a program could not do what it was asked: a line on standard error for people or, with `--json`, a document on standard
//! output for programs, which then read one there however it ends.

use std::error::Error;
use std::fmt::Display;

use serde::Serialize;
use serde_json::Value;

use super::{print, print_error};
use crate::protocol::problem::Problem;
use crate::protocol::untrusted::{Untrusted, one_line};

/// What programs are told in place of a result.
#[derive(Serialize)]
struct Document<'a> {
    /// Always `error`.
    result: &'static str,
    /// For people.
    message: &'a str,
    #[serde(flatten)]
    refused: Option<Refused<'a>>,
}

/// What a relay has said, if it was one that refused.
#[derive(Serialize)]
struct Refused<'a> {
    code: &'a Untrusted,
    status: u16,
    retry_safe: bool,
    /// The support code.
    trace_id: &'a Untrusted,
}

/// Whether whoever started this program reads JSON: `--json` is among its arguments.
#[must_use]
pub fn wants_json() -> bool {
    std::env::args_os().skip(1).take_while(|argument| argument != "--").any(|argument| argument == "--json")
}

/// Says why a program ends.
pub fn complain(program: &str, error: &dyn Display) {
    tell(program, &error.to_string(), None);
}

/// The same of an error that a relay's refusal may be the cause of.
pub fn complain_of(program: &str, error: &(dyn Error + 'static)) {
    tell(program, &error.to_string(), problem_in(error));
}

/// Says what is wrong with a program's arguments, which somebody else may have chosen.
pub fn complain_of_usage(program: &str, error: &dyn Display) {
    let text = error.to_string();
    if wants_json() { tell(program, text.trim_end(), None) } else { print_error(&text) }
}

fn tell(program: &str, message: &str, problem: Option<&Problem>) {
    let message = one_line(message);
    if wants_json() {
        // There is nobody to tell if that can't be written; the exit status says that it went wrong.
        let _ = print(&document(&message, problem));
    } else {
        print_error(&format!("{program}: {message}\n"));
    }
}

/// What programs are told of an error, for a document that tells of more than one.
#[must_use]
pub fn error_document(error: &(dyn Error + 'static)) -> Value {
    let text = error.to_string();
    let message = one_line(&text);
    // Texts and numbers can always be written as JSON.
    serde_json::to_value(Document::of(&message, problem_in(error))).unwrap_or_default()
}

fn document(message: &str, problem: Option<&Problem>) -> String {
    let text = serde_json::to_string(&Document::of(message, problem)).unwrap_or_default();
    format!("{text}\n")
}

impl<'a> Document<'a> {
    fn of(message: &'a str, problem: Option<&'a Problem>) -> Self {
        let refused = problem.map(|Problem { code, status, retry_safe, trace_id, .. }| Refused {
            code,
            status: *status,
            retry_safe: *retry_safe,
            trace_id,
        });
        Self { result: "error", message, refused }
    }
}

/// The relay's refusal that is the cause of an error, or the cause of its cause.
fn problem_in<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a Problem> {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let boxed = || error.downcast_ref::<Box<Problem>>().map(Box::as_ref);
        if let Some(problem) = error.downcast_ref().or_else(boxed) {
            return Some(problem);
        }
        cause = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::protocol::problem::ProblemCode;

    #[derive(Debug, thiserror::Error)]
    #[error("the relay says no: {0}")]
    struct Refusal(#[source] Box<Problem>);

    #[derive(Debug, thiserror::Error)]
    #[error(transparent)]
    struct Outer(#[from] Refusal);

    #[test]
    fn a_refusal_of_the_relay_is_found_behind_other_errors_and_told_as_data() {
        let problem = Problem::new(ProblemCode::NoAgent, "it is \u{1b}[31maway", "abc");
        let error = Outer(Refusal(Box::new(problem)));
        let said: Value = serde_json::from_str(&document("no", problem_in(&error))).unwrap();
        let expected = json!({ "result": "error", "message": "no", "code": "no_agent", "status": 503, "retry_safe": true,
            "trace_id": "abc" });
        assert_eq!(said, expected);
        assert_eq!(error_document(&error)["code"], "no_agent");
        let other = std::io::Error::other("disk");
        assert_eq!(document("no", problem_in(&other)), "{\"result\":\"error\",\"message\":\"no\"}\n");
    }
}
