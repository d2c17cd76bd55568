//! New keys for the agent: made, told to the relay, taken into use; in that order, each step durable before the next. A
//! rotation that broke off is gone on with by whoever looks next: the running agent, or `rotate-keys` again.

use std::sync::Arc;

use serde::Serialize;

use super::events::{About, EventLog};
use super::home::{Home, Identity};
use super::keyring::{KeyringError, Keyrings};
use super::post::post;
use crate::clock::{Clock, Random};
use crate::net::NetError;
use crate::net::outbound::{Access, Outbound};
use crate::protocol::event::Event;
use crate::protocol::json;
use crate::protocol::problem::{Problem, ProblemCode};
use crate::storage::FileError;

/// Why the agent has its old keys still. It works with them as before.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// There is no identity in the folder.
    #[error("{folder}: the agent is not enrolled; run: writeback-agent setup")]
    NotEnrolled {
        /// The folder.
        folder: String,
    },
    /// A file can't be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The next keys can't be made, or not taken into use.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// No connection can be prepared.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The relay did not answer; it may have the new keys.
    #[error("{relay}: no answer from the relay: {detail}; the old keys are in use, and the agent goes on by itself")]
    NoAnswer {
        /// The relay.
        relay: String,
        /// Why.
        detail: String,
    },
    /// The relay said no.
    #[error("the relay does not take the new keys: {0}; the old keys are in use")]
    Refused(#[source] Box<Problem>),
    /// The relay has no such call.
    #[error("the relay is of an older version, which knows no rotation: upgrade it first; the old keys are in use")]
    OlderRelay,
    /// Something else said no.
    #[error(
        "{relay} answered with status {status} and did not say why; is it the relay's address? The old keys are in use"
    )]
    NotUnderstood {
        /// What was taken for the relay.
        relay: String,
        /// The HTTP status.
        status: u16,
    },
}

/// The keys after a rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RotatedKeys {
    /// The number of the rotation.
    pub seq: u64,
    /// Their fingerprint.
    pub fingerprint: String,
}

/// Makes new keys for the agent in `home`, or goes on with a rotation that has begun. The agent may be running.
///
/// # Errors
/// If a file can't be used, or the relay does not answer or refuses. The same can be asked again.
pub async fn rotate_keys(
    home: &Home,
    access: impl Into<Access>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
) -> Result<RotatedKeys, RotationError> {
    let folder = home.folder().display().to_string();
    let identity = home.identity()?.ok_or(RotationError::NotEnrolled { folder })?;
    let events = EventLog::open(&home.events(), clock.clone())?;
    let (rings, outbound) = (Arc::new(Keyrings::open(home)?), Outbound::new(&access.into())?);
    let rotator = Rotator { identity: Arc::new(identity), rings, events, outbound, clock, random };
    rotator.rotate().await?;
    let ring = rotator.rings.now()?;
    Ok(RotatedKeys { seq: ring.seq, fingerprint: ring.keys.public().fingerprint(rotator.identity.agent) })
}

/// Rotates the keys of one agent.
pub(super) struct Rotator {
    pub(super) identity: Arc<Identity>,
    pub(super) rings: Arc<Keyrings>,
    pub(super) events: EventLog,
    pub(super) outbound: Outbound,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
}

impl Rotator {
    /// New keys.
    pub(super) async fn rotate(&self) -> Result<(), RotationError> {
        self.rings.begin(&self.identity, &*self.clock, &*self.random)?;
        self.go_on().await
    }

    /// Brings a rotation that has begun to its end, if there is one.
    pub(super) async fn go_on(&self) -> Result<(), RotationError> {
        let ring = self.rings.now()?;
        let Some(next) = &ring.next else { return Ok(()) };
        self.tell(&next.rotation).await?;
        self.rings.accept(next.seq, self.clock.now())?;
        let fingerprint = self.rings.now()?.keys.public().fingerprint(self.identity.agent);
        let message = format!("the agent has new keys (rotation {}); their fingerprint is {fingerprint}", next.seq);
        self.events.record_done(Event::KeyPairCreationSuccess, &message, &About::default());
        Ok(())
    }

    /// Tells a relay again that has forgotten: its registry was restored from an older copy. What it knows it refuses, and
    /// that is no harm.
    pub(super) async fn remind(&self) {
        // It may know the next keys, and this agent has not heard so.
        if let Err(error) = self.go_on().await {
            tracing::debug!(%error, "a rotation of the keys could not be ended yet");
        }
        let Ok(ring) = self.rings.now() else { return };
        for rotation in &ring.rotations {
            if let Err(error) = self.tell(rotation).await {
                tracing::debug!(%error, "the relay was reminded of a rotation");
            }
        }
    }

    async fn tell(&self, rotation: &str) -> Result<(), RotationError> {
        let relay = &self.identity.relay;
        let url = format!("{relay}/v1/agent/rotations");
        let answer = post(&self.outbound, &url, "application/jose", rotation.to_owned()).await;
        let (status, body) = answer.map_err(|detail| RotationError::NoAnswer { relay: relay.clone(), detail })?;
        if status.is_success() {
            return Ok(());
        }
        Err(match json::read::<Problem>(&body) {
            Ok(problem) if problem.known() == Some(ProblemCode::NotFound) => RotationError::OlderRelay,
            Ok(problem) => RotationError::Refused(Box::new(problem)),
            Err(_) => RotationError::NotUnderstood { relay: relay.clone(), status: status.as_u16() },
        })
    }
}
