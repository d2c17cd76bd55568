//! One entry of an access list ([MS-DTYP] 2.4.4).

use uuid::Uuid;

use super::Malformed;
use super::sid::Sid;

/// The entry applies to what stands below the object, too.
pub(super) const CONTAINER_INHERIT: u8 = 0x02;
/// The entry does not apply to the object itself.
const INHERIT_ONLY: u8 = 0x08;
/// The entry came from above.
const INHERITED: u8 = 0x10;

/// `ACE_OBJECT_TYPE_PRESENT`.
const OBJECT_TYPE_PRESENT: u32 = 1;
/// `ACE_INHERITED_OBJECT_TYPE_PRESENT`.
const INHERITED_OBJECT_TYPE_PRESENT: u32 = 2;

/// An entry: its bytes as they came, so that it can be written back as it was, and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Ace {
    pub(super) flags: u8,
    pub(super) bytes: Vec<u8>,
    /// None for kinds that give and take nothing.
    pub(in super::super) rule: Option<Rule>,
}

/// Whether an entry gives or takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Effect {
    Allow,
    Deny,
}

/// What an entry says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Rule {
    pub(in super::super) effect: Effect,
    /// Access rights ([MS-ADTS] 5.1.3.2).
    pub(in super::super) mask: u32,
    /// Only for this extended right, attribute, property set or class.
    pub(in super::super) object_type: Option<Uuid>,
    /// Inherited only by objects of this class.
    pub(in super::super) inherited_object_type: Option<Uuid>,
    /// It hangs on a condition, which nobody but a domain controller can judge.
    pub(super) conditional: bool,
    pub(in super::super) trustee: Sid,
}

impl Ace {
    /// The first entry of `bytes`, and what stands behind it.
    pub(super) fn read(bytes: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let [kind, flags, low, high, ..] = bytes else { return Err(Malformed("an entry is cut off")) };
        let size = usize::from(u16::from_le_bytes([*low, *high]));
        if size < 4 {
            return Err(Malformed("an entry is shorter than its head"));
        }
        let (own, rest) = bytes.split_at_checked(size).ok_or(Malformed("an entry is cut off"))?;
        let rule = Rule::read(*kind, own.get(4..).unwrap_or_default())?;
        Ok((Self { flags: *flags, bytes: own.to_vec(), rule }, rest))
    }

    /// An entry that allows `mask` for `object_type`. With a class, it is not for the object itself, but for those of
    /// that class below it.
    pub(in super::super) fn allow(mask: u32, object_type: Uuid, class_below: Option<Uuid>, trustee: Sid) -> Self {
        const ACCESS_ALLOWED_OBJECT: u8 = 5;
        let flags = if class_below.is_some() { CONTAINER_INHERIT | INHERIT_ONLY } else { 0 };
        let present = OBJECT_TYPE_PRESENT | class_below.map_or(0, |_| INHERITED_OBJECT_TYPE_PRESENT);
        let mut body = [mask.to_le_bytes(), present.to_le_bytes()].concat();
        body.extend(object_type.to_bytes_le());
        body.extend(class_below.iter().flat_map(Uuid::to_bytes_le));
        body.extend(trustee.to_bytes());
        // Two GUIDs and a SID: a hundred bytes or so.
        let [low, high] = u16::try_from(4 + body.len()).unwrap_or(u16::MAX).to_le_bytes();
        let bytes = [vec![ACCESS_ALLOWED_OBJECT, flags, low, high], body].concat();
        let rule = Rule {
            effect: Effect::Allow,
            mask,
            object_type: Some(object_type),
            inherited_object_type: class_below,
            conditional: false,
            trustee,
        };
        Self { flags, bytes, rule: Some(rule) }
    }

    /// Whether it came from above.
    pub(in super::super) fn is_inherited(&self) -> bool {
        self.flags & INHERITED != 0
    }

    /// Whether it counts for the object it stands on.
    pub(super) fn applies_here(&self) -> bool {
        self.flags & INHERIT_ONLY == 0
    }

    /// As a new object of this class below would get it.
    pub(super) fn inherited_by(&self, class: Uuid) -> Option<Self> {
        let rule = self.rule.as_ref()?;
        let fits = rule.inherited_object_type.is_none_or(|only| only == class);
        let flags = self.flags & !INHERIT_ONLY | INHERITED;
        (self.flags & CONTAINER_INHERIT != 0 && fits).then(|| Self { flags, ..self.clone() })
    }
}

impl Rule {
    /// Of the kinds of [MS-DTYP] 2.4.4.1 that decide about access.
    fn read(kind: u8, body: &[u8]) -> Result<Option<Self>, Malformed> {
        let (effect, has_types, conditional) = match kind {
            0x00 => (Effect::Allow, false, false),
            0x01 => (Effect::Deny, false, false),
            0x05 => (Effect::Allow, true, false),
            0x06 => (Effect::Deny, true, false),
            0x09 => (Effect::Allow, false, true),
            0x0a => (Effect::Deny, false, true),
            0x0b => (Effect::Allow, true, true),
            0x0c => (Effect::Deny, true, true),
            _ => return Ok(None),
        };
        let cut = Malformed("an entry's contents are cut off");
        let (mask, mut rest) = word(body).ok_or(cut)?;
        let (mut object_type, mut inherited_object_type) = (None, None);
        if has_types {
            let (present, behind) = word(rest).ok_or(cut)?;
            rest = behind;
            for (flag, place) in
                [(OBJECT_TYPE_PRESENT, &mut object_type), (INHERITED_OBJECT_TYPE_PRESENT, &mut inherited_object_type)]
            {
                if present & flag != 0 {
                    let (guid, behind) = rest.split_at_checked(16).ok_or(cut)?;
                    *place = Some(Uuid::from_bytes_le(guid.try_into().map_err(|_| cut)?));
                    rest = behind;
                }
            }
        }
        let trustee = Sid::read(rest).ok_or(Malformed("an entry is about nobody"))?;
        Ok(Some(Self { effect, mask, object_type, inherited_object_type, conditional, trustee }))
    }
}

fn word(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (word, rest) = bytes.split_at_checked(4)?;
    Some((u32::from_le_bytes(word.try_into().ok()?), rest))
}
