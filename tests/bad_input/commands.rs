use std::time::Duration;

use serde_json::json;
use writeback_relay::clock::{System, UnixTime};
use writeback_relay::protocol::api::{CommandState, CommandView};
use writeback_relay::protocol::assertion::PortalAssertion;
use writeback_relay::protocol::command::{COMMAND_TYP, Command, Operation};
use writeback_relay::protocol::ids::{AgentId, CommandId};
use writeback_relay::protocol::jose::{SigningKey, Validity, base64url, from_base64url};

use super::{audited, counted, counting};
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Answered, RawPortal, Relay, TENANT, TestPortal, now};

struct Stage {
    relay: Relay,
    portal: TestPortal,
    agent: RawAgent,
}

impl Stage {
    async fn new() -> Self {
        let relay = Relay::start().await;
        let portal = relay.portal("portal-1").await;
        let agent = RawAgent::enrolled(&relay, &portal).await;
        Self { relay, portal, agent }
    }

    fn reset(&self) -> String {
        self.portal.raw.reset(self.agent.agent, self.agent.sealing.public(), "jane@corp.example", "Pass-Word-2026").1
    }

    /// The relay refuses `jws` with this status and code.
    async fn answers(&self, jws: &str, status: u16, code: &str) {
        let answered = counted(&self.relay, code, self.portal.raw.submit(jws, 0)).await;
        assert_eq!((answered.status, answered.problem().as_str()), (status, code), "{}", answered.text());
    }

    /// The relay refuses `jws` with this status and code, and stores nothing.
    async fn refused(&self, jws: &str, status: u16, code: &str) {
        self.answers(jws, status, code).await;
        not_stored(&self.portal.raw, jws).await;
    }

    /// The relay refuses `jws` with this status and code, and says so on every node from now on: the same bytes may be
    /// on their way to another.
    async fn refused_for_good(&self, jws: &str, (status, code): (u16, &str), state: CommandState) {
        self.answers(jws, status, code).await;
        let view: CommandView = self.portal.raw.follow(jti(jws).unwrap(), 0).await.json();
        assert_eq!((view.state, view.outcome), (state, None));
    }
}

/// This portal's command, if `jws` is that much of a command that it has a `jti`, is not known to the relay.
async fn not_stored(portal: &RawPortal, jws: &str) {
    if let Some(command) = jti(jws) {
        let followed = portal.follow(command, 0).await;
        assert_eq!((followed.status, followed.problem().as_str()), (404, "not_found"), "{}", followed.text());
    }
}

fn jti(jws: &str) -> Option<CommandId> {
    let claims = from_base64url(jws.split('.').nth(1)?).ok()?;
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    claims["jti"].as_str()?.parse().ok()
}

/// The same JWS under another header; its signature no longer fits, which is found last.
fn with_header(jws: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let (header, rest) = jws.split_once('.').unwrap();
    let mut header = serde_json::from_slice(&from_base64url(header).unwrap()).unwrap();
    change(&mut header);
    format!("{}.{rest}", base64url(header.to_string().as_bytes()))
}

#[tokio::test]
async fn a_command_that_is_no_good_jws_is_refused() {
    let stage = Stage::new().await;
    let good = stage.reset();
    assert!(jti(&good).is_some());
    let (_, other) = stage.portal.raw.reset(stage.agent.agent, stage.agent.sealing.public(), "joe@corp.example", "x");
    let mixed = format!("{}.{}", good.rsplit_once('.').unwrap().0, other.rsplit_once('.').unwrap().1);
    stage.refused(&mixed, 401, "bad_signature").await;
    stage.refused(&with_header(&good, |h| h["kid"] = json!("nobody")), 401, "unknown_key").await;
    // The first ones are logged, each by itself.
    audited(&stage.relay, "command_refused", "the signature does not fit");
    audited(&stage.relay, "command_refused", "the kid header names no known key");
    for malformed in ["", "x", "a.b", "a.b.c", "....", &good[1..], &good.replace('.', "")] {
        stage.refused(malformed, 400, "malformed").await;
    }
    stage.refused(&with_header(&good, |h| h["typ"] = json!("JWT")), 400, "malformed").await;
    stage.refused(&with_header(&good, |h| h["crit"] = json!(["exp"])), 400, "malformed").await;
    stage.refused(&with_header(&good, |h| h["alg"] = json!("none")), 401, "wrong_algorithm").await;
    stage.refused(&with_header(&good, |h| h["alg"] = json!("ES256")), 401, "wrong_algorithm").await;
    stage.refused(&with_header(&good, |h| h["alg"] = json!("HS256")), 401, "wrong_algorithm").await;
    stage.refused(&with_header(&good, |h| h["more"] = json!(1)), 401, "bad_signature").await;
}

