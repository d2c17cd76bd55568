//! What became of each command. Terminal states are written once; a signed outcome replaces what the relay said on its
//! own, and nothing replaces a signed outcome.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::StoreError;
use super::ids::{NodeId, SessionId};
use crate::clock::UnixTime;
use crate::protocol::api::{CommandState, CommandView, Milestones};
use crate::protocol::ids::{AgentId, CommandId, PortalId, TenantId};

/// A command's place in the ledger: only the portal that signed it reads it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CommandKey {
    /// The organisation.
    pub tenant: TenantId,
    /// The portal.
    pub portal: PortalId,
    /// The command's `jti`.
    pub command: CommandId,
}

/// What an entry measures beside the texts of others in it, in bytes: its keys, ids and times, wherever it is stored.
pub const ENTRY_BYTES: u64 = 1024;

/// So many commands are taken over at once: a session has room for them, whatever its agent has left unanswered.
pub const TAKEN_OVER_AT_ONCE: usize = 64;

/// How much others can make the ledger keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// What a tenant's entries may measure when a new one comes, or one grows, in bytes: [`Entry::weight`]. An outcome that
    /// is no longer than its sealed command always finds its place.
    pub tenant_bytes: u64,
    /// Outcomes of one agent whose commands are not known (any more).
    pub agent_forgotten: u32,
}

impl Quotas {
    /// Nobody says how much.
    pub const UNLIMITED: Self = Self { tenant_bytes: u64::MAX, agent_forgotten: u32::MAX };
}

/// A quota that is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// [`Quotas::tenant_bytes`].
    TenantBytes,
    /// [`Quotas::agent_forgotten`].
    AgentForgotten,
}

/// A place among an agent's commands, which are taken over in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cursor {
    /// When it was accepted, in milliseconds.
    pub accepted_ms: u64,
    /// The command.
    pub key: CommandKey,
}

/// Why nothing was written to any socket, and nothing will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undelivered {
    /// The agent has no session.
    NoAgent,
    /// Its queue is full.
    AgentBusy,
    /// The node is stopping.
    Draining,
    /// `exp` passed while it waited in a queue.
    Expired,
}

impl Undelivered {
    /// Every one.
    pub const ALL: &[Self] = &[Self::NoAgent, Self::AgentBusy, Self::Draining, Self::Expired];

    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoAgent => "no_agent",
            Self::AgentBusy => "agent_busy",
            Self::Draining => "draining",
            Self::Expired => "expired",
        }
    }
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum End {
    /// The agent's signed word.
    Outcome {
        /// The JWS.
        jws: String,
        /// When it was stored, in milliseconds.
        at_ms: u64,
    },
    /// The relay's own word: nothing was written.
    Undelivered {
        /// Why.
        reason: Undelivered,
        /// When, in milliseconds.
        at_ms: u64,
    },
}

impl End {
    /// When, in milliseconds.
    #[must_use]
    pub fn at_ms(&self) -> u64 {
        match self {
            Self::Outcome { at_ms, .. } | Self::Undelivered { at_ms, .. } => *at_ms,
        }
    }
}

/// A command that comes in.
#[derive(Clone, Debug)]
pub struct NewCommand {
    /// Its place.
    pub key: CommandKey,
    /// The agent it names.
    pub agent: AgentId,
    /// The JWS.
    pub jws: String,
    /// SHA-256 of the JWS.
    pub body_sha256: [u8; 32],
    /// Its `exp`.
    pub exp: UnixTime,
    /// Nobody can have submitted it before: it was not signed, or its agent was not enrolled.
    pub earliest: UnixTime,
    /// W3C Trace Context of the request that brought it.
    pub traceparent: String,
    /// The node where somebody waits for its end.
    pub origin: NodeId,
}

impl NewCommand {
    /// Whether a ledger that is complete since then may have forgotten that this command came before.
    #[must_use]
    pub fn may_be_forgotten(&self, complete_since: UnixTime) -> bool {
        complete_since > self.earliest
    }
}

/// What is to happen with a command that comes in; stored with it, before the first byte is written to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// This session will deliver it.
    Deliver(SessionId),
    /// Nobody will.
    GiveUp(Undelivered),
}

