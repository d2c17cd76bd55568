//! What has to be refused, and why: each object is the good one of the other files with one thing wrong.

use aws_lc_rs::signature::Ed25519KeyPair;
use serde::Serialize;
use serde_json::{Map, Value, json};
use writeback_relay::clock::UnixTime;
use writeback_relay::protocol::assertion::{AGENT_ASSERTION_TYP, AgentAssertion, PORTAL_ASSERTION_TYP};
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Operation};
use writeback_relay::protocol::enrollment::{ATTESTATION_TYP, AgentKeys, Attestation, PROOF_TYP, Proof};
use writeback_relay::protocol::jose::{Validity, base64url, from_base64url, sign_hs256};
use writeback_relay::protocol::outcome::OUTCOME_TYP;
use writeback_relay::protocol::rotation::{
    ACKNOWLEDGEMENT_TYP, AGENT_ROTATION_TYP, Acknowledgement, PORTAL_ROTATION_TYP, PortalRotation, Rotation,
};

use super::objects::{self, IAT, Keys, private_jwk};
use super::readers::read;
use super::strict;

/// An object, why it is refused, and its text.
pub(super) struct Bad(pub(super) &'static str, pub(super) &'static str, pub(super) String);

/// A JWS by this key of `keys.json`, with any header and any payload.
pub(crate) fn raw(key: &str, header: &str, payload: &str) -> String {
    let seed = from_base64url(private_jwk(key)["d"].as_str().unwrap()).unwrap();
    let input = format!("{}.{}", base64url(header.as_bytes()), base64url(payload.as_bytes()));
    let signature = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().sign(input.as_bytes());
    format!("{input}.{}", base64url(signature.as_ref()))
}

pub(crate) fn kid(keys: &Keys, key: &str) -> String {
    match key {
        "portal" => keys.portal.kid().to_string(),
        "portal_next" => keys.portal_next.kid().to_string(),
        "agent_signing" => keys.agent_signing.kid().to_string(),
        other => panic!("no {other}"),
    }
}

