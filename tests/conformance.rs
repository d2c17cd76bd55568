//! docs/conformance.md is what the short form of `tests/run conformance` sees: each case stands there, what is listed as met is
//! still met, and what is not has a reason.

use std::process::Command;

use crate::support::cli::Cli;
use crate::support::deadline;

const RUN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/run");
const SETUP: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/conformance/setup");

#[tokio::test]
async fn what_is_listed_as_met_is_met() {
    let setup = Command::new(SETUP).arg("short").status().expect("tests/conformance/setup can't be run");
    assert!(setup.success(), "what the conformance tests need is not installed: run tests/setup");
    let run = Cli::new(RUN, &["--short", "--relay", env!("CARGO_BIN_EXE_writeback-relay")]);
    let said = deadline("the conformance tests", run.run(&[])).await;
    assert_eq!(said.status, 0, "{}{}", said.out, said.err);
    assert_eq!(said.out.lines().count(), 4, "each suite says how much of it is met: {said:?}");
}