#[tokio::test]
async fn a_command_out_of_its_time_is_refused() {
    let stage = Stage::new().await;
    let (raw, agent) = (&stage.portal.raw, &stage.agent);
    let timed = |iat: i64, exp: i64| {
        let mut command = raw.command(agent.agent, "jane@corp.example");
        command.validity = Validity { iat: UnixTime(now().0 + iat), exp: UnixTime(now().0 + exp) };
        raw.sealed(command, agent.sealing.public(), "Pass-Word-2026").1
    };
    stage.refused_for_good(&timed(-60, -1), (422, "expired"), CommandState::Expired).await;
    stage.refused_for_good(&timed(-60, 0), (422, "expired"), CommandState::Expired).await;
    stage.refused(&timed(0, 301), 422, "unprocessable").await;
    stage.refused(&timed(10, 5), 422, "unprocessable").await;
    stage.refused(&timed(90, 120), 422, "unprocessable").await;
}

#[tokio::test]
async fn a_command_for_an_agent_that_is_not_in_service_is_refused() {
    let stage = Stage::new().await;
    let raw = &stage.portal.raw;
    let for_agent =
        |agent: AgentId| raw.reset(agent, stage.agent.sealing.public(), "jane@corp.example", "Pass-Word-2026").1;
    // As late as it can be: of older ones a relay that has just begun does not know whether it has lost them.
    let mut late = raw.command(AgentId::new(&System, &System), "jane@corp.example");
    late.validity = Validity { iat: UnixTime(now().0 + 60), exp: UnixTime(now().0 + 120) };
    let (_, nobody) = raw.sealed(late, stage.agent.sealing.public(), "Pass-Word-2026");
    stage.refused_for_good(&nobody, (404, "unknown_agent"), CommandState::Undeliverable).await;
    let pending = RawAgent::pending(&stage.relay, &stage.portal).await;
    stage.refused_for_good(&for_agent(pending.agent), (409, "agent_pending"), CommandState::Undeliverable).await;
    stage.relay.admin().revoke_agent(&TENANT.parse().unwrap(), pending.agent).await.unwrap();
    stage.refused_for_good(&for_agent(pending.agent), (403, "agent_revoked"), CommandState::Undeliverable).await;
    let answered = raw.submit(&stage.reset(), 0).await;
    assert_eq!((answered.status, answered.problem().as_str()), (503, "no_agent"), "{}", answered.text());
    let retry_after: u64 = answered.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=5).contains(&retry_after), "{retry_after}");
}

#[tokio::test]
async fn an_operation_or_option_that_is_none_and_a_password_where_none_belongs_are_refused() {
    let stage = Stage::new().await;
    let raw = &stage.portal.raw;
    let (agent, key) = (stage.agent.agent, stage.agent.sealing.public());
    let command = |operation| Command { operation, ..raw.command(agent, "jane@corp.example") };
    let unlock = raw.sealed(command(Operation::UnlockAccount), key, "Pass-Word-2026").1;
    stage.refused(&unlock, 422, "unprocessable").await;
    stage.refused(&command(Operation::ChangePassword).sign(&raw.key).unwrap(), 422, "unprocessable").await;
    for (member, value) in [
        ("operation", json!("delete_account")),
        ("options", json!({"enforce_histroy": true})),
        ("options", json!({"unlock": "yes"})),
    ] {
        let mut claims = serde_json::to_value(command(Operation::UnlockAccount)).unwrap();
        claims[member] = value;
        let jws = raw.key.sign(COMMAND_TYP, &claims).unwrap();
        stage.refused(&jws, 400, "malformed").await;
    }
}

