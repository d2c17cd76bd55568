//! What is checked in about metrics is what a node exports.

use std::collections::BTreeSet;
use std::path::Path;

use crate::support::https_client;
use writeback_relay::protocol::api::PreflightState;
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::outcome::Code;
use writeback_relay::protocol::problem::ProblemCode;
use writeback_relay::relay::ledger::Undelivered;
use writeback_relay::telemetry::metrics::instruments;

use crate::support::agent::{Agent, demo};
use crate::support::cluster::Cluster;
use crate::support::raw_agent::RawAgent;
use crate::support::redis::Redis;
use crate::support::relay::{Relay, tenant};
use crate::support::{eventually, own_address};

#[test]
fn the_list_of_metrics_is_what_the_program_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let checked_in = std::fs::read_to_string(file).unwrap();
    assert!(
        checked_in == instruments::document(),
        "docs/metrics.md has drifted; run: cargo run -- metrics > docs/metrics.md"
    );
}

#[tokio::test]
async fn a_node_exports_nothing_that_is_not_in_the_list_and_says_how_it_is() {
    let cluster = Cluster::start(2, Redis::single().await).await;
    cluster.nodes[0].portal("portal-1").await;
    let known: BTreeSet<String> = instruments::all().map(|metric| metric.exported()).collect();
    eventually("the node has heard itself", || async {
        cluster.nodes[0].metrics().await.contains("writeback_bus_round_trip_duration_seconds_count")
    })
    .await;
    let metrics = cluster.nodes[0].metrics().await;
    for name in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(known.contains(name), "{name} is not in docs/metrics.md");
    }
    let value = |series: &str| value_of(&metrics, series);
    let version = concat!("version=\"", env!("CARGO_PKG_VERSION"), "\"} 1");
    let build = metrics.lines().find(|line| line.starts_with("writeback_build_info{revision=\"")).unwrap();
    assert!(build.ends_with(version), "{build}");
    assert!(value("writeback_ready") > 0.5 && value("writeback_draining") < 0.5);
    assert!(value("writeback_bus_probe_age_seconds") < 60.0);
    assert!(value("writeback_tls_certificate_remaining_seconds") > 24.0 * 3600.0);
    assert!(value("writeback_store_duration_seconds_count{purpose=\"registry\",store=\"redis\"}") > 0.5);
    // Whatever a node looks at by itself in ten seconds, a store that does everything has answered.
    let errors = |metrics: &str| {
        let errors = metrics.lines().filter(|line| line.starts_with("writeback_store_errors_total{"));
        errors.filter(|line| !line.ends_with(" 0")).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("it has looked at everything", async || {
        value_of(&cluster.nodes[0].metrics().await, "writeback_redis_round_trips_total{purpose=\"writes\"}") > 40.0
    })
    .await;
    assert_eq!(errors(&cluster.nodes[0].metrics().await), [""; 0]);
    cluster.redis.kill(6379).await;
    eventually("a store that is away is counted", || async { !errors(&cluster.nodes[1].metrics().await).is_empty() })
        .await;
}

#[tokio::test]
async fn an_agent_tells_this_host_alone_what_it_counts() {
    let (relay, address) = (Relay::start().await, own_address());
    let portal = relay.portal("portal-1").await;
    let mut agent = Agent::new(&relay);
    agent.configure(&format!("[telemetry]\nmetrics_listen = \"{address}:9444\"\n{}", demo(&agent.home(), &[], 0)));
    let code = portal.portal.invite(&tenant(), true).await.unwrap();
    assert_eq!(agent.enroll(&code.to_text().unwrap()).await.status, 0);
    agent.start();
    let http = https_client(None).unwrap();
    let get = async |path: &str| {
        let answer = http.get(format!("http://{address}:9444{path}")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.unwrap()))
    };
    eventually("the agent has a session, and says so", async || {
        get("/metrics").await.is_some_and(|(_, text)| text.contains("writeback_agent_sessions 1"))
    })
    .await;
    let (status, text) = get("/metrics").await.unwrap();
    assert_eq!(status, 200);
    assert!(text.contains("writeback_agent_build_info{revision=") && text.contains("event_id=\"31015\""), "{text}");
    assert!(text.contains("\nprocess_cpu_seconds_total ") && text.contains("\nprocess_open_fds "), "{text}");
    assert_eq!(get("/").await.unwrap().0, 404);
    let document = include_str!("../../docs/agent.md");
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(document.contains(&format!("`{name}`")), "docs/agent.md has no {name}");
    }
}

