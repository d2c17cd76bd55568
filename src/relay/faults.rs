//! What keeps a node from having resets done, as codes of a closed list: nodes tell each other, and a reader has words of its
//! own for them.

use super::writes::Cause;
use crate::protocol::remedy::Remedy;
use crate::protocol::untrusted::Untrusted;

/// What is wrong with a node, or with what it stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The store takes no writes, or nothing at all.
    Store(Cause),
    /// What the node says to itself does not come back: nor would what others say to it.
    Deaf,
    /// The registry came back empty, or older than it was.
    RegistryLost,
    /// Its host's clock and Redis' differ: what it says to other nodes is too old for them or too new.
    ClockOff,
}

impl Fault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        Cause::ALL.iter().copied().map(Self::Store).chain([Self::Deaf, Self::RegistryLost, Self::ClockOff])
    }

    /// In one word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store(cause) => cause.as_str(),
            Self::Deaf => "deaf",
            Self::RegistryLost => "registry_lost",
            Self::ClockOff => "clock_off",
        }
    }

    /// The fault of this code, if it is known here.
    #[must_use]
    pub fn from_code(code: &Untrusted) -> Option<Self> {
        Self::all().find(|fault| *code == *fault.as_str())
    }

    /// Whether it is this node's alone, whatever the store is for the others.
    #[must_use]
    pub fn is_of_one_node(self) -> bool {
        matches!(self, Self::Deaf | Self::ClockOff)
    }

    /// What is wrong, for people.
    #[must_use]
    pub fn detail(self) -> &'static str {
        match self {
            Self::Store(cause) => cause.detail(),
            Self::Deaf => "its own messages do not reach it",
            Self::RegistryLost => "the registry is lost",
            Self::ClockOff => "its clock and that of Redis differ by more than 30 s",
        }
    }

    /// What to do.
    #[must_use]
    pub fn remedy(self) -> Remedy {
        match self {
            Self::Store(cause) => cause.remedy(),
            Self::Deaf => Remedy::OwnChannel,
            Self::RegistryLost => Remedy::RestoreRegistry,
            Self::ClockOff => Remedy::SetNodeClock,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_fault_is_known_by_a_code_of_its_own() {
        let codes: HashSet<_> = Fault::all().map(Fault::as_str).collect();
        assert_eq!(codes.len(), Fault::all().count());
        assert!(Fault::all().all(|fault| Fault::from_code(&fault.as_str().into()) == Some(fault)));
        assert_eq!(Fault::from_code(&"of_a_newer_node".into()), None);
    }
}
