//! The ledger in Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use redis::{Cmd, FromRedisValue, Value};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::link::Link;
use super::scripts::{ACCEPT, COMPLETE_SINCE, CONCLUDE, HAND_OVER, NOTE, TAKE_BACK, TAKE_OVER};
use super::{keys, millis};
use crate::clock::UnixTime;
use crate::protocol::ids::{AgentId, TenantId};
use crate::protocol::limits::OUTCOME_RETENTION;
use crate::relay::StoreError;
use crate::relay::ids::{NodeId, SessionId};
use crate::relay::ledger::{
    Accepted, CommandKey, Concluded, Cursor, ENTRY_BYTES, End, Entry, Intent, Ledger, Milestone, NewCommand, Quota,
    Quotas, TAKEN_OVER_AT_ONCE, Undelivered, Whose, Written,
};

/// A milestone waits so long for the command's end, which is then written with it: most commands end sooner, and cost
/// one round trip less.
const NOTE_AFTER: Duration = Duration::from_millis(250);

/// Steps on the way, each with its field and its milliseconds.
type Notes = HashMap<CommandKey, Vec<(&'static str, u64)>>;

/// [`Ledger`] for many nodes.
#[derive(Clone)]
pub struct RedisLedger {
    link: Link,
    quotas: Quotas,
    /// Milestones that are not written yet.
    pending: Arc<Mutex<Notes>>,
}

/// The parts of a command that never change.
#[derive(Serialize, Deserialize)]
struct Fixed {
    key: CommandKey,
    agent: AgentId,
    body_sha256: Option<[u8; 32]>,
    exp: UnixTime,
    traceparent: String,
    #[serde(default)]
    origin: Option<NodeId>,
    accepted_ms: u64,
}

impl Fixed {
    fn of(entry: &Entry) -> Self {
        Self {
            key: entry.key.clone(),
            agent: entry.agent,
            body_sha256: entry.body_sha256,
            exp: entry.exp,
            traceparent: entry.traceparent.clone(),
            origin: entry.origin,
            accepted_ms: entry.accepted_ms,
        }
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|e| StoreError::Unanswered(format!("a command can't be written: {e}")))
}

/// A command from the hash that holds it.
fn read(fields: &HashMap<String, String>) -> Result<Entry, StoreError> {
    let damaged = |what: &str| StoreError::Unanswered(format!("a command in redis can't be read: {what}"));
    let text = |name: &str| fields.get(name).map(String::as_str);
    let number = |name: &str| text(name).map(str::parse).transpose().map_err(|_| damaged(name));
    let fixed: Fixed = serde_json::from_str(text("entry").unwrap_or_default()).map_err(|e| damaged(&e.to_string()))?;
    let owner = text("owner").map(str::parse).transpose().map_err(|_| damaged("owner"))?;
    let end = text("end").map(serde_json::from_str).transpose().map_err(|e| damaged(&e.to_string()))?;
    Ok(Entry {
        key: fixed.key,
        agent: fixed.agent,
        jws: text("jws").map(str::to_owned),
        body_sha256: fixed.body_sha256,
        exp: fixed.exp,
        traceparent: fixed.traceparent,
        origin: fixed.origin,
        owner: owner.map(SessionId),
        attempt: u32::try_from(number("attempt")?.unwrap_or(0)).map_err(|_| damaged("attempt"))?,
        accepted_ms: fixed.accepted_ms,
        delivering_ms: number("delivering")?,
        received_ms: number("received")?,
        end,
    })
}

impl RedisLedger {
    /// Over this link.
    #[must_use]
    pub fn new(link: Link) -> Self {
        Self { link: link.used_for("ledger"), quotas: Quotas::UNLIMITED, pending: Arc::default() }
    }

    /// The same, that keeps no more than this.
    #[must_use]
    pub fn bounded(self, quotas: Quotas) -> Self {
        Self { quotas, ..self }
    }

    /// Stores an outcome; one whose command is not known, only if it is `forgotten`.
    async fn conclude_if(
        &self,
        key: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
        forgotten: bool,
    ) -> Result<Concluded, StoreError> {
        let end = End::Outcome { jws: outcome_jws, at_ms: now_ms };
        let entry = Entry { end: Some(end), ..Entry::forgotten(key.clone(), agent, now_ms) };
        let fallback = if forgotten { json(&Fixed::of(&entry))? } else { String::new() };
        let mut script = CONCLUDE.key(keys::command(key));
        script
            .key(keys::open(&key.tenant, agent))
            .key(keys::bytes(&key.tenant))
            .key(keys::forgotten(&key.tenant, agent))
            .arg(agent.to_string())
            .arg(json(&entry.end)?)
            .arg(millis(OUTCOME_RETENTION))
            .arg(fallback)
            .arg(key.command.to_string())
            .arg(self.quotas.tenant_bytes)
            .arg(self.quotas.agent_forgotten)
            .arg(entry.weight());
        for (field, ms) in self.pending.lock().remove(key).unwrap_or_default() {
            script.arg(field).arg(ms);
        }
        match self.link.script::<Value>(&script).await? {
            Value::SimpleString(word) | Value::VerbatimString { text: word, .. } => Ok(said(&word)),
            Value::BulkString(word) => Ok(said(&String::from_utf8_lossy(&word))),
            stored => Ok(Concluded::Stored(Box::new(read(&fields(stored)?)?))),
        }
    }

    /// Writes what was noted of a command, unless its end has taken it along.
    async fn write_notes(self, key: CommandKey) {
        sleep(NOTE_AFTER).await;
        let Some(noted) = self.pending.lock().remove(&key) else { return };
        let mut script = NOTE.key(keys::command(&key));
        for (field, ms) in noted {
            script.arg(field).arg(ms);
        }
        if let Err(error) = self.link.script::<()>(&script).await {
            tracing::warn!(%error, "a milestone was not noted");
        }
    }
}

/// A message to a node, sealed.
pub(super) struct Letter {
    pub(super) channel: String,
    pub(super) sealed: Vec<u8>,
}

impl RedisLedger {
    /// Whether a command and a channel may be on different servers.
    pub(super) fn is_cluster(&self) -> bool {
        self.link.is_cluster()
    }

    /// [`Ledger::accept`]; if the command is new, the letter is sent in the same step. How many listened to it.
    pub(super) async fn accept_and_send(
        &self,
        command: NewCommand,
        intent: Intent,
        now_ms: u64,
        letter: Option<&Letter>,
    ) -> Result<(Accepted, u64), StoreError> {
        let entry = Entry::new(command.clone(), intent, false, now_ms);
        let mut script = ACCEPT.key(keys::command(&entry.key));
        script
            .key(keys::open(&entry.key.tenant, entry.agent))
            .key(keys::life(&entry.key.tenant))
            .key(keys::bytes(&entry.key.tenant))
            .arg(json(&Fixed::of(&entry))?)
            .arg(entry.agent.to_string())
            .arg(&command.jws)
            .arg(entry.owner.map(|session| session.to_string()).unwrap_or_default())
            .arg(entry.end.as_ref().map(json).transpose()?.unwrap_or_default())
            .arg(millis(OUTCOME_RETENTION))
            .arg(millis(keys::OPEN_KEPT))
            .arg(now_ms / 1000)
            .arg(command.earliest.0)
            .arg(self.quotas.tenant_bytes)
            .arg(ENTRY_BYTES);
        if let Some(letter) = letter {
            script.arg(&letter.channel).arg(&letter.sealed);
        }
        let answer: Value = self.link.script(&script).await?;
        if let Value::Array(new) = &answer
            && let [Value::Int(listeners), Value::Int(forgotten)] = new[..]
        {
            let entry = if forgotten == 1 { Entry::new(command, intent, true, now_ms) } else { entry };
            return Ok((Accepted::New(entry), u64::try_from(listeners).unwrap_or(0)));
        }
        if matches!(answer, Value::BulkString(_) | Value::SimpleString(_) | Value::VerbatimString { .. }) {
            return Ok((Accepted::OverQuota, 0));
        }
        let known = read(&fields(answer)?)?;
        Ok((if known.is_same(&command) { Accepted::Known(known) } else { Accepted::Conflict }, 0))
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn complete_since(&self, tenant: &TenantId, now: UnixTime) -> Result<UnixTime, StoreError> {
        let mut script = COMPLETE_SINCE.key(keys::life(tenant));
        script.arg(now.0).arg(millis(keys::OPEN_KEPT));
        self.link.script(&script).await.map(UnixTime)
    }

    async fn accept(&self, command: NewCommand, intent: Intent, now_ms: u64) -> Result<Accepted, StoreError> {
        Ok(self.accept_and_send(command, intent, now_ms, None).await?.0)
    }

    async fn get(&self, key: &CommandKey) -> Result<Option<Entry>, StoreError> {
        let fields: HashMap<String, String> = self.link.command(&Cmd::hgetall(keys::command(key))).await?;
        if fields.is_empty() { Ok(None) } else { read(&fields).map(Some) }
    }

    async fn take_over(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        session: SessionId,
        whose: Whose,
        after: Option<Cursor>,
    ) -> Result<Vec<Entry>, StoreError> {
        let open = keys::open(tenant, agent);
        let listed: Vec<String> = self.link.command(&Cmd::smembers(&open)).await?;
        if listed.is_empty() {
            return Ok(Vec::new());
        }
        let mut script = TAKE_OVER.key(&open);
        for command in &listed {
            script.key(command);
        }
        script.arg(session.to_string()).arg(match whose {
            Whose::Others => "others",
            Whose::Own => "own",
        });
        script.arg(TAKEN_OVER_AT_ONCE);
        match after {
            Some(after) => script.arg(after.accepted_ms).arg(keys::command(&after.key)),
            None => script.arg("").arg(""),
        };
        let taken: Vec<HashMap<String, String>> = self.link.script(&script).await?;
        taken.iter().map(read).collect()
    }

    async fn hand_over(&self, entry: Entry, to: SessionId, written: Written) -> Result<Option<Entry>, StoreError> {
        let Some(owner) = entry.owner else { return Ok(None) };
        let handed = entry.clone().handed_to(to, written);
        let mut script = HAND_OVER.key(keys::command(&entry.key));
        script.arg(owner.to_string()).arg(entry.attempt).arg(to.to_string()).arg(handed.attempt);
        Ok(self.link.script::<bool>(&script).await?.then_some(handed))
    }

    async fn take_back(
        &self,
        key: &CommandKey,
        owner: SessionId,
        reason: Undelivered,
        now_ms: u64,
    ) -> Result<Option<Entry>, StoreError> {
        let Some(entry) = self.get(key).await? else { return Ok(None) };
        let mut script = TAKE_BACK.key(keys::command(key));
        script
            .key(keys::open(&key.tenant, entry.agent))
            .key(keys::bytes(&key.tenant))
            .arg(owner.to_string())
            .arg(json(&End::Undelivered { reason, at_ms: now_ms })?)
            .arg(millis(OUTCOME_RETENTION))
            .arg(ENTRY_BYTES);
        let fields: HashMap<String, String> = self.link.script(&script).await?;
        if fields.is_empty() { Ok(None) } else { read(&fields).map(Some) }
    }

    async fn note(&self, key: &CommandKey, milestone: Milestone, now_ms: u64) -> Result<(), StoreError> {
        let field = match milestone {
            Milestone::Delivering => "delivering",
            Milestone::Received => "received",
        };
        let first = {
            let mut pending = self.pending.lock();
            let noted = pending.entry(key.clone()).or_default();
            noted.push((field, now_ms));
            noted.len() == 1
        };
        if first {
            tokio::spawn(self.clone().write_notes(key.clone()));
        }
        Ok(())
    }

    async fn conclude(
        &self,
        key: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError> {
        self.conclude_if(key, agent, outcome_jws, now_ms, false).await
    }

    async fn conclude_forgotten(
        &self,
        key: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError> {
        self.conclude_if(key, agent, outcome_jws, now_ms, true).await
    }

    async fn purge(&self, _now: UnixTime) -> Result<bool, StoreError> {
        // Redis forgets by itself.
        Ok(false)
    }
}

fn fields(hash: Value) -> Result<HashMap<String, String>, StoreError> {
    FromRedisValue::from_redis_value(hash)
        .map_err(|e| StoreError::Unanswered(format!("a command in redis can't be read: {e}")))
}

fn said(word: &str) -> Concluded {
    match word {
        "already" => Concluded::Already,
        "other" => Concluded::OtherPortals,
        "unknown" => Concluded::Unknown,
        "bytes" => Concluded::OverQuota(Quota::TenantBytes),
        "forgotten" => Concluded::OverQuota(Quota::AgentForgotten),
        _ => Concluded::Foreign,
    }
}
