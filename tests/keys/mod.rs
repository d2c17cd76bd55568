//! Keys change while everything goes on, and nobody in between can make use of it.

mod agent;
mod cluster;
mod erasure;
mod hostile;
mod portal;
mod trust;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use writeback_relay::portal::{Answer, Portal, Standing};
use writeback_relay::protocol::command::{Options, Subject};
use writeback_relay::protocol::ids::AgentId;
use writeback_relay::protocol::password::Password;

use crate::support::relay::{TestPortal, tenant};

/// One reset, and its code.
async fn reset(portal: &Portal, user: &str, password: &str) -> String {
    let password = Password::new(password.to_owned()).unwrap();
    let wait = Duration::from_secs(30);
    match portal.reset(&tenant(), &Subject::upn(user).unwrap(), password, Options::default(), wait).await {
        Ok(Answer::Concluded { outcome, .. }) => outcome.code.into_data(),
        other => panic!("not concluded: {other:?}"),
    }
}

/// The number of the last rotation that the portal has followed.
async fn followed(portal: &TestPortal, agent: AgentId) -> u64 {
    let agents = portal.portal.agents(&tenant()).await.unwrap();
    let known = agents.into_iter().find(|known| known.agent == agent).unwrap();
    assert!(known.warnings.is_empty(), "{:?}", known.warnings);
    match known.standing {
        Some(Standing::Trusted { history, .. }) => history.seq,
        other => panic!("not trusted: {other:?}"),
    }
}

/// Resets that flow until they are stopped.
struct Flow {
    stop: Arc<AtomicBool>,
    flowing: JoinHandle<usize>,
}

impl Flow {
    /// Each in turn for another account of the list.
    fn start(portal: Portal, users: &'static [&'static str]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let flowing = tokio::spawn(async move {
            let mut done = 0;
            while !stopped.load(Ordering::SeqCst) {
                let user = users[done % users.len()];
                assert_eq!(reset(&portal, user, &format!("Flowing-Passw0rd-{done}")).await, "password_reset");
                done += 1;
            }
            done
        });
        Self { stop, flowing }
    }

    /// How many there were; each has succeeded.
    async fn stop(self) -> usize {
        self.stop.store(true, Ordering::SeqCst);
        self.flowing.await.unwrap()
    }
}
