//! Opens the three contracts on whatever the configuration chooses.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::bus::{Bus, Guard};
use super::config::{Config, ConfigError, Store};
use super::continuity::Continuity;
use super::embedded::{EmbeddedBus, EmbeddedLedger, EmbeddedRegistry, Room};
use super::faults::Fault;
use super::ids::NodeId;
use super::intake::{Intake, TwoSteps};
use super::keys::Keys;
use super::ledger::Ledger;
use super::redis::bus::RedisBus;
use super::redis::checks::{CheckError, checked};
use super::redis::intake::RedisIntake;
use super::redis::ledger::RedisLedger;
use super::redis::registry::RedisRegistry;
use super::registry::Registry;
use super::writes::{Cause, Writes};
use crate::clock::{Clock, Random};
use crate::host;
use crate::protocol::remedy::Remedy;
use crate::storage::DatabaseError;
use crate::telemetry::metrics::Metrics;

/// Why the store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file.
    #[error(transparent)]
    File(#[from] DatabaseError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Redis would lose what must not be lost, or does not let us in, or other nodes don't.
    #[error(transparent)]
    Unfit(#[from] CheckError),
}

impl OpenError {
    /// Whether it may be opened later, though nobody changes anything here.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Unfit(error) if error.may_pass())
    }
}

/// The three contracts, and how they are.
pub struct Stores {
    /// Who may do what.
    pub registry: Arc<dyn Registry>,
    /// What became of each command.
    pub ledger: Arc<dyn Ledger>,
    /// Who is where.
    pub bus: Arc<dyn Bus>,
    /// From the one to the other.
    pub intake: Arc<dyn Intake>,
    /// Judges by the registry's keys.
    pub keys: Keys,
    /// Whether the registry is still the one that this node had.
    pub continuity: Arc<Continuity>,
    /// How they are.
    pub health: Health,
}

/// How the stores are.
#[derive(Clone)]
pub enum Health {
    /// Files.
    Embedded {
        /// Resolves when one can't be written any more.
        failed: Shared<BoxFuture<'static, DatabaseError>>,
        /// On their disk.
        room: Room,
        /// Whether there is some.
        writes: Arc<Writes>,
    },
    /// Redis comes and goes; this node's own channel is what has to work.
    Redis {
        /// The channel.
        bus: Arc<RedisBus>,
        /// Whether Redis takes writes.
        writes: Arc<Writes>,
    },
}

impl Health {
    /// Resolves if the node can't go on.
    pub async fn failed(&self) -> DatabaseError {
        match self {
            Self::Embedded { failed, .. } => failed.clone().await,
            Self::Redis { .. } => std::future::pending().await,
        }
    }

    /// Whether this node hears what others tell it.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        match self {
            Self::Embedded { .. } => true,
            Self::Redis { bus, .. } => bus.hears_itself(),
        }
    }

    /// Since this node last heard itself; none if it has nothing to hear.
    #[must_use]
    pub fn probe_age(&self) -> Option<Duration> {
        match self {
            Self::Embedded { .. } => None,
            Self::Redis { bus, .. } => bus.probe_age(),
        }
    }

    /// How long it takes from here through the store and back, if that is long.
    #[must_use]
    pub fn slowness(&self) -> Option<Duration> {
        match self {
            Self::Embedded { .. } => None,
            Self::Redis { bus, .. } => bus.slowness().filter(|_| bus.hears_itself() && self.writes().cause().is_none()),
        }
    }

    /// The same, for people.
    #[must_use]
    pub fn slow(&self) -> Option<String> {
        self.slowness().map(|took| format!("redis is slow: from this node and back it takes {} ms", took.as_millis()))
    }

    /// How far this host's clock is ahead of the store's, in milliseconds, if it has another.
    #[must_use]
    pub fn clock_offset_ms(&self) -> Option<i64> {
        match self {
            Self::Embedded { .. } => None,
            Self::Redis { bus, .. } => bus.clock_offset_ms(),
        }
    }

    /// Whether agents can open their sessions at another node while this one stops.
    pub async fn has_others(&self) -> bool {
        match self {
            Self::Embedded { .. } => false,
            Self::Redis { bus, .. } => bus.has_others().await,
        }
    }

    /// Whether the store takes writes.
    #[must_use]
    pub fn writes(&self) -> &Arc<Writes> {
        match self {
            Self::Embedded { writes, .. } | Self::Redis { writes, .. } => writes,
        }
    }

    /// Looks whether it does, for ever, where nobody else looks.
    pub async fn watch(self) {
        match self {
            Self::Embedded { room, .. } => room.watch().await,
            Self::Redis { .. } => {}
        }
    }

    /// What keeps this node from its work.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Self::Embedded { writes, .. } => writes.cause().into_iter().map(Fault::Store).collect(),
            Self::Redis { bus, .. } => bus.faults(),
        }
    }

    /// What the store refuses to this node, in its own words.
    #[must_use]
    pub fn forbidden(&self) -> Option<String> {
        match self {
            Self::Embedded { .. } => None,
            Self::Redis { bus, .. } => bus.forbidden(),
        }
    }

    /// Asks the store now whether it does what is needed, and what it says is known after that; whether it answers, and what
    /// nodes say is heard.
    pub async fn look(&self) -> bool {
        match self {
            Self::Embedded { .. } => true,
            Self::Redis { bus, .. } => bus.look().await,
        }
    }

    /// What is wrong, though this node serves.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let refused = self
            .writes()
            .cause()
            .map(|cause| format!("no writes are taken: {}; {}", cause.detail(), cause.remedy().text()));
        let forbidden = self
            .forbidden()
            .map(|words| format!("{}: {words}; {}", Cause::Rights.detail(), Cause::Rights.remedy().text()));
        let slow = self.slow().map(|slow| format!("{slow}; {}", Remedy::RedisSlow.text()));
        let clock = self.clock_offset_ms().filter(|_| self.faults().contains(&Fault::ClockOff)).map(|ms| {
            let (seconds, side) = (ms.abs() / 1000, if ms > 0 { "ahead of" } else { "behind" });
            format!("this host's clock is {seconds} s {side} redis'; {}", Remedy::SetNodeClock.text())
        });
        let strangers = match self {
            Self::Embedded { .. } => Vec::new(),
            Self::Redis { bus, .. } => bus.strangers(),
        };
        let strangers = (!strangers.is_empty())
            .then(|| format!("nodes on the same redis have another redis.cluster_key_file: {}", strangers.join(", ")));
        let remarks: Vec<_> = refused.into_iter().chain(forbidden).chain(clock).chain(slow).chain(strangers).collect();
        (!remarks.is_empty()).then(|| remarks.join("; "))
    }

    /// The node goes: the others need not wait until its lease runs out.
    pub async fn retire(&self) {
        if let Self::Redis { bus, .. } = self
            && let Err(error) = bus.retire().await
        {
            tracing::warn!(%error, "the node's lease could not be given back; it will run out");
        }
    }
}

