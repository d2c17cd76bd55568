use std::time::Duration;

use futures_util::SinkExt;
use serde_json::json;
use tokio_tungstenite::tungstenite::{self, Message};
use writeback_relay::clock::{System, UnixTime};
use writeback_relay::protocol::assertion::AgentAssertion;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, SUBPROTOCOL, v1};
use writeback_relay::protocol::ids::{AgentId, InstanceId, JournalId, ObjectId};
use writeback_relay::protocol::jose::{SigningKey, Validity, base64url, from_base64url};
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::problem::Problem;

use super::{audited, counted, counter, counting};
use crate::support::agent::{Agent, demo};
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::relay::{Relay, TestPortal, now, tenant};

async fn stage() -> (Relay, TestPortal, RawAgent) {
    let relay = Relay::start_with("[session]\nhello_timeout_seconds = 1\nheartbeat_seconds = 1").await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    (relay, portal, agent)
}

/// The upgrade is refused with this problem.
async fn refused(relay: &Relay, agent: &RawAgent, bearer: &str, subprotocol: &str, code: &str) {
    let handshakes = format!("writeback_handshakes_total{{result=\"{code}\"}}");
    let upgrade = counted(relay, code, counting(relay, &handshakes, agent.upgrade(bearer, subprotocol)));
    let Err(tungstenite::Error::Http(answer)) = upgrade.await else { panic!("it was not refused: {code}") };
    let problem: Problem = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
    assert_eq!(problem.code, code);
}

/// The relay closes the session for this reason, and has then closed `total` for it.
async fn closed_with(mut session: RawSession, relay: &Relay, code: u16, reason: &str, total: u64) {
    let (closed_with, text) = session.closed().await;
    assert!(closed_with == code && text.split(':').next() == Some(reason), "{closed_with} {text}");
    let ends = format!("writeback_session_ends_total{{reason=\"{reason}\"}}");
    eventually(&format!("{ends} is {total}"), || async { counter(relay, &ends).await == total }).await;
}

#[tokio::test]
async fn an_agent_assertion_that_does_not_hold_or_was_used_opens_nothing() {
    let (relay, _portal, agent) = stage().await;
    let changed = |change: fn(&mut AgentAssertion)| {
        let mut assertion = agent.assertion();
        change(&mut assertion);
        assertion.sign(&agent.signing).unwrap()
    };
    let good = agent.assertion().sign(&agent.signing).unwrap();
    let stranger = SigningKey::generate(&System).unwrap();
    for bad in [
        "nonsense".to_owned(),
        agent.assertion().sign(&stranger).unwrap(),
        changed(|a| a.aud = "https://other.example".into()),
        changed(|a| a.sub = AgentId::new(&System, &System)),
        changed(|a| a.validity.exp = now()),
        changed(|a| a.validity = Validity::starting(now(), Duration::from_secs(301))),
        changed(|a| a.validity = Validity::starting(UnixTime(now().0 + 90), Duration::from_secs(60))),
    ] {
        refused(&relay, &agent, &bad, SUBPROTOCOL, "invalid_assertion").await;
    }
    refused(&relay, &agent, &changed(|a| a.tenant = "fabrikam".parse().unwrap()), SUBPROTOCOL, "unknown_agent").await;
    let nobody = RawAgent::new(&relay);
    let unknown = nobody.assertion().sign(&nobody.signing).unwrap();
    refused(&relay, &nobody, &unknown, SUBPROTOCOL, "unknown_agent").await;

    refused(&relay, &agent, &good, "chat.v1", "upgrade_required").await;
    agent.upgrade(&good, SUBPROTOCOL).await.unwrap();
    refused(&relay, &agent, &good, SUBPROTOCOL, "assertion_used").await;
    audited(&relay, "session_refused", "an assertion opens one session");
}

#[tokio::test]
async fn an_agent_below_the_minimum_version_hears_what_to_do_and_agents_of_other_makes_are_not_judged() {
    let relay = Relay::start_with("[session]\nminimum_agent_version = \"99.1.0\"").await;
    let portal = relay.portal("portal-1").await;
    let other_make = RawAgent::enrolled(&relay, &portal).await;
    let _session = other_make.open().await;
    let mut agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), &["jane@corp.example"], 0));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    agent.start();
    let refused = |event: &serde_json::Value| event["event_id"] == 32009;
    eventually("the agent is told", || std::future::ready(agent.events().iter().any(refused))).await;
    let said = agent.events().into_iter().find(refused).unwrap()["message"].to_string();
    assert!(said.contains("99.1.0 or newer") && said.contains("its keys and its journal stay"), "{said}");
    assert!(agent.is_running());
}

