//! What an agent, and those who write to it, can make a session keep.

use super::*;
use crate::relay::ledger::TAKEN_OVER_AT_ONCE;
use crate::relay::mailbox::MAX_UNANSWERED;

/// More than are taken over at once, more than once.
const MANY: usize = 3 * TAKEN_OVER_AT_ONCE;

impl Stage {
    /// So many commands that some earlier session has taken to its grave, oldest first.
    async fn left(&self, count: usize) -> Vec<NewCommand> {
        let gone = SessionId::new(&System, &System);
        let commands: Vec<_> = (0..count).map(|_| self.command()).collect();
        for (command, at_ms) in commands.iter().zip(1..) {
            self.services.ledger.accept(command.clone(), Intent::Deliver(gone), at_ms).await.unwrap();
        }
        commands
    }
}

#[tokio::test]
async fn what_was_left_comes_in_its_order_however_much_it_is() {
    let stage = Stage::new().await;
    let commands = stage.left(MANY).await;
    let mut agent = stage.open().await;
    for command in &commands {
        let Some(FromRelay::Deliver(delivery)) = agent.next().await else { panic!("a delivery was expected") };
        assert_eq!(delivery.traceparent, command.traceparent);
    }
}

#[tokio::test]
async fn an_agent_that_answers_nothing_is_given_so_many_and_the_next_ones_when_it_answers() {
    let stage = Stage::new().await;
    let commands = stage.left(MAX_UNANSWERED + 1).await;
    let mut agent = stage.open().await;
    for _ in 0..MAX_UNANSWERED {
        assert!(matches!(agent.next().await, Some(FromRelay::Deliver(_))));
    }
    agent.send(stage.outcome(&commands[0])).await;
    // What it does by itself it does before it reads.
    assert!(matches!(agent.next().await, Some(FromRelay::OutcomeStored(_))), "it was given another one before");
    let Some(FromRelay::Deliver(delivery)) = agent.next().await else { panic!("a delivery was expected") };
    assert_eq!(delivery.traceparent, commands[MAX_UNANSWERED].traceparent);
}

#[tokio::test]
async fn a_repeated_outcome_is_answered_again_and_written_once() {
    let stage = Stage::new().await;
    let mut agent = stage.open().await;
    let (session, entries) = stage.accepted(1).await;
    assert_eq!(stage.services.sessions.deliver(session, entries[0].clone()), Delivery::Queued);
    assert!(matches!(agent.next().await, Some(FromRelay::Deliver(_))));
    let key = &entries[0].key;
    let outcome = stage.outcome(&NewCommand { key: key.clone(), ..stage.command() });
    agent.send(outcome.clone()).await;
    assert!(matches!(agent.next().await, Some(FromRelay::OutcomeStored(_))));
    let written = stage.services.ledger.get(key).await.unwrap();
    for _ in 0..3 {
        agent.send(outcome.clone()).await;
        assert!(matches!(agent.next().await, Some(FromRelay::OutcomeStored(_))));
    }
    assert_eq!(stage.services.ledger.get(key).await.unwrap(), written);
}
