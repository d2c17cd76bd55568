//! What others can make a node keep, and its store: so much, and nobody else notices.

use std::time::{Duration, Instant};

use futures_util::SinkExt;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Bytes, Message};
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::ids::{CommandId, ObjectId, TenantId};
use writeback_relay::protocol::outcome::{Code, Outcome};
use writeback_relay::protocol::rotation::Acknowledgement;

use super::{audited, counter};
use crate::support::eventually;
use crate::support::raw_agent::{RawAgent, RawSession};
use crate::support::relay::{Answered, Relay, TestPortal, tenant};

async fn stage(settings: &str) -> (Relay, TestPortal, RawAgent) {
    let relay = Relay::start_with(settings).await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    (relay, portal, agent)
}

fn hits(limit: &str) -> String {
    format!("writeback_limits_hits_total{{limit=\"{limit}\"}}")
}

/// An outcome of a command that nobody has sent, for this portal, as long as `detail` makes it.
fn invented(agent: &RawAgent, portal: &str, detail: usize) -> (CommandId, FromAgent) {
    let command = CommandId::new(&System, &System);
    let outcome = Outcome {
        iss: agent.agent,
        aud: portal.parse().unwrap(),
        tenant: agent.tenant.clone(),
        jti: ObjectId::new(&System, &System),
        command,
        iat: System.now(),
        status: Code::PasswordReset.status(),
        code: Code::PasswordReset.as_str().into(),
        event_id: Code::PasswordReset.event().id(),
        detail: "x".repeat(detail).into(),
        retry_safe: false,
        retry_at: None,
        hindrances: None,
        directory_ms: 1,
        account: None,
    };
    let jws = outcome.sign(&agent.signing).unwrap();
    (command, FromAgent::Outcome(v1::Outcome { command: command.to_string(), jws }))
}

async fn stored(session: &mut RawSession) -> String {
    match session.next().await {
        FromRelay::OutcomeStored(stored) => stored.command,
        other => panic!("OutcomeStored was expected: {other:?}"),
    }
}

/// What the ledger's files measure, in bytes.
fn ledger_bytes(relay: &Relay) -> u64 {
    let files = ["ledger.redb", "ledger.0.wal", "ledger.1.wal"].map(|name| relay.data_dir().join(name));
    files.iter().map(|file| std::fs::metadata(file).map_or(0, |file| file.len())).sum()
}

/// Resident memory of the node, in bytes.
fn resident(relay: &Relay) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", relay.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

