//! The objects of the examples, and the keys that sign and open them.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Serialize;
use serde_json::{Value, json};
use writeback_relay::clock::UnixTime;
use writeback_relay::protocol::account::FoundAccount;
use writeback_relay::protocol::assertion::{AgentAssertion, PortalAssertion};
use writeback_relay::protocol::command::{Command, Operation, Options, Subject};
use writeback_relay::protocol::enrollment::{AgentKeys, Proof};
use writeback_relay::protocol::enrolment_code::{EnrolmentCode, Secret};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::{AgentId, ObjectId, PortalId, TenantId};
use writeback_relay::protocol::jose::{PublicKey, SealingKey, SigningKey, Validity, base64url, from_base64url};
use writeback_relay::protocol::outcome::{Code, Outcome};
use writeback_relay::protocol::password::Password;
use writeback_relay::protocol::rotation::{About, Acknowledgement, AgentRotation, PortalKey, PortalRotation, Rotation};
use writeback_relay::protocol::sealed::Secrets;

/// 2026-01-01 00:00:00 UTC.
pub(crate) const IAT: UnixTime = UnixTime(1_767_225_600);
pub(crate) const RELAY: &str = "https://relay.example";
pub(crate) const PASSWORD: &str = "Zwölf Boxkämpfer \u{1f600}";
const CURRENT_PASSWORD: &str = "Forgotten-2019!";
pub(crate) const OBJECT_GUID: &str = "6f2c1a52-1b7f-4d5e-9a53-0c9d2f1f0a11";
const CHANGE: &str = "019b76da-a805-7000-8000-000000000003";
const COMMAND: &str = "019b76da-a805-7000-8000-000000000001";
const NODE: &str = "019b76da-a805-7000-8000-0000000000aa";
const AGENT: &str = "019b76da-a801-7000-8000-00000000000a";
const JOURNAL: &str = "019b76da-a802-7000-8000-00000000000b";
const INVITATION: &str = "019b76da-a800-7000-8000-00000000000c";
const INSTANCE: &str = "019b76da-a803-7000-8000-00000000000d";
const ANY: &str = "019b76da-a806-7000-8000-00000000000e";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

pub(crate) struct Keys {
    pub(crate) portal: SigningKey,
    pub(crate) portal_es256: PublicKey,
    pub(crate) agent_signing: SigningKey,
    pub(crate) agent_sealing: SealingKey,
    /// What the three above are rotated to.
    pub(crate) portal_next: SigningKey,
    pub(crate) agent_signing_next: SigningKey,
    pub(crate) agent_sealing_next: SealingKey,
}

/// One private key of `keys.json`, as JSON.
pub(crate) fn private_jwk(name: &str) -> Value {
    let keys: Value = serde_json::from_str(include_str!("keys.json")).unwrap();
    keys[name].clone()
}

impl Keys {
    pub(crate) fn read() -> Self {
        let mut es256 = private_jwk("portal_es256");
        es256.as_object_mut().unwrap().remove("d");
        Self {
            portal: SigningKey::from_jwk(&private_jwk("portal").to_string()).unwrap(),
            portal_es256: serde_json::from_value(es256).unwrap(),
            agent_signing: SigningKey::from_jwk(&private_jwk("agent_signing").to_string()).unwrap(),
            agent_sealing: SealingKey::from_jwk(&private_jwk("agent_sealing").to_string()).unwrap(),
            portal_next: SigningKey::from_jwk(&private_jwk("portal_next").to_string()).unwrap(),
            agent_signing_next: SigningKey::from_jwk(&private_jwk("agent_signing_next").to_string()).unwrap(),
            agent_sealing_next: SealingKey::from_jwk(&private_jwk("agent_sealing_next").to_string()).unwrap(),
        }
    }

    pub(crate) fn agent(&self) -> AgentKeys {
        AgentKeys { signing: self.agent_signing.public().clone(), sealing: self.agent_sealing.public().clone() }
    }
}

