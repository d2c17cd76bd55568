//! Commands of a portal that was trusted once: answered, never executed, and nobody can have others refused.

use super::*;
use crate::agent::trust::distrust;
use crate::protocol::frame::FromAgent;
use crate::protocol::ids::PortalId;

fn portal() -> PortalId {
    "portal-1".parse().unwrap()
}

/// What a delivery is answered with at once.
async fn answered(executor: &Executor, delivery: v1::Deliver) -> Option<v1::Outcome> {
    match executor.deliver(delivery, &nobody()).await.unwrap() {
        Some(FromAgent::Outcome(outcome)) => Some(outcome),
        None => None,
        other => panic!("neither an outcome nor silence: {other:?}"),
    }
}

/// The portal is trusted again, as by its next code.
fn trust_again(agent: &Enrolled) {
    crate::agent::home::write_json(&agent.home().identity_file(), &*agent.identity).unwrap();
}

#[tokio::test]
async fn a_command_of_a_portal_that_was_trusted_once_is_refused_and_never_executed_whoever_is_trusted_later() {
    let agent = Enrolled::new().await;
    let command = agent.command(JANE);
    let delivery = agent.delivery(&command);
    let directory = Arc::new(Scripted::default().resets(resets(1)));
    let refusal = {
        let (executor, _failed) = agent.executor(directory.clone());
        distrust(&agent.home(), &portal(), agent.clock.clone()).unwrap();
        let said = answered(&executor, delivery.clone()).await.unwrap();
        let outcome = agent.outcome(&said.jws, &command);
        assert_eq!((outcome.status, outcome.code.as_data()), (Status::Rejected, "portal_not_trusted"));
        assert_eq!((outcome.retry_safe, outcome.event_id, outcome.directory_ms), (true, 32003, 0));
        // Again, the very same.
        assert_eq!(answered(&executor, delivery.clone()).await, Some(said.clone()));
        said
    };
    // After a restart, and although the portal is trusted again: the journal knows it.
    trust_again(&agent);
    let (executor, _failed) = agent.executor(directory.clone());
    executor.resume().unwrap();
    assert_eq!(answered(&executor, delivery).await, Some(refusal));
    assert_eq!(directory.calls(), [""; 0]);
    // The next one is executed.
    let next = agent.command(JANE);
    assert_eq!(outcome(&agent, &executor, &next).await.code, "password_reset");
}

#[tokio::test]
async fn nobody_else_can_have_a_command_refused_or_remembered() {
    let agent = Enrolled::new().await;
    let directory = Arc::new(Scripted::default().resets(resets(1)));
    // Trusted beside the one whose trust is taken away.
    let key = SigningKey::generate(&System).unwrap();
    let second: PortalId = "portal-2".parse().unwrap();
    crate::agent::portals::change(&agent.home(), |identity| {
        identity.portals.insert(second.clone(), crate::agent::Pin::new(key.public().clone()));
    })
    .unwrap();
    let (executor, _failed) = agent.executor(directory.clone());
    distrust(&agent.home(), &portal(), agent.clock.clone()).unwrap();
    let genuine = Command { iss: second.clone(), ..agent.command(JANE) };
    let genuine = {
        let mut genuine = genuine;
        agent.seal(&mut genuine, NEW_PASSWORD);
        genuine
    };
    let signed = |command: &Command, key: &SigningKey| v1::Deliver {
        command_jws: command.sign(key).unwrap(),
        ..agent.delivery(command)
    };
    // A relay that writes another portal's name into it, with the signature that was there, or with its own.
    let altered = Command { iss: portal(), ..genuine.clone() };
    let own = SigningKey::generate(&System).unwrap();
    let jws = signed(&genuine, &key).command_jws;
    let [header, _, signature] = jws.split('.').collect::<Vec<_>>().try_into().unwrap();
    let payload = altered.sign(&own).unwrap().split('.').nth(1).unwrap().to_owned();
    let spliced = v1::Deliver { command_jws: format!("{header}.{payload}.{signature}"), ..agent.delivery(&altered) };
    for forged in [spliced, signed(&altered, &own), signed(&altered, &key)] {
        assert_eq!(answered(&executor, forged).await, None);
        assert!(!executor.core.journal.knows(genuine.jti).unwrap(), "something was remembered");
    }
    // A portal that was never trusted here.
    let stranger = Command { iss: "portal-3".parse().unwrap(), ..genuine.clone() };
    assert_eq!(answered(&executor, signed(&stranger, &own)).await, None);
    // For another agent, or another tenant.
    let elsewhere = Command { aud: AgentId::new(&System, &System), ..agent.command(JANE) };
    assert_eq!(answered(&executor, agent.delivery(&elsewhere)).await, None);
    let elsewhere = Command { tenant: "fabrikam".parse().unwrap(), ..agent.command(JANE) };
    assert_eq!(answered(&executor, agent.delivery(&elsewhere)).await, None);
    // What the other one has really signed is executed.
    let (asker, mut concluded) = mpsc::channel(8);
    executor.deliver(signed(&genuine, &key), &asker).await.unwrap();
    let done = next_outcome(&agent, &mut concluded, &genuine).await;
    assert_eq!(done.code, "password_reset");
}

