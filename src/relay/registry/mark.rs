//! Which registry this is, and how far it has come: so that a node knows one that came back empty, or older than it was.

use serde::{Deserialize, Serialize};

use crate::protocol::ids::TenantId;

/// A part of the registry that can be lost by itself: on several servers, each part is on one of them.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Part {
    /// Which tenants there are.
    Tenants,
    /// Portals, their keys and their tenants.
    Portals,
    /// A tenant's agents.
    Agents(TenantId),
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tenants => f.write_str("its tenants"),
            Self::Portals => f.write_str("its portals"),
            Self::Agents(tenant) => write!(f, "the agents of {tenant}"),
        }
    }
}

/// What distinguishes a part of one registry from that of any other: as in etcd, an id, and a revision that only grows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Made with its first record.
    pub id: String,
    /// How many changes it has seen. What an agent says about itself is none.
    pub revision: u64,
    /// A hash over all of them: of two with the same head, each has everything that the other has.
    pub head: String,
}

/// Whether the registry is another one by a change, so that its mark moves: whoever lacks it has an older copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// It is.
    Yes,
    /// It is what an agent says about itself, and says again.
    No,
}

/// So many heads of the past are kept beside a mark.
pub const HEADS_KEPT: u64 = 64;

/// So many ids are kept of registries whose place a registry has taken, or that are missed.
pub const IDS_KEPT: usize = 32;

/// What the store says of a part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marked {
    /// Its mark; none if it never had a record, or only from a relay that knew no marks.
    pub mark: Option<Mark>,
    /// The head it had at the revision that was asked for, if that is not too long ago.
    pub head_then: Option<String>,
    /// Registries whose place this one has taken, by an operator's word.
    pub follows: Vec<String>,
    /// Registries that nodes have had, and do not find here.
    pub missing: Vec<String>,
    /// How many records it has.
    pub records: u64,
}

/// Why a part is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Loss {
    /// There is something, but it lacks changes that were made.
    Older,
    /// There is something that this relay has never had.
    Another,
    /// There is nothing.
    Empty,
}

impl Loss {
    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Older => "older",
            Self::Another => "another",
            Self::Empty => "empty",
        }
    }

    /// What is wrong, for people.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::Older => "it is an older copy, and lacks what was changed since",
            Self::Another => "it is not the one that this relay had",
            Self::Empty => "it came back empty",
        }
    }
}

impl Marked {
    /// Whether this is what a node knew, or has come from it.
    ///
    /// # Errors
    /// If it has not.
    pub fn check(&self, known: Option<&Mark>) -> Result<(), Loss> {
        let something = |loss| if self.records == 0 { Loss::Empty } else { loss };
        // A node that has started since takes the word of those that knew.
        if let Some(missed) = self.missing.iter().find(|missed| !self.follows.contains(missed)) {
            let is_itself = self.mark.as_ref().is_some_and(|mark| mark.id == *missed);
            return Err(something(if is_itself { Loss::Older } else { Loss::Another }));
        }
        match (known, &self.mark) {
            (None, _) => Ok(()),
            (Some(known), None) if self.follows.contains(&known.id) => Ok(()),
            (Some(_), None) => Err(something(Loss::Older)),
            (Some(known), Some(mark)) if mark.id == known.id => {
                let forked = self.head_then.as_ref().is_some_and(|head| *head != known.head);
                if mark.revision < known.revision || forked { Err(something(Loss::Older)) } else { Ok(()) }
            }
            (Some(known), Some(_)) if self.follows.contains(&known.id) => Ok(()),
            (Some(_), Some(_)) => Err(something(Loss::Another)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(id: &str, revision: u64, head: &str) -> Mark {
        Mark { id: id.to_owned(), revision, head: head.to_owned() }
    }

    fn marked(mark: Mark) -> Marked {
        Marked { mark: Some(mark), records: 1, ..Marked::default() }
    }

    #[test]
    fn what_has_come_from_what_was_known_is_taken_and_everything_else_is_a_loss() {
        let known = mark("a", 5, "a5");
        let check = |marked: Marked| marked.check(Some(&known));
        assert_eq!(check(marked(mark("a", 5, "a5"))), Ok(()));
        assert_eq!(check(marked(mark("a", 900, "a900"))), Ok(()), "it has grown, and nobody knows its past any more");
        let with = |head: &str| Marked { head_then: Some(head.to_owned()), ..marked(mark("a", 7, "a7")) };
        assert_eq!(check(with("a5")), Ok(()));
        assert_eq!(check(with("b5")), Err(Loss::Older), "it was older, and has grown since");
        assert_eq!(check(marked(mark("a", 4, "a4"))), Err(Loss::Older));
        assert_eq!(check(marked(mark("b", 9, "b9"))), Err(Loss::Another));
        assert_eq!(check(Marked::default()), Err(Loss::Empty));
        assert_eq!(check(Marked { records: 3, ..Marked::default() }), Err(Loss::Older), "a copy from before the marks");
        let follows =
            |ids: &[&str], marked| Marked { follows: ids.iter().map(ToString::to_string).collect(), ..marked };
        assert_eq!(check(follows(&["x", "a"], marked(mark("b", 1, "b1")))), Ok(()), "an operator has said so");
        assert_eq!(check(follows(&["a"], Marked::default())), Ok(()), "that it is empty, too");
        assert_eq!(check(follows(&["x"], marked(mark("b", 1, "b1")))), Err(Loss::Another));
    }

    #[test]
    fn a_node_that_knows_nothing_takes_what_is_there_unless_another_one_has_missed_something() {
        assert_eq!(Marked::default().check(None), Ok(()));
        assert_eq!(marked(mark("b", 1, "b1")).check(None), Ok(()));
        let missed = |id: &str, marked| Marked { missing: vec![id.to_owned()], ..marked };
        assert_eq!(missed("a", Marked::default()).check(None), Err(Loss::Empty));
        let other = missed("a", marked(mark("b", 1, "b1")));
        assert_eq!(other.check(None), Err(Loss::Another));
        assert_eq!(other.check(Some(&mark("b", 1, "b1"))), Err(Loss::Another), "nor does it know better");
        assert_eq!(missed("b", marked(mark("b", 1, "b1"))).check(None), Err(Loss::Older));
        assert_eq!(Marked { follows: vec!["a".to_owned()], ..other }.check(None), Ok(()));
    }
}
