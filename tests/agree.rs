//! Relay, agent and portal are of one mind about every object: what one of them takes, nobody refuses.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use writeback_relay::protocol::api::{
    AgentList, AgentStatus, AgentView, Availability, CommandState, CommandView, Enrolled, Enrollment, Milestones,
    NewInvitation, PreflightReport, PreflightRow, PreflightState,
};
use writeback_relay::protocol::assertion::{AGENT_ASSERTION_TYP, PORTAL_ASSERTION_TYP};
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Operation};
use writeback_relay::protocol::enrollment::PROOF_TYP;
use writeback_relay::protocol::enrolment_code::EnrolmentCode;
use writeback_relay::protocol::jose::{PublicKey, Thumbprint, base64url};
use writeback_relay::protocol::json;
use writeback_relay::protocol::outcome::OUTCOME_TYP;
use writeback_relay::protocol::problem::{Problem, ProblemCode};
use writeback_relay::protocol::rotation::{
    ACKNOWLEDGEMENT_TYP, AGENT_ROTATION_TYP, Acknowledgement, PORTAL_ROTATION_TYP,
};
use writeback_relay::protocol::scope::{Scope, ServedDomain};

use crate::vectors::objects::{self, IAT};
use crate::vectors::readers::World;
use crate::vectors::refused::{TYPS, header, kid, raw};
use crate::vectors::{good, read};

/// What only one side can see: the relay verifies no signature of an agent for a portal, has no secret, and opens nothing.
fn is_hidden(object: &str, reader: &str, why: &str) -> bool {
    let hidden: &[&str] = match (object, reader) {
        ("command", "relay") => &["a sealed password", "sealed, "],
        ("outcome", "relay") => &["by a key that is not pinned", "for another portal"],
        ("attestation", "relay") => &[
            "by another secret",
            "by the token",
            "by the agent's key",
            "about keys that the relay does not show",
            "of another invitation",
        ],
        ("acknowledgement", "relay") => &["by a key that is not pinned", "to another portal"],
        _ => &[],
    };
    hidden.iter().any(|start| why.starts_with(start))
}

#[test]
fn what_has_to_be_refused_every_reader_refuses() {
    let world = World::new();
    let mut seen = 0;
    for row in read("refused").as_array().unwrap() {
        let text = |member: &str| row[member].as_str().unwrap();
        let (object, why) = (text("object"), text("why"));
        for (reader, verdict) in world.verdicts(object, text("text")) {
            let hidden = is_hidden(object, reader, why);
            assert_eq!(verdict.is_err(), !hidden, "{object}, {why}: {reader}: {verdict:?}");
            seen += usize::from(!hidden);
        }
    }
    assert!(seen > 500, "{seen} verdicts");
}

#[test]
fn what_is_right_every_reader_takes() {
    let world = World::new();
    let others = ["enrolment-code", "public key", "sub_id", "frame from an agent", "frame from a relay"];
    for object in TYPS.iter().map(|(object, _)| *object).chain(others) {
        for (reader, verdict) in world.verdicts(object, &good(object)) {
            assert_eq!(verdict, Ok(()), "{object}: {reader}");
        }
    }
    for row in read("accepted").as_array().unwrap() {
        let text = |member: &str| row[member].as_str().unwrap();
        for (reader, verdict) in world.verdicts(text("object"), text("text")) {
            assert_eq!(verdict, Ok(()), "{}, {}: {reader}", text("object"), text("why"));
        }
    }
}

/// A registry from before keys were looked at, with a portal and an agent whose key is the neutral point.
#[test]
fn a_key_of_small_order_that_a_store_kept_is_shown_and_verifies_nothing() {
    let (world, mut x) = (World::new(), [0; 32]);
    x[0] = 1;
    let weak = PublicKey::Ed25519 { x };
    let forged = |typ: &str, claims: &Value| {
        let header = header(typ, weak.thumbprint().as_str());
        let signature = base64url(&[&x[..], &[0; 32]].concat());
        format!("{}.{}.{signature}", base64url(header.as_bytes()), base64url(claims.to_string().as_bytes()))
    };
    let relay = World::with_keys(weak.clone());
    let (tenant, portal, agent) = (objects::tenant(), objects::portal(), objects::agent());
    assert_eq!(
        relay.registered(),
        (vec![weak.clone()], weak.clone()),
        "neither is lost, and the operator can end both"
    );
    for (object, typ, claims) in [
        ("command", COMMAND_TYP, json!(objects::command())),
        ("agent-assertion", AGENT_ASSERTION_TYP, json!(objects::agent_assertion())),
        ("portal-assertion", PORTAL_ASSERTION_TYP, json!(objects::portal_assertion())),
    ] {
        for (reader, verdict) in relay.verdicts(object, &forged(typ, &claims)).into_iter().skip(1) {
            let why = verdict.unwrap_err();
            assert!(why.contains("small order"), "{object}: {reader}: {why}");
        }
    }
    let said = objects::acknowledgement(&world.keys);
    let forged = forged(ACKNOWLEDGEMENT_TYP, &json!(said));
    let verified = Acknowledgement::verify(&forged, [&weak], (agent, &tenant, &portal));
    assert!(verified.is_err_and(|why| why.to_string().contains("small order")));
}

