use std::collections::HashSet;

use proptest::prelude::*;
use uuid::{Uuid, uuid};

use super::*;

const CONTROL_ACCESS: u32 = 0x100;
const WRITE_PROPERTY: u32 = 0x20;
const RIGHT: Uuid = uuid!("00299570-246d-11d0-a768-00aa006e0529");
const SET: Uuid = uuid!("4c164200-20c0-11d0-a768-00aa006e0529");
const OTHER: Uuid = uuid!("ab721a53-1e2f-11d0-9819-00aa0040529b");
const USER: Uuid = uuid!("bf967aba-0de6-11d0-a285-00aa003049e2");
const COMPUTER: Uuid = uuid!("bf967a86-0de6-11d0-a285-00aa003049e2");

fn sid(rid: u32) -> Sid {
    let bytes = [vec![1, 1, 0, 0, 0, 0, 0, 5], rid.to_le_bytes().to_vec()].concat();
    Sid::read(&bytes).unwrap()
}

fn me() -> HashSet<Sid> {
    HashSet::from([sid(1000), sid(2000), Sid::everyone()])
}

/// An entry as bytes: kind, flags, mask, types, trustee.
fn ace(kind: u8, flags: u8, mask: u32, types: Option<(Option<Uuid>, Option<Uuid>)>, trustee: &Sid) -> Vec<u8> {
    let mut body = mask.to_le_bytes().to_vec();
    if let Some((object, inherited)) = types {
        let present = u32::from(object.is_some()) | u32::from(inherited.is_some()) << 1;
        body.extend(present.to_le_bytes());
        body.extend(object.iter().chain(&inherited).flat_map(Uuid::to_bytes_le));
    }
    body.extend(trustee.to_bytes());
    let size = u16::try_from(body.len() + 4).unwrap().to_le_bytes();
    [vec![kind, flags, size[0], size[1]], body].concat()
}

fn descriptor(control: u16, entries: &[Vec<u8>]) -> Vec<u8> {
    let list = entries.concat();
    let mut bytes = vec![1, 0];
    bytes.extend((control | SELF_RELATIVE | DACL_PRESENT).to_le_bytes());
    bytes.extend([0; 12]);
    bytes.extend(20_u32.to_le_bytes());
    bytes.extend([4, 0]);
    bytes.extend(u16::try_from(list.len() + 8).unwrap().to_le_bytes());
    bytes.extend(u16::try_from(entries.len()).unwrap().to_le_bytes());
    bytes.extend([0, 0]);
    bytes.extend(list);
    bytes
}

fn allow(trustee: &Sid) -> Vec<u8> {
    ace(5, 0, CONTROL_ACCESS, Some((Some(RIGHT), None)), trustee)
}

fn deny(trustee: &Sid) -> Vec<u8> {
    ace(6, 0, CONTROL_ACCESS, Some((Some(RIGHT), None)), trustee)
}

/// In one word, for somebody who is 1000, in group 2000, and asks for the right.
fn judged(entries: &[Vec<u8>]) -> &'static str {
    word(&SecurityDescriptor::read(&descriptor(0, entries)).unwrap())
}

fn word(descriptor: &SecurityDescriptor) -> &'static str {
    let wanted = Wanted { mask: CONTROL_ACCESS, object_types: &[RIGHT] };
    match descriptor.verdict(&me(), wanted) {
        Verdict::Granted => "granted",
        Verdict::Denied(_) => "denied",
        Verdict::NotGranted => "nothing",
    }
}

#[test]
fn a_right_is_given_to_the_account_its_groups_and_everyone_and_to_nobody_else() {
    assert_eq!(judged(&[]), "nothing");
    assert_eq!(judged(&[allow(&sid(1000))]), "granted");
    assert_eq!(judged(&[allow(&sid(2000))]), "granted");
    assert_eq!(judged(&[allow(&Sid::everyone())]), "granted");
    assert_eq!(judged(&[allow(&sid(3000))]), "nothing");
}

#[test]
fn the_first_entry_that_is_about_it_decides_in_whatever_order_they_stand() {
    assert_eq!(judged(&[deny(&sid(2000)), allow(&sid(1000))]), "denied");
    // Not canonical, and still what a domain controller goes by: an own entry that allows stands before an inherited one
    // that denies.
    assert_eq!(judged(&[allow(&sid(1000)), deny(&sid(2000))]), "granted");
    assert_eq!(judged(&[deny(&sid(3000)), allow(&sid(1000))]), "granted");
}