pub(crate) fn about<I>(iss: I, tenant: Option<TenantId>) -> About<I> {
    About { iss, relay: RELAY.to_owned(), tenant, jti: any_id(), iat: IAT }
}

pub(crate) fn agent_rotation(keys: &Keys) -> AgentRotation {
    let (signing, sealing) = (keys.agent_signing_next.public().clone(), keys.agent_sealing_next.public().clone());
    let next = AgentKeys { signing, sealing };
    Rotation::new(about(agent(), Some(tenant())), 1, keys.agent(), next, &keys.agent_signing_next).unwrap()
}

pub(crate) fn portal_rotation(keys: &Keys) -> PortalRotation {
    let key = |key: &SigningKey| PortalKey { signing: key.public().clone() };
    Rotation::new(about(portal(), None), 1, key(&keys.portal), key(&keys.portal_next), &keys.portal_next).unwrap()
}

pub(crate) fn acknowledgement(keys: &Keys) -> Acknowledgement {
    let key = keys.portal_next.kid().clone();
    Acknowledgement { iss: agent(), aud: portal(), tenant: tenant(), seq: 1, key, iat: IAT }
}

/// Signs as a portal with a P-256 key does; our own programs never do.
pub(crate) fn es256(typ: &str, claims: &impl Serialize) -> String {
    let public = Keys::read().portal_es256;
    let d = from_base64url(private_jwk("portal_es256")["d"].as_str().unwrap()).unwrap();
    let pair =
        EcdsaKeyPair::from_private_key_and_public_key(&ECDSA_P256_SHA256_FIXED_SIGNING, &d, public.as_bytes()).unwrap();
    let header = format!(r#"{{"alg":"ES256","typ":"{typ}","kid":"{}"}}"#, public.thumbprint());
    let input = format!("{}.{}", base64url(header.as_bytes()), base64url(&serde_json::to_vec(claims).unwrap()));
    let signature = pair.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
    format!("{input}.{}", base64url(signature.as_ref()))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn tenant() -> TenantId {
    "contoso".parse().unwrap()
}

pub(crate) fn portal() -> PortalId {
    "portal-1".parse().unwrap()
}

pub(crate) fn agent() -> AgentId {
    AGENT.parse().unwrap()
}

fn any_id() -> ObjectId {
    ANY.parse().unwrap()
}

fn seconds(from: i64, to: i64) -> Validity {
    Validity { iat: UnixTime(IAT.0 + from), exp: UnixTime(IAT.0 + to) }
}

/// Not sealed yet.
pub(crate) fn command() -> Command {
    Command {
        iss: portal(),
        aud: agent(),
        tenant: tenant(),
        jti: COMMAND.parse().unwrap(),
        validity: seconds(0, 120),
        sub_id: Subject::upn("jürgen@corp.example").unwrap(),
        operation: Operation::ResetPassword,
        options: Options { unlock: true, ..Options::default() },
        sealed: None,
    }
}

/// Not sealed yet: it changes the password of an account that is named by its objectGUID.
pub(crate) fn change() -> Command {
    Command {
        jti: CHANGE.parse().unwrap(),
        sub_id: Subject::object_guid(OBJECT_GUID).unwrap(),
        operation: Operation::ChangePassword,
        options: Options::default(),
        ..command()
    }
}

pub(crate) fn change_secrets() -> Secrets {
    Secrets { current_password: Some(Password::new(CURRENT_PASSWORD.to_owned()).unwrap()), ..secrets() }
}

/// Two agents, of which each account has one that is asked first.
pub(crate) fn agents() -> [AgentId; 2] {
    [agent(), "019b76da-a801-7000-8000-0000000000bb".parse().unwrap()]
}

/// Accounts, and how each is written for the hash that chooses its agent.
pub(crate) fn accounts() -> Vec<(Subject, &'static str)> {
    let upn = |text: &str| Subject::upn(text).unwrap();
    vec![
        (upn("jane@corp.example"), "jane@corp.example"),
        (upn("JÜRGEN O'Neil@Corp.Example"), "jürgen o'neil@corp.example"),
        (upn("first@second@corp.example"), "first@second@corp.example"),
        (upn("ΟΔΥΣΣΕΥΣ@corp.example"), "οδυσσευς@corp.example"),
        (Subject::object_guid(OBJECT_GUID).unwrap(), OBJECT_GUID),
    ]
}

pub(crate) fn secrets() -> Secrets {
    Secrets { new_password: Password::new(PASSWORD.to_owned()).unwrap(), current_password: None }
}

pub(crate) fn outcome() -> Outcome {
    Outcome {
        iss: agent(),
        aud: portal(),
        tenant: tenant(),
        jti: any_id(),
        command: COMMAND.parse().unwrap(),
        iat: UnixTime(IAT.0 + 1),
        status: Code::PasswordReset.status(),
        code: Code::PasswordReset.as_str().into(),
        event_id: Code::PasswordReset.event().id(),
        detail: "the password was reset".into(),
        retry_safe: false,
        retry_at: None,
        hindrances: None,
        directory_ms: 42,
        account: Some(Box::new(FoundAccount::new(
            OBJECT_GUID.parse().unwrap(),
            Some("Jane@corp.example"),
            "CN=Jane Doe,OU=Staff,DC=corp,DC=example",
        ))),
    }
}

pub(crate) fn agent_assertion() -> AgentAssertion {
    AgentAssertion {
        iss: agent(),
        sub: agent(),
        aud: RELAY.to_owned(),
        tenant: tenant(),
        jti: any_id(),
        validity: seconds(0, 60),
    }
}

pub(crate) fn portal_assertion() -> PortalAssertion {
    PortalAssertion { iss: portal(), sub: portal(), aud: RELAY.to_owned(), jti: any_id(), validity: seconds(0, 60) }
}

pub(crate) fn proof(keys: &Keys) -> Proof {
    Proof {
        iss: agent(),
        sub: agent(),
        aud: RELAY.to_owned(),
        jti: any_id(),
        validity: seconds(0, 60),
        tenant: tenant(),
        invitation: INVITATION.parse().unwrap(),
        journal: JOURNAL.parse().unwrap(),
        signing_key: keys.agent_signing.kid().clone(),
        sealing_key: keys.agent_sealing.kid().clone(),
    }
}

pub(crate) fn enrolment_code(keys: &Keys) -> EnrolmentCode {
    EnrolmentCode {
        relay: RELAY.to_owned(),
        tenant: tenant(),
        invitation: INVITATION.parse().unwrap(),
        token: Secret::new([0x11; 32]),
        portal: portal(),
        portal_key: keys.portal.kid().clone(),
        secret: Secret::new([0x22; 32]),
    }
}

type Frame<K> = (&'static str, K, Value);

pub(crate) fn frames_from_agent(outcome_jws: &str, acknowledgement_jws: &str) -> Vec<Frame<FromAgent>> {
    let row = v1::PreflightRow {
        check: "reset_password".to_owned(),
        target: "OU=Staff,DC=corp,DC=example".to_owned(),
        state: v1::PreflightState::Failed.into(),
        detail: "the right is missing".to_owned(),
        remedy: "dsacls ...".to_owned(),
        remedy_code: "grant_right".to_owned(),
    };
    vec![
        (
            "hello",
            FromAgent::Hello(v1::Hello {
                version: "0.1.0".to_owned(),
                instance: INSTANCE.to_owned(),
                journal: JOURNAL.to_owned(),
                unfinished: vec![COMMAND.to_owned()],
                capacity: 8,
                portals: vec![v1::PinnedPortal { portal: portal().to_string(), seq: 1 }],
                announces_portals: true,
            }),
            json!({ "version": "0.1.0", "instance": INSTANCE, "journal": JOURNAL, "unfinished": [COMMAND], "capacity": 8, "portals": [{ "portal": portal(), "seq": 1 }], "announces_portals": true }),
        ),
        (
            "portals",
            FromAgent::Portals(v1::Portals {
                portals: vec![v1::PinnedPortal { portal: portal().to_string(), seq: 1 }],
            }),
            json!({ "portals": [{ "portal": portal(), "seq": 1 }] }),
        ),
        ("received", FromAgent::Received(v1::Received { command: COMMAND.to_owned() }), json!({ "command": COMMAND })),
        (
            "outcome",
            FromAgent::Outcome(v1::Outcome { command: COMMAND.to_owned(), jws: outcome_jws.to_owned() }),
            json!({ "command": COMMAND, "jws": outcome_jws }),
        ),
        (
            "preflight",
            FromAgent::Preflight(v1::Preflight { checked_at: IAT.0, rows: vec![row.clone()] }),
            json!({
                "checked_at": IAT,
                "rows": [{
                    "check": row.check,
                    "target": row.target,
                    "state": "PREFLIGHT_STATE_FAILED",
                    "detail": row.detail,
                    "remedy": row.remedy, "remedy_code": row.remedy_code,
                }],
            }),
        ),
        ("heartbeat", FromAgent::Heartbeat(v1::Heartbeat::default()), json!({})),
        ("leaving", FromAgent::Leaving(v1::Leaving { reason: "stopping".to_owned() }), json!({ "reason": "stopping" })),
        (
            "acknowledgement",
            FromAgent::Acknowledgement(v1::Acknowledgement { jws: acknowledgement_jws.to_owned() }),
            json!({ "jws": acknowledgement_jws }),
        ),
    ]
}

pub(crate) fn frames_from_relay(command_jws: &str, rotation_jws: &str) -> Vec<Frame<FromRelay>> {
    vec![
        (
            "welcome",
            FromRelay::Welcome(v1::Welcome {
                node: "relay-0".to_owned(),
                heartbeat_interval_ms: 30_000,
                max_frame_bytes: 16_384,
                approved: true,
                node_id: NODE.to_owned(),
                nodes: 3,
                takes_portals: true,
            }),
            json!({
                "node": "relay-0",
                "heartbeat_interval_ms": 30_000,
                "max_frame_bytes": 16_384,
                "approved": true,
                "node_id": NODE,
                "nodes": 3,
                "takes_portals": true,
            }),
        ),
        (
            "deliver",
            FromRelay::Deliver(v1::Deliver {
                command_jws: command_jws.to_owned(),
                traceparent: TRACEPARENT.to_owned(),
                attempt: 1,
            }),
            json!({ "command_jws": command_jws, "traceparent": TRACEPARENT, "attempt": 1 }),
        ),
        (
            "outcome_stored",
            FromRelay::OutcomeStored(v1::OutcomeStored { command: COMMAND.to_owned() }),
            json!({ "command": COMMAND }),
        ),
        (
            "heartbeat",
            FromRelay::Heartbeat(v1::Heartbeat { nodes: 3, approved: true }),
            json!({ "nodes": 3, "approved": true }),
        ),
        (
            "go_away",
            FromRelay::GoAway(v1::GoAway {
                reason: "drain".to_owned(),
                reconnect_after_ms: 1500,
                close_after_ms: 10_000,
            }),
            json!({ "reason": "drain", "reconnect_after_ms": 1500, "close_after_ms": 10_000 }),
        ),
        ("check", FromRelay::Check(v1::Check::default()), json!({})),
        (
            "portal_rotation",
            FromRelay::PortalRotation(v1::PortalRotation { jws: rotation_jws.to_owned() }),
            json!({ "jws": rotation_jws }),
        ),
    ]
}
