//! The sessions with the relay: how they are opened, served, and kept open.

mod approval;
mod connection;
mod keeper;
mod lost;
mod outbox;
mod patience;
mod session;
mod wake;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

pub(in crate::agent) use self::approval::Approval;
pub(in crate::agent) use self::connection::Dialer;
use self::keeper::Keeper;
use self::patience::NoSession;
use self::session::Session;
pub(in crate::agent) use self::session::Shared;
use crate::agent::error::AgentError;
use crate::agent::events::EventLog;
use crate::agent::options::Options;
use crate::agent::rotation::Rotator;
use crate::clock::{Clock, Random};

/// What sessions are made of.
pub(in crate::agent) struct Link {
    pub(in crate::agent) dialer: Dialer,
    pub(in crate::agent) shared: Shared,
    pub(in crate::agent) events: EventLog,
    pub(in crate::agent) options: Options,
    pub(in crate::agent) clock: Arc<dyn Clock>,
    pub(in crate::agent) random: Arc<dyn Random>,
    pub(in crate::agent) rotator: Arc<Rotator>,
}

impl Link {
    /// Until `stop`; then leaves in good order.
    ///
    /// # Errors
    /// If the relay says that this agent must not come back, or the agent itself can't go on.
    pub(in crate::agent) async fn keep(&self, stop: &CancellationToken) -> Result<(), AgentError> {
        Keeper::new(self, stop).keep().await
    }

    /// Lets what runs finish, without a session to tell.
    pub(in crate::agent) async fn finish(&self) {
        self.shared.executor.stop();
        if timeout(self.options.stop_deadline, self.shared.executor.idle()).await.is_err() {
            tracing::warn!("stopping before everything has ended; the journal knows where to go on");
        }
    }

    /// A session, and the address where it was opened; those in `last` are tried after others.
    async fn open_at(&self, when: Instant, last: Vec<SocketAddr>) -> Result<(Session, SocketAddr), NoSession> {
        sleep_until(when).await;
        let (frames, address) = match self.dialer.dial(&last).await {
            Ok(dialed) => dialed,
            Err(error) => {
                if error.is_unknown_key() {
                    self.rotator.remind().await;
                }
                return Err(NoSession::Dial(error));
            }
        };
        let opened = Session::open(frames, self.shared.clone()).await;
        opened.map(|session| (session, address)).map_err(|error| {
            self.dialer.doubt(address);
            NoSession::Session(error)
        })
    }
}
