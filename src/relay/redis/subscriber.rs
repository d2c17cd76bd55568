//! This node's channel: subscribed for as long as the node lives, and known to work, since a probe travels over it.
//!
//! A subscription that is connected but silent is found by the probe and made anew, and so is one that hears and is not
//! counted: in a Cluster, a master that has stepped back hands on what is said to its successor.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, Value, cmd};
use tokio::sync::{Notify, mpsc};
use tokio::time::{sleep, timeout};

use super::config::{Config, Topology};
use super::link::{LinkError, cluster, library, sentinel, single};

/// Between two attempts to subscribe.
const PAUSE: Duration = Duration::from_millis(250);

/// Kept open for the subscription's sake.
pub(super) enum Subscription {
    Server(#[expect(dead_code, reason = "held, not used")] MultiplexedConnection),
    Cluster(#[expect(dead_code, reason = "held, not used")] ClusterConnection),
}

/// Subscribes once; messages come out of the receiver for as long as the subscription is held and works.
async fn subscribe(
    config: &Config,
    channel: &str,
) -> Result<(Subscription, mpsc::UnboundedReceiver<PushInfo>), LinkError> {
    let (pushes, received) = mpsc::unbounded_channel();
    let library = library(config);
    if config.topology == Topology::Cluster {
        let client = cluster(config)?.push_sender(pushes).build().map_err(&library)?;
        let mut connection = client.get_async_connection().await.map_err(&library)?;
        connection.ssubscribe(channel).await.map_err(&library)?;
        return Ok((Subscription::Cluster(connection), received));
    }
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(config.connect_timeout()))
        .set_response_timeout(Some(config.command_timeout()))
        .set_push_sender(pushes);
    let made: Result<MultiplexedConnection, RedisError> = match config.topology {
        Topology::Sentinel => sentinel(config)?.get_async_connection_with_config(&settings).await,
        Topology::Single | Topology::Cluster => {
            single(config)?.get_multiplexed_async_connection_with_config(&settings).await
        }
    };
    let mut connection = made.map_err(&library)?;
    cmd("SSUBSCRIBE").arg(channel).exec_async(&mut connection).await.map_err(&library)?;
    Ok((Subscription::Server(connection), received))
}

/// What the subscription brings.
pub(super) enum Heard {
    /// It is open (again): what was said meanwhile is lost.
    Opened,
    /// A message.
    Message(Vec<u8>),
}

/// Listens for ever. Nothing heard for `silence` means that the subscription is dead: somebody probes it more often, and
/// says `uncounted` when nobody is counted who hears it.
pub(super) async fn listen(
    config: Config,
    channel: String,
    silence: Duration,
    uncounted: Arc<Notify>,
    heard: mpsc::UnboundedSender<Heard>,
) {
    loop {
        match timeout(config.connect_timeout() + config.command_timeout(), subscribe(&config, &channel)).await {
            Ok(Ok((subscription, mut pushes))) => {
                if heard.send(Heard::Opened).is_err() {
                    return;
                }
                loop {
                    let push = tokio::select! {
                        push = timeout(silence, pushes.recv()) => push,
                        () = uncounted.notified() => {
                            tracing::warn!("the node's subscription is not where messages are sent; it is made anew");
                            break;
                        }
                    };
                    match push {
                        Ok(Some(push)) if push.kind == PushKind::SMessage => {
                            if let Some(Value::BulkString(message)) = push.data.into_iter().nth(1)
                                && heard.send(Heard::Message(message)).is_err()
                            {
                                return;
                            }
                        }
                        // The server has gone, or does not hold the channel's slot any more.
                        Ok(Some(push)) if matches!(push.kind, PushKind::Disconnection | PushKind::SUnsubscribe) => {
                            break;
                        }
                        Ok(Some(_)) => {}
                        Ok(None) => break,
                        Err(_) => {
                            tracing::warn!("the node's subscription is silent; it is made anew");
                            break;
                        }
                    }
                }
                drop(subscription);
            }
            Ok(Err(error)) => tracing::warn!(%error, "the node's channel can't be subscribed to"),
            Err(_) => tracing::warn!("the node's channel can't be subscribed to in time"),
        }
        sleep(PAUSE).await;
    }
}
