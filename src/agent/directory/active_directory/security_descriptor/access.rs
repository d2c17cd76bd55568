//! What a list of entries comes to for somebody ([MS-DTYP] 2.5.3.2, [MS-ADTS] 5.1.3.3).

use std::collections::HashSet;

use uuid::Uuid;

use super::SecurityDescriptor;
use super::ace::{Ace, Effect, Rule};
use super::sid::Sid;

/// `GENERIC_ALL` and `GENERIC_WRITE`, and what they stand for with objects of the directory ([MS-ADTS] 5.1.3.2).
const GENERIC: &[(u32, u32)] = &[(0x1000_0000, 0x000f_01ff), (0x4000_0000, 0x0002_0028)];

/// An access right on an object.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Wanted<'a> {
    /// One bit of an access mask.
    pub(in super::super) mask: u32,
    /// What an entry may name to be about it: the extended right or the attribute itself, the property set that the
    /// attribute is in, the object's class. An entry that names nothing is about everything.
    pub(in super::super) object_types: &'a [Uuid],
}

/// Whether a right is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Verdict<'a> {
    /// It is.
    Granted,
    /// This entry takes it.
    Denied(&'a Ace),
    /// Nothing gives it.
    NotGranted,
}

impl SecurityDescriptor {
    /// Whether somebody with all these SIDs has the right on the object. The entries count in the order in which they
    /// stand, whether that is the canonical one or not: the first that is about him and the right decides.
    pub(in super::super) fn verdict(&self, token: &HashSet<Sid>, wanted: Wanted<'_>) -> Verdict<'_> {
        let Some(entries) = &self.dacl else { return Verdict::Granted };
        for ace in entries.iter().filter(|ace| ace.applies_here()) {
            let Some(rule) = ace.rule.as_ref().filter(|rule| rule.concerns(token, wanted)) else { continue };
            match rule.effect {
                // If its condition does not hold, nothing is given; if it can't be judged, better not to count on it.
                Effect::Allow if rule.conditional => {}
                Effect::Allow => return Verdict::Granted,
                Effect::Deny => return Verdict::Denied(ace),
            }
        }
        Verdict::NotGranted
    }

    /// Whether somebody with all these SIDs may have the right on the object: in doubt, he has it. For whom to be wary of,
    /// where [`Self::verdict`] is for what to count on. A condition is believed to hold where it gives, and not where it takes.
    pub(in super::super) fn may(&self, token: &HashSet<Sid>, wanted: Wanted<'_>) -> bool {
        let Some(entries) = &self.dacl else { return true };
        for ace in entries.iter().filter(|ace| ace.applies_here()) {
            let Some(rule) = ace.rule.as_ref().filter(|rule| rule.concerns(token, wanted)) else { continue };
            match rule.effect {
                Effect::Allow => return true,
                Effect::Deny if rule.conditional => {}
                Effect::Deny => return false,
            }
        }
        false
    }

    /// Whether it is his object ([MS-DTYP] 2.5.3.2: an owner may always change the list).
    pub(in super::super) fn is_owned_by(&self, token: &HashSet<Sid>) -> bool {
        self.owner.as_ref().is_some_and(|owner| token.contains(owner))
    }
}

impl Rule {
    /// Whether it is about this right, for somebody with these SIDs.
    fn concerns(&self, token: &HashSet<Sid>, wanted: Wanted<'_>) -> bool {
        self.mask_in_full() & wanted.mask != 0
            && self.object_type.is_none_or(|named| wanted.object_types.contains(&named))
            && token.contains(&self.trustee)
    }

    fn mask_in_full(&self) -> u32 {
        let generic = GENERIC.iter().filter(|(bit, _)| self.mask & bit != 0);
        generic.fold(self.mask, |mask, (_, meaning)| mask | meaning)
    }
}
