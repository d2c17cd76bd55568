//! `docs/protocol.md` and `docs/test-vectors.md` say what the code does.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;
use writeback_relay::protocol::assertion::{AGENT_ASSERTION_TYP, PORTAL_ASSERTION_TYP};
use writeback_relay::protocol::command::COMMAND_TYP;
use writeback_relay::protocol::enrollment::{ATTESTATION_TYP, PROOF_TYP};
use writeback_relay::protocol::event::Event;
use writeback_relay::protocol::frame::CloseReason;
use writeback_relay::protocol::hindrance::Hindrance;
use writeback_relay::protocol::limits;
use writeback_relay::protocol::outcome::{Code, OUTCOME_TYP};
use writeback_relay::protocol::problem::ProblemCode;
use writeback_relay::protocol::remedy::Remedy;
use writeback_relay::protocol::rotation::{
    ACKNOWLEDGEMENT_TYP, AGENT_ROTATION_TYP, PORTAL_ROTATION_TYP, ROTATION_PROOF_TYP,
};

const DOC: &str = include_str!("../docs/protocol.md");

/// The vectors, in the order in which a reader needs them, and what each is.
const VECTORS: &[(&str, &str)] = &[
    ("keys", "The private keys of all examples, and their thumbprints"),
    ("fingerprint", "The agent's fingerprint"),
    ("enrolment-code", "An enrolment code, its contents, and the hash of its token"),
    ("enrollment-proof", "The proof of possession"),
    ("attestation", "The attestation, with the secret that verifies it"),
    ("agent-rotation", "An agent's rotation: its next keys, signed by the old one"),
    ("portal-rotation", "A portal's rotation"),
    ("acknowledgement", "The agent's word that it has pinned the portal's new key"),
    ("agent-assertion", "What an agent opens a session with"),
    ("portal-assertion", "What a portal makes a call with, signed with either kind of key"),
    ("sealed", "A sealed password, and its plaintext with the padding"),
    ("command", "The command that carries it, signed with either kind of key"),
    (
        "change",
        "A command that changes a password: both passwords are sealed, and the account is named by its objectGUID",
    ),
    ("outcome", "The outcome of the first command"),
    ("frames", "Each frame: its bytes as hexadecimal, and what they mean"),
    (
        "accounts",
        "Accounts: as `sub_id`, what is hashed to choose an agent (protocol.md §9), the hash with each of two agents, and which\nof \
         them is asked first",
    ),
    (
        "accepted",
        "Take these: unusual, and right. Each `text` is read as those of `refused` are; the agent has pinned both keys of the portal",
    ),
    (
        "refused",
        "Refuse these. Each `text` is one of the objects above with one thing wrong: `why`. It is read at 1767225600 by whom it is\n\
         for, who knows the keys of the examples (not those called `next`), the command and the enrolment code. What is sealed\n\
         wrongly an agent answers with `decryption_failed`; a command with anything else wrong it does not answer. Frames are\n\
         hexadecimal",
    ),
];

/// The rows of the table under this heading, as cells; as many of each as the heading has.
fn table(heading: &str) -> Vec<Vec<String>> {
    let mut lines = DOC.lines().skip_while(|line| *line != heading);
    assert!(lines.next().is_some(), "docs/protocol.md has no table {heading}");
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    rows.map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().to_owned()).collect()).collect()
}

fn rows<const N: usize>(rows: impl IntoIterator<Item = [String; N]>) -> Vec<Vec<String>> {
    rows.into_iter().map(Vec::from).collect()
}

fn quoted(text: &str) -> String {
    format!("`{text}`")
}

fn yes_or_no(yes: bool) -> String {
    if yes { "yes" } else { "no" }.to_owned()
}

#[test]
fn the_problem_codes_are_all_there() {
    let codes = ProblemCode::ALL.iter().map(|code| {
        [quoted(code.as_str()), code.status().to_string(), yes_or_no(code.retry_safe()), code.title().to_owned()]
    });
    assert_eq!(table("| code | status | retry_safe | title |"), rows(codes));
}

#[test]
fn the_remedies_are_all_there() {
    let remedies = Remedy::ALL.iter().map(|remedy| [quoted(remedy.as_str()), remedy.text().to_owned()]);
    assert_eq!(table("| remedy_code | text |"), rows(remedies));
}

#[test]
fn the_hindrances_are_all_there() {
    let hindrances = Hindrance::ALL.iter().map(|hindrance| [quoted(hindrance.as_str()), hindrance.text().to_owned()]);
    assert_eq!(table("| hindrance | text |"), rows(hindrances));
}

#[test]
fn the_close_codes_are_all_there() {
    let reasons = CloseReason::ALL.iter().map(|reason| {
        [reason.code().to_string(), quoted(reason.as_str()), yes_or_no(CloseReason::may_come_back(reason.code()))]
    });
    assert_eq!(table("| code | reason | come back |"), rows(reasons));
}

