//! What an agent says about its commands.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::super::bus::Notice;
use super::super::ledger::{CommandKey, Concluded, Entry, Milestone};
use super::{Ended, Fault, Services, Session, Settled, Socket};
use crate::audit;
use crate::protocol::api::AgentStatus;
use crate::protocol::frame::{CloseReason, FromRelay, v1};
use crate::protocol::ids::{AgentId, CommandId, InvalidId, PortalId, TenantId};
use crate::protocol::jose::JoseError;
use crate::protocol::outcome::{Code, Outcome, Status};
use crate::protocol::untrusted::Untrusted;
use crate::relay::StoreError;
use crate::relay::ledger::Quota;
use crate::relay::registry::Part;
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::{Metrics, status};
use crate::telemetry::trace::{Kind, Span};

/// A store that is away for a moment (it fails over) costs no session. One that is away for longer may be there for
/// another node.
const STORE_PATIENCE: Duration = Duration::from_secs(5);
/// Between two attempts.
const STORE_PAUSE: Duration = Duration::from_millis(250);

/// What the relay reads of an outcome: where it belongs. The signature is for the portal to verify.
struct Address {
    iss: AgentId,
    aud: PortalId,
    tenant: TenantId,
    command: CommandId,
    status: Status,
    code: Untrusted,
}

/// What an outcome says, in words that are known beforehand: a newer agent may have others.
#[derive(Clone, Copy)]
struct Said {
    status: &'static str,
    code: &'static str,
}

impl Address {
    fn said(&self) -> Said {
        let known = Code::ALL.iter().map(|code| code.as_str()).find(|code| self.code == **code);
        Said { status: status(self.status), code: known.unwrap_or("other") }
    }
}

fn count(metrics: &Metrics, entry: &Entry, said: Said, now_ms: u64) {
    let tenant = &entry.key.tenant;
    metrics.ended(tenant, "concluded");
    metrics.outcome(tenant, said.status, said.code);
    metrics.concluded_after(tenant, now_ms.saturating_sub(entry.accepted_ms));
    // An agent that answers at once says nothing of its receipt.
    let (written, received) = (entry.delivering_ms, entry.received_ms);
    let left = written.or(received).unwrap_or(now_ms);
    metrics.stood("accepted", left.saturating_sub(entry.accepted_ms));
    if let Some(written) = written {
        metrics.stood("delivering", received.unwrap_or(now_ms).saturating_sub(written));
    }
    if let Some(received) = received {
        metrics.stood("received", now_ms.saturating_sub(received));
    }
}

impl<S: Socket> Session<'_, S> {
    pub(super) async fn received(&mut self, received: &v1::Received) -> Result<(), Ended> {
        let malformed = |error: InvalidId| Fault::protocol(format_args!("Received: {error}"));
        let command: CommandId = received.command.parse().map_err(malformed)?;
        self.note_received(command).await;
        Ok(())
    }

    /// Once; nothing is known here of other commands.
    pub(super) async fn note_received(&mut self, command: CommandId) {
        let Some(delivered) = self.delivered.get_mut(&command).filter(|delivered| !delivered.received) else { return };
        delivered.received = true;
        let noted = self.services.ledger.note(&delivered.key, Milestone::Received, self.services.clock.now_ms()).await;
        if let Err(error) = noted {
            tracing::warn!(%error, "a milestone was not noted");
        }
    }

    /// Where an outcome belongs; it is this agent's, and about the command that the frame names.
    fn address(&self, frame: &v1::Outcome) -> Result<Address, JoseError> {
        // All of it is read: what the portal can't read must not be the answer for ever.
        let outcome: Outcome = Outcome::parse(&frame.jws)?.unverified()?;
        let Outcome { iss, aud, tenant, command, status, code, .. } = outcome;
        let address = Address { iss, aud, tenant, command, status, code };
        if address.iss != self.presence.agent {
            return Err(JoseError::mismatch("iss", "the agent whose session this is is expected"));
        }
        if address.tenant != self.presence.tenant {
            return Err(JoseError::mismatch("tenant", "the agent's is expected"));
        }
        if address.command.to_string() != frame.command {
            return Err(JoseError::mismatch("command", "the same as in the frame is expected"));
        }
        Ok(address)
    }

    /// Begins to store an outcome; the session goes on meanwhile.
    pub(super) fn outcome(&mut self, frame: v1::Outcome) -> Result<(), Ended> {
        let address = self.address(&frame).inspect_err(|error| {
            audit!("outcome_refused", tenant = %self.presence.tenant, agent = %self.presence.agent, reason = %error);
        });
        let address = address.map_err(Fault::outcome)?;
        let said = address.said();
        let key = CommandKey { tenant: address.tenant, portal: address.aud, command: address.command };
        let mut sent = Span::default();
        let mut asked = self.approved;
        if let Some(delivered) = self.delivered.get_mut(&key.command).filter(|delivered| delivered.key == key) {
            if std::mem::replace(&mut delivered.answered, true) {
                // What becomes of the first one answers this one too.
                return Ok(());
            }
            asked = true;
            sent = std::mem::take(&mut delivered.span);
        }
        let (services, agent) = (Arc::clone(self.services), self.presence.agent);
        let bytes = frame.jws.len();
        self.storing_bytes += bytes;
        self.storing.push(Box::pin(async move {
            // It ends when the outcome is stored.
            let mut span = sent.context().map(|sent| Span::start("store outcome", Kind::Internal, &sent));
            if let Some(span) = &mut span {
                span.set("writeback.outcome.status", said.status);
                span.set("writeback.outcome.code", said.code);
            }
            let command = key.command;
            Settled { command, bytes, taken: store(&services, key, agent, frame.jws, said, asked).await }
        }));
        Ok(())
    }

    /// Tells the agent that its outcome is on disk. Only one that leaves waits for that word. Of one that was not taken it
    /// hears nothing: it keeps it, and sends it on its next session.
    pub(super) fn stored(&mut self, Settled { command, bytes, taken }: Settled) -> Result<(), Ended> {
        self.storing_bytes = self.storing_bytes.saturating_sub(bytes);
        if let Err(why) = taken? {
            let (tenant, agent) = (&self.presence.tenant, self.presence.agent);
            self.services.metrics.tenant_limit_hit(tenant, why);
            // Once for each session: there may be very many.
            if !std::mem::replace(&mut self.complained, true) {
                audit!("outcome_not_taken", %tenant, %agent, %command, limit = why.as_str());
            }
            return Ok(());
        }
        self.delivered.remove(&command);
        self.mailbox.deliveries.set_unanswered(self.delivered.len());
        if self.delivered.is_empty() {
            // An idle session keeps no table.
            self.delivered.shrink_to_fit();
        }
        let command = command.to_string();
        let frame = FromRelay::OutcomeStored(v1::OutcomeStored { command });
        if self.left {
            self.wire.send(frame)
        } else {
            self.wire.send_soon(frame)
        }
        Ok(())
    }
}