pub(crate) fn header(typ: &str, kid: &str) -> String {
    format!(r#"{{"alg":"EdDSA","typ":"{typ}","kid":"{kid}"}}"#)
}

/// Claims with something changed.
fn changed(claims: &impl Serialize, change: impl FnOnce(&mut Map<String, Value>)) -> String {
    let mut claims = serde_json::to_value(claims).unwrap();
    change(claims.as_object_mut().unwrap());
    claims.to_string()
}

fn set(name: &'static str, value: Value) -> impl FnOnce(&mut Map<String, Value>) {
    move |claims| drop(claims.insert(name.to_owned(), value))
}

/// The same bytes, spelt otherwise: the last character has bits that stand for nothing.
fn respelt(jws: &str) -> String {
    let last = jws.bytes().last().unwrap();
    assert!(last.is_ascii_alphabetic(), "the next letter stands for the next number");
    format!("{}{}", &jws[..jws.len() - 1], char::from(last + 1))
}

fn commands(keys: &Keys, sealed: &str) -> Vec<Bad> {
    let good = Command { sealed: Some(sealed.to_owned()), ..objects::command() };
    let (claims, kid) = (serde_json::to_string(&good).unwrap(), kid(keys, "portal"));
    let jws = good.sign(&keys.portal).unwrap();
    let (input, signature) = jws.rsplit_once('.').unwrap();
    let ours = header(COMMAND_TYP, &kid);
    let alg = |alg: &str| raw("portal", &ours.replace("EdDSA", alg), &claims);
    let says = |name, value| raw("portal", &ours, &changed(&good, set(name, value)));
    let bad = |why, text| Bad("command", why, text);
    let hs256 = {
        let unsigned = sign_hs256(COMMAND_TYP, &kid, &good, keys.portal.public().as_bytes().try_into().unwrap());
        unsigned.unwrap()
    };
    let unlock = Command { operation: Operation::UnlockAccount, ..good.clone() };
    let guid = json!({ "format": "opaque", "id": "6F2C1A52-1B7F-4D5E-9A53-0C9D2F1F0A11" });
    vec![
        bad("alg none, without a signature", format!("{}.", alg("none").rsplit_once('.').unwrap().0)),
        bad("alg HS256, with the public key as the secret", hs256),
        bad("alg Ed25519: that name is not taken", alg("Ed25519")),
        bad("alg ES256: it is not the key's", alg("ES256")),
        bad("crit", raw("portal", &ours.replace("}", r#","crit":["exp"],"exp":0}"#), &claims)),
        bad("the typ of an outcome", raw("portal", &header(OUTCOME_TYP, &kid), &claims)),
        bad("no kid", raw("portal", &ours.replace(&format!(r#","kid":"{kid}""#), ""), &claims)),
        bad("signed by a key that is not pinned", good.sign(&keys.portal_next).unwrap()),
        bad("another key's signature under the pinned kid", raw("portal_next", &ours, &claims)),
        bad("two alg", raw("portal", &ours.replace("{", r#"{"alg":"none","#), &claims)),
        bad("exp twice", raw("portal", &ours, &claims.replacen('{', r#"{"exp":1767225601,"#, 1))),
        bad("padding behind the signature", format!("{jws}==")),
        bad("another spelling of the same signature", respelt(&jws)),
        bad("a fourth part", format!("{jws}.{signature}")),
        bad("a changed claim under the old signature", {
            let head = input.split_once('.').unwrap().0;
            let payload = claims.replace("reset_password", "unlock_account");
            format!("{head}.{}.{signature}", base64url(payload.as_bytes()))
        }),
        bad("exp is not after iat", says("iat", json!(IAT.0 + 120))),
        bad("exp is 301 s after iat", says("exp", json!(IAT.0 + 301))),
        bad("exp has a fraction", says("exp", json!(1_767_225_720.5))),
        bad("no jti", raw("portal", &ours, &changed(&good, |claims| drop(claims.remove("jti"))))),
        bad("an id in upper case", says("jti", json!("019B76DA-A805-7000-8000-000000000001"))),
        bad("an operation that there is not", says("operation", json!("disable_account"))),
        bad("an option that there is not", says("options", json!({ "shutdown": true }))),
        bad("an option that is text", says("options", json!({ "unlock": "true" }))),
        bad("options null", says("options", Value::Null)),
        bad(
            "a reset without a password",
            raw("portal", &ours, &changed(&good, |claims| drop(claims.remove("sealed")))),
        ),
        bad("a reset whose password is null", says("sealed", Value::Null)),
        bad(
            "a change without a password",
            raw(
                "portal",
                &ours,
                &changed(&good, |claims| {
                    claims.insert("operation".to_owned(), json!("change_password"));
                    claims.remove("sealed");
                }),
            ),
        ),
        bad("an unlock with a password", unlock.sign(&keys.portal).unwrap()),
        bad("an objectGUID in upper case", says("sub_id", guid)),
        bad("a sealed password of another account", {
            says("sub_id", json!({ "format": "account", "uri": "acct:J%C3%BCrgen@corp.example" }))
        }),
        bad("a sealed password of another command", says("jti", json!("019b76da-a805-7000-8000-000000000002"))),
        bad("a sealed password with a changed byte", {
            let at = sealed.len() - 30;
            let other = if sealed.as_bytes()[at] == b'A' { "B" } else { "A" };
            says("sealed", format!("{}{other}{}", &sealed[..at], &sealed[at + 1..]).into())
        }),
    ]
}

fn outcomes(keys: &Keys) -> Vec<Bad> {
    let good = objects::outcome();
    let ours = header(OUTCOME_TYP, &kid(keys, "agent_signing"));
    let says = |name, value| raw("agent_signing", &ours, &changed(&good, set(name, value)));
    let bad = |why, text| Bad("outcome", why, text);
    vec![
        bad("by a key that is not pinned, though the relay may show it", good.sign(&keys.agent_signing_next).unwrap()),
        bad("of another agent", says("iss", json!("019b76da-a801-7000-8000-0000000000ff"))),
        bad("for another portal", says("aud", json!("portal-2"))),
        bad("of another tenant", says("tenant", json!("fabrikam"))),
        bad("about another command", says("command", json!("019b76da-a805-7000-8000-000000000002"))),
        bad("a status that there is not", says("status", json!("done"))),
        bad("an account whose objectGUID is in upper case", {
            says("account", json!({ "object_guid": objects::OBJECT_GUID.to_uppercase() }))
        }),
        bad("no retry_safe", raw("agent_signing", &ours, &changed(&good, |claims| drop(claims.remove("retry_safe"))))),
    ]
}

fn assertions(keys: &Keys) -> Vec<Bad> {
    let at = |from: i64, to: i64| Validity { iat: UnixTime(IAT.0 + from), exp: UnixTime(IAT.0 + to) };
    let agent = |why, change: fn(&mut AgentAssertion)| {
        let mut claims = objects::agent_assertion();
        change(&mut claims);
        Bad("agent-assertion", why, claims.sign(&keys.agent_signing).unwrap())
    };
    let timed = |why, validity| {
        let claims = AgentAssertion { validity, ..objects::agent_assertion() };
        Bad("agent-assertion", why, claims.sign(&keys.agent_signing).unwrap())
    };
    let portal = objects::portal_assertion().sign(&keys.portal).unwrap();
    let proof = objects::proof(keys);
    vec![
        timed("exp is now: it is over", at(-60, 0)),
        timed("iat is 61 s ahead", at(61, 121)),
        timed("exp is 301 s after iat", at(0, 301)),
        agent("aud has a slash at its end", |claims| claims.aud.push('/')),
        agent("sub is not iss", |claims| claims.sub = "019b76da-a801-7000-8000-0000000000ff".parse().unwrap()),
        Bad("agent-assertion", "it is a portal's", portal),
        Bad("portal-assertion", "it is an agent's", objects::agent_assertion().sign(&keys.agent_signing).unwrap()),
        Bad("enrollment-proof", "by another key than it is about", proof.sign(&keys.agent_signing_next).unwrap()),
        Bad("enrollment-proof", "about another sealing key", {
            let sealing_key = keys.agent_sealing_next.kid().clone();
            Proof { sealing_key, ..proof }.sign(&keys.agent_signing).unwrap()
        }),
    ]
}

fn attestations(keys: &Keys) -> Vec<Bad> {
    let (code, bad) = (objects::enrolment_code(keys), |why, text| Bad("attestation", why, text));
    let attested = |keys: &AgentKeys| Attestation::new(objects::tenant(), objects::agent(), keys);
    let ours = attested(&keys.agent());
    let by_key = raw("agent_signing", &header(ATTESTATION_TYP, &code.invitation.to_string()), &{
        serde_json::to_string(&ours).unwrap()
    });
    vec![
        bad("by another secret", ours.sign(code.invitation, &[0x23; 32]).unwrap()),
        bad("by the token, which the relay knows", ours.sign(code.invitation, code.token.expose()).unwrap()),
        bad("by the agent's key and not by the secret", by_key),
        bad(
            "about keys that the relay does not show, and no rotation leads on from",
            attested(&objects::agent_rotation(keys).keys).sign(code.invitation, code.secret.expose()).unwrap(),
        ),
        bad(
            "of another invitation",
            ours.sign("019b76da-a800-7000-8000-0000000000ff".parse().unwrap(), code.secret.expose()).unwrap(),
        ),
    ]
}

fn rotations(keys: &Keys) -> Vec<Bad> {
    let good = objects::agent_rotation(keys);
    let ours = header(AGENT_ROTATION_TYP, &kid(keys, "agent_signing"));
    let bad = |why, text| Bad("agent-rotation", why, text);
    let about = |seq: u64, keys_to: AgentKeys| {
        let about = objects::about(objects::agent(), Some(objects::tenant()));
        let made = Rotation::new(about, seq, keys.agent(), keys_to, &keys.agent_signing_next).unwrap();
        made.sign(&keys.agent_signing).unwrap()
    };
    let half = AgentKeys { sealing: keys.agent().sealing, ..good.keys.clone() };
    let opens_nothing = AgentKeys { sealing: keys.portal.public().clone(), ..good.keys.clone() };
    let elsewhere = PortalRotation { aud: "https://other.example".to_owned(), ..objects::portal_rotation(keys) };
    let said = objects::acknowledgement(keys);
    vec![
        bad("by the new key alone", good.sign(&keys.agent_signing_next).unwrap()),
        bad("the seq of the proof is another one", raw("agent_signing", &ours, &changed(&good, set("seq", json!(2))))),
        bad("seq 0, which is the enrolment's", about(0, good.keys.clone())),
        bad("it keeps the sealing key", about(1, half)),
        bad("its sealing key is not of P-256", about(1, opens_nothing)),
        bad("it leads on from keys that are not the pinned ones", {
            let about = objects::about(objects::agent(), Some(objects::tenant()));
            let made = Rotation::new(about, 2, good.keys.clone(), keys.agent(), &keys.agent_signing).unwrap();
            made.sign(&keys.agent_signing_next).unwrap()
        }),
        Bad("portal-rotation", "for another relay than its proof", elsewhere.sign(&keys.portal).unwrap()),
        Bad("portal-rotation", "it is an agent's", good.sign(&keys.agent_signing).unwrap()),
        Bad("acknowledgement", "to another portal", {
            Acknowledgement { aud: "portal-2".parse().unwrap(), ..said.clone() }.sign(&keys.agent_signing).unwrap()
        }),
        Bad("acknowledgement", "by a key that is not pinned", said.sign(&keys.agent_signing_next).unwrap()),
    ]
}

fn others(keys: &Keys) -> Vec<Bad> {
    let code = objects::enrolment_code(keys).to_text().unwrap().to_string();
    let frame = |who, why, hex: &str| Bad(who, why, hex.to_owned());
    let key = |why, text: Value| Bad("public key", why, text.to_string());
    let account = |why, uri: &str| Bad("sub_id", why, json!({ "format": "account", "uri": uri }).to_string());
    let (sealing, portal) = (private_jwk("agent_sealing"), private_jwk("portal"));
    vec![
        Bad("enrolment-code", "a letter is missing", code.replacen("eyJy", "eJy", 1)),
        Bad("enrolment-code", "of another form than wb1", code.replacen("wb1.", "wb2.", 1)),
        key("a private key", portal),
        key("a point that is not on the curve", {
            json!({ "kty": "EC", "crv": "P-256", "x": sealing["x"], "y": sealing["x"] })
        }),
        key("another curve", json!({ "kty": "OKP", "crv": "X25519", "x": sealing["x"] })),
        account("no @", "acct:jane"),
        account("nothing before the @", "acct:@corp.example"),
        account("no UTF-8", "acct:%FF@corp.example"),
        account("a control character", "acct:jane%00@corp.example"),
        account("another scheme", "mailto:jane@corp.example"),
        Bad("sub_id", "an objectGUID without hyphens", {
            json!({ "format": "opaque", "id": "6f2c1a521b7f4d5e9a530c9d2f1f0a11" }).to_string()
        }),
        frame("frame from an agent", "empty", ""),
        frame("frame from an agent", "of a kind that is not known (field 100)", "a20600"),
        frame("frame from an agent", "no Protobuf", "ffff"),
        frame("frame from a relay", "of a kind that is not known (field 100)", "a20600"),
    ]
}

/// `refused.json`; each object in it was refused by our code, and its good counterpart, by the same reader, was not.
pub(super) fn file(keys: &Keys, good: impl Fn(&str) -> String, sealed: &str, es256: &str) -> Value {
    let all = [
        commands(keys, sealed),
        outcomes(keys),
        assertions(keys),
        attestations(keys),
        rotations(keys),
        others(keys),
        strict::rows(keys, es256),
    ];
    let rows = all.into_iter().flatten().map(|Bad(object, why, text)| {
        assert!(read(keys, object, &text).is_err(), "{object}, {why}: it was taken");
        assert_eq!(read(keys, object, &good(object)), Ok(()), "{object}: the good one was refused");
        json!({ "object": object, "why": why, "text": text })
    });
    rows.collect()
}

/// The `typ`s that stand in the header of the signed ones, so that none is forgotten here.
pub(crate) const TYPS: &[(&str, &str)] = &[
    ("command", COMMAND_TYP),
    ("outcome", OUTCOME_TYP),
    ("agent-assertion", AGENT_ASSERTION_TYP),
    ("portal-assertion", PORTAL_ASSERTION_TYP),
    ("enrollment-proof", PROOF_TYP),
    ("attestation", ATTESTATION_TYP),
    ("agent-rotation", AGENT_ROTATION_TYP),
    ("portal-rotation", PORTAL_ROTATION_TYP),
    ("acknowledgement", ACKNOWLEDGEMENT_TYP),
];
