//! How much one tenant, one portal and one address may have, and all together. Each is counted by this node alone.

mod counts;

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use governor::clock::MonotonicClock;
use governor::state::keyed::HashMapStateStore;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use parking_lot::Mutex;
use tokio::time::Instant;

use self::counts::{Counts, NoMore};
use super::config::LimitsConfig;
use super::registry::Full;
use crate::protocol::ids::{AgentId, PortalId, TenantId};
use crate::protocol::limits::CHECKS_PER_MINUTE;
use crate::telemetry::limit::Limit;
use crate::telemetry::metrics::Metrics;

/// Whoever shows too many wrong credentials is heard again after this.
const BARRED: Duration = Duration::from_secs(60);
/// For a moment, so many times a tenant's commands of a second are taken.
const COMMANDS_BURST: u32 = 2;
/// Bodies that are read at a time of those who are not known before: enrolments, and as many rotations, 16 KiB each at most.
const ANONYMOUS_BODIES: u32 = 256;
/// So many of them from one address.
const ADDRESS_BODIES: u32 = 16;
/// Refused requests of one client that are written to the log in a moment; then it is one in a second.
const CLIENT_LOG_BURST: u32 = 20;
/// Those of all clients, in a second, and so many times as many in a moment: some 10 KB.
const LOGGED: u32 = 50;
const LOG_BURST: u32 = 4;
/// For a moment, so many times an address's handshakes of a second: agents of one site come back together.
const HANDSHAKES_BURST: u32 = 10;
/// Of one portal, or one agent. Keys change once in months; each change of a portal's is told to all its agents.
const ROTATIONS_PER_HOUR: u32 = 60;

pub use self::counts::Counted;

type Rate<K> = RateLimiter<K, HashMapStateStore<K>, MonotonicClock>;

fn rate<K: Hash + Eq + Clone>(per: fn(NonZeroU32) -> Quota, number: u32, burst: u32) -> Rate<K> {
    RateLimiter::hashmap_with_clock(quota(per, number, burst), MonotonicClock)
}

fn quota(per: fn(NonZeroU32) -> Quota, number: u32, burst: u32) -> Quota {
    let number = NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let burst = NonZeroU32::new(number.get().saturating_mul(burst)).unwrap_or(number);
    per(number).allow_burst(burst)
}

/// Why somebody gets nothing more now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    /// Its commands come too fast.
    #[error("this tenant's commands come faster than this node takes them; send the same command again later")]
    Rate,
    /// It has too many that are not answered.
    #[error("too many of this tenant's commands are not answered yet; send the same command again later")]
    InFlight,
    /// It has too many sessions.
    #[error("this tenant has as many sessions on this node as it may have; come back")]
    Sessions,
    /// A portal has too many requests that are not answered.
    #[error("this portal has as many requests on this node as it may have at a time; ask again later")]
    PortalRequests,
    /// All portals together have.
    #[error("this node has as many requests as it can serve at a time; ask again, or another node")]
    Requests,
    /// A portal has too many connections.
    #[error("this portal has as many connections to this node as it may have; use those, or close some")]
    PortalConnections,
    /// One of its agents is asked too often.
    #[error(
        "this agent was asked to check its directory a moment ago; its report comes, and it may be asked again later"
    )]
    Checks,
    /// It has too many invitations.
    #[error(
        "this tenant has as many invitations as it may have (tenant_invitations), those that have ended within a day among \
         them; invite again later"
    )]
    Invitations,
    /// It has too many agents.
    #[error(
        "this tenant has as many agents as it may have (tenant_agents), revoked ones among them; ask the relay's operator \
         to forget some, or to raise the limit"
    )]
    Agents,
    /// It has too many that nobody has approved.
    #[error(
        "too many agents of this tenant wait for their approval, or were revoked without one \
         (tenant_unapproved_agents); approve some, and try again"
    )]
    UnapprovedAgents,
}

impl Exceeded {
    /// As it is counted.
    #[must_use]
    pub fn limit(self) -> Limit {
        match self {
            Self::Rate => Limit::TenantRate,
            Self::InFlight => Limit::TenantInFlight,
            Self::Sessions => Limit::TenantSessions,
            Self::PortalRequests => Limit::PortalRequests,
            Self::Requests => Limit::Requests,
            Self::PortalConnections => Limit::PortalConnections,
            Self::Checks => Limit::AgentChecks,
            Self::Invitations => Limit::TenantInvitations,
            Self::Agents => Limit::TenantAgents,
            Self::UnapprovedAgents => Limit::TenantUnapprovedAgents,
        }
    }
}