#[tokio::test]
async fn an_assertion_stays_used_when_the_relay_starts_again() {
    let (mut relay, _portal, agent) = stage().await;
    let good = agent.assertion().sign(&agent.signing).unwrap();
    agent.upgrade(&good, SUBPROTOCOL).await.unwrap();
    relay.kill();
    relay.start_again().await;
    refused(&relay, &agent, &good, SUBPROTOCOL, "assertion_used").await;
}

#[tokio::test]
async fn what_is_no_frame_closes_the_session() {
    let (relay, _portal, agent) = stage().await;
    let mut text = agent.open().await;
    text.0.send(Message::text("hello")).await.unwrap();
    closed_with(text, &relay, 1003, "text_message", 1).await;

    let mut unknown = agent.open().await;
    unknown.send_bytes(vec![0xfa, 0x01, 0x00]).await;
    closed_with(unknown, &relay, 4500, "protocol_error", 1).await;

    let mut garbage = agent.open().await;
    garbage.send_bytes(vec![0xff; 9]).await;
    closed_with(garbage, &relay, 4500, "protocol_error", 2).await;

    let mut large = agent.open().await;
    let padding = FromAgent::Leaving(v1::Leaving { reason: "x".repeat(16 * 1024) });
    large.send(padding).await;
    closed_with(large, &relay, 1009, "frame_too_large", 1).await;
    assert_eq!(counter(&relay, "writeback_limits_hits_total{limit=\"frame_size\"}").await, 1);

    let mut twice = agent.open().await;
    twice.send(agent.hello(InstanceId::new(&System, &System))).await;
    closed_with(twice, &relay, 4500, "protocol_error", 3).await;
}

#[tokio::test]
async fn an_agent_that_says_nothing_is_left() {
    let (relay, _portal, agent) = stage().await;
    closed_with(agent.connect().await, &relay, 4001, "hello_timeout", 1).await;
    let mut early = agent.connect().await;
    early.send(FromAgent::Heartbeat(v1::Heartbeat::default())).await;
    closed_with(early, &relay, 4500, "protocol_error", 1).await;
    closed_with(agent.open().await, &relay, 4000, "silent", 1).await;
}

#[tokio::test]
async fn a_foreign_journal_is_refused() {
    let (relay, _portal, agent) = stage().await;
    let mut session = agent.connect().await;
    let FromAgent::Hello(hello) = agent.hello(InstanceId::new(&System, &System)) else { unreachable!() };
    let journal = JournalId::new(&System, &System).to_string();
    session.send(FromAgent::Hello(v1::Hello { journal, ..hello })).await;
    closed_with(session, &relay, 4503, "foreign_journal", 1).await;
    audited(&relay, "session_refused", "foreign_journal");
}

#[tokio::test]
async fn a_newer_process_with_the_same_identity_takes_over_and_an_older_one_does_not() {
    let (relay, _portal, agent) = stage().await;
    let older = InstanceId::new(&System, &System);
    let first = agent.open_as(older).await;
    let mut sibling = agent.open_as(older).await;
    sibling.send(FromAgent::Heartbeat(v1::Heartbeat::default())).await;
    // UUIDv7: a later millisecond sorts behind.
    eventually("the clock moves on", || std::future::ready(InstanceId::new(&System, &System) > older)).await;
    let newer = agent.open().await;
    closed_with(first, &relay, 4502, "displaced", 2).await;
    closed_with(sibling, &relay, 4502, "displaced", 2).await;
    let mut again = agent.connect().await;
    again.send(agent.hello(older)).await;
    closed_with(again, &relay, 4502, "displaced", 3).await;
    audited(&relay, "session_displaced", &agent.agent.to_string());
    assert_eq!(relay.admin().sessions().await.unwrap().len(), 1);
    drop(newer);
}

