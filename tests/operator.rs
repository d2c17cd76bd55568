//! The operator's commands, as an operator types them.

mod draining;
mod oidc;
mod provider;

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use writeback_relay::clock::System;
use writeback_relay::portal::Answer;
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::protocol::password::Password;

use crate::support::agent::Agent;
use crate::support::raw_agent::RawAgent;
use crate::support::relay::{Relay, TENANT, tenant};
use crate::support::{eventually, https_client};

fn run(relay: &Relay, input: &str, arguments: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_writeback-relay"))
        .args(arguments)
        .env("WRITEBACK_OPS_URL", relay.ops_url())
        .env("WRITEBACK_ADMIN_TOKEN_FILE", relay.data_dir().join("admin.token"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn done(relay: &Relay, arguments: &[&str]) -> String {
    let output = run(relay, "", arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(relay: &Relay, input: &str, arguments: &[&str]) -> String {
    let output = run(relay, input, arguments);
    assert!(!output.status.success(), "{arguments:?} succeeded");
    String::from_utf8(output.stderr).unwrap()
}

#[tokio::test]
async fn portals_are_registered_granted_withdrawn_and_removed() {
    let relay = Relay::start().await;
    let key = SigningKey::generate(&System).unwrap();
    let jwk = serde_json::to_string(key.public()).unwrap();
    done(&relay, &["tenant", "add", "fabrikam"]);
    done(&relay, &["tenant", "add", "fabrikam"]);
    assert_eq!(done(&relay, &["tenant", "list"]), format!("{TENANT}\nfabrikam\n"));

    let add = ["portal", "add", "portal-1", "--key", "-", "--tenant", TENANT];
    let output = run(&relay, &jwk, &add);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let registered = |tenants: &str| format!("portal-1  keys {}  tenants {tenants}\n", key.kid());
    assert_eq!(done(&relay, &["portal", "list"]), registered(TENANT));
    done(&relay, &["portal", "grant", "portal-1", "fabrikam"]);
    assert_eq!(done(&relay, &["portal", "list"]), registered("contoso fabrikam"));
    done(&relay, &["portal", "withdraw", "portal-1", TENANT]);
    assert_eq!(done(&relay, &["portal", "list"]), registered("fabrikam"));
    done(&relay, &["portal", "remove", "portal-1"]);
    assert_eq!(done(&relay, &["portal", "list"]), "");

    for gone in [["portal", "remove", "portal-1"].as_slice(), &["portal", "withdraw", "portal-1", TENANT]] {
        assert!(refused(&relay, "", gone).contains("there is no portal portal-1"));
    }
    assert!(refused(&relay, "{}", &add).contains("no public key as JWK"));
    assert!(refused(&relay, &key.to_jwk(), &add).contains("private key"), "a private key is not sent anywhere");
    let nowhere = refused(&relay, &jwk, &["portal", "add", "p", "--key", "-", "--tenant", "nowhere"]);
    assert!(nowhere.contains("writeback-relay tenant add nowhere"), "{nowhere}");
    assert!(refused(&relay, "", &["tenant", "add", "No!"]).contains("a-z"));
}

#[tokio::test]
async fn adding_a_portal_that_is_there_takes_nothing_away_and_whatever_does_says_what() {
    let relay = Relay::start().await;
    let (key, other) = (SigningKey::generate(&System).unwrap(), SigningKey::generate(&System).unwrap());
    let jwk = serde_json::to_string(key.public()).unwrap();
    for tenant in ["fabrikam", "tailspin"] {
        done(&relay, &["tenant", "add", tenant]);
    }
    let add = |key: &SigningKey, tenants: &[&str]| {
        let mut arguments = vec!["portal", "add", "portal-1", "--key", "-"];
        arguments.extend(tenants.iter().flat_map(|tenant| ["--tenant", tenant]));
        let output = run(&relay, &serde_json::to_string(key.public()).unwrap(), &arguments);
        let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        (output.status.success(), text)
    };
    let said = add(&key, &[TENANT, "fabrikam"]);
    assert!(said.0 && said.1.contains("is registered; may serve from now on: contoso, fabrikam"), "{said:?}");
    let said = add(&key, &["tailspin"]);
    assert!(
        said.0 && said.1.contains("may serve from now on: tailspin\nit serves contoso, fabrikam, tailspin"),
        "{said:?}"
    );
    let said = add(&key, &["tailspin"]);
    assert!(said.0 && said.1.contains("is as it was\nit serves contoso, fabrikam, tailspin"), "{said:?}");
    let before = done(&relay, &["portal", "list"]);
    assert_eq!(before, format!("portal-1  keys {}  tenants contoso fabrikam tailspin\n", key.kid()));

    // Another's key, or its own that was lost: nobody is put in its place without being asked.
    let (taken, said) = add(&other, &[TENANT]);
    assert!(!taken && said.contains(key.kid().as_str()) && said.contains("nothing was changed"), "{said}");
    assert!(said.contains("portal replace-keys portal-1") && said.contains("contoso fabrikam tailspin"), "{said}");
    assert_eq!(done(&relay, &["portal", "list"]), before);
    // A further key, beside one that is known.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("other.jwk").display().to_string();
    std::fs::write(&file, serde_json::to_string(other.public()).unwrap()).unwrap();
    let both = ["portal", "add", "portal-1", "--key", "-", "--key", &file, "--tenant", TENANT];
    let output = run(&relay, &jwk, &both);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(&format!("has one more key: {}", other.kid())), "{said}");

    let said = done(&relay, &["portal", "withdraw", "portal-1", "fabrikam"]);
    assert!(said.contains("may not serve any more: fabrikam\nit serves contoso, tailspin"), "{said}");
    let said = refused(&relay, "", &["portal", "withdraw", "portal-1", "fabrikam"]);
    assert!(said.contains("was not granted tenant fabrikam"), "{said}");
    assert!(refused(&relay, "", &["portal", "grant", "portal-1", "nowhere"]).contains("tenant add nowhere"));
    // A program that stores a whole record hears what that took away.
    let mut record = relay.admin().portals().await.unwrap().remove(0);
    record.tenants.retain(|tenant| tenant.as_str() != "tailspin");
    record.keys.truncate(1);
    let change = relay.admin().put_portal(&record).await.unwrap();
    assert_eq!(change.withdrawn, ["tailspin".parse().unwrap()]);
    assert_eq!(change.keys_dropped, [other.kid().to_string()]);
    let said = done(&relay, &["portal", "replace-keys", "portal-1", "--key", &file]);
    assert!(
        said.contains(&format!("has one more key: {}; has no longer the key: {}", other.kid(), key.kid())),
        "{said}"
    );
    assert!(said.contains("it serves contoso"), "{said}");
    let said = done(&relay, &["portal", "remove", "portal-1"]);
    assert_eq!(said, "portal portal-1 is removed; it served contoso\n");
}

#[tokio::test]
async fn two_operators_who_grant_at_the_same_time_do_not_take_away_each_others_tenant() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let admin = relay.admin();
    let tenants: Vec<String> = (0..20).map(|n| format!("tenant-{n}")).collect();
    for tenant in &tenants {
        admin.add_tenant(tenant.parse().unwrap()).await.unwrap();
    }
    let grants = tenants.iter().map(|tenant| {
        let (admin, tenant, id) = (&admin, tenant.parse().unwrap(), portal.raw.id.clone());
        async move { admin.grant(&id, &tenant).await.unwrap() }
    });
    futures_util::future::join_all(grants).await;
    assert_eq!(admin.portals().await.unwrap()[0].tenants.len(), 21);
}

#[tokio::test]
async fn an_import_says_whom_it_revokes_and_a_tenant_without_an_agent_is_told_of() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let status = || done(&relay, &["status"]);
    let said = status();
    assert!(said.contains("this tenant has no agent") && said.contains("writeback-portal invite"), "{said}");
    assert!(said.contains("1 tenant, 1 portal"), "{said}");
    let agent = RawAgent::pending(&relay, &portal).await;
    let said = status();
    assert!(said.contains("waits for approval: no reset is possible"), "{said}");
    assert!(said.contains("1 waits for approval") && said.contains("writeback-portal approve"), "{said}");
    let fingerprint = agent.keys().fingerprint(agent.agent);
    let _ = portal.portal.approve(&agent.tenant, agent.agent, &fingerprint).await.unwrap();

    let mut snapshot = relay.admin().export().await.unwrap();
    snapshot.tenants[0].agents[0].revoke();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.json").display().to_string();
    std::fs::write(&file, serde_json::to_string(&snapshot).unwrap()).unwrap();
    let said = done(&relay, &["registry", "import", &file]);
    assert!(said.contains(&agent.agent.to_string()) && said.contains("is revoked for good by this import"), "{said}");
    assert_eq!(done(&relay, &["registry", "import", &file]), "", "it takes nothing away any more");
}

#[tokio::test]
async fn an_agent_is_listed_and_revoked_and_an_exported_registry_restores_an_empty_relay() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let (kept, revoked) = (RawAgent::enrolled(&relay, &portal).await, RawAgent::enrolled(&relay, &portal).await);
    let mut session = revoked.open().await;
    assert!(done(&relay, &["sessions"]).contains(&revoked.agent.to_string()));
    done(&relay, &["agent", "revoke", TENANT, &revoked.agent.to_string()]);
    assert_eq!(session.closed().await, (4501, "revoked".to_owned()));
    let listed = done(&relay, &["agent", "list", TENANT]);
    let line = |agent: &RawAgent, status: &str| {
        format!("{}  {status}  raw  {}", agent.agent, agent.keys().fingerprint(agent.agent))
    };
    assert!(listed.contains(&line(&kept, "approved")) && listed.contains(&line(&revoked, "revoked")), "{listed}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("registry.json").display().to_string();
    done(&relay, &["registry", "export", &file]);
    // What leads to a file is written through, and stays what it is.
    let (link, before) = (folder.path().join("link"), std::fs::read(&file).unwrap());
    std::os::unix::fs::symlink(&file, &link).unwrap();
    std::fs::write(&file, "").unwrap();
    done(&relay, &["registry", "export", &link.display().to_string()]);
    assert!(link.is_symlink() && std::fs::read(&file).unwrap() == before);
    let other = Relay::start().await;
    done(&other, &["registry", "import", &file]);
    assert_eq!(done(&other, &["agent", "list", TENANT]), listed);
    assert_eq!(done(&other, &["portal", "list"]), done(&relay, &["portal", "list"]));
    std::fs::write(&file, "{}").unwrap();
    assert!(refused(&other, "", &["registry", "import", &file]).contains("no exported registry"));
}

#[tokio::test]
async fn a_nodes_log_has_a_commands_id_and_its_agent_and_no_account() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let agent = Agent::running(&relay, &portal, &["somebodys.name@corp.example"], 0).await;
    let password = Password::new("Fresh-Start-2026!".to_owned()).unwrap();
    let somebody = Subject::upn("somebodys.name@corp.example").unwrap();
    let wait = Duration::from_secs(30);
    let answer = portal.portal.reset(&tenant(), &somebody, password, Options::default(), wait).await.unwrap();
    let Answer::Concluded { outcome, .. } = answer else { panic!("{answer:?}") };
    let log = relay.log();
    let line = log.lines().find(|line| line.contains("command_submitted")).expect("it is logged");
    assert!(line.contains(&outcome.command.to_string()) && line.contains(&agent.id().to_string()), "{line}");
    assert!(!log.contains("somebodys"), "an account is in the log");
}

#[tokio::test]
async fn who_is_refused_on_the_operators_listener_is_in_the_log_with_the_address() {
    let relay = Relay::start().await;
    let url = format!("{}/admin/v1/tenants", relay.ops_url());
    let answer = https_client(None).unwrap().get(url).bearer_auth("x").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    let refused = || relay.log().lines().find(|line| line.contains("operator_refused")).map(str::to_owned);
    eventually("it is logged", || std::future::ready(refused().is_some())).await;
    assert!(refused().unwrap().contains("\"client.address\":\"127."), "{refused:?}", refused = refused());
}

#[tokio::test]
async fn who_is_not_the_operator_is_told_so() {
    let relay = Relay::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    writeback_relay::storage::PrivateFile::new(&token).replace(&"x".repeat(43)).unwrap();
    let token = token.display().to_string();
    let said = refused(&relay, "", &["tenant", "list", "--admin-token-file", &token]);
    assert!(said.contains("not the admin token"), "{said}");
    let said = refused(&relay, "", &["tenant", "list", "--admin-token-file", "/nowhere/token"]);
    assert!(said.contains("/nowhere/token"), "{said}");
    let said = refused(&relay, "", &["tenant", "list", "--ops-url", "http://127.0.0.1:1"]);
    assert!(said.contains("http://127.0.0.1:1") && said.contains("ops_listen"), "{said}");
}

#[tokio::test]
async fn a_drain_by_the_operator_and_one_by_sigterm_end_with_status_zero() {
    let mut relay = Relay::start().await;
    done(&relay, &["drain"]);
    assert!(relay.ended().await.success());
    relay.start_again().await;
    assert!(relay.terminate().await.success());
}
