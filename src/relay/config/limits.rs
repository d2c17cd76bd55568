//! What may happen at the same time, and how often, so that nobody takes a node away from the others.

use ipnet::IpNet;
use serde::Deserialize;

use super::ConfigError;
use crate::relay::ledger::Quotas;
use crate::relay::registry::Bounds;

/// What may happen at the same time, and how often. All of it is for one node: of three, each takes as much.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// TLS handshakes; others wait. Clients that offer HTTP/1.1 alone, as agents do, have so many for themselves, and
    /// so have all others.
    pub tls_handshakes: u32,
    /// Agent sessions that are being opened; others wait, and are soon refused with 503 and told when to come back.
    pub session_openings: u32,
    /// New commands of one tenant in a second; in a moment, twice as many. More are answered 429.
    pub tenant_commands_per_second: u32,
    /// Commands of one tenant that have no end yet. More are answered 429.
    pub tenant_in_flight: u32,
    /// Agent sessions of one tenant. More are answered 429.
    pub tenant_sessions: u32,
    /// Requests of one portal that are not answered yet, those that wait for a command's end among them. More are answered
    /// 429.
    pub portal_requests: u32,
    /// The same of all portals together. More are answered 503.
    pub requests: u32,
    /// Connections of one portal. More are answered 429 and closed.
    pub portal_connections: u32,
    /// Connections of one address that have shown no valid credential yet. For a newer one the oldest of them is closed whose
    /// client keeps the node waiting.
    pub address_connections: u32,
    /// What one tenant's commands and outcomes may measure in the store, all nodes together, in MiB; each is counted with
    /// 1 KiB more than its text. New commands are then answered 429.
    pub tenant_stored_mib: u32,
    /// Outcomes of one agent, of commands that the store has lost, that are kept. More are not taken, and stay with the
    /// agent.
    pub agent_forgotten_outcomes: u32,
    /// Frames of one agent session in a second; in a moment, twice as many. More are read later.
    pub session_frames_per_second: u32,
    /// Invitations of one tenant, those that ended within a day too. More are answered 429.
    pub tenant_invitations: u32,
    /// Agents of one tenant, revoked ones too. An enrolment beyond is answered 429.
    pub tenant_agents: u32,
    /// Of these, agents that nobody has approved, revoked ones too. An enrolment beyond is answered 429.
    pub tenant_unapproved_agents: u32,
    /// TLS handshakes of one address in a second; in a moment, ten times as many. More are cut off.
    pub address_handshakes_per_second: u32,
    /// Refused credentials of one address in a minute. Whoever shows more is answered 429 for a minute, whatever he shows.
    pub address_rejections_per_minute: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            // A handshake is one round trip of waiting and a third of a millisecond of work: 256 at a time keep a core
            // busy at 100 ms round trip, and need 10 MiB.
            tls_handshakes: 256,
            // An opening waits for the store alone: 64 at a time are more than a store that answers needs, and few for
            // one that does not.
            session_openings: 64,
            // More users than forget their password in the largest organisation on a Monday morning; a portal gone wild
            // still takes less than a twentieth of a core.
            tenant_commands_per_second: 200,
            // Each is a waiting request and an entry, some 20 KiB: 40 MiB for one tenant whose directory hangs.
            tenant_in_flight: 2000,
            // Two for each agent, and four while it moves: some hundred agents on one node.
            tenant_sessions: 500,
            // As many as one tenant may have commands.
            portal_requests: 2000,
            // 20 KiB each: 160 MiB, if all of them wait.
            requests: 8000,
            // A portal's client keeps a few, and one for each request where it speaks HTTP/1.1.
            portal_connections: 2000,
            // They are without a credential for a round trip or two: with 5,000 agents behind one address, of which fifty
            // come in a second, a dozen.
            address_connections: 500,
            // A command that has its outcome is some 2 KiB: ten thousand a day, for the seven days that they are kept. Half
            // of a Redis of 256 MiB, so that one tenant alone does not fill it.
            tenant_stored_mib: 128,
            // An agent never has more outcomes unanswered than its tenant may have commands in flight at a node. A store
            // that comes back without them is told of no more than those.
            agent_forgotten_outcomes: 2000,
            // Two frames for each of the commands that a tenant may send in a second, and as many again.
            session_frames_per_second: 800,
            // A rollout of five hundred agents in a day, and their second codes; a quarter of a KiB each.
            tenant_invitations: 1000,
            // Some hundred agents that are enrolled anew every year for some years; some 3 KiB each.
            tenant_agents: 2000,
            // As many as wait in the largest rollout until somebody has compared fingerprints.
            tenant_unapproved_agents: 500,
            // A site of some hundred agents behind one address is back within a few seconds.
            address_handshakes_per_second: 50,
            // A person who tries, and an agent with a wrong clock, stay far below; who guesses does not.
            address_rejections_per_minute: 60,
        }
    }
}

