//! This node's channel: subscribed for as long as the node lives, and known to work, since a probe travels over it.
//!
//! A subscription that is connected but silent is found by the probe and made anew, and so is one that hears and is not
//! counted: in a Cluster, a master that has stepped back hands on what is said to its successor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Value, cmd};
use tokio::sync::mpsc::error::{SendError, TrySendError};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::addresses::Addresses;
use super::config::{Config, Topology};
use super::forbidden::{Forbidden, Where};
use super::link::{LinkError, cluster, library, sentinel, single};
use crate::telemetry::metrics::Metrics;

/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(250);

/// Messages that may wait; more are dropped, and what they said is looked up.
pub(super) const WAITING: usize = 1024;

/// Kept open for the subscription's sake.
pub(super) enum Subscription {
    Server(#[expect(dead_code, reason = "held, not used")] MultiplexedConnection),
    Cluster(#[expect(dead_code, reason = "held, not used")] ClusterConnection),
}

/// What the subscription brings.
pub(super) enum Heard {
    /// It is open (again): what was said meanwhile is lost.
    Opened,
    /// More came than could wait: some of it is lost.
    Missed,
    /// A message.
    Message(Vec<u8>),
}

/// Listens to one channel.
pub(super) struct Subscriber {
    pub(super) config: Config,
    pub(super) channel: String,
    /// Nothing heard for so long means that the subscription is dead: somebody probes it more often.
    pub(super) silence: Duration,
    /// Told when nobody is counted who hears the probe.
    pub(super) uncounted: Arc<Notify>,
    pub(super) heard: mpsc::Sender<Heard>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) addresses: Addresses,
    pub(super) forbidden: Arc<Forbidden>,
}

/// Open for as long as it is held and works.
struct Open {
    _subscription: Subscription,
    pushes: mpsc::Receiver<PushInfo>,
    missed: Arc<AtomicBool>,
}

impl Subscriber {
    /// Subscribes once.
    async fn subscribe(&self) -> Result<Open, LinkError> {
        let (config, channel) = (&self.config, &self.channel);
        let (sender, pushes) = mpsc::channel(WAITING);
        let missed = Arc::new(AtomicBool::new(false));
        let (full, metrics) = (Arc::clone(&missed), Arc::clone(&self.metrics));
        // It must not wait: the connection would.
        let push = move |push: PushInfo| match sender.try_send(push) {
            Err(TrySendError::Full(_)) => {
                metrics.message_dropped();
                full.store(true, Ordering::Relaxed);
                Ok(())
            }
            taken => taken,
        };
        let library = library(config);
        if config.topology == Topology::Cluster {
            let client = cluster(config)?.push_sender(push).build().map_err(&library)?;
            let mut connection = client.get_async_connection().await.map_err(&library)?;
            connection.ssubscribe(channel).await.map_err(&library)?;
            return Ok(Open { _subscription: Subscription::Cluster(connection), pushes, missed });
        }
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.connect_timeout()))
            .set_response_timeout(Some(config.command_timeout()))
            .set_push_sender(push);
        let made: Result<MultiplexedConnection, RedisError> = match config.topology {
            Topology::Sentinel => sentinel(config)?.get_async_connection_with_config(&settings).await,
            Topology::Single | Topology::Cluster => {
                self.addresses.connect(&single(config)?, &settings, config.connect_timeout()).await
            }
        };
        let mut connection = made.map_err(&library)?;
        cmd("SSUBSCRIBE").arg(channel).exec_async(&mut connection).await.map_err(&library)?;
        Ok(Open { _subscription: Subscription::Server(connection), pushes, missed })
    }

    /// Listens until nobody hears it any more.
    pub(super) async fn listen(self) {
        loop {
            let limit = self.config.connect_timeout() + self.config.command_timeout();
            match timeout(limit, self.subscribe()).await {
                Ok(Ok(open)) => {
                    self.forbidden.allowed(Where::Channel);
                    if self.forward(open).await.is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => {
                    if let LinkError::Redis { error, .. } = &error {
                        self.forbidden.note(Where::Channel, error);
                    }
                    tracing::warn!(%error, "the node's channel can't be subscribed to");
                }
                Err(_) => tracing::warn!("the node's channel can't be subscribed to in time"),
            }
            sleep(PAUSE).await;
        }
    }

    /// Passes on what comes, until the subscription is no use any more.
    async fn forward(&self, mut open: Open) -> Result<(), SendError<Heard>> {
        self.heard.send(Heard::Opened).await?;
        loop {
            let push = tokio::select! {
                push = timeout(self.silence, open.pushes.recv()) => push,
                () = self.uncounted.notified() => {
                    tracing::warn!("the node's subscription is not where messages are sent; it is made anew");
                    return Ok(());
                }
            };
            match push {
                Ok(Some(push)) if push.kind == PushKind::SMessage => {
                    if let Some(Value::BulkString(message)) = push.data.into_iter().nth(1) {
                        self.heard.send(Heard::Message(message)).await?;
                    }
                }
                // The server has gone, or does not hold the channel's slot any more.
                Ok(Some(push)) if matches!(push.kind, PushKind::Disconnection | PushKind::SUnsubscribe) => {
                    return Ok(());
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(()),
                Err(_) => {
                    tracing::warn!("the node's subscription is silent; it is made anew");
                    return Ok(());
                }
            }
            // Not while it goes on: looking everything up is much work.
            if open.pushes.is_empty() && open.missed.swap(false, Ordering::Relaxed) {
                self.heard.send(Heard::Missed).await?;
            }
        }
    }
}
