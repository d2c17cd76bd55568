//! A report for people: what, where, state, and how to mend it.

use std::borrow::Cow;
use std::fmt::Write;

use crate::agent::counted;
use crate::agent::directory::Check;
use crate::protocol::api::{PreflightReport, PreflightRow, PreflightState};
use crate::protocol::untrusted::{Untrusted, one_line};

const HEAD: [&str; 4] = ["STATE", "CHECK", "WHERE", "FOUND"];

/// A line for each row, the command that mends it below, and the sum at the end.
#[must_use]
pub fn table(report: &PreflightReport) -> String {
    written(report, &report.rows.iter().collect::<Vec<_>>(), true)
}

/// A line for each row that is not as it should be, and the sum at the end.
#[must_use]
pub fn brief(report: &PreflightReport) -> String {
    written(report, &report.rows.iter().filter(|row| row.state != PreflightState::Ok).collect::<Vec<_>>(), false)
}

/// How many rows are of which state.
#[must_use]
pub fn sum(report: &PreflightReport) -> String {
    let count = |state| report.rows.iter().filter(|row| row.state == state).count();
    let warnings = counted(count(PreflightState::Warning), "warning");
    format!("{} failed, {warnings}, {} ok", count(PreflightState::Failed), count(PreflightState::Ok))
}

/// The worst row in one line, if anything is to be mended.
#[must_use]
pub fn worst(report: &PreflightReport) -> Option<String> {
    let rows = report.rows.iter().filter(|row| row.state != PreflightState::Ok);
    // The first of those that are equally bad, as the table has them.
    let worst = rows.rev().max_by_key(|row| row.state)?;
    let [_, check, place, found] = cells(worst);
    Some(format!("{check} at {place}: {found}"))
}

/// What some checks found, a line each.
#[must_use]
pub fn found_by(report: &PreflightReport, checks: &[Check]) -> String {
    let rows = report.rows.iter().filter(|row| checks.iter().any(|check| row.check == *check.as_str()));
    rows.map(|row| format!("{}: {}\n", own(&row.target), own(&row.detail))).collect()
}

fn written(report: &PreflightReport, rows: &[&PreflightRow], remedies: bool) -> String {
    let cells: Vec<_> = rows.iter().map(|row| cells(row)).collect();
    let width = |column: usize| {
        let all = cells.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        all.chain(HEAD.get(column).map(|head| head.len())).max().unwrap_or(0)
    };
    let widths = [width(0), width(1), width(2)];
    let mut text = String::new();
    if !rows.is_empty() {
        line(&mut text, widths, &HEAD.map(str::to_owned));
    }
    for (row, cells) in rows.iter().zip(&cells) {
        line(&mut text, widths, cells);
        // The rows are this program's own: how it is done here is more than what its code says.
        if remedies && !row.remedy.is_empty() {
            let _ = writeln!(text, "{:>indent$}  mend it: {}", "", own(&row.remedy), indent = widths[0]);
        }
    }
    let _ = writeln!(text, "\n{}", sum(report));
    text
}

fn cells(row: &PreflightRow) -> [String; 4] {
    let state = match row.state {
        PreflightState::Ok => "ok",
        PreflightState::Warning => "warning",
        PreflightState::Failed => "FAILED",
    };
    let check = Check::ALL.iter().find(|check| row.check == *check.as_str());
    let check = check.map_or_else(|| row.check.cell(), |check| check.title().to_owned());
    [state.to_owned(), check, own(&row.target).into_owned(), own(&row.detail).into_owned()]
}

fn line(text: &mut String, widths: [usize; 3], [state, check, place, found]: &[String; 4]) {
    let [first, second, third] = widths;
    // Writing to a text does not fail.
    let _ = writeln!(text, "{state:<first$}  {check:<second$}  {place:<third$}  {found}");
}

/// What this program has written, with names of the directory in it.
fn own(text: &Untrusted) -> Cow<'_, str> {
    one_line(text.as_data())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::directory::Finding;
    use crate::clock::UnixTime;
    use crate::protocol::remedy::Remedy;

    #[test]
    fn the_command_stands_below_what_it_mends() {
        let rows = vec![
            Finding::ok(Check::Bind, "dc1", "svc can\x1b[2J log\n on").into(),
            Finding::failed(Check::ResetPassword, "OU=A", "missing")
                .mended_with(Remedy::GrantRight, "dsacls \"OU=A\"")
                .into(),
        ];
        let text = table(&PreflightReport { checked_at: UnixTime(1), rows, domains: vec![] });
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines,
            [
                "STATE   CHECK           WHERE  FOUND",
                "ok      logon           dc1    svc can\\u001b[2J log\\n on",
                "FAILED  Reset Password  OU=A   missing",
                "        mend it: dsacls \"OU=A\"",
                "",
                "1 failed, 0 warnings, 1 ok"
            ]
        );
    }
}
