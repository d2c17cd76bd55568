//! An agent's life: enrolled, approved, in service, stopped, back, revoked.

use std::time::{Duration, Instant};

use super::{NEW, OLD, Stage, fingerprint, only_new_logs_on};
use crate::support::agent::{Agent, samba};
use crate::support::eventually;
use crate::support::portal_cli::PortalCli;
use crate::support::relay::{Relay, TENANT};
use crate::support::samba::{Ou, dc};

/// Far less than a reset waits for, and far more than a refusal takes.
const AT_ONCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_event_log_tells_when_a_portal_approves_a_running_agent() {
    let relay = Relay::start_with("[session]\nheartbeat_seconds = 1").await;
    let portal = PortalCli::init(&relay).await;
    let mut agent = Agent::new(&relay);
    agent.configure(
        "[directory]\nkind = \"demo\"\naccounts = [\"jane@corp.example\"]\ninitial_password = \"Initial-Passw0rd1\"",
    );
    let said = agent.enroll(&portal.invite().await).await;
    agent.start();
    let told = |agent: &Agent, what: &str| {
        agent.events().iter().filter(|e| e["message"].as_str().unwrap().contains(what)).count()
    };
    eventually("the session is open", || std::future::ready(agent.event_ids().contains(&31017))).await;
    assert_eq!(
        (told(&agent, "no portal has approved this agent"), told(&agent, "commands may come from now on")),
        (1, 0)
    );
    assert_eq!(portal.approve(agent.id(), &fingerprint(&said.out)).await.status, 0);
    eventually("the log tells", || std::future::ready(told(&agent, "commands may come from now on") == 1)).await;
    // Whoever starts it later is told how it stands.
    assert!(agent.terminate().await.success());
    agent.start();
    eventually("it is back", || std::future::ready(told(&agent, "; a portal has approved this agent") == 1)).await;
    assert_eq!(told(&agent, "commands may come from now on"), 1);
}

#[tokio::test]
async fn an_agent_gets_no_command_before_somebody_has_compared_its_fingerprint() {
    let relay = Relay::start().await;
    let portal = PortalCli::init(&relay).await;
    let mut agent = Agent::new(&relay);
    agent.configure(&samba(&dc().ldaps_url()));
    let code = portal.invite().await;
    let enrolled = agent.enroll(&code).await;
    assert_eq!(enrolled.status, 0, "{enrolled:?}");
    let (id, fingerprint) = (agent.id().to_string(), fingerprint(&enrolled.out));
    assert!(enrolled.out.contains(&format!("enrolled as agent {id}\n")), "{}", enrolled.out);
    assert!(enrolled.out.contains(&format!("writeback-portal approve {TENANT} {id}\n")), "{}", enrolled.out);
    assert_eq!(agent.event_ids(), [31004, 31018, 31005]);

    agent.start();
    eventually("the session is open", || std::future::ready(agent.event_ids().contains(&31017))).await;
    assert_eq!(agent.event_ids()[3..], [31015, 31017]);
    let agents = portal.run(&["agents", TENANT]).await;
    assert!(agents.out.contains("to approve") && agents.out.contains("pending"), "{}", agents.out);
    assert!(agents.out.contains(&fingerprint), "{}", agents.out);
    let user = dc().create_user("pending", Ou::Staff, OLD).await;
    let said = portal.reset(&user.upn, NEW, &[]).await;
    assert!(said.status == 3 && said.out.starts_with("not done: agent_pending\n"), "{said:?}");

    let wrong = portal.approve(agent.id(), &fingerprint.chars().rev().collect::<String>()).await;
    assert!(wrong.status == 1 && wrong.err.contains("this is not the fingerprint of agent"), "{wrong:?}");
    let said = portal.approve(agent.id(), &fingerprint).await;
    assert_eq!((said.status, said.out), (0, format!("agent {id} is trusted, here and at the relay\n")));
    let said = portal.reset(&user.upn, NEW, &[]).await;
    assert_eq!(said.status, 0, "{said:?}");
    only_new_logs_on(&user.upn).await;

    let again = Agent::new(&relay).enroll(&code).await;
    assert!(again.status == 1 && again.err.contains("used"), "a code is good for one agent: {again:?}");
}

#[tokio::test]
async fn a_stopped_agent_makes_resets_impossible_at_once_and_possible_again_when_it_is_back() {
    let mut stage = Stage::new().await;
    let said = stage.portal.availability().await;
    let possible = "a reset is possible now, as the relay says: 1 agent could take it\n".to_owned();
    assert_eq!((said.status, said.out), (0, possible));
    let user = dc().create_user("stopped", Ou::Staff, OLD).await;

    assert_eq!(stage.agent.terminate().await.code(), Some(0));
    assert_eq!(stage.agent.event_ids().last(), Some(&31016));
    let said = stage.portal.availability().await;
    assert!(said.status == 3 && said.out.starts_with("no reset is possible now: no_agent\n"), "{said:?}");
    let began = Instant::now();
    let said = stage.portal.reset(&user.upn, NEW, &["--wait", "120"]).await;
    assert!(said.status == 3 && said.out.starts_with("not done: no_agent\n"), "{said:?}");
    assert!(said.out.contains("a new command may be sent: yes"), "{}", said.out);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    assert_eq!(dc().bind(&user.upn, OLD).await, Ok(()));

    stage.agent.start();
    stage.checked().await;
    assert_eq!(stage.portal.reset(&user.upn, NEW, &[]).await.status, 0);
    only_new_logs_on(&user.upn).await;
}

#[tokio::test]
async fn a_revoked_agent_stops_for_good() {
    let mut stage = Stage::new().await;
    let id = stage.agent.id().to_string();
    let said = stage.portal.run(&["revoke", TENANT, &id]).await;
    assert_eq!((said.status, said.out), (0, format!("agent {id} is revoked, here and at the relay\n")));
    assert_eq!(stage.agent.ended().await.code(), Some(3));
    assert_eq!(stage.agent.event_ids()[5..], [31013, 31016]);
    assert!(stage.agent.log().contains("writeback-agent: the agent was revoked"));
    // Started again, it is told again.
    stage.agent.start();
    assert_eq!(stage.agent.ended().await.code(), Some(3));
    let said = stage.portal.reset("jane@example.test", NEW, &[]).await;
    assert!(said.status == 3 && said.out.starts_with("not done: no_trusted_agent\n"), "{said:?}");
    let agents = stage.portal.run(&["agents", TENANT]).await;
    assert!(agents.out.contains("REVOKED"), "{}", agents.out);
}

#[tokio::test]
async fn what_became_of_a_command_can_be_asked_later_and_only_by_who_sent_it() {
    let stage = Stage::new().await;
    let user = dc().create_user("later", Ou::Staff, OLD).await;
    let answer = stage.portal.reset(&user.upn, NEW, &["--json"]).await.json();
    assert_eq!(answer["result"], "concluded");
    let command = answer["outcome"]["command"].as_str().unwrap();
    let said = stage.portal.status(command, &[]).await;
    assert!(said.status == 0 && said.out.starts_with("done: password_reset (event 31002)\n"), "{said:?}");
    let other = stage.portal.status(&stage.agent.id().to_string(), &[]).await;
    assert!(other.status == 1 && other.err.contains("was not sent to tenant contoso from this folder"), "{other:?}");
}
