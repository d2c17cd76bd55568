//! An empty store on each backend, and a macro that runs a contract on all of them.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use writeback_relay::clock::{Clock, System};
use writeback_relay::relay::embedded::{EmbeddedLedger, EmbeddedRegistry};
use writeback_relay::relay::ledger::{Ledger, Quotas};
use writeback_relay::relay::redis::ledger::RedisLedger;
use writeback_relay::relay::redis::link::Link;
use writeback_relay::relay::redis::registry::RedisRegistry;
use writeback_relay::relay::registry::{Bounds, Registry};

use crate::support::redis::Redis;

/// Where a store stands. It is empty, and nobody else's until this is dropped.
pub(crate) enum Ground {
    /// A folder.
    Embedded(TempDir),
    /// A server of its own.
    Single(Redis),
    /// Servers that one test at a time may use.
    Shared(&'static Redis, #[expect(dead_code, reason = "held")] MutexGuard<'static, ()>),
}

impl Ground {
    pub(crate) async fn embedded() -> Self {
        Self::Embedded(tempfile::tempdir().unwrap())
    }

    pub(crate) async fn redis_single() -> Self {
        Self::Single(Redis::single().await)
    }

    pub(crate) async fn redis_sentinel() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        static SERVERS: OnceCell<Redis> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let servers = SERVERS.get_or_init(Redis::sentinel).await;
        servers.flush();
        Self::Shared(servers, turn)
    }

    pub(crate) async fn redis_cluster() -> Self {
        static TURN: Mutex<()> = Mutex::const_new(());
        static SERVERS: OnceCell<Redis> = OnceCell::const_new();
        let turn = TURN.lock().await;
        let servers = SERVERS.get_or_init(Redis::cluster).await;
        servers.flush();
        Self::Shared(servers, turn)
    }

    pub(crate) fn redis(&self) -> Option<&Redis> {
        match self {
            Self::Embedded(_) => None,
            Self::Single(redis) => Some(redis),
            Self::Shared(redis, _) => Some(redis),
        }
    }

    pub(crate) async fn ledger(&self) -> Arc<dyn Ledger> {
        self.ledger_within(Quotas::UNLIMITED).await
    }

    pub(crate) async fn ledger_within(&self, quotas: Quotas) -> Arc<dyn Ledger> {
        match (self, self.redis()) {
            (_, Some(redis)) => Arc::new(RedisLedger::new(link(redis).await).bounded(quotas)),
            (Self::Embedded(folder), _) => {
                let file = folder.path().join("ledger.redb");
                Arc::new(EmbeddedLedger::open(&file, System.now()).unwrap().bounded(quotas))
            }
            _ => unreachable!(),
        }
    }

    pub(crate) async fn registry(&self) -> Arc<dyn Registry> {
        self.registry_with(Bounds::default()).await
    }

    pub(crate) async fn registry_with(&self, bounds: Bounds) -> Arc<dyn Registry> {
        match (self, self.redis()) {
            (_, Some(redis)) => Arc::new(RedisRegistry::new(link(redis).await).bounded(bounds)),
            (Self::Embedded(folder), _) => {
                let file = folder.path().join("registry.redb");
                Arc::new(EmbeddedRegistry::open(&file).await.unwrap().bounded(bounds))
            }
            _ => unreachable!(),
        }
    }

    /// The same ground, as if nothing had ever been stored. Stores on it must be gone.
    pub(crate) fn cleared(self) -> Self {
        match &self {
            Self::Embedded(folder) => {
                for file in std::fs::read_dir(folder.path()).unwrap() {
                    std::fs::remove_file(file.unwrap().path()).unwrap();
                }
            }
            Self::Single(redis) => redis.flush(),
            Self::Shared(redis, _) => redis.flush(),
        }
        self
    }
}

pub(crate) async fn link(redis: &Redis) -> Link {
    Link::open(redis.config()).await.unwrap()
}

/// One test for each contract on each of the backends that have several nodes: `contract(Ground)`.
macro_rules! on_every_redis {
    ($($contract:ident)*) => {
        on_every_backend!(@ redis_single $($contract)*);
        on_every_backend!(@ redis_sentinel $($contract)*);
        on_every_backend!(@ redis_cluster $($contract)*);
    };
}
pub(crate) use on_every_redis;

/// One test for each contract on each backend: `contract(Ground)`.
macro_rules! on_every_backend {
    ($($contract:ident)*) => {
        on_every_backend!(@ embedded $($contract)*);
        on_every_backend!(@ redis_single $($contract)*);
        on_every_backend!(@ redis_sentinel $($contract)*);
        on_every_backend!(@ redis_cluster $($contract)*);
    };
    (@ $backend:ident $($contract:ident)*) => {
        mod $backend {
            use $crate::contract::stores::Ground;

            $(
                #[tokio::test]
                async fn $contract() {
                    super::$contract(Ground::$backend().await).await;
                }
            )*
        }
    };
}
pub(crate) use on_every_backend;