/// Whom an address belongs to: a host that has IPv6 has a whole network of it.
pub(super) fn holder(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 @ IpAddr::V4(_) => v4,
    }
}

fn anonymous_body(bodies: &Counts<Option<IpAddr>>, client: Option<IpAddr>) -> Option<Counted> {
    let each = if client.is_some() { ADDRESS_BODIES } else { ANONYMOUS_BODIES };
    bodies.one_more(&client.map(holder), each, ANONYMOUS_BODIES).ok()
}

/// What each address has done.
struct Addresses {
    handshakes: Rate<IpAddr>,
    rejections: Rate<IpAddr>,
    /// Who is not heard, and until when.
    barred: Mutex<HashMap<IpAddr, Instant>>,
}

/// The limits of one node.
pub struct Limits {
    config: LimitsConfig,
    commands: Rate<TenantId>,
    in_flight: Counts<TenantId>,
    sessions: Counts<TenantId>,
    requests: Counts<PortalId>,
    /// Bodies of those whose credential is in them.
    enrolment_bodies: Counts<Option<IpAddr>>,
    rotation_bodies: Counts<Option<IpAddr>>,
    /// Refused requests that are written to the log: of each client, and all.
    logged_of_address: Rate<Option<IpAddr>>,
    logged: RateLimiter<NotKeyed, InMemoryState, MonotonicClock>,
    /// Those that were not.
    unlogged: AtomicU64,
    checks: Rate<(TenantId, AgentId)>,
    portal_rotations: Rate<PortalId>,
    agent_rotations: Rate<(TenantId, AgentId)>,
    /// None: who the clients are is not known.
    addresses: Option<Addresses>,
    metrics: Arc<Metrics>,
}

impl Limits {
    /// With nothing counted. `addresses` if the clients' addresses are known.
    #[must_use]
    pub fn new(config: &LimitsConfig, addresses: bool, metrics: Arc<Metrics>) -> Self {
        let addresses = addresses.then(|| Addresses {
            handshakes: rate(Quota::per_second, config.address_handshakes_per_second, HANDSHAKES_BURST),
            rejections: rate(Quota::per_minute, config.address_rejections_per_minute, 1),
            barred: Mutex::default(),
        });
        Self {
            commands: rate(Quota::per_second, config.tenant_commands_per_second, COMMANDS_BURST),
            in_flight: Counts::default(),
            sessions: Counts::default(),
            requests: Counts::default(),
            enrolment_bodies: Counts::default(),
            rotation_bodies: Counts::default(),
            logged_of_address: rate(Quota::per_second, 1, CLIENT_LOG_BURST),
            logged: RateLimiter::direct_with_clock(quota(Quota::per_second, LOGGED, LOG_BURST), MonotonicClock),
            unlogged: AtomicU64::new(0),
            checks: rate(Quota::per_minute, CHECKS_PER_MINUTE.into(), 1),
            portal_rotations: rate(Quota::per_hour, ROTATIONS_PER_HOUR, 1),
            agent_rotations: rate(Quota::per_hour, ROTATIONS_PER_HOUR, 1),
            addresses,
            config: config.clone(),
            metrics,
        }
    }

    fn count(&self, tenant: &TenantId, exceeded: Exceeded) -> Exceeded {
        self.metrics.tenant_limit_hit(tenant, exceeded.limit());
        exceeded
    }

    /// One more command of this tenant.
    ///
    /// # Errors
    /// If they come too fast, or too many have no end.
    pub fn command(&self, tenant: &TenantId) -> Result<Counted, Exceeded> {
        // First what costs nothing if it is refused.
        let counted = self.in_flight.one_more(tenant, self.config.tenant_in_flight, u32::MAX);
        let counted = counted.map_err(|_| self.count(tenant, Exceeded::InFlight))?;
        self.commands.check_key(tenant).map_err(|_| self.count(tenant, Exceeded::Rate))?;
        Ok(counted)
    }