/// More connections than one process holds.
const MAX_AT_ONCE: u32 = 65_536;
/// More than any node does in a second.
const MAX_RATE: u32 = 1_000_000;

impl LimitsConfig {
    /// How much others can make the ledger keep.
    #[must_use]
    pub fn quotas(&self) -> Quotas {
        let tenant_bytes = u64::from(self.tenant_stored_mib) * 1024 * 1024;
        Quotas { tenant_bytes, agent_forgotten: self.agent_forgotten_outcomes }
    }

    /// How much of a tenant's the registry keeps.
    #[must_use]
    pub fn registry_bounds(&self) -> Bounds {
        Bounds {
            invitations: self.tenant_invitations,
            agents: self.tenant_agents,
            unapproved: self.tenant_unapproved_agents,
        }
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, value, most) in [
            ("limits.tls_handshakes", self.tls_handshakes, MAX_AT_ONCE),
            ("limits.session_openings", self.session_openings, MAX_AT_ONCE),
            ("limits.tenant_commands_per_second", self.tenant_commands_per_second, MAX_RATE),
            ("limits.tenant_in_flight", self.tenant_in_flight, MAX_RATE),
            ("limits.tenant_sessions", self.tenant_sessions, MAX_RATE),
            ("limits.portal_requests", self.portal_requests, MAX_RATE),
            ("limits.requests", self.requests, MAX_RATE),
            ("limits.portal_connections", self.portal_connections, MAX_AT_ONCE),
            ("limits.address_connections", self.address_connections, MAX_AT_ONCE),
            ("limits.tenant_stored_mib", self.tenant_stored_mib, MAX_RATE),
            ("limits.agent_forgotten_outcomes", self.agent_forgotten_outcomes, MAX_RATE),
            ("limits.session_frames_per_second", self.session_frames_per_second, MAX_RATE),
            ("limits.tenant_invitations", self.tenant_invitations, MAX_RATE),
            ("limits.tenant_agents", self.tenant_agents, MAX_RATE),
            ("limits.tenant_unapproved_agents", self.tenant_unapproved_agents, MAX_RATE),
            ("limits.address_handshakes_per_second", self.address_handshakes_per_second, MAX_RATE),
            ("limits.address_rejections_per_minute", self.address_rejections_per_minute, MAX_RATE),
        ] {
            if !(1..=most).contains(&value) {
                return Err(ConfigError::Value { field, message: format!("1 to {most} is expected") });
            }
        }
        Ok(())
    }
}

/// Where a client's address is seen. The limits for each address are in force if this is said: else all clients may
/// have the load balancer's.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientAddressConfig {
    /// Where it stands.
    pub from: AddressSource,
    /// The proxies that may say so, as networks: whoever else connects speaks for himself.
    #[serde(default)]
    pub trusted_proxies: Vec<IpNet>,
}

/// Where a client's address stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AddressSource {
    /// It is whoever connects.
    Connection,
    /// In the PROXY protocol's header, version 2, before TLS.
    ProxyProtocol,
    /// In the `Forwarded` header (RFC 7239) of a proxy that ends TLS itself and connects anew.
    Forwarded,
}

impl ClientAddressConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.trusted_proxies.is_empty() == (self.from == AddressSource::Connection) {
            return Ok(());
        }
        Err(ConfigError::Value {
            field: "client_address.trusted_proxies",
            message: "the proxies' networks, like [\"10.0.0.0/8\"], belong to from = \"proxy_protocol\" and \
                      \"forwarded\", which need them, and to nothing else"
                .to_owned(),
        })
    }
}
