//! The three programs, as scripts run them: with `--json` there is one document on standard output, however it ends.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tempfile::TempDir;
use writeback_relay::storage::PrivateFile;

use crate::support::agent::{Agent, demo};
use crate::support::cli::{Cli, Said};
use crate::support::portal_cli::PortalCli;
use crate::support::relay::{Relay, TENANT};

const RELAY: &str = env!("CARGO_BIN_EXE_writeback-relay");
const AGENT: &str = env!("CARGO_BIN_EXE_writeback-agent");
const PORTAL: &str = env!("CARGO_BIN_EXE_writeback-portal");

const ID: &str = "019b76da-a801-7000-8000-00000000000a";

/// A call of each command that takes `--json`, where there is neither a relay nor anything in the folder.
const RELAYS: &[&str] = &[
    "tenant add fabrikam",
    "tenant list",
    "portal add portal-1 --key KEY --tenant contoso",
    "portal grant portal-1 contoso",
    "portal withdraw portal-1 contoso",
    "portal remove portal-1",
    "portal replace-keys portal-1 --key KEY",
    "portal list",
    "agent list contoso",
    "agent revoke contoso ID",
    "agent forget contoso ID",
    "status",
    "sessions",
    "drain",
    "ready",
    "log-level",
    "registry export /dev/null",
    "registry import /dev/null",
    "registry accept",
];
const AGENTS: &[&str] = &["enroll wb1.x.y", "check", "events --id none", "rotate-keys", "trust --list"];
const PORTALS: &[&str] = &[
    "init --id no!portal --relay https://relay.example",
    "public-key",
    "invite contoso",
    "agents contoso",
    "approve contoso ID --fingerprint x",
    "revoke contoso ID",
    "check contoso ID",
    "rotate-keys",
    "availability contoso",
    "reset contoso jane@corp.example",
    "change contoso jane@corp.example",
    "unlock contoso jane@corp.example",
    "sent contoso",
    "resume",
    "status contoso ID",
];

/// What runs until it is stopped, asks people, or writes text for them and nothing else.
const FOR_PEOPLE: &[&str] = &[
    "relay run",
    "relay demo",
    "relay openapi",
    "relay metrics",
    "agent run",
    "agent status",
    "agent grant",
    "agent setup",
    "agent support-bundle",
];

/// A call that has failed.
fn failed(arguments: &str, said: &Said) -> Value {
    let error: Value = said.json();
    assert!(said.status != 0, "{arguments}: {said:?}");
    assert_eq!(error["result"], "error", "{arguments}: {said:?}");
    assert!(!error["message"].as_str().unwrap().is_empty(), "{arguments}: {said:?}");
    // The log is not meant.
    assert!(!said.err.lines().any(|line| line.starts_with("writeback-") || line.starts_with("error:")), "{said:?}");
    error
}

async fn fails(cli: &Cli, arguments: &str) -> Value {
    let words: Vec<_> = arguments.split(' ').chain(["--json"]).collect();
    failed(arguments, &cli.run(&words).await)
}

/// The names behind `Commands:` in a help.
async fn commands(cli: &Cli, of: &[&str]) -> Vec<String> {
    let help = cli.run(&[of, &["--help"]].concat()).await.out;
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ").filter(|line| !line.starts_with(' ')));
    let names = names.map(|line| line.split_whitespace().next().unwrap().to_owned());
    names.filter(|name| name != "help").collect()
}

#[tokio::test]
async fn whatever_fails_says_so_in_json_and_no_command_is_forgotten() {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let token = path("token");
    PrivateFile::new(&token).replace(&"x".repeat(43)).unwrap();
    std::fs::write(
        path("key"),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "ac9HWOvstwzmnJ-vk_w3sQGGQ_01nUzHFv1IEBgviIg" }).to_string(),
    )
    .unwrap();
    let mut relay = Cli::new(RELAY, &[]);
    relay.set("WRITEBACK_OPS_URL", "http://127.0.0.1:1");
    relay.set("WRITEBACK_ADMIN_TOKEN_FILE", &token);
    let agent = Cli::new(AGENT, &["--home", &path("agent")]);
    std::fs::create_dir(path("agent")).unwrap();
    let portal = Cli::new(PORTAL, &["--home", &path("portal")]);

    let mut tried = BTreeSet::new();
    for (program, cli, calls) in [("relay", &relay, RELAYS), ("agent", &agent, AGENTS), ("portal", &portal, PORTALS)] {
        for call in calls {
            fails(cli, &call.replace("KEY", &path("key")).replace("ID", ID)).await;
            tried.insert(format!("{program} {}", call.split(' ').next().unwrap()));
            let two: Vec<_> = call.split(' ').take(2).collect();
            tried.insert(format!("{program} {}", two.join(" ")));
        }
        let unknown = fails(cli, "no-such-command").await;
        assert!(unknown["message"].as_str().unwrap().contains("no-such-command"), "{unknown}");
        for name in commands(cli, &[]).await {
            let below = commands(cli, &[&name]).await;
            let names = if below.is_empty() {
                vec![name]
            } else {
                below.iter().map(|below| format!("{name} {below}")).collect()
            };
            for name in names.iter().map(|name| format!("{program} {name}")) {
                assert!(tried.contains(&name) || FOR_PEOPLE.contains(&name.as_str()), "{name} is not tried");
            }
        }
    }
    // Without it, people are told in a line.
    let said = portal.run(&["agents", TENANT]).await;
    assert!(said.out.is_empty() && said.err.starts_with("writeback-portal: "), "{said:?}");
}