#[tokio::test]
async fn a_command_of_another_tenant_portal_or_kind_is_refused() {
    let stage = Stage::new().await;
    let raw = &stage.portal.raw;
    stage.relay.admin().add_tenant("fabrikam".parse().unwrap()).await.unwrap();
    let key = stage.agent.sealing.public();

    let mut other_tenant = raw.command(stage.agent.agent, "jane@corp.example");
    other_tenant.tenant = "fabrikam".parse().unwrap();
    stage.refused(&raw.sealed(other_tenant, key, "Pass-Word-2026").1, 422, "unprocessable").await;
    let mut unsealed = raw.command(stage.agent.agent, "jane@corp.example");
    stage.refused(&unsealed.sign(&raw.key).unwrap(), 422, "unprocessable").await;
    unsealed.iss = "portal-2".parse().unwrap();
    stage.refused(&raw.sealed(unsealed, key, "Pass-Word-2026").1, 422, "unprocessable").await;

    let second = stage.relay.portal("portal-2").await;
    let jws = stage.reset();
    let stolen = counted(&stage.relay, "unknown_key", second.raw.submit(&jws, 0)).await;
    assert_eq!((stolen.status, stolen.problem().as_str()), (401, "unknown_key"), "another portal's command");
    not_stored(&second.raw, &jws).await;
    not_stored(raw, &jws).await;

    let bearer = raw.assertion().sign(&raw.key).unwrap();
    let elsewhere = raw.send(|http, relay| http.get(format!("{relay}/v1/tenants/fabrikam/agents")).bearer_auth(bearer));
    let elsewhere = counted(&stage.relay, "tenant_not_granted", elsewhere).await;
    assert_eq!((elsewhere.status, elsewhere.problem().as_str()), (403, "tenant_not_granted"));
}

#[tokio::test]
async fn a_jti_is_never_used_again_with_another_body() {
    let stage = Stage::new().await;
    let (raw, key) = (&stage.portal.raw, stage.agent.sealing.public());
    let (command, first) = raw.reset(stage.agent.agent, key, "jane@corp.example", "Pass-Word-2026");
    let (_, second) = raw.sealed(command.clone(), key, "Pass-Word-2027");
    assert_eq!(raw.submit(&first, 0).await.problem(), "no_agent");
    stage.answers(&second, 409, "command_conflict").await;
    assert_eq!(raw.submit(&first, 0).await.problem(), "no_agent", "the same is answered the same");
    let view: serde_json::Value = raw.follow(command.jti, 0).await.json();
    assert_eq!((&view["state"], &view["reason"]), (&json!("undeliverable"), &json!("no_agent")));
}

#[tokio::test]
async fn bodies_that_are_too_large_or_of_another_kind_are_refused() {
    let stage = Stage::new().await;
    let raw = &stage.portal.raw;
    let hits = "writeback_limits_hits_total{limit=\"body_size\"}";
    counting(&stage.relay, hits, stage.refused(&"a".repeat(8193), 413, "too_large")).await;
    stage.refused(&"a".repeat(8192), 400, "malformed").await;
    let post = |content_type: &'static str, path: &'static str, body: &'static str| async move {
        let bearer = raw.assertion().sign(&raw.key).unwrap();
        raw.send(|http, relay| {
            http.post(format!("{relay}{path}")).bearer_auth(bearer).header("content-type", content_type).body(body)
        })
        .await
    };
    let problem = |answered: &Answered| (answered.status, answered.problem());
    let commands = "/v1/tenants/contoso/commands";
    assert_eq!(problem(&post("application/json", commands, "{}").await), (415, "unsupported_media_type".into()));
    let invitations = "/v1/tenants/contoso/invitations";
    assert_eq!(problem(&post("text/plain", invitations, "{}").await), (415, "unsupported_media_type".into()));
    assert_eq!(problem(&post("application/json", invitations, "{").await), (400, "malformed".into()));
    assert_eq!(problem(&post("application/json", invitations, "{\"colour\":1}").await), (400, "malformed".into()));
    assert_eq!(
        problem(&post("application/json", "/v1/tenants/Contoso!/invitations", "{}").await),
        (400, "malformed".into())
    );
    assert_eq!(problem(&post("application/json", "/v1/nowhere", "{}").await), (404, "not_found".into()));
    assert_eq!(problem(&post("application/json", "/v1/agent/session", "{}").await), (405, "method_not_allowed".into()));
    let unknown = raw.follow(CommandId::new(&System, &System), 0).await;
    assert_eq!(problem(&unknown), (404, "not_found".into()));
}