impl Stores {
    /// Opens what `config` chooses, for this node.
    ///
    /// # Errors
    /// If it can't be used, and why.
    pub async fn open(
        config: &Config,
        node: NodeId,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, OpenError> {
        let name = config.node_name.clone().unwrap_or_else(host::name);
        let keys =
            |registry: &Arc<dyn Registry>| Keys::new(Arc::clone(registry), Arc::clone(&clock), &config.public_url);
        let bounds = config.limits.registry_bounds();
        if config.store == Store::Embedded {
            let writes = Arc::<Writes>::default();
            let room = Room::of(&config.data_dir, &writes);
            let [registry_file, ledger_file] = ["registry.redb", "ledger.redb"].map(|name| config.data_dir.join(name));
            // They are made together: where one is missing, there was one.
            let was_there = ledger_file.exists() && !registry_file.exists();
            let registry = EmbeddedRegistry::open(&registry_file).await?;
            let registry = registry.bounded(bounds).within(room.clone()).timed(Arc::clone(metrics));
            let ledger = EmbeddedLedger::open(&ledger_file, clock.now())?;
            let ledger = ledger.bounded(config.limits.quotas()).within(room.clone()).timed(Arc::clone(metrics));
            let (one, other) = (registry.database().failure(), ledger.failure());
            let failed = async move {
                tokio::select! { error = one => error, error = other => error }
            };
            let registry: Arc<dyn Registry> = Arc::new(registry);
            let continuity = Arc::new(Continuity::new(Arc::clone(&registry), &config.data_dir));
            if was_there {
                continuity.expect_some();
            }
            let (ledger, bus) = (Arc::new(ledger), Arc::new(EmbeddedBus::new(node, name, Arc::clone(&clock))));
            return Ok(Self {
                keys: keys(&registry),
                registry,
                ledger: Arc::clone(&ledger) as Arc<dyn Ledger>,
                bus: Arc::clone(&bus) as Arc<dyn Bus>,
                intake: Arc::new(TwoSteps { ledger, bus }),
                continuity,
                health: Health::Embedded { failed: failed.boxed().shared(), room, writes },
            });
        }
        let redis = config.redis.clone().ok_or_else(|| ConfigError::Value {
            field: "redis",
            message: "store = \"redis\" needs a [redis] section with urls and cluster_key_file".to_owned(),
        })?;
        // A file of this host is not to be found wrong by way of a server.
        redis.cluster_key().map_err(CheckError::Config)?;
        let link = checked(redis).await?.counted(Arc::clone(metrics));
        let writes = Arc::clone(link.writes());
        let registry: Arc<dyn Registry> = Arc::new(RedisRegistry::new(link.clone()).bounded(bounds));
        let keys = keys(&registry);
        let continuity = Arc::new(Continuity::new(Arc::clone(&registry), &config.data_dir));
        let guard: Arc<dyn Guard> = Arc::new(keys.clone());
        let bus = RedisBus::open(link.clone(), node, name, guard, clock, random, Arc::clone(metrics)).await?;
        let bus = Arc::new(bus);
        let ledger = RedisLedger::new(link).bounded(config.limits.quotas());
        Ok(Self {
            keys,
            registry,
            ledger: Arc::new(ledger.clone()),
            intake: Arc::new(RedisIntake::new(ledger, Arc::clone(&bus))),
            bus: Arc::clone(&bus) as Arc<dyn Bus>,
            continuity,
            health: Health::Redis { bus, writes },
        })
    }
}