#[tokio::test]
async fn whatever_may_happen_to_a_command_is_seen_not_to_have_happened_yet() {
    let relay = Relay::start().await;
    let metrics = relay.metrics().await;
    let zero = |series: &str| assert!(metrics.contains(&format!("{series} 0\n")), "no {series} in {metrics}");
    for end in Undelivered::ALL.iter().map(|end| end.as_str()).chain(["concluded"]) {
        zero(&format!("writeback_command_ends_total{{state=\"{end}\"}}"));
    }
    for state in [PreflightState::Ok, PreflightState::Warning, PreflightState::Failed] {
        zero(&format!("writeback_session_preflights{{state=\"{}\"}}", state.as_str()));
    }
    for code in ProblemCode::ALL {
        zero(&format!("writeback_problems_total{{code=\"{}\"}}", code.as_str()));
        let submit = format!("writeback_submit_failures_total{{code=\"{}\"}}", code.as_str());
        assert_eq!(metrics.contains(&submit), code.status() >= 500, "{submit}");
    }
    zero("writeback_bus_messages_dropped_total");
    for reason in ["malformed", "signature", "stale", "replayed"] {
        zero(&format!("writeback_bus_messages_refused_total{{reason=\"{reason}\"}}"));
    }
    for result in ["done", "failed", "timeout", "overloaded"] {
        zero(&format!("writeback_tls_handshakes_total{{result=\"{result}\"}}"));
    }
    zero("writeback_limits_hits_total{limit=\"memory\"}");
    zero("writeback_outcomes_total{code=\"unknown\",status=\"unknown\"}");
    assert_eq!(metrics.matches("\nwriteback_outcomes_total{").count(), Code::ALL.len());
}

#[tokio::test]
async fn a_submit_that_fails_is_counted_and_no_other_request_is() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let (command, jws) = portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    assert_eq!(portal.raw.submit(&jws, 0).await.problem(), "no_agent");
    // Neither a question what became of it is one, nor a portal's mistake.
    assert_eq!(portal.raw.follow(command.jti, 0).await.status, 200);
    assert_eq!(portal.raw.submit("no command", 0).await.status, 400);
    assert_eq!(value(&relay, "writeback_submit_failures_total{code=\"no_agent\"}").await, Some(1.0));
    assert_eq!(value(&relay, "writeback_problems_total{code=\"malformed\"}").await, Some(1.0));
    let failures = relay.metrics().await;
    let failures = failures.lines().filter(|line| line.starts_with("writeback_submit_failures_total{"));
    assert_eq!(failures.filter(|line| !line.ends_with(" 0")).count(), 1);
}

/// How far a series is that is there.
fn value_of(metrics: &str, series: &str) -> f64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in {metrics}")).parse().unwrap()
}

/// How far this series is; nothing if there is none.
async fn value(relay: &Relay, series: &str) -> Option<f64> {
    let metrics = relay.metrics().await;
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

#[tokio::test]
async fn a_commands_life_is_counted_and_so_is_how_far_a_drain_is() {
    let mut relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = RawAgent::enrolled(&relay, &portal).await;
    let reset = || portal.raw.reset(agent.agent, agent.sealing.public(), "jane@corp.example", "Pass-Word-2026");
    let seen = async |series: &str, wanted: f64| {
        eventually(&format!("{series} {wanted}"), async || value(&relay, series).await == Some(wanted)).await;
    };
    assert_eq!(portal.raw.submit(&reset().1, 0).await.problem(), "no_agent");
    seen("writeback_command_ends_total{state=\"no_agent\"}", 1.0).await;

    let mut session = agent.open().await;
    let (command, jws) = reset();
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    seen("writeback_sessions", 1.0).await;
    seen("writeback_commands_in_flight", 1.0).await;
    session.send(FromAgent::Received(v1::Received { command: command.jti.to_string() })).await;
    session.send(agent.outcome_frame(&command, Code::PasswordReset)).await;
    assert!(matches!(session.next().await, FromRelay::OutcomeStored(_)));
    seen("writeback_commands_in_flight", 0.0).await;
    seen("writeback_commands_total{result=\"new\"}", 2.0).await;
    seen("writeback_command_ends_total{state=\"concluded\"}", 1.0).await;
    seen("writeback_outcomes_total{code=\"password_reset\",status=\"succeeded\"}", 1.0).await;
    seen("writeback_command_duration_seconds_count", 1.0).await;
    for state in ["accepted", "delivering", "received"] {
        seen(&format!("writeback_command_state_duration_seconds_count{{state=\"{state}\"}}"), 1.0).await;
    }

    let (last, jws) = reset();
    assert_eq!(portal.raw.submit(&jws, 0).await.status, 202);
    session.delivery().await;
    relay.signal_to_stop();
    seen("writeback_draining", 1.0).await;
    seen("writeback_ready", 0.0).await;
    // A session and a command, and none of them is gone.
    seen("writeback_drain_progress_ratio", 0.0).await;
    session.send(agent.outcome_frame(&last, Code::PasswordReset)).await;
    assert!(relay.ended().await.success());
}