#[tokio::test]
async fn an_outcome_is_taken_only_from_the_agent_that_the_command_names() {
    let (relay, portal, agent) = stage().await;
    let other = RawAgent::enrolled(&relay, &portal).await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let mut session = agent.open().await;
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    assert_eq!(session.delivery().await.command_jws, jws);

    // In its own name, for a command that names another.
    let mut thief = other.open().await;
    thief.send(other.outcome_frame(&command, Code::PasswordReset)).await;
    closed_with(thief, &relay, 1008, "foreign_outcome", 1).await;
    // In the other's name.
    let mut thief = other.open().await;
    let jws = agent.outcome(&command, Code::PasswordReset).sign(&other.signing).unwrap();
    thief.send(FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws })).await;
    closed_with(thief, &relay, 1008, "foreign_outcome", 2).await;
    // In another tenant's.
    let mut thief = other.open().await;
    let mut outcome = other.outcome(&command, Code::PasswordReset);
    outcome.tenant = "fabrikam".parse().unwrap();
    let jws = outcome.sign(&other.signing).unwrap();
    thief.send(FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws })).await;
    closed_with(thief, &relay, 1008, "foreign_outcome", 3).await;
    audited(&relay, "outcome_refused", &other.agent.to_string());

    let view: serde_json::Value = portal.raw.follow(command.jti, 0).await.json();
    assert_eq!(view["state"], json!("delivering"), "nothing of that was stored");
    session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    assert!(matches!(session.next().await, FromRelay::OutcomeStored(_)));
}

#[tokio::test]
async fn an_outcome_for_another_portal_than_the_one_that_asked_is_not_taken_while_the_command_has_no_end() {
    let (relay, portal, agent) = stage().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let mut session = agent.open().await;
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    let wrong = |aud: &str| {
        let mut outcome = agent.outcome(&command, Code::PasswordReset);
        outcome.aud = aud.parse().unwrap();
        let jws = outcome.sign(&agent.signing).unwrap();
        FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws })
    };
    session.send(wrong("portal-l")).await;
    let said = session.closed().await;
    assert_eq!(said, (1008, "foreign_outcome: aud: the portal that sent this command is expected".to_owned()));
    audited(&relay, "outcome_refused", "aud: the portal that sent this command is expected");
    // It still has it in its journal: on another session, which did not deliver the command, it hears the same.
    let mut again = agent.connect().await;
    let FromAgent::Hello(hello) = agent.hello(InstanceId::new(&System, &System)) else { unreachable!() };
    let unfinished = vec![command.jti.to_string()];
    again.send(FromAgent::Hello(v1::Hello { unfinished, ..hello })).await;
    assert!(matches!(again.next().await, FromRelay::Welcome(_)));
    again.send(wrong("portal-1/")).await;
    assert_eq!(again.closed().await.0, 1008);
    // Nothing was lost by it.
    let mut session = agent.open().await;
    session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    portal.raw.concluded(command.jti).await;
    // Of a command that is not known it is kept for whom it names.
    let unknown = portal.raw.command(agent.agent, "joe@corp.example");
    session.send(agent.outcome_frame(&unknown, Code::PasswordReset)).await;
    portal.raw.concluded(unknown.jti).await;
}

