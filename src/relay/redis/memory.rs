//! Since when the ledger has forgotten nothing. One that came back empty does not know what it has lost: a command that is
//! older than its new beginning may have been delivered before, and nobody says of it that it was not.

use redis::{Cmd, cmd};

use super::keys;
use super::link::Link;
use crate::clock::UnixTime;
use crate::protocol::ids::TenantId;
use crate::protocol::limits::{MAX_CLOCK_AHEAD, MAX_COMMAND_LIFETIME};
use crate::relay::StoreError;

/// A new tenant's ledger has nothing to forget.
pub(super) async fn begin(link: &Link, tenant: &TenantId) -> Result<(), StoreError> {
    let mut set = Cmd::set(keys::whole_since(tenant), 0);
    link.command::<Option<String>>(set.arg("NX")).await.map(drop)
}

/// Whether a command with this `exp` may have been in the ledger, and is not any more. If the ledger has lost its own
/// beginning, it begins now.
pub(super) async fn may_have_lost(
    link: &Link,
    tenant: &TenantId,
    exp: UnixTime,
    now_ms: u64,
) -> Result<bool, StoreError> {
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    let mut look = cmd("SET");
    look.arg(keys::whole_since(tenant)).arg(now).arg("NX").arg("GET");
    let since: Option<i64> = link.command(&look).await?;
    // Its `iat` may be so much earlier, and its portal's clock so much ahead.
    let oldest = UnixTime(since.unwrap_or(now)).plus(MAX_COMMAND_LIFETIME).plus(MAX_CLOCK_AHEAD);
    Ok(since != Some(0) && exp <= oldest)
}
