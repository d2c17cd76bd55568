//! Outcomes on their way to a ledger that takes its time.

use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use tokio::task::yield_now;

use super::*;
use crate::relay::StoreError;
use crate::relay::ledger::{Concluded, Cursor, Written};

/// A ledger that has every outcome, and says so when it is let.
struct Slow {
    ledger: Arc<dyn Ledger>,
    asked: AtomicUsize,
    answers: Semaphore,
}

#[async_trait]
impl Ledger for Slow {
    async fn conclude(&self, _: &CommandKey, _: AgentId, _: String, _: u64) -> Result<Concluded, StoreError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.answers.acquire().await.unwrap().forget();
        Ok(Concluded::Already)
    }

    async fn complete_since(&self, tenant: &TenantId, now: UnixTime) -> Result<UnixTime, StoreError> {
        self.ledger.complete_since(tenant, now).await
    }

    async fn accept(&self, command: NewCommand, intent: Intent, now_ms: u64) -> Result<Accepted, StoreError> {
        self.ledger.accept(command, intent, now_ms).await
    }

    async fn get(&self, key: &CommandKey) -> Result<Option<Entry>, StoreError> {
        self.ledger.get(key).await
    }

    async fn take_over(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        session: SessionId,
        whose: Whose,
        after: Option<Cursor>,
    ) -> Result<Vec<Entry>, StoreError> {
        self.ledger.take_over(tenant, agent, session, whose, after).await
    }

    async fn hand_over(&self, entry: Entry, to: SessionId, written: Written) -> Result<Option<Entry>, StoreError> {
        self.ledger.hand_over(entry, to, written).await
    }

    async fn take_back(
        &self,
        key: &CommandKey,
        owner: SessionId,
        reason: Undelivered,
        now_ms: u64,
    ) -> Result<Option<Entry>, StoreError> {
        self.ledger.take_back(key, owner, reason, now_ms).await
    }

    async fn note(&self, key: &CommandKey, milestone: Milestone, now_ms: u64) -> Result<(), StoreError> {
        self.ledger.note(key, milestone, now_ms).await
    }

    async fn conclude_forgotten(
        &self,
        key: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError> {
        self.ledger.conclude_forgotten(key, agent, outcome_jws, now_ms).await
    }

    async fn purge(&self, now: UnixTime) -> Result<bool, StoreError> {
        self.ledger.purge(now).await
    }
}

impl Slow {
    async fn stage() -> (Stage, Arc<Self>) {
        let mut slow = None;
        let stage = Stage::with(|services| {
            let (ledger, asked) = (Arc::clone(&services.ledger), AtomicUsize::new(0));
            let ledger = slow.insert(Arc::new(Self { ledger, asked, answers: Semaphore::new(0) }));
            services.ledger = Arc::clone(ledger) as Arc<dyn Ledger>;
        });
        (stage.await, slow.unwrap())
    }

    /// How many outcomes have been given to it, when the session, on this one thread, has nothing more to do.
    async fn asked(&self) -> usize {
        for _ in 0..1000 {
            yield_now().await;
        }
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn so_many_outcomes_are_on_their_way_and_the_others_stay_in_the_socket() {
    for detail in [0, 4000, 11_000] {
        let (stage, slow) = Slow::stage().await;
        let mut agent = stage.open().await;
        let outcome = || stage.outcome_with(&stage.command(), &"x".repeat(detail));
        let FromAgent::Outcome(v1::Outcome { jws, .. }) = outcome() else { unreachable!() };
        let most = MAX_STORING.min(MAX_STORING_BYTES.div_ceil(jws.len()));
        for _ in 0..most + PIPE {
            agent.send(outcome()).await;
        }
        assert_eq!(slow.asked().await, most, "of {} bytes", jws.len());
        assert!(agent.to_relay.try_send(outcome()).is_err(), "it is not read");
        slow.answers.add_permits(2);
        for _ in 0..2 {
            assert!(matches!(agent.next().await, Some(FromRelay::OutcomeStored(_))));
        }
        assert_eq!(slow.asked().await, most + 2, "as many more as there is room for");
        slow.answers.add_permits(most + PIPE);
        for _ in 2..most + PIPE {
            assert!(matches!(agent.next().await, Some(FromRelay::OutcomeStored(_))));
        }
    }
}

#[tokio::test]
async fn an_outcome_that_is_repeated_while_it_is_stored_is_stored_once() {
    let (stage, slow) = Slow::stage().await;
    let mut agent = stage.open().await;
    let (session, entries) = stage.accepted(1).await;
    assert_eq!(stage.services.sessions.deliver(session, entries[0].clone()), Delivery::Queued);
    assert!(matches!(agent.next().await, Some(FromRelay::Deliver(_))));
    let outcome = stage.outcome(&NewCommand { key: entries[0].key.clone(), ..stage.command() });
    for _ in 0..3 {
        agent.send(outcome.clone()).await;
    }
    assert_eq!(slow.asked().await, 1);
    slow.answers.add_permits(1);
    assert!(matches!(agent.next().await, Some(FromRelay::OutcomeStored(_))));
}
