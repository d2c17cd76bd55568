//! Portals that were trusted here once. Their last keys are kept: only what they have signed is answered with a refusal, so
//! nobody else can have the agent sign or remember anything.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::format::Format;
use super::home::{Home, read_json, write_json};
use super::pin::Pin;
use super::watched::hold;
use crate::clock::UnixTime;
use crate::protocol::ids::PortalId;
use crate::storage::FileError;

/// As many as may be trusted at a time; the oldest are forgotten first.
const KEPT: usize = 16;

/// A portal whose commands are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Distrusted {
    /// As it was pinned when its trust was taken away.
    pub(super) pin: Pin,
    /// When that was.
    pub(super) since: UnixTime,
}

/// `distrusted.json`. An older program does not read it: it answers these portals nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DistrustedPortals {
    #[serde(default)]
    format: Format,
    pub(super) portals: BTreeMap<PortalId, Distrusted>,
}

/// As it stands in the folder.
pub(super) fn load(home: &Home) -> Result<DistrustedPortals, FileError> {
    Ok(read_json(&home.distrusted_file())?.unwrap_or_default())
}

/// Remembers a portal whose trust is about to be taken away.
pub(super) fn remember(home: &Home, portal: &PortalId, distrusted: Distrusted) -> Result<(), FileError> {
    change(home, |portals| {
        portals.insert(portal.clone(), distrusted);
        while portals.len() > KEPT {
            let oldest = portals.iter().min_by_key(|(_, known)| known.since).map(|(portal, _)| portal.clone());
            oldest.map(|oldest| portals.remove(&oldest));
        }
    })
}

/// Forgets a portal that is trusted again.
pub(super) fn forget(home: &Home, portal: &PortalId) -> Result<(), FileError> {
    change(home, |portals| portals.retain(|known, _| known != portal))
}

fn change(home: &Home, change: impl FnOnce(&mut BTreeMap<PortalId, Distrusted>)) -> Result<(), FileError> {
    let _held_until_dropped = hold(home)?;
    let mut known = load(home)?;
    let before = known.clone();
    change(&mut known.portals);
    if known == before { Ok(()) } else { write_json(&home.distrusted_file(), &known) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::System;
    use crate::protocol::jose::SigningKey;

    #[test]
    fn the_last_ones_are_remembered_until_they_are_trusted_again() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let pin = Pin::new(SigningKey::generate(&System).unwrap().public().clone());
        let portal = |n: i64| -> PortalId { format!("portal-{n}").parse().unwrap() };
        for n in 0..20 {
            remember(&home, &portal(n), Distrusted { pin: pin.clone(), since: UnixTime(n) }).unwrap();
        }
        let kept = load(&home).unwrap().portals;
        assert_eq!(kept.len(), KEPT);
        assert!((4..20).all(|n| kept.contains_key(&portal(n))), "the oldest go first");
        forget(&home, &portal(19)).unwrap();
        forget(&home, &portal(0)).unwrap();
        assert_eq!(load(&home).unwrap().portals.len(), KEPT - 1);
        assert!(!load(&home).unwrap().portals.contains_key(&portal(19)));
    }
}
