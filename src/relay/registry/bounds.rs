//! How much others can have a registry keep, and for how long.

use std::time::Duration;

use super::records::AgentRecord;
use crate::protocol::api::{AgentStatus, PreflightReport};

/// An invitation is kept so long after its end: whoever comes late hears that it has expired, or was used.
pub const INVITATION_KEPT: Duration = Duration::from_secs(24 * 3600);

/// An agent that nobody has approved is forgotten after this, revoked or not: its tombstone protects nothing, because it
/// never had a right that an old copy of the registry could give back to it.
pub const UNAPPROVED_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// Keys of a portal that are taken at a time. A rotation needs two.
pub const MAX_PORTAL_KEYS: usize = 8;

/// A rotation, in bytes of its JWS: ours are some 2 KiB. The last ones of each agent and portal are kept.
pub(super) const MAX_ROTATION_BYTES: usize = 4096;

/// An acknowledgement, in bytes of its JWS: ours are some 500.
pub const MAX_ACKNOWLEDGEMENT_BYTES: usize = 2048;

/// What an agent found, in rows and in bytes as they are stored: a frame of 16 KiB fits, unless it is made of what has to be
/// escaped.
const PREFLIGHT: (usize, usize) = (128, 32 * 1024);

/// The same of an agent that nobody has approved: enough to see why it does not work.
const PENDING_PREFLIGHT: (usize, usize) = (16, 2 * 1024);

/// How many of each a tenant may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Invitations, those that have ended lately too.
    pub invitations: u32,
    /// Agents, revoked ones too.
    pub agents: u32,
    /// Of these, agents that nobody has approved, revoked ones too.
    pub unapproved: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { invitations: 1000, agents: 2000, unapproved: 500 }
    }
}

/// What a tenant has as many of as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// Invitations.
    Invitations,
    /// Agents.
    Agents,
    /// Agents that nobody has approved.
    Unapproved,
}

impl AgentRecord {
    /// Notes what it found, the first rows of it: an agent names the worst first. Whether all of it was kept.
    pub fn note_preflight(&mut self, mut report: PreflightReport) -> bool {
        let (rows, bytes) = match self.status {
            AgentStatus::Approved => PREFLIGHT,
            AgentStatus::Pending => PENDING_PREFLIGHT,
            // Nobody looks at it any more.
            AgentStatus::Revoked => return false,
        };
        let said = report.rows.len();
        // Without its domains nobody knows what the rows leave.
        let domains = serde_json::to_vec(&report.domains).map_or(usize::MAX, |domains| domains.len());
        let Some(mut left) = bytes.checked_sub(domains) else { return false };
        let fits = report.rows.iter().take(rows).take_while(|row| {
            // As it is stored: what has to be escaped takes more room there.
            let len = serde_json::to_vec(row).map_or(usize::MAX, |row| row.len());
            left.checked_sub(len).inspect(|less| left = *less).is_some()
        });
        let fits = fits.count();
        report.rows.truncate(fits);
        self.preflight = Some(report);
        fits == said
    }

    /// Stops it for good. Of what it said about itself nothing is kept.
    pub fn revoke(&mut self) {
        self.status = AgentStatus::Revoked;
        self.preflight = None;
    }
}
