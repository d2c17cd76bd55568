//! `tests/vectors/`: one complete example of each object, with real bytes, for whoever writes the other side in another
//! language. What is deterministic is made again here byte for byte; all of it is verified and opened with our code.
//!
//! `UPDATE_VECTORS=1 cargo test --test it vectors -- --test-threads=1` writes the files anew, the random ones (JWE, ES256)
//! only if they no longer hold. Run it twice: the frames carry the command.

mod accepted;
pub(crate) mod examples;
pub(crate) mod objects;
pub(crate) mod readers;
pub(crate) mod refused;
mod strict;

use std::fs;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use writeback_relay::clock::{System, UnixTime};
use writeback_relay::portal::selection::in_order_for;
use writeback_relay::protocol::assertion::{
    AGENT_ASSERTION_TYP, AgentAssertion, PORTAL_ASSERTION_TYP, PortalAssertion,
};
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Subject};
use writeback_relay::protocol::enrollment::{ATTESTATION_TYP, Attestation, PROOF_TYP, Proof};
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::frame::{FromAgent, FromRelay};
use writeback_relay::protocol::ids::AgentId;
use writeback_relay::protocol::jose::{Jws, SigningKey, sha256};
use writeback_relay::protocol::outcome::{OUTCOME_TYP, Outcome};
use writeback_relay::protocol::rotation::{
    ACKNOWLEDGEMENT_TYP, AGENT_ROTATION_TYP, Acknowledgement, AgentRotation, PORTAL_ROTATION_TYP, PortalRotation,
};
use writeback_relay::protocol::sealed::{open_for, seal_for};

use objects::{IAT, Keys, RELAY, es256, hex};

const NOW: UnixTime = IAT;

pub(crate) fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(format!("{name}.json"))
}

fn updating() -> bool {
    std::env::var_os("UPDATE_VECTORS").is_some()
}

pub(crate) fn read(name: &str) -> Value {
    let path = path(name);
    match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{}: {e}", path.display())),
        Err(_) if updating() => Value::Null,
        Err(e) => panic!("{}: {e}", path.display()),
    }
}

/// The good object of this kind.
pub(crate) fn good(object: &str) -> String {
    let text = |name: &str, member: &str| read(name)[member].as_str().unwrap().to_owned();
    match object {
        "enrolment-code" => text(object, "code"),
        "public key" => serde_json::to_string(Keys::read().portal.public()).unwrap(),
        "sub_id" => read("command")["claims"]["sub_id"].to_string(),
        "frame from an agent" | "frame from a relay" => {
            let from = object.rsplit(" ").next().unwrap();
            let frames = read("frames");
            let frame = frames.as_array().unwrap().iter().find(|frame| frame["from"] == from).unwrap().clone();
            frame["hex"].as_str().unwrap().to_owned()
        }
        _ => text(object, "jws"),
    }
}

/// The file holds exactly `made`; or, when asked to, it does from now on.
fn holds(name: &str, made: &Value) {
    if updating() {
        fs::write(path(name), serde_json::to_string_pretty(made).unwrap() + "\n").unwrap();
    }
    assert_eq!(&read(name), made, "tests/vectors/{name}.json is not what our code makes");
}

fn keep_or_make(name: &str, member: &str, good: impl Fn(&str) -> bool, make: impl FnOnce() -> String) -> String {
    let kept = read(name)[member].as_str().map(str::to_owned);
    match kept {
        Some(kept) if good(&kept) => kept,
        _ if updating() => make(),
        _ => panic!("tests/vectors/{name}.json: {member} does not hold"),
    }
}

fn signed<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(
    typ: &'static str,
    claims: &T,
    jws: &str,
) -> Value {
    // Whoever reads the file may take the claims from it as they stand.
    let value = serde_json::to_value(claims).unwrap();
    assert_eq!(&serde_json::from_value::<T>(value.clone()).unwrap(), claims);
    json!({ "typ": typ, "claims": value, "jws": jws })
}