/// A command as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its place.
    pub key: CommandKey,
    /// The agent it names.
    pub agent: AgentId,
    /// The JWS, until there is an end.
    pub jws: Option<String>,
    /// SHA-256 of the JWS; unknown if only the outcome came (the ledger had forgotten the command).
    pub body_sha256: Option<[u8; 32]>,
    /// Its `exp`.
    pub exp: UnixTime,
    /// W3C Trace Context of the request that brought it.
    pub traceparent: String,
    /// The node where somebody waits for its end; unknown if only the outcome came.
    #[serde(default)]
    pub origin: Option<NodeId>,
    /// The session that is to deliver it, and that alone may still say "nothing was written".
    pub owner: Option<SessionId>,
    /// How often it was handed to a session.
    pub attempt: u32,
    /// Stored by the relay, in milliseconds.
    pub accepted_ms: u64,
    /// Written to a socket, in milliseconds.
    pub delivering_ms: Option<u64>,
    /// In the agent's journal, in milliseconds.
    pub received_ms: Option<u64>,
    /// How it ended.
    pub end: Option<End>,
}

impl Entry {
    /// A command that has come in, with what is to happen to it. If it may have come before, and been forgotten, it may
    /// have been written: this counts as its second attempt, and it is left to its agent to say what became of it.
    #[must_use]
    pub fn new(command: NewCommand, intent: Intent, may_be_forgotten: bool, now_ms: u64) -> Self {
        let (jws, owner, end) = match intent {
            Intent::Deliver(session) => (Some(command.jws), Some(session), None),
            Intent::GiveUp(_) if may_be_forgotten => (Some(command.jws), None, None),
            Intent::GiveUp(reason) => (None, None, Some(End::Undelivered { reason, at_ms: now_ms })),
        };
        Self {
            key: command.key,
            agent: command.agent,
            jws,
            body_sha256: Some(command.body_sha256),
            exp: command.exp,
            traceparent: command.traceparent,
            origin: Some(command.origin),
            owner,
            attempt: if may_be_forgotten { 2 } else { 1 },
            accepted_ms: now_ms,
            delivering_ms: None,
            received_ms: None,
            end,
        }
    }

    /// A command of which nothing is known (any more) but that its agent has spoken of it.
    #[must_use]
    pub fn forgotten(key: CommandKey, agent: AgentId, now_ms: u64) -> Self {
        Self {
            key,
            agent,
            jws: None,
            body_sha256: None,
            exp: UnixTime(0),
            traceparent: String::new(),
            origin: None,
            owner: None,
            attempt: 0,
            accepted_ms: now_ms,
            delivering_ms: None,
            received_ms: None,
            end: None,
        }
    }

    /// Whether only its agent has ever spoken of it.
    #[must_use]
    pub fn is_forgotten(&self) -> bool {
        self.body_sha256.is_none()
    }

    /// What it takes of its tenant's quota, in bytes.
    #[must_use]
    pub fn weight(&self) -> u64 {
        let outcome = match &self.end {
            Some(End::Outcome { jws, .. }) => jws.len(),
            Some(End::Undelivered { .. }) | None => 0,
        };
        let texts = self.jws.as_ref().map_or(0, String::len) + outcome;
        ENTRY_BYTES.saturating_add(u64::try_from(texts).unwrap_or(u64::MAX))
    }

    /// Its place among its agent's commands.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { accepted_ms: self.accepted_ms, key: self.key.clone() }
    }

    /// The same command in the hands of another session.
    #[must_use]
    pub fn handed_to(self, session: SessionId, written: Written) -> Self {
        let attempt = match written {
            Written::No => self.attempt,
            Written::Maybe => self.attempt.saturating_add(1),
        };
        Self { owner: Some(session), attempt, ..self }
    }

    /// Whether `command` is this very one, which came before.
    #[must_use]
    pub fn is_same(&self, command: &NewCommand) -> bool {
        // Without a hash only its outcome came: the agent it is of is all that is known of it.
        self.agent == command.agent && self.body_sha256.is_none_or(|sha256| sha256 == command.body_sha256)
    }

    /// Where the command stands at `now`.
    #[must_use]
    pub fn state(&self, now: UnixTime) -> CommandState {
        match &self.end {
            Some(End::Outcome { .. }) => CommandState::Concluded,
            Some(End::Undelivered { reason: Undelivered::Expired, .. }) => CommandState::Expired,
            Some(End::Undelivered { .. }) => CommandState::Undeliverable,
            // Its owner may have written it and died before it could note so.
            None if now >= self.exp => CommandState::Unknown,
            None if self.received_ms.is_some() => CommandState::Received,
            None if self.delivering_ms.is_some() => CommandState::Delivering,
            None => CommandState::Accepted,
        }
    }

    /// The trace id of the request that brought it: the support code.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.traceparent.split('-').nth(1).unwrap_or_default()
    }

    /// As a portal sees it.
    #[must_use]
    pub fn view(&self, now: UnixTime) -> CommandView {
        let (outcome, reason, concluded_ms) = match &self.end {
            Some(End::Outcome { jws, at_ms }) => (Some(jws.clone()), None, Some(*at_ms)),
            Some(End::Undelivered { reason, at_ms }) => (None, Some(reason.as_str().into()), Some(*at_ms)),
            None => (None, None, None),
        };
        #[expect(clippy::cast_precision_loss, reason = "milliseconds of this age fit 53 bits")]
        let seconds = |ms: u64| ms as f64 / 1000.0;
        CommandView {
            command: self.key.command,
            agent: self.agent,
            state: self.state(now),
            reason,
            milestones: Milestones {
                accepted_at: Some(seconds(self.accepted_ms)),
                delivering_at: self.delivering_ms.map(seconds),
                received_at: self.received_ms.map(seconds),
                concluded_at: concluded_ms.map(seconds),
            },
            outcome,
            trace_id: self.trace_id().into(),
        }
    }
}

