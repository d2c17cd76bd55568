//! Portals' new keys on their way to an agent, and the agent's word that it has pinned them. The session only carries
//! both: the agent verifies the one, and the portal the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::StoreError;
use super::super::mailbox::Order;
use super::super::registry::{Acknowledged, AgentRecord, MAX_ACKNOWLEDGEMENT_BYTES};
use super::pace::Rate;
use super::{Ended, Fault, Session, Socket};
use crate::audit;
use crate::protocol::frame::{FromRelay, v1};
use crate::protocol::ids::PortalId;
use crate::protocol::jose::{JoseError, Jws};
use crate::protocol::rotation::{ACKNOWLEDGEMENT_TYP, Acknowledgement, PortalRotation};
use crate::telemetry::limit::Limit;

/// More portals than any agent has; each is looked up.
pub(super) const MAX_PORTALS: usize = 16;

/// Each may be written to disk: one of every portal that an agent can name, and then as often as a preflight.
pub(super) const ACKNOWLEDGEMENTS: Rate = Rate::new(Duration::from_secs(10), 16);

impl<S: Socket> Session<'_, S> {
    /// Tells the agent of a rotation, if it knows what that is.
    pub(super) fn carry(&mut self, jws: &str) {
        if self.follows {
            self.wire.send(FromRelay::PortalRotation(v1::PortalRotation { jws: jws.to_owned() }));
        }
    }

    /// Tells an agent that comes back what it has missed. What it has followed without the relay hearing of it, it is
    /// told again, and acknowledges again.
    pub(super) async fn carry_missed(
        &mut self,
        agent: &AgentRecord,
        pinned: &[v1::PinnedPortal],
    ) -> Result<(), StoreError> {
        for v1::PinnedPortal { portal, seq } in pinned.iter().take(MAX_PORTALS) {
            let Ok(portal) = portal.parse::<PortalId>() else { continue };
            let Some(record) = self.services.registry.portal(&portal).await? else { continue };
            let said = agent.later.acknowledged.get(&portal).map_or(0, |acknowledged| acknowledged.seq);
            if !record.tenants.contains(&self.presence.tenant) || said.min(*seq) >= record.later.seq {
                continue;
            }
            let known = |jws: &String| PortalRotation::read(jws).is_ok_and(|rotation| rotation.seq <= *seq);
            let rotations = &record.later.rotations;
            let first = rotations.iter().take_while(|jws| known(jws)).count().min(rotations.len().saturating_sub(1));
            // As there is room for them.
            let missed = rotations.iter().skip(first).map(|jws| Order::Carry(Arc::from(jws.as_str())));
            missed.for_each(|order| self.mailbox.orders.give(order));
        }
        Ok(())
    }

    /// Stores the agent's word for the portal, if it is about the portal's last rotation.
    pub(super) async fn acknowledged(&mut self, frame: v1::Acknowledgement) -> Result<(), Ended> {
        let foreign = |error: JoseError| Fault::protocol(format_args!("Acknowledgement: {error}"));
        if frame.jws.len() > MAX_ACKNOWLEDGEMENT_BYTES {
            let expected = format!("a JWS of at most {MAX_ACKNOWLEDGEMENT_BYTES} bytes is expected");
            return Err(foreign(JoseError::mismatch("jws", expected)).into());
        }
        let jws = Jws::parse(&frame.jws, ACKNOWLEDGEMENT_TYP).map_err(foreign)?;
        let said: Acknowledgement = jws.unverified().map_err(foreign)?;
        let now = Instant::now();
        if self.acknowledgements.wait(now).is_some() {
            // It is asked again when its next session opens.
            self.services.metrics.tenant_limit_hit(&self.presence.tenant, Limit::SessionAcknowledgements);
            return Ok(());
        }
        self.acknowledgements.take(now);
        let (registry, tenant, agent) = (&self.services.registry, &self.presence.tenant, self.presence.agent);
        if said.iss != agent {
            return Err(foreign(JoseError::mismatch("iss", "the agent whose session this is is expected")).into());
        }
        if said.tenant != *tenant {
            return Err(foreign(JoseError::mismatch("tenant", "the agent's is expected")).into());
        }
        let stored = async {
            let newest = registry.portal(&said.aud).await?.filter(|portal| portal.tenants.contains(tenant));
            if newest.is_some_and(|portal| portal.later.seq == said.seq) {
                let acknowledged = Acknowledged { seq: said.seq, jws: frame.jws.clone() };
                registry.note_acknowledgement(tenant, agent, &said.aud, acknowledged).await?;
                audit!("portal_rotation_acknowledged", %tenant, %agent, portal = %said.aud, seq = said.seq);
            }
            Ok::<_, StoreError>(())
        };
        if let Err(error) = stored.await {
            // It is asked again when its next session opens.
            tracing::warn!(%error, "an acknowledgement was not stored");
        }
        Ok(())
    }
}
