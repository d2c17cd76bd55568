//! The table for people.

use std::path::Path;

use crate::verdict::Verdict;

const BEGIN: &str = "<!-- attacks: written by cargo test --test abuse -- --write docs/security.md -->";
const END: &str = "<!-- attacks end -->";

/// The table in Markdown.
pub(crate) fn table(verdicts: &[Verdict]) -> String {
    let mut table = "| attack | cost to the attacker | cost to the node | what a legitimate user noticed |\n\
                     |---|---|---|---|\n"
        .to_owned();
    for verdict in verdicts {
        // What a node has answered is not to end the cell.
        let cells = verdict.row().map(|cell| cell.replace(['|', '\n'], " "));
        table.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    table
}

/// Puts it into a document, in place of the one that is there.
pub(crate) fn write(document: &Path, table: &str) {
    let text = std::fs::read_to_string(document).unwrap();
    let parts = text.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, behind) = parts.unwrap_or_else(|| panic!("{}: {BEGIN} and {END} are expected", document.display()));
    let text = format!("{before}{BEGIN}\n\nA debug build, on two cores:\n\n{table}\n{END}{behind}");
    std::fs::write(document, text).unwrap();
}
