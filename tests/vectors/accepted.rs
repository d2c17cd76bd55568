//! What looks unusual and has to be taken: a reader that refused it would shut out somebody who does nothing wrong.

use serde_json::{Value, json};
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Operation, Options};
use writeback_relay::protocol::jose::base64url;
use writeback_relay::protocol::outcome::{OUTCOME_TYP, Outcome};

use super::objects::{self, Keys, OBJECT_GUID};
use super::readers::read;
use super::refused::{header, kid, raw};
use super::strict::other_s;

/// `accepted.json`; each object in it was taken by our code. `es256` is the command, signed with P-256.
pub(super) fn file(keys: &Keys, es256: &str) -> Value {
    let unlock = Command { operation: Operation::UnlockAccount, options: Options::default(), ..objects::command() };
    let claims = serde_json::to_string(&unlock).unwrap();
    let ours = header(COMMAND_TYP, &kid(keys, "portal"));
    let command = |header: &str, claims: &str| raw("portal", header, claims);
    let deep = format!("{}1.5e300{}", "[".repeat(14), "]".repeat(14));
    let newer = serde_json::to_string(&objects::outcome()).unwrap().replace("password_reset", "password_blessed");
    let rows = [
        ("command", "members that are not listed, null and 16 deep among them", {
            command(&ours, &claims.replacen('{', &format!(r#"{{"nbf":null,"x":{{"jti":{deep}}},"":[null],"#), 1))
        }),
        ("command", "header parameters that are not listed", {
            command(&ours.replace('}', r#","cty":null,"x5c":["a"],"jwk":{"d":null}}"#), &claims)
        }),
        ("command", "white space wherever JSON has it", {
            let spaced = |json: &str| format!(" \r\n{}\t ", json.replace(',', " ,\n").replace("\":", "\" : "));
            command(&spaced(&ours), &spaced(&claims))
        }),
        ("command", "names and values with escapes", {
            command(&ours.replace("alg", r"\u0061lg"), &claims.replace("unlock_account", r"unlock\u005faccount"))
        }),
        ("command", "options absent", {
            let mut claims: Value = serde_json::from_str(&claims).unwrap();
            claims.as_object_mut().unwrap().remove("options");
            command(&ours, &claims.to_string())
        }),
        ("command", "by the portal's key of P-256, its s in the upper half", upper(es256)),
        ("command", "by the portal's key of P-256, its s in the lower half", other_s(&upper(es256))),
        ("outcome", "a code that is not known here", {
            raw("agent_signing", &header(OUTCOME_TYP, &kid(keys, "agent_signing")), &newer)
        }),
        ("outcome", "hindrances, one of which is not known here", {
            let hindered =
                Outcome { hindrances: Some(vec!["locked".into(), "of_a_newer_agent".into()]), ..objects::outcome() };
            hindered.sign(&keys.agent_signing).unwrap()
        }),
        ("outcome", "hindrances, none of them", {
            let free = Outcome { hindrances: Some(Vec::new()), ..objects::outcome() };
            free.sign(&keys.agent_signing).unwrap()
        }),
        ("outcome", "without the account, as agents send it that don't know that claim", {
            Outcome { account: None, ..objects::outcome() }.sign(&keys.agent_signing).unwrap()
        }),
        ("outcome", "an account of which only the objectGUID is told, with a member that is not known here", {
            let found = format!(r#""account":{{"object_guid":"{OBJECT_GUID}","sid":null}}"#);
            let claims = serde_json::to_value(Outcome { account: None, ..objects::outcome() }).unwrap().to_string();
            let claims = claims.replacen('{', &format!("{{{found},"), 1);
            raw("agent_signing", &header(OUTCOME_TYP, &kid(keys, "agent_signing")), &claims)
        }),
        ("public key", "of P-256, with members that are not listed", {
            let mut key = serde_json::to_value(&keys.portal_es256).unwrap();
            key["use"] = json!("sig");
            key["x5t"] = Value::Null;
            key.to_string()
        }),
        ("sub_id", "an objectGUID, with a member that is not listed", {
            let mut guid = serde_json::to_value(objects::change().sub_id).unwrap();
            guid["iss"] = json!("https://corp.example");
            guid.to_string()
        }),
        ("frame from an agent", "with a field beside the frame that is not known (field 100)", {
            let heartbeat = objects::frames_from_agent("", "").swap_remove(4).1.encode_frame();
            objects::hex(&[&heartbeat[..], &[0xa2, 0x06, 0]].concat())
        }),
    ];
    let rows = rows.into_iter().map(|(object, why, text)| {
        assert_eq!(read(keys, object, &text), Ok(()), "{object}, {why}");
        json!({ "object": object, "why": why, "text": text })
    });
    rows.collect()
}

/// The one of the two signatures that fit whose s is the greater.
fn upper(jws: &str) -> String {
    let s = |jws: &str| writeback_relay::protocol::jose::from_base64url(jws.rsplit_once('.').unwrap().1).unwrap();
    let other = other_s(jws);
    let greater = s(jws)[32..] > s(&other)[32..];
    assert_eq!(base64url(&s(jws)), jws.rsplit_once('.').unwrap().1);
    if greater { jws.to_owned() } else { other }
}