    /// One more session of this tenant.
    ///
    /// # Errors
    /// If it has as many as it may.
    pub fn session(&self, tenant: &TenantId) -> Result<Counted, Exceeded> {
        let counted = self.sessions.one_more(tenant, self.config.tenant_sessions, u32::MAX);
        counted.map_err(|_| self.count(tenant, Exceeded::Sessions))
    }

    /// One more request of this portal, until its answer is sent. Whoever waits for a command's end keeps one all that time.
    ///
    /// # Errors
    /// If it has as many as it may, or all portals together have.
    pub fn request(&self, portal: &PortalId) -> Result<Counted, Exceeded> {
        self.requests.one_more(portal, self.config.portal_requests, self.config.requests).map_err(|full| {
            let exceeded = match full {
                NoMore::Each => Exceeded::PortalRequests,
                NoMore::All => Exceeded::Requests,
            };
            self.metrics.limit_hit(exceeded.limit());
            exceeded
        })
    }

    /// One more body of an agent that enrols: nothing if there are too many.
    #[must_use]
    pub fn enrolment_body(&self, client: Option<IpAddr>) -> Option<Counted> {
        anonymous_body(&self.enrolment_bodies, client)
    }

    /// The same of a rotation.
    #[must_use]
    pub fn rotation_body(&self, client: Option<IpAddr>) -> Option<Counted> {
        anonymous_body(&self.rotation_bodies, client)
    }

    /// One more check of this agent's directory. It has to be one that is known.
    ///
    /// # Errors
    /// If it was asked so often a moment ago.
    pub fn check(&self, tenant: &TenantId, agent: AgentId) -> Result<(), Exceeded> {
        self.checks.check_key(&(tenant.clone(), agent)).map_err(|_| self.count(tenant, Exceeded::Checks))
    }

    /// The registry keeps no more of this for the tenant.
    pub fn kept(&self, tenant: &TenantId, full: Full) -> Exceeded {
        self.count(
            tenant,
            match full {
                Full::Invitations => Exceeded::Invitations,
                Full::Agents => Exceeded::Agents,
                Full::Unapproved => Exceeded::UnapprovedAgents,
            },
        )
    }

    /// Whether one more rotation of this portal is followed.
    #[must_use]
    pub fn portal_rotation(&self, portal: &PortalId) -> bool {
        self.takes(&self.portal_rotations, portal, Limit::PortalRotations)
    }

    /// Whether one more rotation of this agent is followed.
    #[must_use]
    pub fn agent_rotation(&self, tenant: &TenantId, agent: AgentId) -> bool {
        self.takes(&self.agent_rotations, &(tenant.clone(), agent), Limit::AgentRotations)
    }

    fn takes<K: Hash + Eq + Clone>(&self, rate: &Rate<K>, key: &K, limit: Limit) -> bool {
        let taken = rate.check_key(key).is_ok();
        if !taken {
            self.metrics.limit_hit(limit);
        }
        taken
    }

    /// Whether one more TLS handshake of this address is begun.
    #[must_use]
    pub fn handshake(&self, address: IpAddr) -> bool {
        let Some(addresses) = &self.addresses else { return true };
        let taken = addresses.handshakes.check_key(&holder(address)).is_ok();
        if !taken {
            self.metrics.limit_hit(Limit::AddressHandshakes);
        }
        taken
    }

    /// A credential from this address was refused.
    pub fn rejected(&self, address: IpAddr) {
        let Some(addresses) = &self.addresses else { return };
        let holder = holder(address);
        if addresses.rejections.check_key(&holder).is_err() {
            addresses.barred.lock().insert(holder, Instant::now() + BARRED);
        }
    }

    /// Whether this address has shown so many wrong ones that it is not heard now.
    #[must_use]
    pub fn bars(&self, address: IpAddr) -> bool {
        self.bars_at(address, Instant::now())
    }

    fn bars_at(&self, address: IpAddr, now: Instant) -> bool {
        let Some(addresses) = &self.addresses else { return false };
        let barred = addresses.barred.lock().get(&holder(address)).is_some_and(|until| now < *until);
        if barred {
            self.metrics.limit_hit(Limit::AddressRejections);
        }
        barred
    }

