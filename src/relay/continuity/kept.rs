//! The marks that a node has seen last, in memory and in a file: a node that starts anew knows what there was.

use std::collections::BTreeMap;
use std::path::Path;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::protocol::ids::TenantId;
use crate::protocol::json;
use crate::relay::registry::{Mark, Part};
use crate::storage::PrivateFile;

/// The file's name.
const FILE: &str = "registry-seen.json";

/// As it stands in the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Contents {
    #[serde(skip_serializing_if = "Option::is_none")]
    tenants: Option<Mark>,
    #[serde(skip_serializing_if = "Option::is_none")]
    portals: Option<Mark>,
    agents: BTreeMap<TenantId, Mark>,
}

/// What was seen, and whether the file has it.
#[derive(Debug, Default)]
struct Known {
    contents: Contents,
    unsaved: bool,
    complained: bool,
}

/// The marks that were seen last.
pub(super) struct Kept {
    file: PrivateFile,
    known: Mutex<Known>,
    /// One writes at a time: the newest is written last.
    saving: tokio::sync::Mutex<()>,
}

impl Kept {
    /// What the file has. One that can't be read is as good as none: a node that does not start helps nobody.
    pub(super) fn open(folder: &Path) -> Self {
        let file = PrivateFile::new(folder.join(FILE));
        let contents = if file.exists() { read(&file) } else { Contents::default() };
        Self { file, known: Mutex::new(Known { contents, ..Known::default() }), saving: tokio::sync::Mutex::default() }
    }

    /// The mark of a part.
    pub(super) fn get(&self, part: &Part) -> Option<Mark> {
        let known = self.known.lock();
        match part {
            Part::Tenants => known.contents.tenants.clone(),
            Part::Portals => known.contents.portals.clone(),
            Part::Agents(tenant) => known.contents.agents.get(tenant).cloned(),
        }
    }

    /// All parts that have a mark.
    pub(super) fn parts(&self) -> std::collections::BTreeSet<Part> {
        let known = self.known.lock();
        let Contents { tenants, portals, agents } = &known.contents;
        let whole = [(tenants, Part::Tenants), (portals, Part::Portals)].into_iter();
        let whole = whole.filter_map(|(mark, part)| mark.is_some().then_some(part));
        whole.chain(agents.keys().cloned().map(Part::Agents)).collect()
    }

    /// The part has this mark now.
    pub(super) fn put(&self, part: &Part, mark: Option<Mark>) {
        if self.get(part) == mark {
            return;
        }
        let mut known = self.known.lock();
        match (part, mark) {
            (Part::Tenants, mark) => known.contents.tenants = mark,
            (Part::Portals, mark) => known.contents.portals = mark,
            (Part::Agents(tenant), Some(mark)) => drop(known.contents.agents.insert(tenant.clone(), mark)),
            (Part::Agents(tenant), None) => drop(known.contents.agents.remove(tenant)),
        }
        known.unsaved = true;
    }

    /// Writes the file, if it does not have what is known.
    pub(super) async fn save(&self) {
        let _turn = self.saving.lock().await;
        let contents = {
            let mut known = self.known.lock();
            if !std::mem::take(&mut known.unsaved) {
                return;
            }
            known.contents.clone()
        };
        let file = PrivateFile::new(self.file.path());
        let writing = tokio::task::spawn_blocking(move || {
            let text = serde_json::to_string(&contents).map_err(|error| file.contents(error))?;
            file.replace(&text)
        });
        if let Ok(Err(error)) = writing.await {
            // Memory has it all the same, and it is tried again.
            let mut known = self.known.lock();
            known.unsaved = true;
            if !std::mem::replace(&mut known.complained, true) {
                tracing::warn!(%error, "what was seen of the registry could not be kept");
            }
        }
    }
}

fn read(file: &PrivateFile) -> Contents {
    let text = file.read();
    let read = text.and_then(|text| json::read_with_nulls(text.as_bytes()).map_err(|error| file.contents(error)));
    read.unwrap_or_else(|error| {
        tracing::warn!(%error, "what was seen of the registry before this start is not known");
        Contents::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_seen_is_there_after_a_restart_and_a_file_that_is_no_use_stops_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, agents) = (Kept::open(folder.path()), Part::Agents("contoso".parse().unwrap()));
        let mark = |revision| Some(Mark { id: "a".to_owned(), revision, head: "h".to_owned() });
        assert!(kept.parts().is_empty());
        kept.put(&Part::Portals, mark(3));
        kept.put(&agents, mark(5));
        kept.save().await;
        let again = Kept::open(folder.path());
        assert_eq!(
            (again.get(&Part::Tenants), again.get(&Part::Portals), again.get(&agents)),
            (None, mark(3), mark(5))
        );
        assert_eq!(again.parts(), [Part::Portals, agents.clone()].into());
        again.put(&agents, None);
        again.save().await;
        assert_eq!(Kept::open(folder.path()).parts(), [Part::Portals].into());
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert!(Kept::open(folder.path()).parts().is_empty());
    }
}
