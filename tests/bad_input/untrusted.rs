//! What agents, portals and nodes write never leaves `writeback-relay` as it is: every operator's call that shows something of
//! theirs, and the node's log in both forms.

use reqwest::header::{AUTHORIZATION, USER_AGENT};
use serde_json::json;
use writeback_relay::clock::System;
use writeback_relay::protocol::frame::{FromAgent, v1};
use writeback_relay::protocol::ids::InstanceId;

use crate::support::cli::Cli;
use crate::support::eventually;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, TENANT, TestPortal};
use crate::support::untrusted::{
    Parrot, at_a_terminal, file_is_fit_to_read, hidden, hostile, is_fit_to_read, private_file, problem,
};

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");

/// An agent in service whose every text is hostile. Its session stays open.
async fn agent(relay: &Relay, portal: &TestPortal) -> (RawAgent, crate::support::raw_agent::RawSession) {
    let agent = RawAgent::new(relay);
    let code = portal.portal.invite(&agent.tenant, true).await.unwrap();
    let mut enrollment = agent.enrollment(&code);
    enrollment.name = hostile("its-host").into();
    assert_eq!(agent.redeem(portal, &enrollment).await.status, 201);
    portal.portal.agents(&agent.tenant).await.unwrap();
    let mut session = agent.connect().await;
    let FromAgent::Hello(hello) = agent.hello(InstanceId::new(&System, &System)) else { unreachable!() };
    session.send(FromAgent::Hello(v1::Hello { version: hostile("its-version"), ..hello })).await;
    session.next().await;
    let row = |check: &str, code: &str| v1::PreflightRow {
        check: hostile(check),
        target: hostile("its-target"),
        state: v1::PreflightState::Failed.into(),
        detail: hostile("its-finding"),
        remedy: hostile("its-remedy"),
        remedy_code: code.to_owned(),
        scope: None,
    };
    let rows = vec![
        row("its-check", ""),
        row("another", &hostile("its-code")),
        row("the-known", "grant_right"),
        // What no agent has an operator do.
        row("a-nodes", "same_cluster_key"),
    ];
    session.send(FromAgent::Preflight(v1::Preflight { checked_at: 1_800_000_000, rows, domains: Vec::new() })).await;
    (agent, session)
}

async fn all_is_fit(cli: &Cli, arguments: &[&str], marks: &[&str]) -> String {
    let said = cli.run(arguments).await;
    is_fit_to_read(&format!("{arguments:?}"), &said.out, &[]);
    is_fit_to_read(&format!("{arguments:?}"), &said.err, &[]);
    let said = said.out + &said.err;
    is_fit_to_read(&format!("{arguments:?}"), &said, marks);
    said
}