/// What was found when a command came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// Stored now, with its intent.
    New(Entry),
    /// The same command came before: this is where it stands.
    Known(Entry),
    /// Its id was used with another body.
    Conflict,
    /// Its tenant has no room left ([`Quota::TenantBytes`]); nothing was stored.
    OverQuota,
}

/// What became of a signed outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Concluded {
    /// It is stored now, as the command's end.
    Stored(Box<Entry>),
    /// There was a signed outcome before; that one stays.
    Already,
    /// The command names another agent; nothing was stored.
    Foreign,
    /// Another portal sent the command by this id, and it has no end yet; nothing was stored.
    OtherPortals,
    /// The command is not known (any more); nothing was stored.
    Unknown,
    /// There is no room left for what is not known, or for an outcome that makes its entry heavier; nothing was stored.
    OverQuota(Quota),
}

/// A step on the way, noted for those who watch; losing one does no harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// Written to the agent's socket.
    Delivering,
    /// In the agent's journal.
    Received,
}

/// Whether a session that was to deliver a command has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// Certainly not, and it will not.
    No,
    /// Nobody knows.
    Maybe,
}

/// Which of its agent's commands a session takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Those that other sessions were to deliver.
    Others,
    /// Its own, once more: word of them may have been lost on the way.
    Own,
}

/// Commands and what became of them.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Since when it remembers everything it was told. What it was told before may be lost.
    async fn complete_since(&self, tenant: &TenantId, now: UnixTime) -> Result<UnixTime, StoreError>;

    /// Stores a new command with its intent, in one step: of two identical requests one is new. One that may have come
    /// before the ledger was complete is never given up: [`Entry::new`]. One for which its tenant has no room is not stored.
    async fn accept(&self, command: NewCommand, intent: Intent, now_ms: u64) -> Result<Accepted, StoreError>;

    /// One command.
    async fn get(&self, key: &CommandKey) -> Result<Option<Entry>, StoreError>;

    /// Gives `session` the commands of this agent that have no end, oldest first, so that it delivers them. They may
    /// have been written before, so nobody can take them back any more. At most [`TAKEN_OVER_AT_ONCE`], of those behind
    /// `after`; if there are so many, there may be more behind the last.
    async fn take_over(
        &self,
        tenant: &TenantId,
        agent: AgentId,
        session: SessionId,
        whose: Whose,
        after: Option<Cursor>,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Gives a command that stands as `entry` to another session of its agent. If its owner has certainly not written
    /// it, as if that had been the owner from the start; else as one more attempt, so that nobody can take it back any
    /// more. The command as it stands now, if it still stood so.
    async fn hand_over(&self, entry: Entry, to: SessionId, written: Written) -> Result<Option<Entry>, StoreError>;

    /// Says that nothing was written and nothing will be: only its owner may, and only at the first attempt. The
    /// command with that end, if it was so.
    async fn take_back(
        &self,
        key: &CommandKey,
        owner: SessionId,
        reason: Undelivered,
        now_ms: u64,
    ) -> Result<Option<Entry>, StoreError>;

    /// Notes a step on the way of a command that has no end. May return before it is stored.
    async fn note(&self, key: &CommandKey, milestone: Milestone, now_ms: u64) -> Result<(), StoreError>;

    /// Stores a signed outcome of a command that is known, and erases the command's JWS. The second time nothing is
    /// written. One that makes the entry heavier is stored within the quotas.
    async fn conclude(
        &self,
        key: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError>;

    /// The same, and an outcome of a command that is not known is stored too, within the quotas, unless the agent has one
    /// by the same id, without an end, from another portal: that one is meant.
    async fn conclude_forgotten(
        &self,
        key: &CommandKey,
        agent: AgentId,
        outcome_jws: String,
        now_ms: u64,
    ) -> Result<Concluded, StoreError>;

    /// Forgets some of what has been kept long enough; whether there may be more.
    async fn purge(&self, now: UnixTime) -> Result<bool, StoreError>;
}
