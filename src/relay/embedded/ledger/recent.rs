//! What has changed and the file does not know yet. Whoever reads looks here first, and into the file after that.

use std::collections::HashMap;
use std::sync::Arc;

use super::super::super::ledger::{CommandKey, Entry};

/// Entries, by their keys.
pub(super) type Entries = HashMap<CommandKey, Arc<Entry>>;

/// The newest, and those that the file is being told of.
#[derive(Debug, Default)]
pub(super) struct Recent {
    newest: Entries,
    telling: Arc<Entries>,
}

impl Recent {
    /// An entry as it stands now.
    pub(super) fn get(&self, key: &CommandKey) -> Option<Arc<Entry>> {
        self.newest.get(key).or_else(|| self.telling.get(key)).cloned()
    }

    /// Takes what is in the log now.
    pub(super) fn extend(&mut self, changed: impl IntoIterator<Item = (CommandKey, Arc<Entry>)>) {
        self.newest.extend(changed);
    }

    /// The file is about to be told of everything that is here. Only if it has heard what it was told before.
    pub(super) fn tell(&mut self) -> Arc<Entries> {
        self.telling = Arc::new(std::mem::take(&mut self.newest));
        self.telling()
    }

    /// What the file is being told of.
    pub(super) fn telling(&self) -> Arc<Entries> {
        Arc::clone(&self.telling)
    }

    /// The file has heard it.
    pub(super) fn told(&mut self) {
        self.telling = Arc::default();
    }
}