#[tokio::test]
async fn what_agents_say_is_shown_quoted_to_the_operator_and_their_advice_as_theirs() {
    for format in ["json", "text"] {
        let relay = Relay::start_with(&format!("[telemetry]\nlog_format = {format:?}")).await;
        let portal = relay.portal("portal-1").await;
        let (_agent, mut session) = agent(&relay, &portal).await;
        let token = relay.data_dir().join("admin.token").display().to_string();
        let url = relay.ops_url();
        let mut cli = Cli::new(RELAY, &[]);
        cli.set("WRITEBACK_OPS_URL", &url);
        cli.set("WRITEBACK_ADMIN_TOKEN_FILE", &token);
        eventually("the report is known", async || cli.run(&["status"]).await.out.contains("its-finding")).await;

        let found = ["its-host", "its-version", "its-check", "its-target", "its-finding"];
        let theirs = "it says, in its own words, which nobody has checked: \"its-remedy";
        let status =
            all_is_fit(&cli, &["status"], &[&found[..], &[theirs, "mend it: give the service account"]].concat()).await;
        assert_eq!(status.matches("its-remedy").count(), 3, "an agent's advice beside ours: {status}");
        assert!(!status.contains("the same cluster key"), "an agent advises on nodes: {status}");
        let json = all_is_fit(&cli, &["status", "--json"], &["its-remedy", "its-code"]).await;
        assert!(json.starts_with('{'), "{json}");
        let admin = ["--ops-url", &url, "--admin-token-file", &token];
        for (call, marks) in [
            (["status"].as_slice(), &found[..]),
            (&["sessions"], &["its-host", "its-version"]),
            (&["sessions", "--json"], &["its-host", "its-version"]),
            (&["agent", "list", TENANT], &["its-host"]),
            (&["tenant", "list"], &[]),
            (&["portal", "list"], &[]),
            (&["ready"], &[]),
            (&["log-level"], &[]),
            (&["log-level", "\u{202e}its-level"], &[]),
            (&["drain", "\u{202e}nobody"], &[]),
            (&["tenant", "add", "\u{202e}its-tenant"], &[]),
        ] {
            all_is_fit(&cli, call, marks).await;
            let here = if call == ["ready"] { &admin[..2] } else { &admin[..] };
            at_a_terminal(RELAY, &[call, here].concat(), &[], marks).await;
        }
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("registry.json");
        all_is_fit(&cli, &["registry", "export", &file.display().to_string()], &[]).await;
        file_is_fit_to_read(&file, &["its-host", "its-finding"]);
        assert_eq!(cli.run(&["registry", "import", &file.display().to_string()]).await.status, 0);

        // What it logs of strangers.
        session.send(FromAgent::Received(v1::Received { command: hostile("its-command") })).await;
        let garbage = portal.raw.submit(&hostile("its-jws"), 0).await;
        assert_eq!(garbage.status, 400);
        let command = json!({ "iss": hidden("its-portal"), hidden("its-claim"): 1 });
        let signed = portal.raw.key.sign("writeback-command+jwt", &command).unwrap();
        portal.raw.submit(&signed, 0).await;
        let header = hidden("its-header").into_bytes();
        let header = reqwest::header::HeaderValue::from_bytes(&header).unwrap();
        let asked = portal.raw.send(|http, relay| {
            http.get(format!("{relay}/v1/{}", hidden("its-path")))
                .header(USER_AGENT, &header)
                .header(AUTHORIZATION, &header)
        });
        asked.await;
        let mut leaving = agent(&relay, &portal).await.1;
        leaving.send(FromAgent::Leaving(v1::Leaving { reason: hostile("its-farewell") })).await;
        leaving.send_bytes(hostile("its-frame").into_bytes()).await;
        leaving.closed().await;
        is_fit_to_read(&format!("the {format} log"), &relay.log(), &["agent_enrolled"]);
    }
}

#[tokio::test]
async fn whatever_a_node_answers_is_shown_quoted_by_every_call() {
    let (_folder, file) = private_file("a-token");
    let (_other, jwk) = private_file("\u{202e}{\"\u{9b}31m\": 1}");
    let token = file.display().to_string();
    let bodies = [
        (503, problem(None).to_string(), &["its-title", "its-detail", "its-trace"][..]),
        (503, problem(Some("overloaded")).to_string(), &["The relay is overloaded (overloaded)", "its-detail"]),
        (500, hostile("its-page"), &[]),
        (200, hostile("its-answer"), &[]),
    ];
    let agent = InstanceId::new(&System, &System).to_string();
    for (status, body, marks) in bodies {
        let node = Parrot::start(status, body).await;
        let mut cli = Cli::new(RELAY, &[]);
        cli.set("WRITEBACK_OPS_URL", &node.url);
        cli.set("WRITEBACK_ADMIN_TOKEN_FILE", &token);
        let out = jwk.with_extension("out").display().to_string();
        let calls: &[&[&str]] = &[
            &["tenant", "add", TENANT],
            &["tenant", "list"],
            &["tenant", "list", "--json"],
            &["portal", "grant", "p", TENANT],
            &["portal", "withdraw", "p", TENANT],
            &["portal", "remove", "p"],
            &["portal", "list"],
            &["agent", "list", TENANT],
            &["agent", "revoke", TENANT, &agent],
            &["status"],
            &["status", "--json"],
            &["sessions"],
            &["sessions", "--json"],
            &["drain"],
            &["ready"],
            &["ready", "--json"],
            &["log-level"],
            &["log-level", "info"],
            &["registry", "export", &out],
        ];
        for call in calls {
            // Why a node is not ready is said in the same words each time: without a support code.
            let is_the_same = *call == ["ready"];
            let marks: Vec<&str> = marks.iter().copied().filter(|mark| !is_the_same || *mark != "its-trace").collect();
            all_is_fit(&cli, call, &marks).await;
        }
        all_is_fit(&cli, &["portal", "add", "p", "--tenant", TENANT, "--key", &jwk.display().to_string()], &[]).await;
        all_is_fit(&cli, &["registry", "import", &jwk.display().to_string()], &[]).await;
        let admin = ["--ops-url", &node.url, "--admin-token-file", &token];
        at_a_terminal(RELAY, &[["status"].as_slice(), &admin].concat(), &[], marks).await;
        at_a_terminal(RELAY, &["ready", "--ops-url", &node.url], &[], &[]).await;
    }
}
