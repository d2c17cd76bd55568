//! The running agent looks after its keys: it ends what has begun, rotates when they are old, and erases a retired key as
//! soon as no command needs it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::events::About;
use super::execution::Executor;
use super::journal::{JournalError, Stage};
use super::options::Options;
use super::rotation::{RotationError, Rotator};
use crate::agent::keyring::Retired;
use crate::protocol::command::Command;
use crate::protocol::event::Event;
use crate::protocol::jose::JoseError;
use crate::protocol::sealed::open_for;

/// How long the start waits for a rotation that has begun.
const AT_START: Duration = Duration::from_secs(5);

/// Looks after the keys of an agent.
pub(super) struct KeyCare {
    rotator: Arc<Rotator>,
    executor: Executor,
    /// How often.
    interval: Duration,
    /// How old keys become; never too old, if absent.
    rotate_every: Option<Duration>,
    /// How long a retired key is kept in any case.
    overlap: Duration,
}

impl KeyCare {
    pub(super) fn new(rotator: Arc<Rotator>, executor: Executor, options: &Options) -> Self {
        let (interval, overlap) = (options.key_interval, options.key_overlap);
        Self { rotator, executor, interval, rotate_every: options.rotate_every, overlap }
    }

    /// Before the agent connects: the relay may know the next keys only. One that does not answer is asked again later.
    pub(super) async fn go_on(&self) {
        if let Ok(Err(error)) = timeout(AT_START, self.rotator.go_on()).await {
            tracing::warn!(%error, "a rotation of the keys that has begun could not be ended yet");
        }
    }

    /// Until it is dropped, or the journal fails.
    pub(super) async fn keep(&self) -> JournalError {
        let mut reported = None;
        loop {
            if let Err(error) = self.look().await {
                let error = match error {
                    Trouble::Journal(error) => return error,
                    Trouble::Rotation(error) => error.to_string(),
                };
                if reported.as_ref() != Some(&error) {
                    self.rotator.events.record(Event::ConfigurationError, &error, &About::default());
                    reported = Some(error);
                }
            }
            sleep(self.interval).await;
        }
    }

    async fn look(&self) -> Result<(), Trouble> {
        let ring = self.rotator.rings.now().map_err(RotationError::from)?;
        let now = self.rotator.clock.now();
        let old = self.rotate_every.is_some_and(|age| now >= ring.since.plus(age));
        if ring.next.is_some() || old {
            self.rotator.rotate().await?;
        }
        if ring.retired.is_empty() {
            return Ok(());
        }
        let unfinished = self.sealed_and_unfinished()?;
        let needed = |old: &Retired| {
            // A command that another key opens, or none, does not need it.
            let opens = |command: &Command| !matches!(open_for(command, &old.sealing), Err(JoseError::UnknownKey));
            now < old.since.plus(self.overlap) || unfinished.iter().any(opens)
        };
        let erased = self.rotator.rings.erase(|old| !needed(old)).map_err(RotationError::from)?;
        if erased > 0 {
            let message = "a sealing key from before the last rotation was erased; no command needs it";
            self.rotator.events.record_done(Event::KeyPairCreationSuccess, message, &About::default());
        }
        Ok(())
    }

    /// What may still have to be opened, after a crash too.
    fn sealed_and_unfinished(&self) -> Result<Vec<Command>, JournalError> {
        let entries = self.executor.core.journal.unfinished()?;
        let commands = entries.into_iter().filter_map(|entry| match entry.stage {
            Stage::Received { jws } | Stage::Started { jws, .. } => {
                Command::parse(&jws).and_then(|parsed| parsed.unverified::<Command>()).ok()
            }
            Stage::Concluded { .. } => None,
        });
        Ok(commands.collect())
    }
}

enum Trouble {
    Journal(JournalError),
    Rotation(RotationError),
}

impl From<JournalError> for Trouble {
    fn from(error: JournalError) -> Self {
        Self::Journal(error)
    }
}

impl From<RotationError> for Trouble {
    fn from(error: RotationError) -> Self {
        Self::Rotation(error)
    }
}