#[test]
fn the_keys_have_the_thumbprints_and_the_fingerprint_that_are_written_down() {
    let keys = Keys::read();
    let mut file = read("keys");
    file["thumbprints"] = json!({
        "portal": keys.portal.kid(),
        "portal_es256": keys.portal_es256.thumbprint(),
        "agent_signing": keys.agent_signing.kid(),
        "agent_sealing": keys.agent_sealing.kid(),
        "portal_next": keys.portal_next.kid(),
        "agent_signing_next": keys.agent_signing_next.kid(),
        "agent_sealing_next": keys.agent_sealing_next.kid(),
    });
    holds("keys", &file);
    let agent = objects::agent();
    holds(
        "fingerprint",
        &json!({
            "agent": agent,
            "signing_key": keys.agent_signing.kid(),
            "sealing_key": keys.agent_sealing.kid(),
            "fingerprint": keys.agent().fingerprint(agent),
        }),
    );
}

#[test]
fn the_sealed_password_and_its_command_open_with_the_agents_key() {
    let keys = Keys::read();
    let sealed_by = |jwe: &str| Command { sealed: Some(jwe.to_owned()), ..objects::command() };
    let opens = |jwe: &str| open_for(&sealed_by(jwe), &keys.agent_sealing).is_ok_and(|s| s == objects::secrets());
    let jwe = keep_or_make("sealed", "jwe", opens, || {
        seal_for(&objects::command(), &objects::secrets(), keys.agent_sealing.public(), &System).unwrap()
    });
    let plaintext = keys.agent_sealing.open(&jwe).unwrap();
    assert_eq!(plaintext.len(), 512);
    holds(
        "sealed",
        &json!({
            "new_password": objects::PASSWORD,
            "recipient": keys.agent_sealing.kid(),
            "plaintext": std::str::from_utf8(&plaintext).unwrap(),
            "jwe": jwe,
        }),
    );

    let command = sealed_by(&jwe);
    let jws = command.sign(&keys.portal).unwrap();
    let good = |jws: &str| {
        let verified = Command::parse(jws).and_then(|j| Command::verify(&j, [&keys.portal_es256]));
        verified.is_ok_and(|c| c == command)
    };
    let by_es256 = keep_or_make("command", "jws_es256", good, || es256(COMMAND_TYP, &command));
    let mut file = signed(COMMAND_TYP, &command, &jws);
    file["jws_es256"] = by_es256.into();
    holds("command", &file);
    assert_eq!(Command::verify(&Command::parse(&jws).unwrap(), [keys.portal.public()]).unwrap(), command);
}

#[test]
fn the_sealed_change_opens_with_the_agents_key() {
    let keys = Keys::read();
    let sealed_by = |jwe: &str| Command { sealed: Some(jwe.to_owned()), ..objects::change() };
    let opens =
        |jwe: &str| open_for(&sealed_by(jwe), &keys.agent_sealing).is_ok_and(|s| s == objects::change_secrets());
    let jwe = keep_or_make("change", "jwe", opens, || {
        seal_for(&objects::change(), &objects::change_secrets(), keys.agent_sealing.public(), &System).unwrap()
    });
    let command = sealed_by(&jwe);
    let jws = command.sign(&keys.portal).unwrap();
    let mut file = signed(COMMAND_TYP, &command, &jws);
    let plaintext = keys.agent_sealing.open(&jwe).unwrap();
    file["plaintext"] = std::str::from_utf8(&plaintext).unwrap().into();
    file["jwe"] = jwe.into();
    holds("change", &file);
    assert_eq!(Command::verify(&Command::parse(&jws).unwrap(), [keys.portal.public()]).unwrap(), command);
}