#[tokio::test]
async fn outcomes_of_an_agent_that_nobody_has_approved_are_not_kept_and_a_genuine_one_is_taken_after_its_approval() {
    let relay = Relay::start_with("[limits]\nsession_frames_per_second = 100000").await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::pending(&relay, &portal).await;
    let mut session = agent.open().await;
    let before = ledger_bytes(&relay);
    let genuine = invented(&agent, "portal-1", 10);
    session.send(genuine.1.clone()).await;
    for n in 0..1000 {
        session.send(invented(&agent, ["portal-1", "nobody"][n % 2], 8000).1).await;
    }
    eventually("all are counted", || async { counter(&relay, &hits("unasked_outcomes")).await == 1001 }).await;
    assert_eq!(relay.admin().sessions().await.unwrap().len(), 1, "it is no fault");
    assert!(ledger_bytes(&relay) < before + 100_000, "{before}: {}", ledger_bytes(&relay));
    // Of a command, too, that is known because it was refused: nobody has asked this agent.
    let (refused, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert!(portal.raw.submit(&jws, 0).await.status >= 400);
    session.send(agent.outcome_frame(&refused, Code::PasswordReset)).await;
    eventually("it is counted", || async { counter(&relay, &hits("unasked_outcomes")).await == 1002 }).await;
    assert_eq!(portal.raw.follow(genuine.0, 0).await.status, 404);
    audited(&relay, "outcome_not_taken", "unasked_outcomes");
    assert_eq!(relay.log().matches("outcome_not_taken").count(), 1, "once for the session");

    // Its registry may have been an older copy: what the agent has kept it says again.
    drop(session);
    let fingerprint = agent.keys().fingerprint(agent.agent);
    let told = portal.portal.approve(&tenant(), agent.agent, &fingerprint).await.unwrap();
    assert!(matches!(told, writeback_relay::portal::Told::Yes));
    let mut session = agent.open().await;
    session.send(genuine.1).await;
    assert_eq!(stored(&mut session).await, genuine.0.to_string());
    portal.raw.concluded(genuine.0).await;
}

#[tokio::test]
async fn an_approved_agents_outcomes_for_a_portal_that_is_not_there_or_has_no_right_are_not_kept() {
    let (relay, _portal, agent) = stage("").await;
    let foreign = relay.portal("portal-2").await;
    relay.admin().add_tenant("fabrikam".parse().unwrap()).await.unwrap();
    relay.grant(&foreign.raw.id, foreign.raw.key.public(), &["fabrikam"]).await;
    let mut session = agent.open().await;
    let nobody = invented(&agent, "nobody", 10);
    for said in [&nobody, &invented(&agent, "portal-2", 10)] {
        session.send(said.1.clone()).await;
    }
    eventually("both are counted", || async { counter(&relay, &hits("unasked_outcomes")).await == 2 }).await;
    // The portal is there after all.
    let _registered = relay.portal("nobody").await;
    session.send(nobody.1).await;
    assert_eq!(stored(&mut session).await, nobody.0.to_string());
}

#[tokio::test]
async fn so_many_outcomes_of_commands_that_are_not_known_are_kept_for_an_agent_and_those_of_its_commands_come_through()
{
    let (relay, portal, agent) = stage("[limits]\nagent_forgotten_outcomes = 3").await;
    let mut session = agent.open().await;
    let said: Vec<_> = (0..5).map(|_| invented(&agent, "portal-1", 10)).collect();
    for (n, (command, frame)) in said.iter().enumerate() {
        session.send(frame.clone()).await;
        if n < 3 {
            assert_eq!(stored(&mut session).await, command.to_string());
        }
    }
    eventually("two are counted", || async { counter(&relay, &hits("agent_forgotten")).await == 2 }).await;
    assert_eq!(portal.raw.follow(said[4].0, 0).await.status, 404);
    // What is kept already is answered again.
    session.send(said[0].1.clone()).await;
    assert_eq!(stored(&mut session).await, said[0].0.to_string());
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    assert_eq!(stored(&mut session).await, command.jti.to_string());
}

async fn submit_to(portal: &TestPortal, to: &RawAgent) -> Answered {
    let mut command = portal.raw.command(to.agent, "jane@corp.example");
    command.tenant = to.tenant.clone();
    let (_, jws) = portal.raw.sealed(command, to.sealing.public(), "Pass-Word-2026");
    let (bearer, tenant) = (portal.raw.assertion().sign(&portal.raw.key).unwrap(), &to.tenant);
    let call = portal.raw.send(|http, relay| {
        let call = http.post(format!("{relay}/v1/tenants/{tenant}/commands")).bearer_auth(bearer).body(jws);
        call.header("content-type", "application/jose").header("prefer", "wait=0")
    });
    call.await
}

#[tokio::test]
async fn a_tenant_that_has_filled_its_part_of_the_store_gets_nothing_new_in_and_another_one_notices_nothing() {
    let (relay, portal, agent) = stage("[limits]\ntenant_stored_mib = 1").await;
    let fabrikam: TenantId = "fabrikam".parse().unwrap();
    relay.admin().add_tenant(fabrikam.clone()).await.unwrap();
    let other_portal = relay.portal("portal-2").await;
    relay.grant(&other_portal.raw.id, other_portal.raw.key.public(), &["fabrikam"]).await;
    let other = RawAgent::enrolled_in(fabrikam, &relay, &other_portal).await;
    let (mut session, mut others) = (agent.open().await, other.open().await);
    let (open, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    for _ in 0..100 {
        session.send(invented(&agent, "portal-1", 11_000).1).await;
    }
    eventually("it is full", || async { counter(&relay, &hits("tenant_stored")).await > 20 }).await;

    let refused = submit_to(&portal, &agent).await;
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rate_limited"), "{}", refused.text());
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 20);
    assert!(refused.detail().contains("limits.tenant_stored_mib"), "{}", refused.detail());
    let pending = RawAgent::pending(&relay, &portal).await;
    // What is refused for good is kept, too, and takes what room is left.
    let mut refused = 0;
    while submit_to(&portal, &pending).await.problem() != "rate_limited" {
        refused += 1;
        assert!(refused < 20, "it takes no room");
    }
    // What was taken before comes to its end.
    session.send(agent.outcome_frame(&open, Code::PasswordReset)).await;
    portal.raw.concluded(open.jti).await;
    assert_eq!(submit_to(&other_portal, &other).await.status, 202);
    others.delivery().await;
    assert!(ledger_bytes(&relay) < 16 * 1024 * 1024, "{}", ledger_bytes(&relay));
}

#[tokio::test]
async fn who_repeats_an_outcome_and_reads_no_answer_is_not_read_any_more_and_costs_a_few_frames() {
    let (relay, _portal, mut agent) = stage("[limits]\nsession_frames_per_second = 1000000").await;
    agent.receive_buffer = Some(4096);
    let mut session = agent.open().await;
    let (_, frame) = invented(&agent, "portal-1", 10);
    session.send(frame.clone()).await;
    stored(&mut session).await;
    let written = ledger_bytes(&relay);
    let before = resident(&relay);
    // More answers than the sockets between them hold.
    let bytes = Bytes::from(frame.encode_frame());
    let mut sent = 0_u32;
    while let Ok(Ok(())) = timeout(Duration::from_secs(2), session.0.send(Message::Binary(bytes.clone()))).await {
        sent += 1;
        assert!(sent < 1_000_000, "it is read for ever");
    }
    assert!(counter(&relay, &hits("session_unread")).await >= 1);
    let now = resident(&relay);
    assert!(now < before + 16 * 1024 * 1024, "{sent} outcomes: {before} bytes became {now}");
    assert_eq!(ledger_bytes(&relay), written, "what is known is not written again");
    // It is given up soon.
    eventually("the session is closed", || async { relay.admin().sessions().await.unwrap().is_empty() }).await;
}

#[tokio::test]
async fn frames_that_come_faster_than_they_may_are_read_later_whatever_they_are_and_nothing_is_lost() {
    // Twenty at once, and ten in a second.
    let (relay, portal, agent) = stage("[limits]\nsession_frames_per_second = 10").await;
    let mut session = agent.open().await;
    let beat = FromAgent::Heartbeat(v1::Heartbeat::default());
    let received = FromAgent::Received(v1::Received { command: CommandId::new(&System, &System).to_string() });
    let preflight = FromAgent::Preflight(v1::Preflight { checked_at: 1, rows: Vec::new() });
    let frames: Vec<_> = [beat, received, preflight].map(|frame| Message::Binary(frame.encode_frame().into())).to_vec();
    for kind in frames.into_iter().chain([Message::Ping(Bytes::new())]) {
        let begun = Instant::now();
        for _ in 0..40 {
            session.0.send(kind.clone()).await.unwrap();
        }
        let (command, frame) = invented(&agent, "portal-1", 10);
        session.send(frame).await;
        assert_eq!(stored(&mut session).await, command.to_string());
        portal.raw.concluded(command).await;
        let took = begun.elapsed();
        assert!(took >= Duration::from_millis(1500), "{kind:?}: 40 of them took {took:?}");
    }
    assert!(counter(&relay, &hits("session_frames")).await > 20);
}

#[tokio::test]
async fn an_agent_that_comes_back_with_many_outcomes_is_not_slowed() {
    let (relay, _portal, agent) = stage("").await;
    let mut session = agent.open().await;
    for _ in 0..500 {
        session.send(invented(&agent, "portal-1", 500).1).await;
    }
    for _ in 0..500 {
        stored(&mut session).await;
    }
    for limit in ["session_frames", "session_unread", "agent_forgotten", "tenant_stored"] {
        assert_eq!(counter(&relay, &hits(limit)).await, 0, "{limit}");
    }
}

#[tokio::test]
async fn acknowledgements_without_end_are_looked_at_sixteen_times_and_then_now_and_again() {
    let (relay, portal, agent) = stage("").await;
    let mut session = agent.open().await;
    let acknowledgement = Acknowledgement {
        iss: agent.agent,
        aud: portal.raw.id.clone(),
        tenant: tenant(),
        seq: 7,
        key: portal.raw.key.public().thumbprint(),
        iat: System.now(),
    };
    let jws = acknowledgement.sign(&agent.signing).unwrap();
    for _ in 0..20 {
        session.send(FromAgent::Acknowledgement(v1::Acknowledgement { jws: jws.clone() })).await;
    }
    eventually("four are too many", || async { counter(&relay, &hits("session_acknowledgements")).await == 4 }).await;
    let (command, frame) = invented(&agent, "portal-1", 10);
    session.send(frame).await;
    assert_eq!(stored(&mut session).await, command.to_string());
}

#[tokio::test]
async fn an_agent_is_asked_to_check_a_dozen_times_a_minute_and_another_one_all_the_same() {
    let (relay, portal, agent) = stage("").await;
    let other = RawAgent::enrolled(&relay, &portal).await;
    let _sessions = [agent.open().await, other.open().await];
    let ask = async |agent: &RawAgent| {
        let (bearer, id) = (portal.raw.assertion().sign(&portal.raw.key).unwrap(), agent.agent);
        let call = portal.raw.send(|http, relay| {
            http.post(format!("{relay}/v1/tenants/contoso/agents/{id}/preflight")).bearer_auth(bearer)
        });
        call.await
    };
    for _ in 0..12 {
        assert_eq!(ask(&agent).await.status, 202);
    }
    let refused = loop {
        let answered = ask(&agent).await;
        // One more is let in every five seconds.
        if answered.status != 202 {
            break answered;
        }
    };
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rate_limited"), "{}", refused.text());
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(counter(&relay, &hits("agent_checks")).await, 1);
    assert_eq!(ask(&other).await.status, 202);
}

#[tokio::test]
async fn commands_that_are_refused_for_good_count_as_commands_of_their_tenant() {
    let (relay, portal, _) = stage("[limits]\ntenant_commands_per_second = 1").await;
    let pending = RawAgent::pending(&relay, &portal).await;
    let refused = loop {
        let answered = submit_to(&portal, &pending).await;
        if answered.problem() != "agent_pending" {
            break answered;
        }
    };
    assert_eq!((refused.status, refused.problem().as_str()), (429, "rate_limited"), "{}", refused.text());
    assert!(counter(&relay, &hits("tenant_rate")).await >= 1);
}