#[test]
fn the_outcome_codes_and_the_events_are_all_there() {
    let codes = Code::ALL.iter().map(|code| {
        let status = serde_json::to_value(code.status()).unwrap();
        [quoted(code.as_str()), quoted(status.as_str().unwrap()), code.event().id().to_string()]
    });
    assert_eq!(table("| code | status | event_id |"), rows(codes));
    let explained: Vec<_> =
        table("| code | means | what a portal does |").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(explained, Code::ALL.iter().map(|code| quoted(code.as_str())).collect::<Vec<_>>());
    let events = Event::ALL.iter().map(|event| [event.id().to_string(), event.name().to_owned()]);
    assert_eq!(table("| id | name |"), rows(events));
}

#[test]
fn the_types_of_signed_objects_are_all_there() {
    let typs = [
        COMMAND_TYP,
        OUTCOME_TYP,
        PORTAL_ASSERTION_TYP,
        AGENT_ASSERTION_TYP,
        PROOF_TYP,
        ATTESTATION_TYP,
        AGENT_ROTATION_TYP,
        PORTAL_ROTATION_TYP,
        ROTATION_PROOF_TYP,
        ACKNOWLEDGEMENT_TYP,
    ];
    let written: Vec<String> = table("| typ | signed by | says |").into_iter().map(|row| row[0].clone()).collect();
    assert_eq!(written, typs.map(quoted));
}

#[test]
fn the_limits_are_the_codes() {
    let seconds = |span: std::time::Duration| format!("{} s", span.as_secs());
    let expected = [
        format!("{} bytes", limits::MAX_COMMAND_BYTES),
        format!("{} bytes", limits::MAX_FRAME_BYTES),
        format!("{} Unicode characters", limits::MAX_PASSWORD_CHARS),
        format!("{} characters; the rest is cut off", limits::MAX_NAME_CHARS),
        seconds(limits::DEFAULT_COMMAND_LIFETIME),
        seconds(limits::MAX_COMMAND_LIFETIME),
        seconds(limits::MAX_ASSERTION_LIFETIME),
        seconds(limits::MAX_CLOCK_AHEAD),
        seconds(limits::INVITATION_LIFETIME),
        seconds(limits::OUTCOME_RETENTION),
        seconds(limits::JOURNAL_RETENTION),
        format!("{} bytes", limits::SEALED_BLOCK_BYTES),
    ];
    let written: Vec<String> = table("| limit | value |").into_iter().map(|row| row[1].clone()).collect();
    assert_eq!(written, expected);
}

#[test]
fn every_kind_of_frame_is_explained() {
    let proto = include_str!("../proto/writeback/v1/session.proto");
    let kinds = proto.split("oneof kind {").skip(1).flat_map(|oneof| {
        let fields = oneof.split('}').next().unwrap_or_default().lines();
        fields.filter_map(|line| line.split_whitespace().next()).map(quoted)
    });
    let mut kinds: Vec<String> = kinds.collect();
    kinds.sort();
    kinds.dedup();
    let mut written: Vec<String> = table("| frame | from | when |").into_iter().map(|row| row[0].clone()).collect();
    written.sort();
    assert_eq!(written, kinds);
}

fn vector(name: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{name}.json"));
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn the_examples_in_the_text_are_the_test_vectors() {
    let fingerprint: Value = serde_json::from_str(&vector("fingerprint")).unwrap();
    for member in ["agent", "signing_key", "sealing_key", "fingerprint"] {
        assert!(DOC.contains(fingerprint[member].as_str().unwrap()), "{member}");
    }
    let code: Value = serde_json::from_str(&vector("enrolment-code")).unwrap();
    assert!(DOC.contains(code["code"].as_str().unwrap()));
}

/// `UPDATE_VECTORS=1` writes it.
#[test]
fn the_test_vectors_are_quoted_in_full() {
    let mut text = String::from(
        "# Test vectors\n\nOne complete example of each object of [the protocol](protocol.md), and of what has to be refused. They \
         belong together: the\nenrolment code enrols the agent, the command is for it, and the outcome answers the command. All \
         times are around\n2026-01-01 00:00:00 UTC (1767225600).\n\nEd25519 and HS256 are deterministic: whoever signs the first \
         two parts of a `jws` gets the same third part. `jwe` and\n`jws_es256` hold random values: open them, verify them.\n\nThe \
         private keys and secrets are public now. Never use them.\n",
    );
    for (name, what) in VECTORS {
        let _ = write!(text, "\n## {name}\n\n{what}.\n\n```json\n{}```\n", vector(name));
    }
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/test-vectors.md");
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(&path, &text).unwrap();
    }
    assert!(fs::read_to_string(&path).unwrap() == text, "docs/test-vectors.md is not made of tests/vectors");
    let files = fs::read_dir(path.with_file_name("../tests/vectors")).unwrap().flatten();
    let json = files.filter(|entry| entry.path().extension().is_some_and(|e| e == "json")).count();
    assert_eq!(json, VECTORS.len(), "a file of tests/vectors is not in the document");
}
