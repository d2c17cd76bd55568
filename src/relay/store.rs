//! Opens the three contracts on whatever the configuration chooses.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use super::bus::{Bus, Guard};
use super::config::{Config, ConfigError, Store};
use super::embedded::{EmbeddedBus, EmbeddedLedger, EmbeddedRegistry, Room};
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
use super::writes::Writes;
use crate::clock::{Clock, Random};
use crate::host;
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

    /// What is wrong, though this node serves.
    #[must_use]
    pub fn remark(&self) -> Option<String> {
        let refused = self
            .writes()
            .cause()
            .map(|cause| format!("no writes are taken: {}; {}", cause.detail(), cause.remedy().text()));
        let strangers = match self {
            Self::Embedded { .. } => Vec::new(),
            Self::Redis { bus, .. } => bus.strangers(),
        };
        let strangers = (!strangers.is_empty())
            .then(|| format!("nodes on the same redis have another redis.cluster_key_file: {}", strangers.join(", ")));
        let remarks: Vec<_> = refused.into_iter().chain(strangers).collect();
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
            let registry = EmbeddedRegistry::open(&config.data_dir.join("registry.redb")).await?;
            let registry = registry.bounded(bounds).within(room.clone()).timed(Arc::clone(metrics));
            let ledger = EmbeddedLedger::open(&config.data_dir.join("ledger.redb"), clock.now())?;
            let ledger = ledger.bounded(config.limits.quotas()).within(room.clone()).timed(Arc::clone(metrics));
            let (one, other) = (registry.database().failure(), ledger.failure());
            let failed = async move {
                tokio::select! { error = one => error, error = other => error }
            };
            let registry: Arc<dyn Registry> = Arc::new(registry);
            let (ledger, bus) = (Arc::new(ledger), Arc::new(EmbeddedBus::new(node, name, Arc::clone(&clock))));
            return Ok(Self {
                keys: keys(&registry),
                registry,
                ledger: Arc::clone(&ledger) as Arc<dyn Ledger>,
                bus: Arc::clone(&bus) as Arc<dyn Bus>,
                intake: Arc::new(TwoSteps { ledger, bus }),
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
            health: Health::Redis { bus, writes },
        })
    }
}
