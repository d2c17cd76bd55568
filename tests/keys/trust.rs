//! Further portals: by a code, on the agent's host, and in no other way.

use std::time::Duration;

use writeback_relay::portal::report::agents_table;
use writeback_relay::portal::{Answer, Standing, Warning};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::outcome::Outcome;
use writeback_relay::protocol::password::Password;

use super::reset;
use crate::support::agent::Agent;
use crate::support::eventually;
use crate::support::relay::{Relay, TestPortal, tenant};

const JANE: &str = "jane@corp.example";

#[tokio::test]
async fn a_further_portal_is_trusted_by_its_code_and_no_longer_when_it_is_removed() {
    let relay = Relay::start().await;
    let (first, second) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    let agent = Agent::running(&relay, &first, &[JANE], 0).await;
    // Before: it sees the agent, has nobody's word for its keys, and can't approve it.
    let seen = second.portal.agents(&tenant()).await.unwrap().remove(0);
    assert_eq!(seen.standing, None);
    // That is as it should be where there are two portals, and whoever reads it must not revoke the other one's agent.
    let warned = agents_table(std::slice::from_ref(&seen));
    for expected in
        ["another portal of this tenant invited it", "another portal of this tenant approved it", "leave it alone"]
    {
        assert!(warned.contains(expected), "{warned}");
    }

    let code = second.portal.invite(&tenant(), false).await.unwrap().to_text().unwrap().to_string();
    let said = agent.trust_portal(&code).await;
    assert_eq!(said.status, 0, "{said:?}");
    let fingerprint = said.out.lines().find_map(|line| line.strip_prefix("fingerprint")).unwrap().trim().to_owned();
    let seen = second.portal.agents(&tenant()).await.unwrap().remove(0);
    assert!(matches!(seen.standing, Some(Standing::Attested { .. })), "{seen:?}");
    let _ = second.portal.approve(&tenant(), agent.id(), &fingerprint).await.unwrap();
    // The process that was running all the time takes commands of both.
    assert_eq!(reset(&second.portal, JANE, "Second-Passw0rd1").await, "password_reset");
    assert_eq!(reset(&first.portal, JANE, "First-Passw0rd1").await, "password_reset");
    // Both follow its next keys.
    assert_eq!(agent.rotate_keys().await.status, 0);
    assert_eq!(reset(&second.portal, JANE, "Second-Passw0rd2").await, "password_reset");
    assert_eq!(reset(&first.portal, JANE, "First-Passw0rd2").await, "password_reset");

    let list = agent.cli(&["trust", "--list"]).await;
    assert!(list.out.contains("portal-1  key ") && list.out.contains("portal-2  key "), "{list:?}");
    let again = second.portal.invite(&tenant(), false).await.unwrap().to_text().unwrap().to_string();
    let said = agent.trust_portal(&again).await;
    assert!(said.status != 0 && said.err.contains("trusted already"), "{said:?}");

    assert_eq!(agent.cli(&["trust", "--remove", "portal-2"]).await.status, 0);
    says_it_is_not_trusted(&second).await;
    let (password, wait) = (Password::new("Third-Passw0rd1".into()).unwrap(), Duration::from_secs(30));
    let subject = Subject::upn(JANE).unwrap();
    let answer = second.portal.reset(&tenant(), &subject, password, Options::default(), wait).await.unwrap();
    let Answer::Undeliverable { reason, asked, .. } = &answer else { panic!("{answer:?}") };
    assert_eq!((reason.as_data(), asked.len()), ("portal_not_trusted", 0), "nobody has to wait for that");
    assert!(answer.for_people("contoso").contains("writeback-agent trust CODE"));
    assert_eq!(done(&agent), 4);
    assert_eq!(reset(&first.portal, JANE, "First-Passw0rd3").await, "password_reset");
    let said = agent.cli(&["trust", "--remove", "portal-2"]).await;
    assert!(said.status != 0 && said.err.contains("is not trusted"), "{said:?}");
}

/// How many resets it has done.
fn done(agent: &Agent) -> usize {
    agent.event_ids().iter().filter(|id| **id == 31002).count()
}

/// The relay's word to this portal, in its list and as its availability.
async fn says_it_is_not_trusted(portal: &TestPortal) {
    eventually("the portal is told that it is not trusted", || async {
        let said = portal.portal.availability(&tenant()).await.unwrap();
        !said.available && said.reason.is_some_and(|reason| reason == "portal_not_trusted")
    })
    .await;
    let seen = portal.portal.agents(&tenant()).await.unwrap().remove(0);
    assert_eq!(seen.relay.as_ref().unwrap().trusts_portal, Some(false));
    assert!(seen.warnings.contains(&Warning::PortalNotTrusted) && !seen.usable(), "{seen:?}");
    let said = agents_table(std::slice::from_ref(&seen));
    assert!(said.contains("writeback-agent trust CODE"), "{said}");
}