    /// Whether a refused request of this client is written to the log: the first ones are, and then one in a second, and
    /// not too many of all together.
    #[must_use]
    pub fn logs_refusal(&self, client: Option<IpAddr>) -> bool {
        let of_client = self.logged_of_address.check_key(&client.map(holder)).is_ok();
        let logged = of_client && self.logged.check().is_ok();
        if !logged {
            self.metrics.limit_hit(Limit::RefusalLog);
            self.unlogged.fetch_add(1, Ordering::Relaxed);
        }
        logged
    }

    /// How many connections without a credential an address may have.
    #[must_use]
    pub fn address_connections(&self) -> u32 {
        self.config.address_connections
    }

    /// How many connections a portal may have.
    #[must_use]
    pub fn portal_connections(&self) -> u32 {
        self.config.portal_connections
    }

    /// Something else was refused because there was too much of it.
    pub fn hit(&self, limit: Limit) {
        self.metrics.limit_hit(limit);
    }

    /// Forgets tenants and addresses that have been quiet for a while.
    pub fn forget(&self) {
        self.commands.retain_recent();
        self.logged_of_address.retain_recent();
        let unlogged = self.unlogged.swap(0, Ordering::Relaxed);
        if unlogged > 0 {
            tracing::warn!(unlogged, "more requests were refused that are not logged one by one");
        }
        self.checks.retain_recent();
        self.portal_rotations.retain_recent();
        self.agent_rotations.retain_recent();
        if let Some(addresses) = &self.addresses {
            addresses.handshakes.retain_recent();
            addresses.rejections.retain_recent();
            addresses.barred.lock().retain(|_, until| Instant::now() < *until);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(config: LimitsConfig, addresses: bool) -> (Limits, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::new().unwrap());
        (Limits::new(&config, addresses, Arc::clone(&metrics)), metrics)
    }

    fn hits(metrics: &Metrics, limit: &str) -> Option<String> {
        let series = format!("writeback_limits_hits_total{{limit=\"{limit}\"}} ");
        metrics.render().unwrap().lines().find_map(|line| line.strip_prefix(&series).map(str::to_owned))
    }

    #[test]
    fn one_tenant_that_has_too_much_takes_nothing_from_another() {
        let config = LimitsConfig {
            tenant_commands_per_second: 1,
            tenant_in_flight: 2,
            tenant_sessions: 1,
            ..LimitsConfig::default()
        };
        let (limits, metrics) = limits(config, false);
        let (one, other): (TenantId, TenantId) = ("one".parse().unwrap(), "other".parse().unwrap());
        let held = (limits.command(&one).unwrap(), limits.command(&one).unwrap());
        assert_eq!(limits.command(&one).err(), Some(Exceeded::InFlight));
        drop(held);
        assert_eq!(limits.command(&one).err(), Some(Exceeded::Rate));
        let _of_the_other = limits.command(&other).unwrap();
        let session = limits.session(&one).unwrap();
        assert_eq!(limits.session(&one).err(), Some(Exceeded::Sessions));
        assert!(limits.session(&other).is_ok());
        drop(session);
        assert!(limits.session(&one).is_ok());
        for limit in ["tenant_in_flight", "tenant_rate", "tenant_sessions"] {
            assert_eq!(hits(&metrics, limit).as_deref(), Some("1"), "{limit}");
        }
        assert!(limits.sessions.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn an_address_that_shakes_hands_too_often_or_guesses_is_left_for_a_while_and_its_neighbour_is_not() {
        let config = LimitsConfig {
            address_handshakes_per_second: 1,
            address_rejections_per_minute: 3,
            ..LimitsConfig::default()
        };
        let (limits, metrics) = limits(config.clone(), true);
        let [host, same, neighbour] =
            ["2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1"].map(|text| text.parse::<IpAddr>().unwrap());
        assert!((0..10).all(|_| limits.handshake(host)));
        assert!(!limits.handshake(same) && limits.handshake(neighbour));
        assert_eq!(hits(&metrics, "address_handshakes").as_deref(), Some("1"));
        for _ in 0..4 {
            assert!(!limits.bars(host));
            limits.rejected(host);
        }
        assert!(limits.bars(same) && !limits.bars(neighbour));
        assert!(!limits.bars_at(host, Instant::now() + BARRED));
        limits.forget();

        let (unknown, _) = self::limits(config, false);
        assert!((0..100).all(|_| unknown.handshake(host)), "all clients may have the load balancer's address");
        (0..100).for_each(|_| unknown.rejected(host));
        assert!(!unknown.bars(host));
    }
}