/// What is done to one value of an object.
#[derive(Clone, Debug)]
enum Change {
    /// An object's values in an array.
    Array,
    /// An object's member again.
    Twice(prop::sample::Index),
    /// `null` in place of the value.
    Null,
    /// A number, spelt otherwise.
    Number(&'static str),
    /// A text, within this.
    Wrapped(&'static str, &'static str),
    /// A point, in place of an Ed25519 key's.
    Point([u8; 32]),
    /// A member that nobody lists. It does no harm.
    Unlisted(Value),
}

fn any_change() -> impl Strategy<Value = Change> {
    let near_p = |low: u8| {
        let mut y = [0xff; 32];
        (y[0], y[31]) = (low, 0x7f);
        y
    };
    let low = |low: u8| {
        let mut y = [0; 32];
        y[0] = low;
        y
    };
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    let any_json = scalar.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
        ]
    });
    prop_oneof![
        Just(Change::Array),
        any::<prop::sample::Index>().prop_map(Change::Twice),
        Just(Change::Null),
        prop::sample::select(vec![".0", "e0", "E+0", "00000000000000000"]).prop_map(Change::Number),
        prop::sample::select(vec![("[", "]"), ("{", ":null}"), ("{\"x\":", "}")])
            .prop_map(|(a, b)| Change::Wrapped(a, b)),
        prop::sample::select(vec![low(0), low(1), low(2), near_p(0xec), near_p(0xed), near_p(0xee), near_p(0xf0)])
            .prop_map(Change::Point),
        any_json.prop_map(Change::Unlisted),
    ]
}

/// Whether a value can be changed so. `closed` objects have no member that is not listed.
fn takes(value: &Value, name: &str, change: &Change) -> bool {
    match change {
        Change::Array => value.is_object(),
        Change::Twice(_) => value.as_object().is_some_and(|members| !members.is_empty()),
        Change::Null => true,
        Change::Number(_) => value.is_u64(),
        Change::Wrapped(..) => value.is_string(),
        Change::Point(_) => value["crv"] == "Ed25519",
        Change::Unlisted(_) => value.is_object() && name != "options",
    }
}

