//! What is refused for its form alone: JSON that another reader may take for something else, and keys and signatures that
//! are none.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::agreement::{ECDH_P256, PrivateKey, UnparsedPublicKey, agree};
use aws_lc_rs::{hmac, kdf};
use serde::Serialize;
use serde_json::{Value, json};
use writeback_relay::protocol::assertion::{AGENT_ASSERTION_TYP, PORTAL_ASSERTION_TYP};
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Operation, Options};
use writeback_relay::protocol::enrollment::{ATTESTATION_TYP, Attestation, PROOF_TYP};
use writeback_relay::protocol::jose::{PublicKey, base64url, from_base64url, sha256};
use writeback_relay::protocol::outcome::OUTCOME_TYP;
use writeback_relay::protocol::rotation::{
    ACKNOWLEDGEMENT_TYP, AGENT_ROTATION_TYP, PORTAL_ROTATION_TYP, PortalKey, PortalRotation, ROTATION_PROOF_TYP,
};

use super::objects::{self, Keys, hex, private_jwk};
use super::readers::read;
use super::refused::{Bad, header, kid, raw};

/// The members of an object: a name, and a value as it stands.
#[derive(Clone)]
pub(super) struct Members(Vec<(String, String)>);

impl Members {
    pub(super) fn of(object: &impl Serialize) -> Self {
        let object = serde_json::to_value(object).unwrap();
        Self(object.as_object().unwrap().iter().map(|(name, value)| (name.clone(), value.to_string())).collect())
    }

    fn with(&self, name: &str, value: &str) -> Self {
        let mut members = self.clone();
        match members.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => members.0.push((name.to_owned(), value.to_owned())),
        }
        members
    }

    fn twice(&self, name: &str) -> Self {
        let mut members = self.clone();
        let member = self.0.iter().find(|(known, _)| known == name).unwrap().clone();
        members.0.push(member);
        members
    }

    fn text(&self) -> String {
        let members: Vec<String> = self.0.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
        format!("{{{}}}", members.join(","))
    }

    fn as_array(&self) -> String {
        let values: Vec<&str> = self.0.iter().map(|(_, value)| &**value).collect();
        format!("[{}]", values.join(","))
    }
}

