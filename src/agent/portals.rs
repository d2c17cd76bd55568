//! The portals whose commands the agent takes, each with the key it has pinned. A new key comes only from the one before
//! it, or from a person on this host.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::interval;

use super::distrusted::{self, DistrustedPortals};
use super::home::{Home, Identity, write_json};
use super::pin::Pin;
use super::watched::{Watched, hold};
use crate::clock::Clock;
use crate::protocol::ids::PortalId;
use crate::protocol::jose::{JoseError, Thumbprint};
use crate::protocol::rotation::PortalRotation;
use crate::storage::FileError;

/// A rotation that was followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Followed {
    pub(super) portal: PortalId,
    pub(super) seq: u64,
    pub(super) key: Thumbprint,
    /// It was not pinned before.
    pub(super) new: bool,
}

/// Why a rotation is not followed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotFollowed {
    #[error("it does not hold: {0}")]
    Invalid(#[from] JoseError),
    #[error("this agent does not take commands from {0}")]
    Untrusted(PortalId),
    #[error(transparent)]
    File(#[from] FileError),
}

/// The portals of a running agent.
pub struct Portals {
    home: Home,
    watched: Watched<Identity>,
    distrusted: Watched<DistrustedPortals>,
    /// Those whose commands are taken, as it was last looked.
    trusted: watch::Sender<BTreeSet<PortalId>>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Portals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Portals")
    }
}

fn load(home: &Home) -> Result<Identity, FileError> {
    let file = home.identity_file();
    home.identity()?.ok_or_else(|| file.contents("the agent is not enrolled"))
}

/// Changes `identity.json`, alone among the processes of this folder.
pub(super) fn change<T>(home: &Home, change: impl FnOnce(&mut Identity) -> T) -> Result<T, FileError> {
    let _held_until_dropped = hold(home)?;
    let mut identity = load(home)?;
    let before = identity.clone();
    let given = change(&mut identity);
    if identity != before {
        write_json(&home.identity_file(), &identity)?;
    }
    Ok(given)
}

impl Portals {
    /// Of this folder.
    ///
    /// # Errors
    /// If the identity is missing, damaged, or open to others.
    pub fn open(home: &Home, clock: Arc<dyn Clock>) -> Result<Self, FileError> {
        let watched = Watched::open(home, home.identity_file().path().to_owned(), load)?;
        let distrusted = Watched::open(home, home.distrusted_file().path().to_owned(), distrusted::load)?;
        let trusted = watch::Sender::new(watched.read()?.portals.keys().cloned().collect());
        Ok(Self { home: home.clone(), watched, distrusted, trusted, clock })
    }

    /// As they stand now.
    pub(super) fn now(&self) -> Result<Arc<Identity>, FileError> {
        self.watched.read()
    }

    /// The portals that were trusted once, as they stand now.
    pub(super) fn distrusted(&self) -> Result<Arc<DistrustedPortals>, FileError> {
        self.distrusted.read()
    }

    /// Whether the portal's commands are taken now.
    pub(super) fn trusts(&self, portal: &PortalId) -> bool {
        // A file that can't be read any more has taken nothing away.
        self.now().map_or(true, |identity| identity.portals.contains_key(portal))
    }

    /// Told when the commands of other portals are taken than before.
    pub(super) fn changes(&self) -> watch::Receiver<BTreeSet<PortalId>> {
        self.trusted.subscribe()
    }

    /// Looks so often whether somebody has added or removed a portal.
    pub(super) async fn watch(&self, every: Duration) -> Infallible {
        let mut often = interval(every);
        loop {
            often.tick().await;
            let Ok(identity) = self.now() else { continue };
            self.trusted.send_if_modified(|known| {
                let same = known.iter().eq(identity.portals.keys());
                if !same {
                    *known = identity.portals.keys().cloned().collect();
                }
                !same
            });
        }
    }

    /// A command by this key of the portal has come: from an hour after the first by the new key on, the old one is no
    /// longer taken.
    pub(super) fn used(&self, portal: &PortalId, pin: &Pin, kid: Option<&str>) -> Result<(), FileError> {
        if pin.previous.is_none() || pin.used_at.is_some() || kid != Some(pin.key.thumbprint().as_str()) {
            return Ok(());
        }
        let now = self.clock.now();
        change(&self.home, |identity| {
            if let Some(stored) = identity.portals.get_mut(portal)
                && stored.key == pin.key
            {
                stored.used_at = Some(now);
            }
        })
    }

    /// Follows a portal's rotation, durably.
    pub(super) fn follow(&self, jws: &str) -> Result<Followed, NotFollowed> {
        let rotation = PortalRotation::read(jws)?;
        let portal = rotation.iss.clone();
        change(&self.home, |identity| {
            let relay = identity.relay.clone();
            let pin = identity.portals.get_mut(&portal).ok_or_else(|| NotFollowed::Untrusted(portal.clone()))?;
            let new = pin.follow(&portal, &relay, &rotation)?;
            Ok(Followed { portal: portal.clone(), seq: pin.seq, key: pin.key.thumbprint(), new })
        })?
    }
}
