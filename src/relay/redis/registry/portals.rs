//! How an operator changes portals.

use super::change::{ATTEMPTS, Change, Replaced, When};
use super::{RedisRegistry, read, write};
use crate::protocol::ids::PortalId;
use crate::relay::StoreError;
use crate::relay::redis::keys;
use crate::relay::registry::{Counts, Grant, PortalAdded, PortalRecord};

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
            if self.replace(&[change], When::ThereIsRoom, Counts::Yes).await? == Replaced::Done {
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
        let takes_away = |(_, changed): &(PortalRecord, bool)| takes_away && *changed;
        self.change(keys::PORTALS, portal.as_str(), Counts::Yes, settle, takes_away).await
    }

    /// Removes it; whether there was one.
    pub(super) async fn take_portal_away(&self, portal: &PortalId) -> Result<bool, StoreError> {
        for _ in 0..ATTEMPTS {
            let (hash, field) = (keys::PORTALS.to_owned(), portal.to_string());
            let Some(was) = self.text(&hash, &field).await? else { return Ok(false) };
            let change = Change { hash, field, was: Some(was), becomes: None, most: None };
            if self.replace(&[change], When::Always, Counts::Yes).await? == Replaced::Done {
                return Ok(true);
            }
        }
        Err(overtaken())
    }

    /// Stores it whatever was there.
    pub(super) async fn replace_portal(&self, portal: PortalRecord) -> Result<(), StoreError> {
        let (field, becomes) = (portal.portal.to_string(), write(&portal)?);
        for _ in 0..ATTEMPTS {
            let was = self.text(keys::PORTALS, &field).await?;
            let (hash, becomes) = (keys::PORTALS.to_owned(), Some(becomes.clone()));
            let change = Change { hash, field: field.clone(), was, becomes, most: None };
            if self.replace(&[change], When::Always, Counts::Yes).await? == Replaced::Done {
                return Ok(());
            }
        }
        Err(overtaken())
    }
}
