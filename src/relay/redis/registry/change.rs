//! How records change: each step reads what is there, says what it becomes, and is made if nothing has changed in between.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{RedisRegistry, read, write};
use crate::protocol::ids::{AgentId, TenantId};
use crate::relay::StoreError;
use crate::relay::redis::keys;
use crate::relay::redis::scripts::{REPLACE, REPLACE_ANYWAY};
use crate::relay::registry::{AgentRecord, Counts, Part};

/// How often a change is tried again that another one has overtaken.
pub(super) const ATTEMPTS: u32 = 16;

/// A field of a hash: what it was, and what it is to become.
pub(super) struct Change {
    pub(super) hash: String,
    pub(super) field: String,
    pub(super) was: Option<String>,
    /// Gone, if there is nothing.
    pub(super) becomes: Option<String>,
    /// A new field is added only if the hash has no more than so many then.
    pub(super) most: Option<u32>,
}

/// Whether a change is worth being made at `maxmemory`, too.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    /// Not then.
    ThereIsRoom,
    /// It takes a right away.
    Always,
}

/// The part of the registry whose records these are; invitations are of none, for they are gone after a day.
fn part_of(hash: &str) -> Option<Part> {
    match hash {
        keys::TENANTS => Some(Part::Tenants),
        keys::PORTALS => Some(Part::Portals),
        agents => {
            let tenant = agents.strip_prefix("wb:{")?.strip_suffix("}:agents")?;
            tenant.parse().ok().map(Part::Agents)
        }
    }
}

/// What became of changes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Replaced {
    Done,
    /// Something else was there.
    Overtaken,
    /// The hash of this change has as many fields as it may.
    Full(usize),
}

/// What an agent's record becomes when somebody has decided about it.
pub(super) enum Settled<T> {
    As(Box<AgentRecord>, T),
    Gone(T),
    Nothing(T),
}

impl RedisRegistry {
    /// Makes all changes, if nothing has changed in between.
    pub(super) async fn replace(&self, changes: &[Change], when: When, counts: Counts) -> Result<Replaced, StoreError> {
        let mut script = match when {
            When::ThereIsRoom => REPLACE.prepare_invoke(),
            When::Always => REPLACE_ANYWAY.prepare_invoke(),
        };
        for Change { hash, field, was, becomes, most } in changes {
            script.key(hash).arg(field);
            script.arg(was.as_deref().unwrap_or_default()).arg(becomes.as_deref().unwrap_or_default());
            script.arg(most.unwrap_or(0));
        }
        if counts == Counts::Yes
            && let Some(part) = changes.iter().find_map(|change| part_of(&change.hash))
        {
            script.key(keys::mark(&part));
        }
        let said: i64 = self.link.script(&script).await?;
        Ok(match usize::try_from(said) {
            Ok(0) => Replaced::Overtaken,
            Ok(_) => Replaced::Done,
            Err(_) => Replaced::Full(usize::try_from(-said).unwrap_or(1) - 1),
        })
    }

    /// Changes a record, if there is one, and gives what the change gives. One that changes nothing is written only if it
    /// is to be `always`; that one is written at `maxmemory`, too.
    pub(super) async fn change<R: DeserializeOwned + Serialize, T>(
        &self,
        hash: &str,
        field: &str,
        counts: Counts,
        change: impl Fn(R) -> (R, T) + Send + Sync,
        always: impl Fn(&T) -> bool + Send + Sync,
    ) -> Result<Option<T>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(was) = self.text(hash, field).await? else { return Ok(None) };
            let (becomes, given) = change(read(&was)?);
            let becomes = write(&becomes)?;
            let when = if always(&given) { When::Always } else { When::ThereIsRoom };
            let same = becomes == was && when == When::ThereIsRoom;
            let change = Change {
                hash: hash.to_owned(),
                field: field.to_owned(),
                was: Some(was),
                becomes: Some(becomes),
                most: None,
            };
            if same || self.replace(&[change], when, counts).await? == Replaced::Done {
                return Ok(Some(given));
            }
        }
        Err(StoreError::Unanswered("a record changes all the time".to_owned()))
    }

    /// Changes an agent's record and the note that nobody has approved it, in one step, as long as `change` wants to.
    pub(super) async fn settle<T>(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        when: When,
        change: impl Fn(AgentRecord) -> Settled<T> + Send + Sync,
    ) -> Result<Option<T>, StoreError> {
        let (agents, unapproved, field) = (keys::agents(tenant), keys::unapproved(tenant), agent.to_string());
        for _ in 0..ATTEMPTS {
            let Some(was) = self.text(&agents, &field).await? else { return Ok(None) };
            let noted = self.text(&unapproved, &field).await?;
            let (becomes, given) = match change(read(&was)?) {
                Settled::As(record, given) => (Some(write(&record)?), given),
                Settled::Gone(given) => (None, given),
                Settled::Nothing(given) => return Ok(Some(given)),
            };
            let of = |hash: &str, was, becomes| Change {
                hash: hash.to_owned(),
                field: field.clone(),
                was,
                becomes,
                most: None,
            };
            let changes = [of(&agents, Some(was), becomes), of(&unapproved, noted, None)];
            if self.replace(&changes, when, Counts::Yes).await? == Replaced::Done {
                return Ok(Some(given));
            }
        }
        Err(StoreError::Unanswered("a record changes all the time".to_owned()))
    }
}