/// One thing wrong with any JSON object.
fn faults(good: &Members) -> Vec<(&'static str, String)> {
    let first = good.0[0].0.clone();
    let deep = format!("{}{}", "[".repeat(16), "]".repeat(16));
    vec![
        ("an array of its values in place of the object", good.as_array()),
        ("a listed name twice, with the same value", good.twice(&first).text()),
        ("a name that is not listed twice", good.with("x", "1").twice("x").text()),
        ("a name twice in an object that is not listed", good.with("x", r#"[{"a":1,"a":2}]"#).text()),
        ("null where a value has to be", good.with(&first, "null").text()),
        ("half a surrogate pair in a member that is not listed", good.with("x", r#""\ud83d""#).text()),
        ("deeper than 16, in a member that is not listed", good.with("x", &deep).text()),
        ("something behind the object", format!("{}{{}}", good.text())),
    ]
}

/// The other spellings of a number.
fn numbers(good: &Members, name: &str) -> Vec<(&'static str, String)> {
    let value = &good.0.iter().find(|(known, _)| known == name).unwrap().1;
    vec![
        ("a time, or a number, with a fraction of zero", good.with(name, &format!("{value}.0")).text()),
        ("a time, or a number, with an exponent", good.with(name, &format!("{value}e0")).text()),
        ("a time, or a number, that is text", good.with(name, &format!("\"{value}\"")).text()),
        ("a time, or a number, of 2^53", good.with(name, "9007199254740992").text()),
        ("a time, or a number, that is minus zero", good.with(name, "-0").text()),
    ]
}

type Sign = Box<dyn Fn(&str, &str) -> String>;

/// Each kind of JWS, signed, with every fault in its header and in its claims.
fn signed(keys: &Keys) -> Vec<Bad> {
    let unlock = Command { operation: Operation::UnlockAccount, options: Options::default(), ..objects::command() };
    let code = objects::enrolment_code(keys);
    let by = |key: &'static str| -> Sign { Box::new(move |header: &str, claims: &str| raw(key, header, claims)) };
    let secret = *code.secret.expose();
    let by_secret: Sign = Box::new(move |header: &str, claims: &str| {
        let input = format!("{}.{}", base64url(header.as_bytes()), base64url(claims.as_bytes()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), input.as_bytes());
        format!("{input}.{}", base64url(tag.as_ref()))
    });
    let hs256 = header(ATTESTATION_TYP, &code.invitation.to_string()).replace("EdDSA", "HS256");
    let attestation = Attestation::new(objects::tenant(), objects::agent(), &keys.agent());
    let ours = |typ, key| header(typ, &kid(keys, key));
    let kinds: Vec<(&'static str, String, Members, Option<&'static str>, Sign)> = vec![
        ("command", ours(COMMAND_TYP, "portal"), Members::of(&unlock), Some("iat"), by("portal")),
        (
            "outcome",
            ours(OUTCOME_TYP, "agent_signing"),
            Members::of(&objects::outcome()),
            Some("directory_ms"),
            by("agent_signing"),
        ),
        (
            "agent-assertion",
            ours(AGENT_ASSERTION_TYP, "agent_signing"),
            Members::of(&objects::agent_assertion()),
            Some("exp"),
            by("agent_signing"),
        ),
        (
            "portal-assertion",
            ours(PORTAL_ASSERTION_TYP, "portal"),
            Members::of(&objects::portal_assertion()),
            Some("exp"),
            by("portal"),
        ),
        (
            "enrollment-proof",
            ours(PROOF_TYP, "agent_signing"),
            Members::of(&objects::proof(keys)),
            Some("exp"),
            by("agent_signing"),
        ),
        ("attestation", hs256, Members::of(&attestation), None, by_secret),
        (
            "agent-rotation",
            ours(AGENT_ROTATION_TYP, "agent_signing"),
            Members::of(&objects::agent_rotation(keys)),
            Some("seq"),
            by("agent_signing"),
        ),
        (
            "portal-rotation",
            ours(PORTAL_ROTATION_TYP, "portal"),
            Members::of(&objects::portal_rotation(keys)),
            Some("seq"),
            by("portal"),
        ),
        (
            "acknowledgement",
            ours(ACKNOWLEDGEMENT_TYP, "agent_signing"),
            Members::of(&objects::acknowledgement(keys)),
            Some("seq"),
            by("agent_signing"),
        ),
    ];
    let mut rows = Vec::new();
    for (object, header, claims, number, sign) in kinds {
        assert_eq!(read(keys, object, &sign(&header, &claims.text())), Ok(()), "{object}");
        let parameters = Members::of(&serde_json::from_str::<Value>(&header).unwrap());
        let header_faults = faults(&parameters).into_iter().map(|(why, text)| (format!("header: {why}"), text));
        for (why, text) in header_faults.chain([
            ("header: crit null".to_owned(), parameters.with("crit", "null").text()),
            ("header: kid null".to_owned(), parameters.with("kid", "null").text()),
        ]) {
            rows.push(Bad(object, why.leak(), sign(&text, &claims.text())));
        }
        let numbers = number.map(|name| numbers(&claims, name)).unwrap_or_default();
        for (why, text) in faults(&claims).into_iter().chain(numbers) {
            rows.push(Bad(object, format!("claims: {why}").leak(), sign(&header, &text)));
        }
    }
    rows
}

/// What only some objects have.
fn claims(keys: &Keys) -> Vec<Bad> {
    let unlock = Command { operation: Operation::UnlockAccount, options: Options::default(), ..objects::command() };
    let unlock = Members::of(&unlock);
    let command = |why, name, value| {
        Bad("command", why, raw("portal", &header(COMMAND_TYP, &kid(keys, "portal")), &unlock.with(name, value).text()))
    };
    let outcome = |why, name, value| {
        let claims = Members::of(&objects::outcome()).with(name, value).text();
        Bad("outcome", why, raw("agent_signing", &header(OUTCOME_TYP, &kid(keys, "agent_signing")), &claims))
    };
    let rotation = Members::of(&objects::portal_rotation(keys));
    let portal = |why, name, value: &str| {
        let claims = rotation.with(name, value).text();
        Bad("portal-rotation", why, raw("portal", &header(PORTAL_ROTATION_TYP, &kid(keys, "portal")), &claims))
    };
    let next = serde_json::to_value(keys.portal_next.public()).unwrap();
    let with_d = json!({ "signing_key": next }).to_string().replace("}}", r#","d":null}}"#);
    let as_array = json!([next["kty"], next["crv"], next["x"]]).to_string();
    vec![
        command("options as an array: [true] would be unlock", "options", "[true]"),
        command("options with a name twice", "options", r#"{"unlock":false,"unlock":false}"#),
        command("an option null", "options", r#"{"unlock":null}"#),
        command("operation as an object with that name", "operation", r#"{"unlock_account":null}"#),
        command("sub_id as an array", "sub_id", r#"["account","acct:j%C3%BCrgen@corp.example"]"#),
        command("sealed null, and not absent", "sealed", "null"),
        outcome("status as an object with that name", "status", r#"{"succeeded":null}"#),
        outcome("retry_at null, and not absent", "retry_at", "null"),
        outcome("hindrances null, and not absent", "hindrances", "null"),
        outcome("hindrances as a text", "hindrances", r#""locked""#),
        outcome("a hindrance as an object with that name", "hindrances", r#"[{"locked":null}]"#),
        outcome("event_id of 2^32", "event_id", "4294967296"),
        outcome("event_id below zero", "event_id", "-1"),
        portal("tenant null, and not absent", "tenant", "null"),
        portal("keys as an array", "keys", &format!("[{next}]")),
        portal("a key as an array", "keys", &format!(r#"{{"signing_key":{as_array}}}"#)),
        portal("a key with d null", "keys", &with_d),
        Bad("portal-rotation", "to a key of small order, with a proof that nobody has signed", forged(keys)),
    ]
}

/// With the neutral point as key, this signature fits whatever is signed.
fn forged(keys: &Keys) -> String {
    let mut neutral = [0; 32];
    neutral[0] = 1;
    let key = PublicKey::Ed25519 { x: neutral };
    let good = objects::portal_rotation(keys);
    let proof = json!({
        "iss": good.iss, "aud": good.aud, "jti": good.jti, "seq": good.seq,
        "previous": [good.previous.signing.thumbprint()], "keys": [key.thumbprint()],
    });
    let header = header(ROTATION_PROOF_TYP, key.thumbprint().as_str());
    let signature = [neutral, [0; 32]].concat();
    let (header, proof) = (base64url(header.as_bytes()), base64url(proof.to_string().as_bytes()));
    let proof = format!("{header}.{proof}.{}", base64url(&signature));
    PortalRotation { keys: PortalKey { signing: key }, proof, ..good }.sign(&keys.portal).unwrap()
}

/// The order of Ed25519's base point, and of P-256's.
const ED25519_ORDER: &str = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
const P256_ORDER: &str = "ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551";

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// `n - s`, for a signature of ES256: the other one that fits.
pub(super) fn other_s(jws: &str) -> String {
    let (input, signature) = jws.rsplit_once('.').unwrap();
    let signature = from_base64url(signature).unwrap();
    let (r, s) = signature.split_at(32);
    let (mut other, mut borrow) = (unhex(P256_ORDER), 0);
    for (to, from) in other.iter_mut().zip(s).rev() {
        let difference = i16::from(*to) - i16::from(*from) - borrow;
        borrow = i16::from(difference < 0);
        *to = u8::try_from(difference.rem_euclid(256)).unwrap();
    }
    format!("{input}.{}", base64url(&[r, &other].concat()))
}

fn signatures(keys: &Keys, es256: &str) -> Vec<Bad> {
    let unlock = Command { operation: Operation::UnlockAccount, options: Options::default(), ..objects::command() };
    let good = unlock.sign(&keys.portal).unwrap();
    let with = |jws: &str, signature: &[u8]| format!("{}.{}", jws.rsplit_once('.').unwrap().0, base64url(signature));
    let parts = |jws: &str| from_base64url(jws.rsplit_once('.').unwrap().1).unwrap();
    let mut malleable = parts(&good);
    let mut carry = 0_u16;
    for (to, from) in malleable[32..].iter_mut().zip(unhex(ED25519_ORDER)) {
        let sum = u16::from(*to) + u16::from(from) + carry;
        (*to, carry) = (u8::try_from(sum & 0xff).unwrap(), sum >> 8);
    }
    let (p256, order) = (parts(es256), unhex(P256_ORDER));
    let (r, s) = p256.split_at(32);
    let der = [&[0x30, 0x46, 0x02, 0x21, 0], r, &[0x02, 0x21, 0], s].concat();
    let bad = |why, text| Bad("command", why, text);
    vec![
        bad("signature: S and the order of the base point more (RFC 8032 §5.1.7)", with(&good, &malleable)),
        bad("signature: a byte less", with(&good, &parts(&good)[..63])),
        bad("signature: a byte more", with(&good, &[&parts(&good)[..], &[0]].concat())),
        bad("signature of ES256: r is 0", with(es256, &[&[0; 32], s].concat())),
        bad("signature of ES256: s is 0", with(es256, &[r, &[0; 32]].concat())),
        bad("signature of ES256: r is the order", with(es256, &[&order, s].concat())),
        bad("signature of ES256: s is the order", with(es256, &[r, &order].concat())),
        bad("signature of ES256: a byte less", with(es256, &p256[..63])),
        bad("signature of ES256: as DER", with(es256, &der)),
    ]
}

/// A JWE to the agent with any header and any plaintext; its ephemeral key is the portal's of P-256, always.
fn jwe(keys: &Keys, header: &str, plaintext: &str) -> String {
    let d = from_base64url(private_jwk("portal_es256")["d"].as_str().unwrap()).unwrap();
    let private = PrivateKey::from_private_key(&ECDH_P256, &d).unwrap();
    let peer = UnparsedPublicKey::new(&ECDH_P256, keys.agent_sealing.public().as_bytes().to_vec());
    let info = [&7_u32.to_be_bytes()[..], b"A256GCM", &[0; 8], &256_u32.to_be_bytes()].concat();
    let mut key = [0; 32];
    agree(&private, peer, (), |shared| {
        let sha256 = kdf::get_sskdf_digest_algorithm(kdf::SskdfDigestAlgorithmId::Sha256).unwrap();
        kdf::sskdf_digest(sha256, shared, &info, &mut key).map_err(drop)
    })
    .unwrap();
    let (protected, mut text) = (base64url(header.as_bytes()), plaintext.as_bytes().to_vec());
    let cipher = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
    let nonce = Nonce::assume_unique_for_key([7; 12]);
    let tag = cipher.seal_in_place_separate_tag(nonce, Aad::from(protected.as_bytes()), &mut text).unwrap();
    format!("{protected}..{}.{}.{}", base64url(&[7; 12]), base64url(&text), base64url(tag.as_ref()))
}

fn sealed(keys: &Keys) -> Vec<Bad> {
    let command = |sealed: String| Command { sealed: Some(sealed), ..objects::command() }.sign(&keys.portal).unwrap();
    let epk = serde_json::to_value(&keys.portal_es256).unwrap();
    let kid = keys.agent_sealing.kid();
    let header = Members::of(&json!({ "alg": "ECDH-ES", "enc": "A256GCM", "kid": kid, "epk": epk }));
    let of = objects::command();
    let text = Members::of(&json!({
        "new_password": objects::PASSWORD, "jti": of.jti, "iss": of.iss, "aud": of.aud, "sub_id": of.sub_id,
        "operation": of.operation,
    }));
    assert_eq!(read(keys, "command", &command(jwe(keys, &header.text(), &text.text()))), Ok(()));
    let with_epk = |epk: &Value| header.with("epk", &epk.to_string()).text();
    let mut headers = faults(&header);
    headers.extend([
        ("crit null", header.with("crit", "null").text()),
        ("zip null", header.with("zip", "null").text()),
        ("apu null", header.with("apu", "null").text()),
        ("apv as a number", header.with("apv", "0").text()),
        ("kid null", header.with("kid", "null").text()),
        ("epk as an array", with_epk(&json!(["EC", "P-256", epk["x"], epk["y"]]))),
        ("epk with d null", header.with("epk", &epk.to_string().replace('}', r#","d":null}"#)).text()),
        ("epk with x twice", {
            header.with("epk", &epk.to_string().replace('}', &format!(r#","x":{}}}"#, epk["x"]))).text()
        }),
        ("epk not on the curve", with_epk(&json!({"kty":"EC","crv":"P-256","x":epk["x"],"y":epk["x"]}))),
        ("epk of Ed25519", with_epk(&serde_json::to_value(keys.portal.public()).unwrap())),
    ]);
    let mut texts = faults(&text);
    texts.extend([
        ("current_password null, and not absent", text.with("current_password", "null").text()),
        ("operation as an object with that name", text.with("operation", r#"{"reset_password":null}"#).text()),
        ("sub_id as an array", text.with("sub_id", r#"["account","acct:j%C3%BCrgen@corp.example"]"#).text()),
    ]);
    let headers = headers.into_iter().map(|(why, header)| (format!("sealed, header: {why}"), header, text.text()));
    let texts = texts.into_iter().map(|(why, text)| (format!("sealed, plaintext: {why}"), header.text(), text));
    headers
        .chain(texts)
        .map(|(why, header, text)| Bad("command", why.leak(), command(jwe(keys, &header, &text))))
        .collect()
}

fn codes_and_frames(keys: &Keys) -> Vec<Bad> {
    let code = |(why, text): (&str, String)| {
        let body = format!("wb1.{}", base64url(text.as_bytes()));
        let check = base64url(&sha256(body.as_bytes())[..9]);
        Bad("enrolment-code", format!("contents: {why}").leak(), format!("{body}.{check}"))
    };
    let frames = |object, first: Vec<u8>, second: Vec<u8>| {
        [
            Bad(object, "two frames in one message", hex(&[&first[..], &second].concat())),
            Bad(object, "the same frame twice in one message", hex(&[&first[..], &first].concat())),
        ]
    };
    let agents = objects::frames_from_agent("", "").into_iter().map(|(_, frame, _)| frame.encode_frame());
    let relays = objects::frames_from_relay("", "").into_iter().map(|(_, frame, _)| frame.encode_frame());
    let (agents, relays): (Vec<_>, Vec<_>) = (agents.collect(), relays.collect());
    let mut rows: Vec<Bad> = faults(&Members::of(&objects::enrolment_code(keys))).into_iter().map(code).collect();
    rows.extend(frames("frame from an agent", agents[1].clone(), agents[4].clone()));
    rows.extend(frames("frame from a relay", relays[2].clone(), relays[5].clone()));
    rows
}

fn keys_and_subjects(keys: &Keys) -> Vec<Bad> {
    let of = |key: &PublicKey| Members::of(&serde_json::to_value(key).unwrap());
    let (ed25519, p256) = (of(keys.portal.public()), of(&keys.portal_es256));
    let key = |why, text: String| Bad("public key", why, text);
    let x = |why, bytes: &[u8]| key(why, ed25519.with("x", &json!(base64url(bytes)).to_string()).text());
    let small = |low: u8| [&[low][..], &[0; 31]].concat();
    let near_p = |low: u8| [&[low][..], &[0xff; 30], &[0x7f]].concat();
    let of_order_8 = unhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05");
    let p_and_5 = unhex("ffffffff00000001000000000000000000000001000000000000000000000004");
    let y_of_5 = unhex("459243b9aa581806fe913bce99817ade11ca503c64d9a3c533415c083248fbcc");
    let padded = ed25519.0.iter().find(|(name, _)| name == "x").unwrap().1.replace("\"", "");
    let mut rows: Vec<Bad> = faults(&ed25519).into_iter().map(|(why, text)| key(why, text)).collect();
    rows.extend([
        key("d null", ed25519.with("d", "null").text()),
        key("y null, and not absent", ed25519.with("y", "null").text()),
        key("x with padding", ed25519.with("x", &format!("\"{padded}=\"")).text()),
        x("Ed25519: a byte less", &keys.portal.public().as_bytes()[..31]),
        x("Ed25519: not on the curve (y = 2)", &small(2)),
        x("Ed25519: the neutral point, with which anybody's signature fits", &small(1)),
        x("Ed25519: of order 4 (y = 0)", &small(0)),
        x("Ed25519: of order 8", &of_order_8),
        x("Ed25519: of order 2 (y = -1)", &near_p(0xec)),
        x("Ed25519: the neutral point, spelt p + 1", &near_p(0xee)),
        x("Ed25519: the neutral point, with the sign of a negative zero", &[&[1][..], &[0; 30], &[0x80]].concat()),
        x("Ed25519: y = 3, spelt p + 3", &near_p(0xf0)),
        key("P-256: x = 5, spelt p + 5", {
            let point = p256.with("x", &json!(base64url(&p_and_5)).to_string());
            point.with("y", &json!(base64url(&y_of_5)).to_string()).text()
        }),
        key("P-256: zeros for the point at infinity", {
            let zeros = json!(base64url(&[0; 32])).to_string();
            p256.with("x", &zeros).with("y", &zeros).text()
        }),
        key("P-256: a coordinate of 33 bytes", p256.with("x", &json!(base64url(&[0; 33])).to_string()).text()),
        key("P-256: y null", p256.with("y", "null").text()),
    ]);
    let upn = Members::of(&objects::command().sub_id);
    let guid = Members::of(&objects::change().sub_id);
    rows.extend(faults(&upn).into_iter().map(|(why, text)| Bad("sub_id", why, text)));
    rows.push(Bad("sub_id", "format as an object with that name", upn.with("format", r#"{"account":null}"#).text()));
    rows.push(Bad("sub_id", "uri null beside an id", guid.with("uri", "null").text()));
    rows
}

pub(super) fn rows(keys: &Keys, es256: &str) -> Vec<Bad> {
    let parts = [
        signed(keys),
        claims(keys),
        signatures(keys, es256),
        sealed(keys),
        codes_and_frames(keys),
        keys_and_subjects(keys),
    ];
    parts.into_iter().flatten().collect()
}
