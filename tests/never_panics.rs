//! Whatever bytes come in, decoding gives a value or an error, and never panics.
//!
//! Random bytes alone stop at the first check, so each property also starts from a genuine object and damages it.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::Value;
use writeback_relay::clock::System;
use writeback_relay::protocol::api::{AgentList, CommandView, Enrollment, NewInvitation, PreflightReport};
use writeback_relay::protocol::assertion::{AgentAssertion, PortalAssertion};
use writeback_relay::protocol::command::{Command, Subject};
use writeback_relay::protocol::enrollment::{Attestation, Proof};
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::frame::{FromAgent, FromRelay};
use writeback_relay::protocol::jose::{PublicKey, SealingKey, SigningKey, Thumbprint};
use writeback_relay::protocol::json;
use writeback_relay::protocol::limits::MAX_FRAME_BYTES;
use writeback_relay::protocol::outcome::Outcome;
use writeback_relay::protocol::rotation::{Acknowledgement, AgentRotation, PortalRotation};
use writeback_relay::protocol::sealed::{open_for, seal_for};

use crate::vectors::objects::{self, IAT, Keys, RELAY};

static KEYS: LazyLock<Keys> = LazyLock::new(Keys::read);

/// Any text, and genuine ones with some bytes replaced, taken out, or put in twice.
fn damaged(genuine: Vec<String>) -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..3_u8, any::<char>());
    let edited = (prop::sample::select(genuine), prop::collection::vec(edit, 0..4)).prop_map(|(text, edits)| {
        let mut chars: Vec<char> = text.chars().collect();
        for (at, how, with) in edits.into_iter().filter(|_| !text.is_empty()) {
            let at = at.index(chars.len().max(1)).min(chars.len().saturating_sub(1));
            match how {
                0 => chars[at] = with,
                1 if chars.len() > 1 => drop(chars.remove(at)),
                _ => chars.insert(at, chars[at]),
            }
        }
        chars.into_iter().collect()
    });
    prop_oneof![1 => any::<String>(), 4 => edited]
}

/// The three parts of a JWS, each of any content, so that what stands behind base64url is reached too.
fn any_jws() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<Vec<u8>>(),
        Just(b"{}".to_vec()),
        Just(br#"{"alg":"EdDSA","typ":"writeback-command+jwt","kid":""}"#.to_vec()),
        Just(br#"{"iat":-9223372036854775808,"exp":9223372036854775807}"#.to_vec()),
    ];
    prop::collection::vec(part, 1..6).prop_map(|parts| {
        let parts: Vec<String> = parts.iter().map(|p| writeback_relay::protocol::jose::base64url(p)).collect();
        parts.join(".")
    })
}

static TOKENS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let code = objects::enrolment_code(&KEYS);
    let attestation = Attestation::new(objects::tenant(), objects::agent(), &KEYS.agent());
    vec![
        objects::command().sign(&KEYS.portal).unwrap(),
        objects::outcome().sign(&KEYS.agent_signing).unwrap(),
        objects::agent_assertion().sign(&KEYS.agent_signing).unwrap(),
        objects::portal_assertion().sign(&KEYS.portal).unwrap(),
        objects::proof(&KEYS).sign(&KEYS.agent_signing).unwrap(),
        attestation.sign(code.invitation, code.secret.expose()).unwrap(),
        objects::agent_rotation(&KEYS).sign(&KEYS.agent_signing).unwrap(),
        objects::portal_rotation(&KEYS).sign(&KEYS.portal).unwrap(),
        objects::acknowledgement(&KEYS).sign(&KEYS.agent_signing).unwrap(),
    ]
});

static JWE: LazyLock<String> =
    LazyLock::new(|| seal_for(&objects::command(), &objects::secrets(), KEYS.agent_sealing.public(), &System).unwrap());

fn every_jws(token: &str) {
    let (portal, agent) = (KEYS.portal.public(), KEYS.agent_signing.public());
    if let Ok(jws) = Command::parse(token) {
        let _ = jws.unverified::<Command>();
        let _ = Command::verify(&jws, [portal, &KEYS.portal_es256]);
    }
    if let Ok(jws) = Outcome::parse(token) {
        let _ = jws.unverified::<Outcome>();
    }
    let _ = Outcome::verify(token, agent, &objects::command());
    if let Ok((jws, _)) = AgentAssertion::parse(token) {
        let _ = AgentAssertion::verify(&jws, agent, RELAY, IAT);
    }
    if let Ok((jws, _)) = PortalAssertion::parse(token) {
        let _ = PortalAssertion::verify(&jws, [portal, &KEYS.portal_es256], RELAY, IAT);
    }
    let _ = Proof::verify(token, &KEYS.agent(), RELAY, IAT);
    let code = objects::enrolment_code(&KEYS);
    let attestation = Attestation::new(objects::tenant(), objects::agent(), &KEYS.agent());
    let _ = attestation.verify(token, code.invitation, code.secret.expose());
    let _ = AgentRotation::read(token);
    let _ = PortalRotation::read(token);
    let who = (objects::agent(), &objects::tenant(), &objects::portal());
    let _ = Acknowledgement::verify(token, [agent], who);
}