#[tokio::test]
async fn what_the_relay_refuses_has_its_code_and_the_support_code() {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let error = failed("agents", &portal.run(&["agents", "fabrikam", "--json"]).await);
    let expected = (json!("tenant_not_granted"), json!(403), json!(true));
    assert_eq!((error["code"].clone(), error["status"].clone(), error["retry_safe"].clone()), expected);
    assert_eq!(error["trace_id"].as_str().unwrap().len(), 32);
    let mut operator = Cli::new(RELAY, &[]);
    operator.set("WRITEBACK_OPS_URL", &relay.ops_url());
    operator.set("WRITEBACK_ADMIN_TOKEN_FILE", &relay.data_dir().join("admin.token").display().to_string());
    assert_eq!(fails(&operator, "portal remove nobody").await["code"], "not_found");
    let agent = Agent::new(&relay);
    let code = portal.invite().await;
    assert_eq!(agent.enroll(&code).await.status, 0);
    let second = Agent::new(&relay);
    assert_eq!(failed("enroll", &second.call(&["enroll", &code, "--json"]).await)["code"], "invitation_used");
}

#[tokio::test]
async fn what_is_done_is_a_document_too() {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let mut operator = Cli::new(RELAY, &[]);
    operator.set("WRITEBACK_OPS_URL", &relay.ops_url());
    operator.set("WRITEBACK_ADMIN_TOKEN_FILE", &relay.data_dir().join("admin.token").display().to_string());
    let done = async |arguments: &str| {
        let words: Vec<_> = arguments.split(' ').chain(["--json"]).collect();
        let said = operator.run(&words).await;
        assert_eq!(said.status, 0, "{said:?}");
        said.json()
    };
    assert_eq!(done("tenant add fabrikam").await, json!({ "result": "done" }));
    assert_eq!(done("tenant list").await[1]["tenant"], "fabrikam");
    assert_eq!(done("portal list").await[0]["tenants"], json!([TENANT]));
    assert_eq!(done("ready").await, json!({ "result": "ready", "says": "ok" }));
    assert!(done("log-level").await["level"].is_string());
    assert_eq!(done("registry export /dev/stdout").await["version"], 1);

    let invited = portal.run(&["invite", TENANT, "--json"]).await.json();
    let mut agent = Agent::new(&relay);
    agent.configure(&demo(&agent.home(), &["jane@corp.example"], 0));
    let enrolled = agent.call(&["enroll", invited["code"].as_str().unwrap(), "--json"]).await.json();
    let (id, fingerprint) = (enrolled["agent"].as_str().unwrap(), enrolled["fingerprint"].as_str().unwrap());
    assert_eq!(agent.call(&["trust", "--list", "--json"]).await.json()[0]["portal"], "portal-1");
    let approve = ["approve", TENANT, id, "--fingerprint", fingerprint, "--json"];
    let approved = portal.run(&approve).await;
    assert_eq!(approved.json(), json!({ "agent": id, "standing": "trusted", "relay_told": true }));
    assert_eq!(done(&format!("agent list {TENANT}")).await[0]["fingerprint"], fingerprint);
    agent.start();
    let answer = portal.reset("jane@corp.example", "Fresh-Start-2026!", &["--json"]).await;
    let answered = answer.json();
    // It may not be connected yet.
    assert!(["concluded", "undeliverable"].contains(&answered["result"].as_str().unwrap()), "{answer:?}");
    assert_eq!(portal.run(&["resume", "--json"]).await.json(), json!([]));
    let sent = portal.run(&["sent", TENANT, "--agent", id, "--json"]).await.json();
    for command in sent.as_array().unwrap() {
        assert_eq!((&command["agent"], &command["account"]), (&json!(id), &json!("jane@corp.example")));
    }
    assert_eq!(agent.call(&["rotate-keys", "--json"]).await.json()["seq"], 1);
    let revoked = portal.run(&["revoke", TENANT, id, "--json"]).await;
    assert_eq!(revoked.json(), json!({ "agent": id, "standing": "revoked", "relay_told": true }));
    // `status` tells what is wrong by its exit status, and in the same document.
    let status = operator.run(&["status", "--json"]).await;
    assert!(status.json()["troubles"].is_array(), "{status:?}");
}