#[test]
fn each_account_has_one_spelling_and_one_agent_that_is_asked_first() {
    let agents = objects::agents();
    let rows: Vec<Value> = objects::accounts()
        .into_iter()
        .map(|(account, hashed)| {
            let hash = |agent| hex(&sha256(&[hashed.as_bytes(), &[0], AgentId::as_bytes(agent)].concat()));
            let hashes: Vec<String> = agents.iter().map(hash).collect();
            let first = if hashes[0] > hashes[1] { agents[0] } else { agents[1] };
            assert_eq!(in_order_for(&account, agents.to_vec())[0], first, "{account}");
            let sub_id = serde_json::to_value(&account).unwrap();
            assert_eq!(serde_json::from_value::<Subject>(sub_id.clone()).unwrap(), account);
            json!({ "account": account.to_string(), "sub_id": sub_id, "hashed": hashed, "sha256": hashes, "first": first })
        })
        .collect();
    for agent in agents {
        assert!(rows.iter().any(|row| row["first"] == json!(agent)), "one agent has all accounts");
    }
    holds("accounts", &json!({ "agents": agents, "accounts": rows }));
}

#[test]
fn what_has_to_be_refused_is() {
    let keys = Keys::read();
    let sealed = read("sealed")["jwe"].as_str().unwrap().to_owned();
    let es256 = read("command")["jws_es256"].as_str().unwrap().to_owned();
    let file = refused::file(&keys, good, &sealed, &es256);
    for (object, _) in refused::TYPS {
        assert!(file.as_array().unwrap().iter().any(|row| row["object"] == *object), "no {object} that is refused");
    }
    holds("refused", &file);
}

#[test]
fn what_is_unusual_and_right_is_taken() {
    holds("accepted", &accepted::file(&Keys::read(), read("command")["jws_es256"].as_str().unwrap()));
}

#[test]
fn the_outcome_is_the_agents_answer_to_the_command() {
    let keys = Keys::read();
    let outcome = objects::outcome();
    let jws = outcome.sign(&keys.agent_signing).unwrap();
    holds("outcome", &signed(OUTCOME_TYP, &outcome, &jws));
    assert_eq!(Outcome::verify(&jws, keys.agent_signing.public(), &objects::command()).unwrap(), outcome);
}

#[test]
fn the_assertions_hold() {
    let keys = Keys::read();
    let agent = objects::agent_assertion();
    let jws = agent.sign(&keys.agent_signing).unwrap();
    holds("agent-assertion", &signed(AGENT_ASSERTION_TYP, &agent, &jws));
    let (parsed, _) = AgentAssertion::parse(&jws).unwrap();
    assert_eq!(AgentAssertion::verify(&parsed, keys.agent_signing.public(), RELAY, NOW).unwrap(), agent);

    let portal = objects::portal_assertion();
    let jws = portal.sign(&keys.portal).unwrap();
    let good = |jws: &str| {
        let verified = PortalAssertion::parse(jws)
            .and_then(|(j, _)| PortalAssertion::verify(&j, [&keys.portal_es256], RELAY, NOW));
        verified.is_ok_and(|p| p == portal)
    };
    let by_es256 = keep_or_make("portal-assertion", "jws_es256", good, || es256(PORTAL_ASSERTION_TYP, &portal));
    let mut file = signed(PORTAL_ASSERTION_TYP, &portal, &jws);
    file["jws_es256"] = by_es256.into();
    holds("portal-assertion", &file);
    let (parsed, _) = PortalAssertion::parse(&jws).unwrap();
    assert_eq!(PortalAssertion::verify(&parsed, [keys.portal.public()], RELAY, NOW).unwrap(), portal);
}

