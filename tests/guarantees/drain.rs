//! A node that is told to stop: it goes down in its time, and takes nobody's answer with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::SinkExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;
use writeback_relay::clock::System;
use writeback_relay::net::tls_client;
use writeback_relay::protocol::frame::FromRelay;
use writeback_relay::protocol::ids::InstanceId;
use writeback_relay::protocol::outcome::Code;

use crate::support::raw_agent::RawAgent;
use crate::support::relay::Relay;
use crate::support::{deadline, eventually};

#[tokio::test]
async fn a_node_that_stops_waits_for_a_command_whose_caller_hung_up() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let caller = tokio::spawn({
        let raw = portal.raw.clone();
        async move { raw.submit(&jws, 30).await }
    });
    session.delivery().await;
    caller.abort();

    relay.signal_to_stop();
    let FromRelay::GoAway(go_away) = session.next().await else { panic!("GoAway was expected") };
    assert_eq!(go_away.reason, "drain");
    session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    assert!(matches!(session.next().await, FromRelay::OutcomeStored(_)), "it is still there to store it");
    assert_eq!(session.closed().await, (1012, "drain".to_owned()));
    assert!(relay.ended().await.success());
    relay.start_again().await;
    assert_eq!(portal.raw.concluded(command.jti).await.command, command.jti);
}

#[tokio::test]
async fn a_node_that_stops_tells_new_callers_so_and_does_not_wait_for_those_who_only_look() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (first, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    let looking = tokio::spawn({
        let raw = portal.raw.clone();
        async move { raw.follow(first.jti, 300).await }
    });
    relay.signal_to_stop();
    assert!(matches!(session.next().await, FromRelay::GoAway(_)));
    let looked = deadline("those who look are answered", looking).await.unwrap();
    assert_eq!(looked.status, 200);
    let (_, second) = portal.raw.reset(agent.agent, agent.sealing.public(), "joe@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&second, 0).await.problem(), "draining");
    session.send(agent.outcome_frame(&first, Code::PasswordReset)).await;
    assert!(relay.ended().await.success());
}

#[tokio::test]
async fn a_node_whose_agents_do_not_answer_stops_in_its_time() {
    let mut relay = Relay::start_with("[drain]\ntimeout_seconds = 2").await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    let begun = Instant::now();
    assert!(relay.terminate().await.success());
    assert!(begun.elapsed() < Duration::from_secs(2 + 2 + 2), "{:?}", begun.elapsed());
    relay.start_again().await;
    let mut again = agent.open().await;
    assert_eq!(again.delivery().await.attempt, 2, "it is asked about again");
    again.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    eventually("it is concluded", || async { portal.raw.follow(command.jti, 0).await.text().contains("concluded") })
        .await;
}

#[tokio::test]
async fn a_session_that_was_asked_to_move_and_is_closed_in_order_was_not_lost() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let [moving, losing] = [RawAgent::enrolled(&relay, &portal).await, RawAgent::enrolled(&relay, &portal).await];
    let instance = InstanceId::new(&System, &System);
    let mut staying = moving.open().await;
    let (mut moved, mut lost) = (losing.open_as(instance).await, losing.open_as(instance).await);
    let (command, jws) = portal.raw.reset(moving.agent, moving.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    staying.delivery().await;
    let ends = async |reason: &str| {
        let series = format!("writeback_session_ends_total{{reason=\"{reason}\"}}");
        let metrics = relay.metrics().await;
        metrics.lines().find_map(|line| line.strip_prefix(&series).map(|count| count.trim().to_owned()))
    };
    // Before anybody was asked to go, it is no move.
    let mut unasked = losing.open_as(instance).await;
    unasked.0.close(None).await.unwrap();
    eventually("it has ended", || async { ends("dropped").await.as_deref() == Some("1") }).await;
    relay.signal_to_stop();
    for session in [&mut staying, &mut moved, &mut lost] {
        assert!(matches!(session.next().await, FromRelay::GoAway(_)));
    }
    moved.0.close(None).await.unwrap();
    drop(lost);
    eventually("both have ended", || async { ends("moved").await.as_deref() == Some("1") }).await;
    eventually("both have ended", || async { ends("lost").await.as_deref() == Some("1") }).await;
    assert!(relay.log().contains("\"reason\":\"moved\""));
    staying.send(moving.outcome_frame(&command, Code::PasswordReset)).await;
}

/// A busy host reads the close frame only when the agent has given up waiting for the answer, and is gone.
#[tokio::test]
async fn a_session_that_is_closed_in_order_was_not_lost_although_its_connection_was_reset_before_the_answer() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    relay.freeze();
    session.0.send(Message::Close(None)).await.unwrap();
    session.0.get_ref().get_ref().0.set_zero_linger().unwrap();
    drop(session);
    relay.thaw();
    eventually("it has ended", || async { relay.log().contains("session_closed") }).await;
    let metrics = relay.metrics().await;
    let ends: Vec<_> = metrics.lines().filter(|line| line.starts_with("writeback_session_ends_total{")).collect();
    assert_eq!(ends, ["writeback_session_ends_total{reason=\"dropped\"} 1"], "{}", relay.log());
}

#[tokio::test]
async fn at_the_second_signal_a_node_stops_at_once() {
    let mut relay = Relay::start_with("[drain]\ntimeout_seconds = 3600").await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    relay.signal_to_stop();
    assert!(matches!(session.next().await, FromRelay::GoAway(_)), "it waits for the command");
    relay.signal_to_stop();
    assert!(!relay.ended().await.success(), "it did not do what was to be done");
    assert!(relay.log().contains("at the second signal"));
}

#[tokio::test]
async fn a_node_that_stops_closes_idle_connections_and_answers_once_on_new_ones_so_that_callers_go_elsewhere() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let mut session = agent.open().await;
    let (_, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    let mut idle = connect(&relay).await;
    idle.write_all(REQUEST).await.unwrap();
    let mut answer = [0; 12];
    deadline("an answer", idle.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 401");

    relay.signal_to_stop();
    assert!(matches!(session.next().await, FromRelay::GoAway(_)));
    everything(idle).await;
    let mut new = connect(&relay).await;
    new.write_all(REQUEST).await.unwrap();
    let said = everything(new).await.to_lowercase();
    assert!(said.starts_with("http/1.1 401") && said.contains("connection: close"), "{said}");
}

const REQUEST: &[u8] = b"GET /v1/tenants/contoso/agents HTTP/1.1\r\nhost: relay\r\n\r\n";

async fn connect(relay: &Relay) -> TlsStream<TcpStream> {
    let tls = TlsConnector::from(Arc::new(tls_client(Some(&relay.ca_file())).unwrap()));
    let tcp = TcpStream::connect(relay.public_addr()).await.unwrap();
    tls.connect(relay.public_addr().ip().into(), tcp).await.unwrap()
}

/// All that comes until the relay closes the connection.
async fn everything(mut stream: TlsStream<TcpStream>) -> String {
    let mut text = Vec::new();
    // One that is closed without a goodbye is closed all the same.
    let _ = deadline("the relay closes the connection", stream.read_to_end(&mut text)).await;
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_drain_that_would_be_cut_off_is_warned_of_at_the_start() {
    let relay = Relay::start_with("[drain]\ntimeout_seconds = 28\ntermination_grace_period_seconds = 30").await;
    let log = relay.log();
    let warning = log.lines().find(|line| line.contains("WARN")).unwrap_or_default();
    assert!(warning.contains("drain.timeout_seconds = 28"), "{log}");
    assert!(warning.contains("drain.termination_grace_period_seconds = 30"), "{log}");
}