#[tokio::test]
async fn who_writes_an_agent_is_told_what_it_did_wrong_and_so_is_the_log() {
    let (relay, portal, agent) = stage().await;
    let FromAgent::Hello(hello) = agent.hello(InstanceId::new(&System, &System)) else { unreachable!() };
    let said = async |mut session: RawSession, frame: FromAgent| {
        session.send(frame).await;
        session.closed().await
    };
    let first = |frame| async { said(agent.connect().await, frame).await };
    let later = |frame| async { said(agent.open().await, frame).await };
    let (command, _) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let changed = |change: fn(&mut serde_json::Value)| {
        let mut claims = serde_json::to_value(agent.outcome(&command, Code::PasswordReset)).unwrap();
        change(&mut claims);
        let jws = agent.signing.sign("writeback-outcome+jwt", &claims).unwrap();
        FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws })
    };
    let outcome = |jws: &str| FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws: jws.into() });
    let other_id = ObjectId::new(&System, &System).to_string();
    let uuid = "a UUID as lowercase hyphenated text is expected";
    let closed = [
        (first(FromAgent::Heartbeat(v1::Heartbeat::default())).await, 4500, "the first frame has to be Hello"),
        (first(FromAgent::Hello(v1::Hello { journal: "hunter2".into(), ..hello.clone() })).await, 4500, uuid),
        (first(FromAgent::Hello(v1::Hello { instance: "hunter2".into(), ..hello.clone() })).await, 4500, uuid),
        (later(FromAgent::Hello(hello)).await, 4500, "Hello comes once"),
        (later(FromAgent::Received(v1::Received { command: "hunter2".into() })).await, 4500, uuid),
        (later(FromAgent::Acknowledgement(v1::Acknowledgement { jws: "hunter2".into() })).await, 4500, "three parts"),
        (later(outcome("hunter2")).await, 1008, "three parts"),
        (later(changed(|c| c["status"] = "hunter2".into())).await, 1008, "status: one of `succeeded`"),
        (later(changed(|c| c["aud"] = serde_json::json!(["hunter2"]))).await, 1008, "aud: a string is expected"),
        (later(changed(|c| drop(c.as_object_mut().unwrap().remove("code")))).await, 1008, "missing field `code`"),
        (
            later(changed(|c| drop(c.as_object_mut().unwrap().remove("retry_safe")))).await,
            1008,
            "missing field `retry_safe`",
        ),
        (later(changed(|c| c["retry_at"] = serde_json::Value::Null)).await, 1008, "retry_at: "),
        (later(changed(|c| c["hindrances"] = "hunter2".into())).await, 1008, "hindrances: "),
        (later(changed(|c| c["iss"] = c["jti"].clone())).await, 1008, "iss: the agent whose session this is"),
        (later(changed(|c| c["tenant"] = "hunter2".into())).await, 1008, "tenant: the agent's is expected"),
        (later(changed(|c| c["command"] = c["jti"].clone())).await, 1008, "command: the same as in the frame"),
    ];
    drop(other_id);
    for ((code, reason), expected, text) in closed {
        let stable = if expected == 1008 { "foreign_outcome: " } else { "protocol_error: " };
        assert!(code == expected && reason.starts_with(stable) && reason.contains(text), "{code} {reason}: {text}");
        assert!(!reason.contains("hunter2"), "{reason}");
        audited(
            &relay,
            "session_closed",
            &serde_json::to_string(&reason).unwrap().trim_matches('"').replace(stable, ""),
        );
    }
    assert!(!relay.log().contains("hunter2"));
}

#[tokio::test]
async fn an_outcome_with_a_wrong_signature_is_found_by_the_portal() {
    let (_relay, portal, agent) = stage().await;
    let mut session = agent.open().await;
    let subject = writeback_relay::protocol::command::Subject::upn("jane@corp.example").unwrap();
    let password = writeback_relay::protocol::password::Password::new("Pass-Word-2026".into()).unwrap();
    let tenant = tenant();
    let asking = portal.portal.reset(&tenant, &subject, password, Default::default(), Duration::from_secs(30));
    let answering = async {
        let delivery = session.delivery().await;
        let parsed = writeback_relay::protocol::command::Command::parse(&delivery.command_jws).unwrap();
        let command: writeback_relay::protocol::command::Command = parsed.unverified().unwrap();
        let jws = agent.outcome(&command, Code::PasswordReset).sign(&agent.signing).unwrap();
        let (signed, signature) = jws.rsplit_once('.').unwrap();
        let mut bytes = from_base64url(signature).unwrap();
        bytes[7] ^= 1;
        let jws = format!("{signed}.{}", base64url(&bytes));
        session.send(FromAgent::Outcome(v1::Outcome { command: command.jti.to_string(), jws })).await;
    };
    let (answer, ()) = tokio::join!(asking, answering);
    let answer = answer.unwrap();
    let writeback_relay::portal::Answer::Unknown { doubt, .. } = answer else { panic!("believed: {answer:?}") };
    assert!(matches!(doubt, writeback_relay::portal::Doubt::Forged { .. }), "{doubt}");
}

#[tokio::test]
async fn a_revoked_agent_is_dropped_at_once_and_does_not_come_back() {
    let (relay, portal, agent) = stage().await;
    let session = agent.open().await;
    let told = portal.portal.revoke(&tenant(), agent.agent).await.unwrap();
    assert!(matches!(told, writeback_relay::portal::Told::Yes));
    closed_with(session, &relay, 4501, "revoked", 1).await;
    let bearer = agent.assertion().sign(&agent.signing).unwrap();
    refused(&relay, &agent, &bearer, SUBPROTOCOL, "agent_revoked").await;
    audited(&relay, "agent_revoked", &agent.agent.to_string());
}