fn every_json(text: &str) {
    let _ = json::read::<Subject>(text.as_bytes());
    let _ = json::read::<PublicKey>(text.as_bytes());
    let _ = json::read::<Command>(text.as_bytes());
    let _ = json::read::<Outcome>(text.as_bytes());
    let _ = json::read::<AgentList>(text.as_bytes());
    let _ = json::read::<CommandView>(text.as_bytes());
    let _ = json::read::<Enrollment>(text.as_bytes());
    let _ = json::read::<NewInvitation>(text.as_bytes());
    let _ = SigningKey::from_jwk(text);
    let _ = SealingKey::from_jwk(text);
}

fn some_json() -> Vec<String> {
    let keys: Value = serde_json::from_str(include_str!("vectors/keys.json")).unwrap();
    let mut texts: Vec<String> = keys.as_object().unwrap().values().map(Value::to_string).collect();
    texts.push(serde_json::to_string(&objects::command()).unwrap());
    texts.push(serde_json::to_string(&objects::command().sub_id).unwrap());
    texts.push(serde_json::to_string(&objects::outcome()).unwrap());
    texts.push(serde_json::to_string(KEYS.agent_sealing.public()).unwrap());
    texts.push(r#"{"format":"opaque","id":"6f2c1a52-1b7f-4d5e-9a53-0c9d2f1f0a11"}"#.to_owned());
    texts
}

fn some_frames() -> Vec<Vec<u8>> {
    let agents =
        objects::frames_from_agent(&TOKENS[1], &TOKENS[1]).into_iter().map(|(_, frame, _)| frame.encode_frame());
    let relays =
        objects::frames_from_relay(&TOKENS[0], &TOKENS[0]).into_iter().map(|(_, frame, _)| frame.encode_frame());
    agents.chain(relays).collect()
}

fn damaged_frame() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let edited = (prop::sample::select(some_frames()), edits, any::<prop::sample::Index>(), any::<bool>());
    let edited = edited.prop_map(|(mut bytes, edits, end, cut)| {
        for (at, with) in edits {
            let at = at.index(bytes.len());
            bytes[at] = with;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        bytes
    });
    prop_oneof![1 => prop::collection::vec(any::<u8>(), 0..MAX_FRAME_BYTES + 64), 4 => edited]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_frame(bytes in damaged_frame()) {
        if let Ok(FromAgent::Preflight(report)) = FromAgent::decode(&bytes) {
            let _ = PreflightReport::from(report).worst();
        }
        let _ = FromRelay::decode(&bytes);
    }

    #[test]
    fn a_frame_over_the_limit_is_refused(extra in 1..64_usize) {
        prop_assert!(FromAgent::decode(&vec![0; MAX_FRAME_BYTES + extra]).is_err());
    }

    #[test]
    fn a_jws_of_any_kind(token in prop_oneof![damaged(TOKENS.clone()), any_jws()]) {
        every_jws(&token);
    }

    #[test]
    fn a_jwe(token in prop_oneof![damaged(vec![JWE.clone()]), any_jws()]) {
        let _ = KEYS.agent_sealing.open(&token);
        let command = Command { sealed: Some(token), ..objects::command() };
        let _ = open_for(&command, &KEYS.agent_sealing);
    }

    #[test]
    fn what_stands_inside_a_jwe(plaintext in any::<Vec<u8>>()) {
        let recipient = KEYS.agent_sealing.public();
        let jwe = writeback_relay::protocol::jose::seal(&plaintext, recipient, &System).unwrap();
        let command = Command { sealed: Some(jwe), ..objects::command() };
        prop_assert!(open_for(&command, &KEYS.agent_sealing).is_err());
    }

    #[test]
    fn an_enrolment_code(text in damaged(vec![objects::enrolment_code(&KEYS).to_text().unwrap().to_string()])) {
        let _ = text.parse::<EnrolmentCode>();
    }

    #[test]
    fn keys_subjects_and_bodies(text in damaged(some_json())) {
        every_json(&text);
        let _ = text.parse::<Thumbprint>();
    }

    #[test]
    fn what_people_type_for_a_user(text in damaged(vec!["jürgen@corp.example".to_owned(), "{6F2C}".to_owned()])) {
        if let Ok(subject) = Subject::from_text(&text) {
            // What is taken survives the wire.
            let json = serde_json::to_string(&subject).unwrap();
            prop_assert_eq!(json::read::<Subject>(json.as_bytes()).unwrap(), subject);
        }
    }
}
