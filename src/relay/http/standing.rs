//! Where an agent stands for a portal that wants a reset done now, and what is said if no agent can do it.

use crate::protocol::api::{AgentStatus, AgentView};

/// Where one agent stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It could take a command.
    Able,
    /// It says itself that resets will fail.
    PreflightFailed,
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
    pub(super) fn of(agent: &AgentView) -> Self {
        match (agent.status, agent.online) {
            (AgentStatus::Revoked, _) => Self::Revoked,
            (AgentStatus::Pending, false) => Self::Unused,
            (AgentStatus::Approved, false) => Self::Away,
            (_, true) if agent.refuses_portal() => Self::RefusesPortal,
            (AgentStatus::Pending, true) => Self::Waits,
            (AgentStatus::Approved, true) if agent.preflight_failed() => Self::PreflightFailed,
            (AgentStatus::Approved, true) => Self::Able,
        }
    }

    /// Why no reset is possible, in one word: the reason that is the nearest to one. Nothing if it is possible.
    pub(super) fn reason(all: &[Self]) -> Option<&'static str> {
        let any = |standing| all.contains(&standing);
        if any(Self::Able) {
            None
        } else if any(Self::PreflightFailed) {
            Some("preflight_failed")
        } else if any(Self::Waits) {
            Some("agent_pending")
        } else if any(Self::RefusesPortal) {
            Some("portal_not_trusted")
        } else if any(Self::Unused) && !any(Self::Away) {
            Some("agent_pending")
        } else {
            Some("no_agent")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Standing::{Able, Away, PreflightFailed, RefusesPortal, Revoked, Unused, Waits};
    use super::*;

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
            (&[PreflightFailed, RefusesPortal, Waits], Some("preflight_failed")),
            (&[PreflightFailed, Able, RefusesPortal], None),
        ] {
            assert_eq!(Standing::reason(all), expected, "{all:?}");
        }
    }
}
