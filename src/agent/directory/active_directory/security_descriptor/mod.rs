//! Who may do what with an object of the directory: `nTSecurityDescriptor` ([MS-DTYP] 2.4.6), pure.
//!
//! | module | what |
//! |---|---|
//! | `sid` | whom an entry is about |
//! | `ace` | one entry |
//! | `access` | what all of them come to |

mod access;
mod ace;
mod sid;

use uuid::Uuid;

pub(super) use self::access::{Verdict, Wanted};
pub(super) use self::ace::{Ace, Effect};
pub(super) use self::sid::Sid;

/// Of a descriptor's `Control`: there is a DACL.
const DACL_PRESENT: u16 = 0x0004;
/// The DACL takes nothing from above.
const DACL_PROTECTED: u16 = 0x1000;
/// The descriptor is one piece of bytes with offsets.
const SELF_RELATIVE: u16 = 0x8000;

/// As long as a descriptor's head is.
const HEAD: usize = 20;

/// What is wrong with a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the security descriptor is malformed: {0}")]
pub(super) struct Malformed(&'static str);

/// The part of a security descriptor that decides about access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SecurityDescriptor {
    control: u16,
    /// Who may always change the list; none, if that was not asked for.
    owner: Option<Sid>,
    /// The entries in their order. Without a list, everything is allowed to everybody.
    dacl: Option<Vec<Ace>>,
}

impl SecurityDescriptor {
    /// Reads the self-relative form.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, Malformed> {
        let cut = Malformed("its head is cut off");
        let [1, _, low, high, ..] = bytes else { return Err(Malformed("it is not of revision 1")) };
        let control = u16::from_le_bytes([*low, *high]);
        let owner = word(bytes, 4).ok_or(cut)?;
        let owner = match usize::try_from(owner) {
            Ok(0) => None,
            Ok(at) => Some(bytes.get(at..).and_then(Sid::read).ok_or(Malformed("its owner is cut off"))?),
            Err(_) => return Err(Malformed("its owner is cut off")),
        };
        let offset = word(bytes, 16).ok_or(cut)?;
        let dacl = match usize::try_from(offset) {
            Ok(0) => None,
            _ if control & DACL_PRESENT == 0 => None,
            Ok(offset) => Some(read_list(bytes.get(offset..).ok_or(Malformed("its list is cut off"))?)?),
            Err(_) => return Err(Malformed("its list is cut off")),
        };
        Ok(Self { control, owner, dacl })
    }

    /// The self-relative form, with the DACL and nothing else: what is written with the SD flags control and
    /// `DACL_SECURITY_INFORMATION` ([MS-ADTS] 3.1.1.3.4.1.11) leaves the owner and the rest as they are.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Malformed> {
        const ACL_REVISION_DS: u8 = 4;
        let too_long = |_| Malformed("its list is longer than 64 KiB");
        let entries = self.dacl.as_deref().unwrap_or_default();
        let size = 8 + entries.iter().map(|ace| ace.bytes.len()).sum::<usize>();
        let (size, count) = (u16::try_from(size), u16::try_from(entries.len()));
        let control = self.control & (DACL_PRESENT | DACL_PROTECTED) | SELF_RELATIVE;
        let mut bytes = vec![1, 0];
        bytes.extend(control.to_le_bytes());
        bytes.extend([0; 12]);
        bytes.extend((if self.dacl.is_some() { HEAD as u32 } else { 0 }).to_le_bytes());
        if self.dacl.is_some() {
            bytes.extend([ACL_REVISION_DS, 0]);
            bytes.extend(size.map_err(too_long)?.to_le_bytes());
            bytes.extend(count.map_err(too_long)?.to_le_bytes());
            bytes.extend([0, 0]);
            bytes.extend(entries.iter().flat_map(|ace| &ace.bytes));
        }
        Ok(bytes)
    }

    /// Whether nothing is inherited.
    pub(super) fn is_protected(&self) -> bool {
        self.control & DACL_PROTECTED != 0
    }

    /// What a new object of this class below would inherit.
    pub(super) fn inherited_by(&self, class: Uuid) -> Self {
        let inherited = |entries: &Vec<Ace>| entries.iter().filter_map(|ace| ace.inherited_by(class)).collect();
        Self { control: DACL_PRESENT, owner: None, dacl: Some(self.dacl.as_ref().map(inherited).unwrap_or_default()) }
    }

    /// The entries that stand on the object itself.
    pub(super) fn own_entries(&self) -> impl Iterator<Item = &Ace> {
        self.dacl.iter().flatten().filter(|ace| !ace.is_inherited())
    }

    /// Adds entries that allow something, in their canonical place: behind the object's own entries that deny, before
    /// everything else. Whether any had to be added: those that are there already are not added again.
    pub(super) fn add(&mut self, allowed: impl IntoIterator<Item = Ace>) -> bool {
        // Without a list everything is allowed already.
        let Some(entries) = &mut self.dacl else { return false };
        let missing: Vec<_> = allowed
            .into_iter()
            .filter(|new| !entries.iter().any(|old| old.flags == new.flags && old.rule == new.rule))
            .collect();
        let denies = |ace: &Ace| !ace.is_inherited() && ace.rule.as_ref().is_some_and(|r| r.effect == Effect::Deny);
        let place = entries.iter().position(|ace| !denies(ace)).unwrap_or(entries.len());
        let any = !missing.is_empty();
        entries.splice(place..place, missing);
        any
    }
}

/// The 32 bits at an offset.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An access list ([MS-DTYP] 2.4.5).
fn read_list(bytes: &[u8]) -> Result<Vec<Ace>, Malformed> {
    let cut = Malformed("its list is cut off");
    let [2 | 4, _, size_low, size_high, count_low, count_high, ..] = bytes else {
        return Err(Malformed("its list is cut off, or not of revision 2 or 4"));
    };
    let size = usize::from(u16::from_le_bytes([*size_low, *size_high]));
    let count = u16::from_le_bytes([*count_low, *count_high]);
    let mut rest = bytes.get(8..size).ok_or(cut)?;
    let mut entries = Vec::new();
    for _ in 0..count {
        let (ace, behind) = Ace::read(rest)?;
        entries.push(ace);
        rest = behind;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests;