#[tokio::test]
async fn a_command_that_is_on_its_way_when_the_trust_is_taken_away_gets_an_answer_that_holds_for_ever() {
    let relay = Relay::start().await;
    let (first, second) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    let mut agent = Agent::running(&relay, &first, &[JANE], 0).await;
    let code = second.portal.invite(&tenant(), true).await.unwrap().to_text().unwrap().to_string();
    assert_eq!(agent.trust_portal(&code).await.status, 0);
    agent.usable(&second).await;
    let keys = agent.keys(&second).await;
    assert_eq!(agent.cli(&["trust", "--remove", "portal-2"]).await.status, 0);
    // A portal that has not looked since, or is too old to look.
    let (command, jws) = second.raw.reset(agent.id(), &keys.sealing, JANE, "Third-Passw0rd1");
    assert!(second.raw.submit(&jws, 50).await.status < 300);
    let view = second.raw.concluded(command.jti).await;
    let outcome = Outcome::verify(&view.outcome.unwrap(), &keys.signing, &command).unwrap();
    assert_eq!((outcome.code.as_data(), outcome.retry_safe), ("portal_not_trusted", true));
    assert!(outcome.detail.as_data().contains("portal-2"), "{outcome:?}");
    eventually("the refusal is an event", || async { agent.event_ids().contains(&32003) }).await;

    // Trusted again, and started again: that command stays refused, and the next one is executed.
    let code = second.portal.invite(&tenant(), true).await.unwrap().to_text().unwrap().to_string();
    assert_eq!(agent.trust_portal(&code).await.status, 0);
    eventually("the portal is trusted again", || async {
        second.portal.availability(&tenant()).await.unwrap().available
    })
    .await;
    assert!(agent.terminate().await.success());
    agent.start();
    agent.usable(&second).await;
    assert!(second.raw.submit(&jws, 50).await.status < 300);
    let again = second.raw.concluded(command.jti).await;
    let again = Outcome::verify(&again.outcome.unwrap(), &keys.signing, &command).unwrap();
    assert_eq!(again, outcome);
    assert_eq!(done(&agent), 0);
    assert_eq!(reset(&second.portal, JANE, "Second-Passw0rd2").await, "password_reset");
    assert_eq!(reset(&first.portal, JANE, "First-Passw0rd1").await, "password_reset");
}

#[tokio::test]
async fn a_portal_that_one_agent_does_not_trust_any_more_goes_to_the_next_one() {
    let relay = Relay::start().await;
    let portal = relay.portal("portal-1").await;
    let one = Agent::running(&relay, &portal, &[JANE], 0).await;
    let two = Agent::running(&relay, &portal, &[JANE], 0).await;
    assert_eq!(one.cli(&["trust", "--remove", "portal-1"]).await.status, 0);
    // Whether it has heard of it or not.
    for n in 0..4 {
        assert_eq!(reset(&portal.portal, JANE, &format!("Next-Passw0rd{n}")).await, "password_reset");
    }
    assert_eq!((done(&one), done(&two)), (0, 4));
    eventually("the relay has heard of it", || async {
        portal.portal.availability(&tenant()).await.unwrap().agents == [two.id()]
    })
    .await;
}

#[tokio::test]
async fn a_further_portal_that_first_looks_after_a_rotation_finds_the_agent_all_the_same() {
    let relay = Relay::start().await;
    let (first, second) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    let agent = Agent::running(&relay, &first, &[JANE], 0).await;
    let code = second.portal.invite(&tenant(), true).await.unwrap().to_text().unwrap().to_string();
    assert_eq!(agent.trust_portal(&code).await.status, 0);
    assert_eq!(agent.rotate_keys().await.status, 0);
    assert_eq!(reset(&second.portal, JANE, "Second-Passw0rd1").await, "password_reset");
}

#[tokio::test]
async fn a_code_for_another_tenant_or_relay_is_refused_with_what_to_do() {
    let relay = Relay::start().await;
    relay.admin().add_tenant("fabrikam".parse().unwrap()).await.unwrap();
    let (first, second) = (relay.portal("portal-1").await, relay.portal("portal-2").await);
    relay.grant(&second.raw.id, second.raw.key.public(), &["fabrikam"]).await;
    let agent = Agent::running(&relay, &first, &[JANE], 0).await;
    let code = second.portal.invite(&"fabrikam".parse().unwrap(), true).await.unwrap().to_text().unwrap().to_string();
    let said = agent.trust_portal(&code).await;
    assert!(said.status != 0 && said.err.contains("fabrikam") && said.err.contains("folder of its own"), "{said:?}");
    let said = agent.trust_portal("wb1.nonsense").await;
    assert!(said.status != 0 && said.err.contains("enrolment code"), "{said:?}");
}