#[tokio::test]
async fn what_has_not_begun_when_the_trust_is_taken_away_is_refused() {
    let agent = Enrolled::new().await;
    let gate = Arc::new(Semaphore::new(0));
    let directory = Arc::new(Scripted::default().gated(gate.clone()).resets(resets(1)));
    let (executor, _failed) = agent.executor(directory.clone());
    let (asker, mut concluded) = mpsc::channel(8);
    let (begun, waiting) = (agent.command(JANE), agent.command(JANE));
    for command in [&begun, &waiting] {
        executor.deliver(agent.delivery(command), &asker).await.unwrap();
    }
    directory.called("reset", 1).await;
    distrust(&agent.home(), &portal(), agent.clock.clone()).unwrap();
    // It is asked for again meanwhile: it is under way, as before.
    let again = executor.deliver(agent.delivery(&waiting), &asker).await.unwrap();
    assert_eq!(again, Some(received_frame(waiting.jti)));
    gate.add_permits(2);
    assert_eq!(next_outcome(&agent, &mut concluded, &begun).await.code, "password_reset");
    assert_eq!(next_outcome(&agent, &mut concluded, &waiting).await.code, "portal_not_trusted");
}

#[tokio::test]
async fn what_was_received_before_a_crash_is_refused_when_the_portal_is_not_trusted_any_more() {
    for remembered in [true, false] {
        let agent = Enrolled::new().await;
        let command = agent.command(JANE);
        agent.journal().receive(&command, &agent.delivery(&command).command_jws, None).await.unwrap();
        distrust(&agent.home(), &portal(), agent.clock.clone()).unwrap();
        if !remembered {
            // As an older version has taken it away.
            agent.home().distrusted_file().remove().unwrap();
        }
        let (executor, _failed) = agent.executor(Arc::new(Scripted::default()));
        executor.resume().unwrap();
        assert_eq!(unclaimed_outcome(&agent, &executor, &command).await.code, "portal_not_trusted");
    }
}

#[tokio::test]
async fn a_flood_of_them_is_bounded_told_in_few_lines_and_leaves_room_for_those_who_are_trusted() {
    let agent = Enrolled::new().await;
    let (executor, _failed) = agent.executor(Arc::new(Scripted::default().resets(resets(1))));
    distrust(&agent.home(), &portal(), agent.clock.clone()).unwrap();
    let flood = (0..1100).map(|_| agent.delivery(&agent.unlock(JANE)));
    let flood = futures_util::future::join_all(flood.map(|delivery| answered(&executor, delivery))).await;
    assert_eq!(flood.iter().flatten().count(), 1024, "as many as may be without the relay's word");
    assert!(agent.event_ids().len() < 40, "{}", agent.event_ids().len());
    trust_again(&agent);
    let command = agent.command(JANE);
    assert_eq!(outcome(&agent, &executor, &command).await.code, "password_reset");
}