/// The object as text, with the value at this place, counted among those that take it, changed; the text alone if none does.
fn written(value: &Value, name: &str, change: &Change, at: &mut usize) -> String {
    if takes(value, name, change) {
        if *at == 0 {
            *at = usize::MAX;
            return changed(value, change);
        }
        *at -= usize::from(*at != usize::MAX);
    }
    match value {
        Value::Object(members) => {
            let members =
                members.iter().map(|(name, value)| format!("{}:{}", json!(name), written(value, name, change, at)));
            format!("{{{}}}", members.collect::<Vec<_>>().join(","))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(|item| written(item, "", change, at)).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

fn changed(value: &Value, change: &Change) -> String {
    let text = value.to_string();
    let members = value.as_object().into_iter().flatten();
    match change {
        Change::Array => json!(members.map(|(_, value)| value).collect::<Vec<_>>()).to_string(),
        Change::Twice(which) => {
            let members: Vec<String> = members.map(|(name, value)| format!("{}:{value}", json!(name))).collect();
            format!("{{{},{}}}", members.join(","), which.get(&members))
        }
        Change::Null => "null".to_owned(),
        Change::Number(behind) => {
            // Zeros behind zero are no number at all.
            format!("{text}{behind}")
        }
        Change::Wrapped(before, behind) => format!("{before}{text}{behind}"),
        Change::Point(x) => {
            let mut key = value.clone();
            key["x"] = base64url(x).into();
            key.to_string()
        }
        Change::Unlisted(value) => {
            let comma = if text == "{}" { "" } else { "," };
            format!("{{\"not listed\":{value}{comma}{}", &text[1..])
        }
    }
}

fn places(value: &Value, name: &str, change: &Change) -> usize {
    let within: usize = match value {
        Value::Object(members) => members.iter().map(|(name, value)| places(value, name, change)).sum(),
        Value::Array(items) => items.iter().map(|item| places(item, "", change)).sum(),
        _ => 0,
    };
    within + usize::from(takes(value, name, change))
}

/// An object that is signed: how it is called, its header's `typ`, its key, and its claims.
fn signed(world: &World) -> Vec<(&'static str, &'static str, &'static str, Value)> {
    let keys = &world.keys;
    let unlock = Command { operation: Operation::UnlockAccount, options: Default::default(), ..objects::command() };
    vec![
        ("command", COMMAND_TYP, "portal", json!(unlock)),
        ("outcome", OUTCOME_TYP, "agent_signing", json!(objects::outcome())),
        ("agent-assertion", AGENT_ASSERTION_TYP, "agent_signing", json!(objects::agent_assertion())),
        ("portal-assertion", PORTAL_ASSERTION_TYP, "portal", json!(objects::portal_assertion())),
        ("enrollment-proof", PROOF_TYP, "agent_signing", json!(objects::proof(keys))),
        ("agent-rotation", AGENT_ROTATION_TYP, "agent_signing", json!(objects::agent_rotation(keys))),
        ("portal-rotation", PORTAL_ROTATION_TYP, "portal", json!(objects::portal_rotation(keys))),
        ("acknowledgement", ACKNOWLEDGEMENT_TYP, "agent_signing", json!(objects::acknowledgement(keys))),
    ]
}

/// What is not signed: bodies, answers, and what an enrolment code holds. `closed` ones have no unlisted member.
struct Body {
    name: &'static str,
    closed: bool,
    good: Value,
    read: fn(&[u8]) -> Result<(), String>,
}

fn reads<T: DeserializeOwned>(text: &[u8]) -> Result<(), String> {
    json::read::<T>(text).map(drop).map_err(|error| error.to_string())
}

/// As a portal does: an agent whose keys are none is shown, and not believed.
fn reads_agents(text: &[u8]) -> Result<(), String> {
    let list: AgentList = json::read(text).map_err(|error| error.to_string())?;
    list.agents.iter().try_for_each(|agent| agent.keys().check().map_err(|error| error.to_string()))
}

fn body<T: Serialize>(name: &'static str, good: T, read: fn(&[u8]) -> Result<(), String>) -> Body {
    Body { name, closed: false, good: serde_json::to_value(good).unwrap(), read }
}

fn bodies(world: &World) -> Vec<Body> {
    let (keys, code) = (&world.keys, objects::enrolment_code(&world.keys));
    let proof = objects::proof(keys);
    let jws = good("outcome");
    let row = PreflightRow {
        check: "bind".into(),
        target: "dc1".into(),
        state: PreflightState::Warning,
        detail: "slow".into(),
        remedy: "ask".into(),
        remedy_code: Some("set_clock".into()),
        scope: Some(Scope::new("corp.example", true, &[Operation::ResetPassword])),
    };
    let domain = ServedDomain { name: "corp.example".into(), upn_suffixes: vec!["corp.example".into()], units: 2 };
    let view = AgentView {
        agent: proof.iss,
        name: "host".into(),
        status: AgentStatus::Approved,
        online: true,
        version: Some("0.1.0".into()),
        enrolled_at: IAT,
        invitation: code.invitation,
        signing_key: keys.agent().signing,
        sealing_key: keys.agent().sealing,
        attestation: jws.clone(),
        preflight: Some(PreflightReport { checked_at: IAT, rows: vec![row], domains: vec![domain] }),
        rotations: vec![jws.clone()],
        acknowledgement: Some(jws.clone()),
        trusts_portal: Some(true),
    };
    let invitation = NewInvitation { id: code.invitation, token_sha256: code.token.hash(), expires_at: IAT };
    let enrollment = Enrollment {
        tenant: objects::tenant(),
        invitation: code.invitation,
        token: code.token.clone(),
        agent: proof.iss,
        journal: proof.journal,
        name: "host".into(),
        signing_key: keys.agent().signing,
        sealing_key: keys.agent().sealing,
        proof: jws.clone(),
        attestation: jws.clone(),
    };
    let enrolled = Enrolled {
        agent: proof.iss,
        status: AgentStatus::Pending,
        portal: objects::portal(),
        portal_keys: vec![keys.portal.public().clone()],
        portal_rotations: vec![jws.clone()],
    };
    let command = CommandView {
        command: objects::command().jti,
        agent: proof.iss,
        state: CommandState::Concluded,
        reason: Some("no_agent".into()),
        milestones: Milestones { accepted_at: Some(0.5), ..Milestones::default() },
        outcome: Some(jws),
        trace_id: "0".repeat(32).into(),
    };
    let available = Availability {
        available: false,
        reason: Some("no_agent".into()),
        agents: vec![proof.iss],
        degraded: true,
        operations: vec!["unlock_account".into()],
    };
    vec![
        Body { closed: true, ..body("invitation", invitation, reads::<NewInvitation>) },
        Body { closed: true, ..body("enrolment", enrollment, reads::<Enrollment>) },
        body("enrolled", enrolled, reads::<Enrolled>),
        body("agents", AgentList { agents: vec![view], next: None }, reads_agents),
        body("a command's state", command, reads::<CommandView>),
        body("availability", available, reads::<Availability>),
        body("problem", Problem::new(ProblemCode::NoAgent, "none", "0"), reads::<Problem>),
        body("contents of a code", code, reads::<EnrolmentCode>),
        body("key", keys.portal.public(), reads::<PublicKey>),
    ]
}

static SHARED: LazyLock<World> = LazyLock::new(World::new);

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 1024, ..ProptestConfig::default() })]

    #[test]
    fn a_changed_claim_is_refused_by_all_and_one_that_nobody_lists_by_none(
        which in any::<prop::sample::Index>(), change in any_change(), at in any::<prop::sample::Index>(),
    ) {
        let world = &*SHARED;
        let all = signed(world);
        let (object, typ, key, claims) = which.get(&all);
        let count = places(claims, "", &change);
        prop_assume!(count > 0);
        let claims = written(claims, "", &change, &mut at.index(count));
        let jws = raw(key, &header(typ, &kid(&world.keys, key)), &claims);
        let takes = matches!(change, Change::Unlisted(_));
        for (reader, verdict) in world.verdicts(object, &jws) {
            prop_assert_eq!(verdict.is_ok(), takes, "{}: {}: {:?}: {}", object, reader, verdict, claims);
        }
        if *object == "command" {
            prop_assert_eq!(world.sent_command(&claims).is_ok(), takes, "portal: {}", claims);
        }
    }

    #[test]
    fn a_changed_header_is_refused_by_all_and_a_parameter_that_nobody_lists_by_none(
        which in any::<prop::sample::Index>(), change in any_change(), at in any::<prop::sample::Index>(),
    ) {
        let world = &*SHARED;
        let all = signed(world);
        let (object, typ, key, claims) = which.get(&all);
        let parameters: Value = serde_json::from_str(&header(typ, &kid(&world.keys, key))).unwrap();
        let count = places(&parameters, "", &change);
        prop_assume!(count > 0);
        let parameters = written(&parameters, "", &change, &mut at.index(count));
        let takes = matches!(change, Change::Unlisted(_));
        for (reader, verdict) in world.verdicts(object, &raw(key, &parameters, &claims.to_string())) {
            prop_assert_eq!(verdict.is_ok(), takes, "{}: {}: {:?}: {}", object, reader, verdict, parameters);
        }
    }

    #[test]
    fn a_changed_body_is_refused_and_a_member_that_nobody_lists_only_where_the_object_is_closed(
        which in any::<prop::sample::Index>(), change in any_change(), at in any::<prop::sample::Index>(),
    ) {
        let all = bodies(&SHARED);
        let body = which.get(&all);
        let count = places(&body.good, "", &change);
        prop_assume!(count > 0);
        let at = at.index(count);
        let text = written(&body.good, "", &change, &mut at.clone());
        // The first object is the outermost: within a closed one there are keys, which are not closed.
        let takes = matches!(change, Change::Unlisted(_)) && !(body.closed && at == 0);
        let verdict = (body.read)(text.as_bytes());
        prop_assert_eq!(verdict.is_ok(), takes, "{}: {:?}: {}", body.name, verdict, text);
    }

    #[test]
    fn a_thumbprint_has_one_spelling(text in "[A-Za-z0-9_=+/ -]{42,44}") {
        if let Ok(thumbprint) = text.parse::<Thumbprint>() {
            prop_assert_eq!(base64url(&thumbprint.to_bytes()), text);
        }
    }
}
