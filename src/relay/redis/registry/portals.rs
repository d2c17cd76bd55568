//! How an operator changes portals.

use super::change::{ATTEMPTS, Change, Replaced, When};
use super::{RedisRegistry, read, write};
use crate::protocol::ids::PortalId;
use crate::relay::StoreError;
use crate::relay::redis::keys;
use crate::relay::registry::{Grant, PortalAdded, PortalRecord};

fn overtaken() -> StoreError {
    StoreError::Unanswered("a record changes all the time".to_owned())
}

impl RedisRegistry {
    /// Adds what is not there.
    pub(super) async fn add_to_portal(&self, portal: PortalRecord) -> Result<PortalAdded, StoreError> {
        let field = portal.portal.to_string();
        for _ in 0..ATTEMPTS {
            let was = self.text(keys::PORTALS, &field).await?;
            let added = portal.add_to(was.as_deref().map(read).transpose()?);
            let Some(record) = added.to_store() else { return Ok(added) };
            let (hash, becomes) = (keys::PORTALS.to_owned(), Some(write(record)?));
            let change = Change { hash, field: field.clone(), was, becomes, most: None };
            if self.replace(&[change], When::ThereIsRoom).await? == Replaced::Done {
                return Ok(added);
            }
        }
        Err(overtaken())
    }

    /// Grants a tenant, or takes it away.
    pub(super) async fn change_grant(
        &self,
        portal: &PortalId,
        grant: &Grant,
    ) -> Result<Option<(PortalRecord, bool)>, StoreError> {
        let settle = |mut record: PortalRecord| {
            let changed = record.settle(grant);
            (record.clone(), (record, changed))
        };
        let takes_away = matches!(grant, Grant::Withdraw(_));
        self.change(keys::PORTALS, portal.as_str(), settle, |(_, changed)| takes_away && *changed).await
    }

    /// Stores it whatever was there.
    pub(super) async fn replace_portal(&self, portal: PortalRecord) -> Result<(), StoreError> {
        let (field, becomes) = (portal.portal.to_string(), write(&portal)?);
        for _ in 0..ATTEMPTS {
            let was = self.text(keys::PORTALS, &field).await?;
            let (hash, becomes) = (keys::PORTALS.to_owned(), Some(becomes.clone()));
            let change = Change { hash, field: field.clone(), was, becomes, most: None };
            if self.replace(&[change], When::Always).await? == Replaced::Done {
                return Ok(());
            }
        }
        Err(overtaken())
    }
}
