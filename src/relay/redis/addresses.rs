//! A connection to a server whose name has several addresses: all that makes it usable, TLS and the greeting included, is
//! tried at each, side by side.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::AsyncDNSResolver;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisError, RedisFuture};
use tokio::time::{Instant, timeout_at};

use crate::net::doubt::Doubts;
use crate::net::names::Names;
use crate::net::race::{Lost, race};
use crate::net::tcp::alternating;

/// Leads to one address, whatever the name.
struct At(SocketAddr);

impl AsyncDNSResolver for At {
    fn resolve<'a, 'b: 'a>(
        &'a self,
        _: &'b str,
        _: u16,
    ) -> RedisFuture<'a, Box<dyn Iterator<Item = SocketAddr> + Send + 'a>> {
        Box::pin(async move { Ok(Box::new(std::iter::once(self.0)) as Box<dyn Iterator<Item = SocketAddr> + Send>) })
    }
}

/// Which addresses of one server have failed.
#[derive(Debug, Default)]
pub(super) struct Addresses(Doubts<SocketAddr>);

impl Addresses {
    /// Connects to the server that `client` is for.
    pub(super) async fn connect(
        &self,
        client: &Client,
        settings: &AsyncConnectionConfig,
        within: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let (host, port) = match client.get_connection_info().addr() {
            ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => (host, *port),
            // No address at all.
            _ => return client.get_multiplexed_async_connection_with_config(settings).await,
        };
        let late = || RedisError::from(io::Error::new(io::ErrorKind::TimedOut, "no connection in time"));
        let deadline = Instant::now() + within;
        let found = timeout_at(deadline, Names::System.addresses(host, port)).await.map_err(|_| late())?;
        let found = found.map_err(|error| RedisError::from(io::Error::other(error.to_string())))?;
        let places = self.0.in_order(alternating(found));
        let left = deadline.saturating_duration_since(Instant::now());
        let raced = race(places, left, |address, _| async move {
            let settings = settings.clone().set_dns_resolver(At(address));
            client.get_multiplexed_async_connection_with_config(&settings).await
        })
        .await;
        self.0.learn(&raced);
        let failed = raced.lost.into_iter().find_map(|(_, lost)| match lost {
            Lost::Failed(error) => Some(error),
            Lost::Silent(_) => None,
        });
        raced.won.map(|(_, connection)| connection).ok_or_else(|| failed.unwrap_or_else(late))
    }
}
