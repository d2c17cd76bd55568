//! Where an agent stands for a portal that wants a reset done now, and what is said if no agent can do it.

use crate::protocol::api::{AgentStatus, AgentView};
use crate::protocol::readiness::{Need, Readiness};

/// Why it is not possible.
pub(super) const REASONS: [&str; 5] =
    ["no_agent", "preflight_failed", "not_served", "agent_pending", "portal_not_trusted"];

/// Where one agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is connected and may take a command; what it can do of what is asked, by its last preflight.
    There(Readiness),
    /// It is connected, and waits for a portal's approval.
    Waits,
    /// It is connected, and says that it takes no commands of this portal.
    RefusesPortal,
    /// Nobody has approved it, and it is not connected.
    Unused,
    /// It is not connected.
    Away,
    /// It was stopped for good.
    Revoked,
}

impl Standing {
    pub(super) fn of(agent: &AgentView, asked: Need<'_>) -> Self {
        match (agent.status, agent.online) {
            (AgentStatus::Revoked, _) => Self::Revoked,
            (AgentStatus::Pending, false) => Self::Unused,
            (AgentStatus::Approved, false) => Self::Away,
            (_, true) if agent.refuses_portal() => Self::RefusesPortal,
            (AgentStatus::Pending, true) => Self::Waits,
            (AgentStatus::Approved, true) => Self::There(agent.readiness(asked)),
        }
    }

    /// What those that are there can do at best. Nothing, if none is.
    pub(super) fn best(all: &[Self]) -> Option<Readiness> {
        let readiness = |standing: &Self| match standing {
            Self::There(readiness) => Some(*readiness),
            _ => None,
        };
        all.iter().filter_map(readiness).max()
    }

    /// Why it is not possible, in one word: the reason that is the nearest to it. Nothing if it is possible.
    pub(super) fn reason(all: &[Self]) -> Option<&'static str> {
        let any = |standing| all.contains(&standing);
        match Self::best(all) {
            Some(Readiness::Ready | Readiness::Degraded) => None,
            Some(Readiness::NotReady) => Some("preflight_failed"),
            Some(Readiness::NotServed) => Some("not_served"),
            None if any(Self::Waits) => Some("agent_pending"),
            None if any(Self::RefusesPortal) => Some("portal_not_trusted"),
            None if any(Self::Unused) && !any(Self::Away) => Some("agent_pending"),
            None => Some("no_agent"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Away, RefusesPortal, Revoked, There, Unused, Waits};
    use super::*;
    use crate::protocol::readiness::Readiness::{Degraded, NotReady, NotServed, Ready};

    #[test]
    fn the_reason_is_what_is_nearest_to_a_reset() {
        for (all, expected) in [
            (&[][..], Some("no_agent")),
            (&[Revoked], Some("no_agent")),
            (&[Away, Revoked], Some("no_agent")),
            (&[Unused], Some("agent_pending")),
            (&[Unused, Revoked], Some("agent_pending")),
            (&[Unused, Away], Some("no_agent")),
            (&[Waits, Away], Some("agent_pending")),
            (&[Waits, RefusesPortal], Some("agent_pending")),
            (&[RefusesPortal, Away, Unused], Some("portal_not_trusted")),
            (&[There(NotReady), RefusesPortal, Waits], Some("preflight_failed")),
            (&[There(NotServed), Waits], Some("not_served")),
            (&[There(NotReady), There(Ready), RefusesPortal], None),
            (&[There(NotServed), There(Degraded), Away], None),
        ] {
            assert_eq!(Standing::reason(all), expected, "{all:?}");
            assert!(expected.is_none_or(|word| REASONS.contains(&word)), "{expected:?}");
        }
    }
}