#[test]
fn an_entry_is_about_the_right_by_its_name_by_its_set_or_by_naming_nothing() {
    let granted = |types, mask| judged(&[ace(5, 0, mask, Some((types, None)), &sid(1000))]) == "granted";
    assert!(granted(Some(RIGHT), CONTROL_ACCESS));
    assert!(granted(None, CONTROL_ACCESS));
    assert!(!granted(Some(OTHER), CONTROL_ACCESS));
    assert!(!granted(Some(RIGHT), WRITE_PROPERTY), "another kind of right");
    assert_eq!(judged(&[ace(0, 0, CONTROL_ACCESS, None, &sid(1000))]), "granted");
    // Full control, and "all extended rights" of the generic kind.
    assert_eq!(judged(&[ace(0, 0, 0x000f_01ff, None, &sid(1000))]), "granted");
    assert_eq!(judged(&[ace(0, 0, 0x1000_0000, None, &sid(1000))]), "granted");
    assert_eq!(judged(&[ace(0, 0, 0x4000_0000, None, &sid(1000))]), "nothing", "generic write is no extended right");
    let set = ace(5, 0, WRITE_PROPERTY, Some((Some(SET), None)), &sid(1000));
    let set = SecurityDescriptor::read(&descriptor(0, &[set])).unwrap();
    let attribute = Wanted { mask: WRITE_PROPERTY, object_types: &[OTHER, SET] };
    assert_eq!(set.verdict(&me(), attribute), Verdict::Granted);
    assert_eq!(set.verdict(&me(), Wanted { object_types: &[OTHER], ..attribute }), Verdict::NotGranted);
}

#[test]
fn what_is_only_for_those_below_does_not_count_here_and_reaches_the_class_it_is_for() {
    let below = |inherited, flags| ace(5, flags, CONTROL_ACCESS, Some((Some(RIGHT), inherited)), &sid(1000));
    assert_eq!(judged(&[below(Some(USER), 0x0a)]), "nothing");
    let user_gets = |entry| word(&SecurityDescriptor::read(&descriptor(0, &[entry])).unwrap().inherited_by(USER));
    assert_eq!(user_gets(below(Some(USER), 0x0a)), "granted");
    assert_eq!(user_gets(below(None, 0x02)), "granted");
    assert_eq!(user_gets(below(Some(COMPUTER), 0x0a)), "nothing");
    assert_eq!(user_gets(below(Some(USER), 0x00)), "nothing", "it is not inherited at all");
}

#[test]
fn a_condition_gives_nothing_and_may_take() {
    assert_eq!(judged(&[ace(0x0b, 0, CONTROL_ACCESS, Some((Some(RIGHT), None)), &sid(1000))]), "nothing");
    let conditional_deny = ace(0x0c, 0, CONTROL_ACCESS, Some((Some(RIGHT), None)), &sid(1000));
    assert_eq!(judged(&[conditional_deny, allow(&sid(1000))]), "denied");
}

#[test]
fn no_list_allows_everything_and_an_empty_one_nothing() {
    let mut bytes = descriptor(0, &[]);
    assert_eq!(word(&SecurityDescriptor::read(&bytes).unwrap()), "nothing");
    bytes[2] &= !4;
    assert_eq!(word(&SecurityDescriptor::read(&bytes).unwrap()), "granted");
}

#[test]
fn blocked_inheritance_shows() {
    assert!(SecurityDescriptor::read(&descriptor(DACL_PROTECTED, &[])).unwrap().is_protected());
    assert!(!SecurityDescriptor::read(&descriptor(0, &[])).unwrap().is_protected());
}

#[test]
fn what_is_added_stands_behind_what_denies_once_and_leaves_the_rest_as_it_was() {
    let audit_like = [vec![0x11, 0, 8, 0], vec![9; 4]].concat();
    let inherited = ace(5, 0x12, CONTROL_ACCESS, Some((Some(OTHER), None)), &sid(3000));
    let old = [deny(&sid(3000)), audit_like, allow(&sid(3000)), inherited];
    let mut changed = SecurityDescriptor::read(&descriptor(DACL_PROTECTED, &old)).unwrap();
    let new = || Ace::allow(CONTROL_ACCESS, RIGHT, Some(USER), sid(1000));
    assert!(changed.add([new()]));
    assert!(!changed.add([new()]), "it is there already");
    let [first, rest @ ..] = &old;
    let expected = [std::slice::from_ref(first), &[new().bytes], rest].concat();
    assert_eq!(changed.to_bytes().unwrap(), descriptor(DACL_PROTECTED, &expected));
    let again = SecurityDescriptor::read(&changed.to_bytes().unwrap()).unwrap();
    assert_eq!(again.inherited_by(USER), changed.inherited_by(USER));
    assert_eq!(word(&again.inherited_by(USER)), "granted");
    assert_eq!(again.own_entries().count(), 4);
}

#[test]
fn whatever_is_cut_off_is_malformed() {
    let whole = descriptor(0, &[allow(&sid(1000)), deny(&sid(2000))]);
    for length in 0..whole.len() {
        assert!(SecurityDescriptor::read(&whole[..length]).is_err(), "{length} bytes of {}", whole.len());
    }
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SecurityDescriptor::read(&bytes).map(|read| (word(&read), read.to_bytes()));
    }

    #[test]
    fn no_damage_makes_it_panic(at in 0..120_usize, byte in any::<u8>()) {
        let mut bytes = descriptor(0, &[allow(&sid(1000)), deny(&sid(2000)), ace(0, 2, 1, None, &sid(1))]);
        if let Some(place) = bytes.get_mut(at) {
            *place = byte;
        }
        let _ = SecurityDescriptor::read(&bytes).map(|read| (word(&read), read.inherited_by(USER), read.to_bytes()));
    }
}
