//! What one idle agent costs a relay node: `cargo bench --bench idle_memory [AGENTS]`.
//!
//! A relay process, and that many agents over TLS from this process; the node's resident memory before and after.

mod common;

use std::net::Ipv4Addr;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;
use writeback_relay::clock::{Clock, System};
use writeback_relay::protocol::frame::{FromAgent, FromRelay, v1};
use writeback_relay::protocol::jose::SigningKey;
use writeback_relay::relay::registry::{Snapshot, TenantRecord, TenantSnapshot};

use common::{Dialer, Fallible, Process, TENANT, keys, ready, registered};

const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 77);
const DEFAULT_AGENTS: usize = 2_000;

#[tokio::main]
async fn main() -> Fallible<()> {
    // cargo passes --bench.
    let agents = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(DEFAULT_AGENTS);
    let folder = tempfile::tempdir()?;
    let relay = Process::relay(ADDRESS, ADDRESS, folder.path(), "")?;
    let admin = ready(ADDRESS, folder.path()).await?;
    let key = SigningKey::generate(&System)?;
    let records = registered(agents, &keys(&key)?);
    let ids: Vec<_> = records.iter().map(|record| (record.agent, record.journal)).collect();
    let tenant = TenantRecord { tenant: TENANT.parse()?, created_at: System.now() };
    let snapshot = TenantSnapshot { tenant, invitations: vec![], agents: records };
    admin.import(&Snapshot { version: 1, portals: vec![], tenants: vec![snapshot] }).await?;

    let dialer = Dialer::new(ADDRESS, ADDRESS, key, folder.path())?;
    // The first sessions pay for what all share: pools, tables, the allocator's arenas.
    let (warm, measured) = ids.split_at(agents / 10);
    let mut open = dialer.all(warm).await?;
    let before = relay.resident()?;
    open.extend(dialer.all(measured).await?);
    let fresh = relay.resident()?;
    println!("{agents} agents over TLS, {} measured", measured.len());
    #[expect(clippy::cast_precision_loss, reason = "KiB of one process")]
    let each = |after: u64| after.saturating_sub(before) as f64 / measured.len() as f64;
    println!("one idle agent, fresh:               {:5.1} KiB of resident memory", each(fresh));

    // As large as an outcome: the relay keeps the reason to itself and the session open.
    for socket in &mut open {
        let leaving = FromAgent::Leaving(v1::Leaving { reason: "x".repeat(1_500) });
        socket.send(Message::Binary(leaving.encode_frame().into())).await?;
    }
    for socket in &mut open {
        let frame = tokio::time::timeout(Duration::from_secs(60), socket.next()).await?;
        let Some(Ok(Message::Binary(bytes))) = frame else { return Err("a session was closed".into()) };
        assert!(matches!(FromRelay::decode(&bytes)?, FromRelay::Heartbeat(_)));
    }
    println!("after 1.5 KB in and a heartbeat out: {:5.1} KiB", each(relay.resident()?));
    Ok(())
}
