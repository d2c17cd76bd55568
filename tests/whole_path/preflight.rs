//! A right that is missing: everybody hears of it before a reset fails, and that it is mended.

use serde_json::Value;

use super::{NEW, OLD, enroll_and_approve, only_new_logs_on};
use crate::support::agent::{Agent, samba_in};
use crate::support::eventually;
use crate::support::portal_cli::PortalCli;
use crate::support::relay::{Relay, TENANT};
use crate::support::samba::dc;

/// All of the four rights but Reset Password.
const OTHERS: [&str; 3] = [
    "CR;ab721a53-1e2f-11d0-9819-00aa0040529b",
    "WP;28630ebf-41d5-11d1-a9c1-0000f80367c1",
    "WP;bf967a0a-0de6-11d0-a285-00aa003049e2",
];

fn about_rights(agent: &Agent) -> Vec<Value> {
    agent.events().into_iter().filter(|event| event["event_id"] == 33004).collect()
}

#[tokio::test]
async fn a_right_that_is_missing_is_known_before_a_reset_fails_and_so_is_that_it_is_mended() {
    let unit = dc().create_unit("foreseen", dc().base_dn()).await;
    let service = dc().create_service("svc-foreseen").await;
    let user = dc().create_user_in("foreseen", &unit, OLD).await;
    let entry = |right: &str| format!("(OA;CIIO;{right};bf967aba-0de6-11d0-a285-00aa003049e2;{})", service.sid);
    dc().permit(&unit, &OTHERS.map(entry).concat()).await;

    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let mut agent = Agent::new(&relay);
    agent.configure(&samba_in(&dc().ldaps_url(), &[&unit], (service.user.upn, service.password_file)));
    let unenrolled = agent.call(&["check"]).await;
    assert!(unenrolled.status == 2 && unenrolled.out.contains("not enrolled"), "{unenrolled:?}");
    enroll_and_approve(&portal, &agent).await;
    agent.start();

    // In the agent's log, before anybody has asked for a reset.
    eventually("the event is there", || std::future::ready(!about_rights(&agent).is_empty())).await;
    let events = about_rights(&agent);
    let said = events[0]["message"].as_str().unwrap();
    assert!(said.contains("Reset Password is missing") && said.contains(&unit), "{said}");
    assert_eq!((events.len(), events[0]["level"].as_str()), (1, Some("error")));

    // At the portal.
    eventually("the relay has heard of it", || async {
        let said = portal.run(&["availability", TENANT, "--operation", "reset_password"]).await;
        said.status == 3 && said.out.contains("preflight_failed")
    })
    .await;
    // Accounts can be unlocked all the same.
    let said = portal.availability().await;
    assert!(said.status == 0 && said.out.contains("possible now is change_password and unlock_account"), "{said:?}");
    let agents = portal.run(&["agents", TENANT]).await.out;
    assert!(agents.contains("FAILED") && agents.contains(&format!("reset_password, {unit}: ")), "{agents}");
    // In the portal's own words: the agent's command is for its host.
    assert!(agents.contains("mend it: give the service account this right") && !agents.contains("--sddl"), "{agents}");
    let said = portal.reset(&user.upn, NEW, &[]).await;
    assert!(said.status == 3 && said.out.starts_with("not done: preflight_failed\n"), "{said:?}");

    // On the agent's host, while the agent runs.
    let table = agent.call(&["check"]).await;
    assert_eq!(table.status, 2, "{table:?}");
    let lines: Vec<_> = table.out.lines().collect();
    let failed = lines.iter().position(|line| line.starts_with("FAILED")).unwrap();
    assert!(lines[failed].contains("Reset Password") && lines[failed].contains(&unit), "{}", table.out);
    assert_eq!(lines.iter().filter(|line| line.starts_with("FAILED")).count(), 1, "{}", table.out);
    let command = lines[failed + 1].trim().strip_prefix("mend it: ").unwrap();
    assert!(lines.iter().any(|line| line.starts_with("ok") && line.contains(&relay.url())), "{}", table.out);
    let json = agent.call(&["check", "--json"]).await;
    assert_eq!((json.status, json.json()["state"].as_str()), (2, Some("failed")));
    let rows = json.json()["rows"].as_array().unwrap().clone();
    let row = rows.iter().find(|row| row["state"] == "failed").unwrap();
    assert_eq!((row["check"].as_str(), row["target"].as_str()), (Some("reset_password"), Some(&*unit)));
    assert_eq!(row["remedy"].as_str(), Some(command));

    // Mended, and looked at again because the portal asks.
    dc().run(command).await;
    let said = portal.run(&["check", TENANT, &agent.id().to_string()]).await;
    assert!(said.status == 0 && said.out.contains(&format!("ok       reset_password, {unit}: \"granted")), "{said:?}");
    assert_eq!(portal.availability().await.status, 0);
    let said = portal.reset(&user.upn, NEW, &[]).await;
    assert_eq!(said.status, 0, "{said:?}");
    only_new_logs_on(&user.upn).await;
    let events = about_rights(&agent);
    assert_eq!((events.len(), events[1]["level"].as_str()), (2, Some("info")), "{events:?}");
    assert!(events[1]["message"].as_str().unwrap().contains("mended"), "{events:?}");
    let green = agent.call(&["check"]).await;
    assert_eq!(green.status, 1, "only the policy hints, which Samba does not offer: {green:?}");
}

#[tokio::test]
async fn an_agent_that_is_not_connected_can_not_be_asked_to_check_and_nothing_can_be_checked_without_a_directory() {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let agent = Agent::new(&relay);
    let said = agent.call(&["check"]).await;
    assert!(said.status == 3 && said.err.contains("[directory] is missing"), "{said:?}");
    agent.configure(&crate::support::agent::samba(&dc().ldaps_url()));
    enroll_and_approve(&portal, &agent).await;
    let said = portal.run(&["check", TENANT, &agent.id().to_string()]).await;
    assert!(said.status == 1 && said.err.contains("no_agent"), "{said:?}");
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    let said = portal.run(&["check", TENANT, nobody]).await;
    assert!(said.status == 1 && said.err.contains("is not known"), "{said:?}");
}

#[tokio::test]
async fn grant_prints_the_commands_and_gives_the_rights_with_an_administrators_credentials() {
    let unit = dc().create_unit("granted", dc().base_dn()).await;
    let service = dc().create_service("svc-granted").await;
    dc().create_user_in("granted", &unit, OLD).await;
    let relay = Relay::start().await;
    let agent = Agent::new(&relay);
    agent.configure(&samba_in(&dc().ldaps_url(), &[&unit], (service.user.upn.clone(), service.password_file)));
    let printed = agent.call(&["grant"]).await;
    let dsacls = format!("dsacls \"{unit}\" /I:S /G \"{}:CA;Reset Password;user\"", service.user.upn);
    assert!(printed.status == 0 && printed.out.contains(&dsacls), "{printed:?}");
    assert_eq!(agent.call(&["check"]).await.status, 2);

    let (name, password) = dc().administrator_account();
    let file = agent.home().join("admin-password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    let arguments = ["grant", "--apply", name, "--password-file", file.to_str().unwrap()];
    let open = agent.call(&arguments).await;
    assert!(open.status == 1 && open.err.contains("chmod 600"), "{open:?}");
    writeback_relay::storage::PrivateFile::new(&file).replace(password).unwrap();
    let applied = agent.call(&arguments).await;
    assert!(applied.status == 0 && applied.out.contains(&format!("below {unit}")), "{applied:?}");
    assert_eq!(agent.call(&["check"]).await.status, 1);
    assert!(!agent.log_of_calls().contains(password));
}