#[tokio::test]
async fn a_portal_assertion_that_does_not_hold_is_refused() {
    let stage = Stage::new().await;
    let raw = &stage.portal.raw;
    let call = |bearer: Option<String>| async move {
        raw.send(|http, relay| {
            let call = http.get(format!("{relay}/v1/tenants/{TENANT}/agents"));
            match bearer {
                Some(bearer) => call.bearer_auth(bearer),
                None => call,
            }
        })
        .await
    };
    let good = raw.assertion();
    assert_eq!(call(Some(good.sign(&raw.key).unwrap())).await.status, 200);
    let changed = |change: fn(&mut PortalAssertion, &RawPortal)| {
        let mut assertion = raw.assertion();
        change(&mut assertion, raw);
        assertion.sign(&raw.key).unwrap()
    };
    let stranger = SigningKey::generate(&System).unwrap();
    for bad in [
        None,
        Some("nonsense".to_owned()),
        Some(good.sign(&stranger).unwrap()),
        Some(with_header(&good.sign(&raw.key).unwrap(), |h| h["alg"] = json!("none"))),
        Some(changed(|a, _| a.aud.push('/'))),
        Some(changed(|a, _| a.sub = "somebody".parse().unwrap())),
        Some(changed(|a, _| (a.iss, a.sub) = ("nobody".parse().unwrap(), "nobody".parse().unwrap()))),
        Some(changed(|a, _| a.validity.exp = now())),
        Some(changed(|a, _| a.validity = Validity::starting(now(), Duration::from_secs(301)))),
        Some(changed(|a, _| a.validity = Validity::starting(UnixTime(now().0 + 90), Duration::from_secs(60)))),
        // A command is no assertion, although the same key signed it.
        Some(stage.reset()),
    ] {
        let answered = counted(&stage.relay, "invalid_assertion", call(bad)).await;
        assert_eq!((answered.status, answered.problem().as_str()), (401, "invalid_assertion"), "{}", answered.text());
    }
}

#[tokio::test]
async fn an_assertion_that_was_taken_before_is_judged_anew_each_time() {
    let stage = Stage::new().await;
    let raw = &stage.portal.raw;
    let nothing = CommandId::new(&System, &System);
    let ask = async |bearer: &str| {
        let asked = raw.send(|http, relay| {
            http.get(format!("{relay}/v1/tenants/{TENANT}/commands/{nothing}")).bearer_auth(bearer)
        });
        asked.await.problem()
    };
    let good = raw.assertion().sign(&raw.key).unwrap();
    for _ in 0..2 {
        assert_eq!(ask(&good).await, "not_found", "it is taken, and there is no such command");
    }
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let other = raw.assertion().sign(&raw.key).unwrap();
    let other = other.rsplit_once('.').unwrap().1;
    assert_eq!(ask(&format!("{signed}.{other}")).await, "invalid_assertion", "with another's signature");
    assert_eq!(ask(&format!("{signed}A.{signature}")).await, "invalid_assertion", "with other claims");

    let mut short = raw.assertion();
    short.validity = Validity::starting(now(), Duration::from_secs(2));
    let short = short.sign(&raw.key).unwrap();
    assert_eq!(ask(&short).await, "not_found");
    eventually("its time is over", async || ask(&short).await == "invalid_assertion").await;

    stage.relay.grant(&raw.id, raw.key.public(), &[]).await;
    assert_eq!(ask(&good).await, "tenant_not_granted");
    let new = SigningKey::generate(&System).unwrap();
    stage.relay.grant(&raw.id, new.public(), &[TENANT]).await;
    assert_eq!(ask(&good).await, "invalid_assertion", "its key is no longer the portal's");
    assert_eq!(ask(&raw.assertion().sign(&new).unwrap()).await, "not_found");
}
