//! How a session opens: `Hello`, presence, `Welcome`, and what was left undelivered.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::time::{Instant, timeout};

use super::super::StoreError;
use super::super::bus::{Claim, Notice, Presence};
use super::super::ledger::Whose;
use super::taking_over::RECONCILE_PAUSE;
use super::{Ended, Fault, Services, Session, Socket};
use crate::audit;
use crate::protocol::api::AgentStatus;
use crate::protocol::frame::{CloseReason, FromAgent, FromRelay, v1};
use crate::protocol::ids::{AgentId, CommandId, InstanceId, InvalidId, JournalId};
use crate::protocol::limits::MAX_FRAME_BYTES;

/// Longer version texts are cut.
const MAX_VERSION_CHARS: usize = 32;

/// A `Hello` that holds.
pub(super) struct Greeting {
    pub(super) instance: InstanceId,
    version: String,
    /// Commands it has in its journal, without an outcome.
    pub(super) unfinished: Vec<CommandId>,
    /// The portals whose commands it takes.
    pub(super) portals: Vec<v1::PinnedPortal>,
    /// It says when that changes.
    pub(super) announces: bool,
}

/// Waits for the agent's `Hello`.
pub(super) async fn hello<S: Socket>(
    services: &Arc<Services>,
    agent: AgentId,
    expected: JournalId,
    socket: &mut S,
) -> Result<Greeting, Ended> {
    let first = async {
        // Pings are not frames.
        loop {
            match socket.next().await.ok_or(Ended::Lost)?? {
                Some(frame) => break Ok::<_, Ended>(frame),
                None => tokio::task::yield_now().await,
            }
        }
    };
    let hello = match timeout(services.hello_timeout, first).await {
        Err(_) => return Err(Ended::Closed(CloseReason::HelloTimeout)),
        Ok(Err(ended)) => return Err(ended),
        Ok(Ok(FromAgent::Hello(hello))) => hello,
        Ok(Ok(_)) => return Err(Fault::protocol("the first frame has to be Hello").into()),
    };
    let malformed = |error: InvalidId| Fault::protocol(format_args!("Hello: {error}"));
    let journal: JournalId = hello.journal.parse().map_err(malformed)?;
    if journal != expected {
        audit!("session_refused", %agent, reason = CloseReason::ForeignJournal.as_str());
        return Err(Ended::Closed(CloseReason::ForeignJournal));
    }
    let version = hello.version.chars().filter(|c| !c.is_control()).take(MAX_VERSION_CHARS).collect();
    Ok(Greeting {
        instance: hello.instance.parse().map_err(malformed)?,
        version,
        // What is no id names no command.
        unfinished: hello.unfinished.iter().filter_map(|command| command.parse().ok()).collect(),
        portals: hello.portals,
        announces: hello.announces_portals,
    })
}

/// Makes the session known, and tells those that it displaces.
async fn claim(services: &Services, presence: &Presence) -> Result<Result<(), Ended>, StoreError> {
    let (displaced, surplus) = match services.bus.claim(presence).await? {
        Claim::Held { displaced, surplus } => (displaced, surplus),
        Claim::Newer => {
            audit!("session_refused", agent = %presence.agent, reason = CloseReason::Displaced.as_str());
            return Ok(Err(Ended::Closed(CloseReason::Displaced)));
        }
    };
    for place in displaced {
        audit!("session_displaced", agent = %presence.agent, session = %place.session);
        services.bus.tell(Notice::Displaced(place)).await?;
    }
    for place in surplus {
        services.bus.tell(Notice::Surplus(place)).await?;
    }
    Ok(Ok(()))
}

impl<S: Socket> Session<'_, S> {
    /// Makes the session known, welcomes the agent, and delivers what nobody has an answer to.
    pub(super) async fn begin(&mut self, hello: Greeting) -> Result<(), Ended> {
        let away = |error: StoreError| {
            tracing::warn!(%error, "a session can't open");
            Ended::Closed(CloseReason::Internal)
        };
        let services = self.services;
        claim(services, &self.presence).await.map_err(away)??;
        // It may have been revoked between its assertion and its presence: nobody would have told this session.
        let (tenant, id) = (self.presence.tenant.clone(), self.presence.agent);
        let record = services.registry.agent(&tenant, id).await.map_err(away)?;
        // A registry that has just come back empty must not stop it: it comes back, and is told.
        let record = record.ok_or(Ended::Closed(CloseReason::Internal))?;
        if record.status == AgentStatus::Revoked {
            return Err(Ended::Closed(CloseReason::Revoked));
        }
        self.approved = record.status == AgentStatus::Approved;
        if record.version.as_ref().is_none_or(|known| *known != *hello.version) {
            services.registry.note_version(&tenant, id, &hello.version).await.map_err(away)?;
        }
        self.wire.send(FromRelay::Welcome(v1::Welcome {
            node: services.node_name.clone(),
            heartbeat_interval_ms: u32::try_from(services.heartbeat.as_millis()).unwrap_or(u32::MAX),
            max_frame_bytes: u32::try_from(MAX_FRAME_BYTES).unwrap_or(u32::MAX),
            approved: self.approved,
            node_id: services.bus.node().0.to_string(),
            nodes: services.bus.nodes(),
            takes_portals: true,
        }));
        self.carry_missed(&record, &hello.portals).await.map_err(away)?;
        audit!("session_opened", %tenant, agent = %id, session = %self.presence.session);
        services.bus.tell(Notice::Arrived(tenant.clone(), id)).await.map_err(away)?;
        self.unfinished = hello.unfinished;
        self.take_over_behind(Whose::Others, None).await.map_err(away)
    }

    /// Makes the session known as it is now; if the store is away, later.
    pub(super) async fn make_known(&mut self) -> Result<(), Ended> {
        if self.left {
            return Ok(());
        }
        claim(self.services, &self.presence).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "whose commands an agent takes could not be noted; it is tried again");
            self.reconcile_at = Some(Instant::now() + RECONCILE_PAUSE);
            Ok(())
        })
    }

    /// Messages for this session may have been lost, and its presence too, or another session of the agent has left
    /// commands: all of it stands in the registry and the ledger.
    pub(super) async fn reconcile(&mut self, whose: Whose) -> Result<(), Ended> {
        let (tenant, agent, services) = (&self.presence.tenant, self.presence.agent, self.services);
        if whose == Whose::Own {
            self.reconcile_at = None;
        }
        let looked = async {
            // First what a store that takes no writes can say.
            let record = services.registry.agent(tenant, agent).await?;
            if record.is_some_and(|record| record.status == AgentStatus::Revoked) {
                return Ok(Err(Ended::Closed(CloseReason::Revoked)));
            }
            if whose == Whose::Own
                && !self.left
                && let Err(ended) = claim(services, &self.presence).await?
            {
                return Ok(Err(ended));
            }
            Ok::<_, StoreError>(Ok(()))
        };
        let looked = looked.await;
        if matches!(looked, Ok(Ok(()))) && !self.left {
            self.walk(whose);
        }
        looked.unwrap_or_else(|error| {
            tracing::warn!(%error, "a session could not look what it may have missed");
            // What another one has left, it is told again of.
            if whose == Whose::Own {
                self.reconcile_at = Some(Instant::now() + RECONCILE_PAUSE);
            }
            Ok(())
        })
    }
}