#[test]
fn the_proof_and_the_attestation_hold() {
    let keys = Keys::read();
    let proof = objects::proof(&keys);
    let jws = proof.sign(&keys.agent_signing).unwrap();
    holds("enrollment-proof", &signed(PROOF_TYP, &proof, &jws));
    assert_eq!(Proof::verify(&jws, &keys.agent(), RELAY, NOW).unwrap(), proof);

    let code = objects::enrolment_code(&keys);
    let attestation = Attestation::new(objects::tenant(), objects::agent(), &keys.agent());
    let jws = attestation.sign(code.invitation, code.secret.expose()).unwrap();
    let mut file = signed(ATTESTATION_TYP, &attestation, &jws);
    file["invitation"] = json!(code.invitation);
    file["secret"] = json!(code.secret);
    holds("attestation", &file);
    attestation.verify(&jws, code.invitation, code.secret.expose()).unwrap();
}

#[test]
fn the_rotations_and_the_acknowledgement_hold() {
    let keys = Keys::read();
    let agent = objects::agent_rotation(&keys);
    let jws = agent.sign(&keys.agent_signing).unwrap();
    holds("agent-rotation", &signed(AGENT_ROTATION_TYP, &agent, &jws));
    assert_eq!(AgentRotation::read(&jws).unwrap(), agent);
    agent.follows((&objects::agent(), Some(&objects::tenant()), RELAY), 0, &keys.agent()).unwrap();

    let portal = objects::portal_rotation(&keys);
    let jws = portal.sign(&keys.portal).unwrap();
    holds("portal-rotation", &signed(PORTAL_ROTATION_TYP, &portal, &jws));
    assert_eq!(PortalRotation::read(&jws).unwrap(), portal);

    let said = objects::acknowledgement(&keys);
    let jws = said.sign(&keys.agent_signing).unwrap();
    holds("acknowledgement", &signed(ACKNOWLEDGEMENT_TYP, &said, &jws));
    let who = (objects::agent(), &objects::tenant(), &objects::portal());
    assert_eq!(Acknowledgement::verify(&jws, [keys.agent_signing.public()], who).unwrap(), said);
}

#[test]
fn the_enrolment_code_is_read() {
    let code = objects::enrolment_code(&Keys::read());
    let text = code.to_text().unwrap().to_string();
    holds("enrolment-code", &json!({ "contents": code, "token_sha256": code.token.hash(), "code": text }));
    assert_eq!(text.parse::<EnrolmentCode>().unwrap(), code);
}

#[test]
fn every_frame_has_its_bytes() {
    let keys = Keys::read();
    let jws = read("command")["jws"].as_str().unwrap_or("").to_owned();
    let outcome = objects::outcome().sign(&keys.agent_signing).unwrap();
    let acknowledgement = objects::acknowledgement(&keys).sign(&keys.agent_signing).unwrap();
    let rotation = objects::portal_rotation(&keys).sign(&keys.portal).unwrap();
    let from_agent = objects::frames_from_agent(&outcome, &acknowledgement);
    let from_relay = objects::frames_from_relay(&jws, &rotation);
    let agents = from_agent.iter().map(|(kind, frame, meaning)| {
        let bytes = frame.clone().encode_frame();
        assert_eq!(&FromAgent::decode(&bytes).unwrap(), frame);
        json!({ "from": "agent", "kind": kind, "meaning": meaning, "hex": hex(&bytes) })
    });
    let relays = from_relay.iter().map(|(kind, frame, meaning)| {
        let bytes = frame.clone().encode_frame();
        assert_eq!(&FromRelay::decode(&bytes).unwrap(), frame);
        json!({ "from": "relay", "kind": kind, "meaning": meaning, "hex": hex(&bytes) })
    });
    let all: Vec<Value> = agents.chain(relays).collect();
    holds("frames", &json!(all));
}

#[test]
fn no_object_passes_for_another() {
    let keys = Keys::read();
    let portal: &SigningKey = &keys.portal;
    let command = objects::command().sign(portal).unwrap();
    for typ in [OUTCOME_TYP, AGENT_ASSERTION_TYP, PORTAL_ASSERTION_TYP, PROOF_TYP, ATTESTATION_TYP] {
        assert!(Jws::parse(&command, typ).is_err(), "{typ}");
    }
}
