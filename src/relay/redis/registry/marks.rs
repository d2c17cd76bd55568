//! The marks of the registry's parts.

use redis::{Cmd, pipe};

use super::RedisRegistry;
use crate::protocol::ids::TenantId;
use crate::relay::StoreError;
use crate::relay::redis::keys;
use crate::relay::redis::scripts::{BEGIN_MARK, MISS, TAKE_PLACE};
use crate::relay::registry::{Mark, Marked, Part};

/// The fields of a mark that are read: id, revision, head, the head at another revision, and two lists of ids.
type Fields = (Option<String>, Option<u64>, Option<String>, Option<String>, Option<String>, Option<String>);

fn ids(list: Option<String>) -> Vec<String> {
    list.unwrap_or_default().split_whitespace().map(str::to_owned).collect()
}

impl RedisRegistry {
    /// The tenants whose agents have marks, or may have.
    pub(super) async fn marked_tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let names: Vec<String> = self.marks.command(&Cmd::hkeys(keys::TENANTS)).await?;
        Ok(names.into_iter().filter_map(|name| name.try_into().ok()).collect())
    }

    /// In one round trip.
    pub(super) async fn read_mark(&self, part: &Part, revision: u64) -> Result<Marked, StoreError> {
        let then = format!("head:{revision}");
        let fields = ["id", "revision", "head", then.as_str(), "follows", "missing"];
        let mut look = pipe();
        look.cmd("HMGET").arg(keys::mark(part)).arg(&fields).cmd("HLEN").arg(keys::records(part));
        let (found, records): (Fields, u64) = self.marks.pipeline(&look).await?;
        let (id, revision, head, head_then, follows, missing) = found;
        let mark = match (id, revision, head) {
            (Some(id), Some(revision), Some(head)) => Some(Mark { id, revision, head }),
            _ => None,
        };
        Ok(Marked { mark, head_then, follows: ids(follows), missing: ids(missing), records })
    }

    pub(super) async fn begin_mark(&self, part: &Part) -> Result<(), StoreError> {
        let mut begin = BEGIN_MARK.key(keys::mark(part));
        begin.key(keys::records(part));
        self.marks.script::<()>(&begin).await?;
        // One that a failover takes away again would look like a loss.
        self.confirmed(&keys::mark(part)).await
    }

    pub(super) async fn note_missing(&self, part: &Part, id: &str) -> Result<(), StoreError> {
        self.marks.script(MISS.key(keys::mark(part)).arg(id)).await
    }

    pub(super) async fn take_place(&self, part: &Part, known: Option<&str>) -> Result<(), StoreError> {
        let mut accept = TAKE_PLACE.key(keys::mark(part));
        accept.key(keys::records(part)).arg(known.unwrap_or_default());
        self.marks.script::<()>(&accept).await?;
        self.confirmed(&keys::mark(part)).await
    }
}