/// Whether the registry calls this agent approved.
async fn is_approved(services: &Services, key: &CommandKey, agent: AgentId) -> Result<bool, StoreError> {
    let record = services.registry.agent(&key.tenant, agent).await?;
    Ok(record.is_some_and(|record| record.status == AgentStatus::Approved))
}

/// Stores an outcome if somebody can have asked for it. A command that is not known may be forgotten: of an approved agent
/// that is believed, if there is such a portal.
async fn conclude(
    services: &Services,
    key: &CommandKey,
    agent: AgentId,
    jws: &str,
    now_ms: u64,
    asked: bool,
) -> Result<Concluded, StoreError> {
    if !asked && !is_approved(services, key, agent).await? {
        return Ok(Concluded::Unknown);
    }
    let concluded = services.ledger.conclude(key, agent, jws.to_owned(), now_ms).await?;
    if concluded != Concluded::Unknown || !is_approved(services, key, agent).await? {
        return Ok(concluded);
    }
    match services.registry.portal(&key.portal).await? {
        Some(portal) if portal.tenants.contains(&key.tenant) => {
            services.ledger.conclude_forgotten(key, agent, jws.to_owned(), now_ms).await
        }
        _ => Ok(Concluded::Unknown),
    }
}

/// The same. Of what a registry that was lost does not know nothing is said: it is tried again, until it is restored.
async fn conclude_if_known(
    services: &Services,
    key: &CommandKey,
    agent: AgentId,
    jws: &str,
    now_ms: u64,
    asked: bool,
) -> Result<Concluded, StoreError> {
    let concluded = conclude(services, key, agent, jws, now_ms, asked).await?;
    if concluded == Concluded::Unknown
        && let Some(loss) = services.continuity.missing(&Part::Agents(key.tenant.clone())).await?
    {
        return Err(StoreError::Unanswered(format!("the registry is lost: {}", loss.detail())));
    }
    Ok(concluded)
}

/// Whether it is stored, or the limit for which it is not.
async fn store(
    services: &Services,
    key: CommandKey,
    agent: AgentId,
    jws: String,
    said: Said,
    asked: bool,
) -> Result<Result<(), Limit>, Ended> {
    let patience = Instant::now() + STORE_PATIENCE;
    let mut complained = false;
    let (now_ms, stored) = loop {
        let now_ms = services.clock.now_ms();
        match conclude_if_known(services, &key, agent, &jws, now_ms, asked).await {
            Err(error) if Instant::now() < patience => {
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(%error, command = %key.command, "an outcome could not be stored yet");
                }
                sleep(STORE_PAUSE).await;
            }
            stored => break (now_ms, stored),
        }
    };
    match stored {
        Ok(Concluded::Stored(entry)) => {
            audit!("command_concluded", tenant = %key.tenant, portal = %key.portal, %agent, command = %key.command,
                trace_id = entry.trace_id());
            count(&services.metrics, &entry, said, now_ms);
            let _ = services.bus.tell(Notice::Ended(entry)).await;
            Ok(Ok(()))
        }
        Ok(Concluded::Already) => Ok(Ok(())),
        Ok(Concluded::Unknown) => Ok(Err(Limit::UnaskedOutcomes)),
        Ok(Concluded::OverQuota(Quota::AgentForgotten)) => Ok(Err(Limit::AgentForgotten)),
        Ok(Concluded::OverQuota(Quota::TenantBytes)) => Ok(Err(Limit::TenantStored)),
        Ok(Concluded::Foreign) => {
            Err(refused(&key, agent, JoseError::mismatch("iss", "the agent that the command names is expected")))
        }
        Ok(Concluded::OtherPortals) => {
            Err(refused(&key, agent, JoseError::mismatch("aud", "the portal that sent this command is expected")))
        }
        Err(error) => {
            // The agent keeps it and sends it again on its next session.
            tracing::warn!(%error, command = %key.command, "an outcome was not stored");
            Err(Ended::Closed(CloseReason::Internal))
        }
    }
}

fn refused(key: &CommandKey, agent: AgentId, error: JoseError) -> Ended {
    audit!("outcome_refused", tenant = %key.tenant, %agent, command = %key.command, reason = %error);
    Fault::outcome(error).into()
}
