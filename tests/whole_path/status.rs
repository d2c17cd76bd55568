//! What the host is told of its agent: by `status` in three lines, and by a bundle for whoever helps.

use super::{NEW, OLD, Stage};
use crate::support::agent::{Agent, demo};
use crate::support::eventually;
use crate::support::portal_cli::PortalCli;
use crate::support::relay::Relay;
use crate::support::samba::{Ou, SERVICE_PASSWORD, dc};

/// What stands behind a name in the first lines.
async fn says(agent: &Agent, name: &str, what: &str) {
    eventually(&format!("{name}: {what}"), || async {
        let said = agent.status().await.out;
        said.lines().take(4).any(|line| line.strip_prefix(name).is_some_and(|value| value.contains(what)))
    })
    .await;
}

#[tokio::test]
async fn the_first_lines_say_whether_it_runs_is_connected_and_approved_and_what_the_check_found() {
    let mut relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let mut agent = Agent::new(&relay);
    for call in ["status", "run", "check"] {
        let said = agent.call(&[call]).await;
        assert!(said.err.contains("writeback-agent setup"), "{call}: {said:?}");
    }
    agent.configure(&demo(&agent.home(), &["jane@corp.example"], 0));
    let said = agent.enroll(&portal.invite().await).await;
    says(&agent, "running", "no; start it").await;
    agent.start();
    says(&agent, "running", "process ").await;
    says(&agent, "connected", "1 session (").await;
    says(&agent, "connected", "waits for approval: writeback-portal approve contoso ").await;
    says(&agent, "last check", "0 failed, 1 warning, 1 ok; demo directory at demo: 1 account in memory").await;
    assert_eq!(portal.approve(agent.id(), &super::fingerprint(&said.out)).await.status, 0);
    says(&agent, "connected", "; approved").await;
    eventually("it is usable", || async { portal.availability().await.status == 0 }).await;
    assert_eq!(portal.reset("jane@corp.example", NEW, &[]).await.status, 0);
    assert_eq!(portal.reset("nobody@corp.example", NEW, &[]).await.status, 2);
    says(&agent, "commands", "1 done and 1 not done since it runs; 0 without an outcome, 0 outcomes").await;
    let events = agent.status().await.out;
    assert!(events.contains("support code=") && !events.contains("trace"), "{events}");

    relay.terminate().await;
    says(&agent, "connected", "not to https://").await;
    // One that was killed leaves its socket behind, and does not run.
    agent.kill();
    says(&agent, "running", "no; start it").await;
    agent.start();
    says(&agent, "running", "process ").await;
    assert!(agent.terminate().await.success());
    assert!(!agent.home().join("agent.sock").exists());
}

#[tokio::test]
async fn a_bundle_tells_of_the_check_the_session_the_names_the_clocks_and_the_controllers() {
    let stage = Stage::new().await;
    let user = dc().create_user("bundle", Ou::Staff, OLD).await;
    assert_eq!(stage.portal.reset(&user.upn, NEW, &[]).await.status, 0);
    let said = stage.agent.call(&["support-bundle", "-"]).await;
    assert_eq!(said.status, 0, "{said:?}");
    let (mut parts, mut rest) = (std::collections::BTreeMap::new(), said.out.as_str());
    while let Some((_, part)) = rest.split_once("\n==== ") {
        let (name, text) = part.split_once(" ====\n").unwrap();
        parts.insert(name, text.split("\n==== ").next().unwrap());
        rest = text;
    }
    let controller = dc().ldaps_url().trim_start_matches("ldaps://").to_owned();
    for (part, told) in [
        ("running agent", vec!["\"sessions\"", "\"approved\": true", "Reset Password", "checked at "]),
        ("check", vec!["FOUND", "can log on", "it answers; its clock is "]),
        ("clocks", vec!["s ahead of this host's", controller.as_str()]),
        ("domain controllers", vec![controller.as_str(), "Samba"]),
        ("way to the relay", vec!["name servers: ", "proxy: none", "127."]),
    ] {
        for told in told {
            assert!(parts[part].contains(told), "{part}: {told}: {}", said.out);
        }
    }
    for secret in [SERVICE_PASSWORD, NEW, OLD] {
        assert!(!said.out.contains(secret));
    }
}
