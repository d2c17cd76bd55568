//! Records as they stand in a log together. A group is `WBL2`, the length of its records in bytes (u32, big-endian), its
//! number (u64, big-endian), the first eight bytes of the SHA-256 of length, number and records, and the records. It is whole
//! or it is not there: nobody was told that what stands in a torn one is stored.

use std::io;
use std::iter::successors;

use aws_lc_rs::digest::{Context, SHA256};

const MAGIC: &[u8; 4] = b"WBL2";

/// What stands before the records, in bytes.
pub(super) const HEADER: usize = 24;

/// A whole group. Each has the number after that of the one before it, and no number is ever used again.
#[derive(Clone, Copy)]
pub(super) struct Group<'a> {
    pub(super) number: u64,
    pub(super) records: &'a [u8],
    /// What comes after it.
    pub(super) behind: &'a [u8],
}

/// The bytes of a group.
pub(super) fn write(number: u64, records: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(records.len()).map_err(io::Error::other)?.to_be_bytes();
    let number = number.to_be_bytes();
    let mut group = Vec::with_capacity(HEADER + records.len());
    group.extend_from_slice(MAGIC);
    group.extend_from_slice(&len);
    group.extend_from_slice(&number);
    group.extend_from_slice(&checksum(&len, &number, records));
    group.extend_from_slice(records);
    Ok(group)
}

/// The group that `bytes` begins with, if it is whole.
pub(super) fn read(bytes: &[u8]) -> Option<Group<'_>> {
    let bytes = bytes.strip_prefix(MAGIC)?;
    let (len, bytes) = bytes.split_first_chunk::<4>()?;
    let (number, bytes) = bytes.split_first_chunk::<8>()?;
    let (sum, bytes) = bytes.split_first_chunk::<8>()?;
    let (records, behind) = bytes.split_at_checked(usize::try_from(u32::from_be_bytes(*len)).ok()?)?;
    let is_whole = checksum(len, number, records) == *sum;
    is_whole.then_some(Group { number: u64::from_be_bytes(*number), records, behind })
}

/// The groups that `bytes` begins with, up to what is torn or was left over from earlier.
pub(super) fn run(bytes: &[u8]) -> impl Iterator<Item = Group<'_>> {
    successors(read(bytes), |before| read(before.behind).filter(|group| group.number == before.number + 1))
}

/// Whether there is a whole group somewhere in `bytes` whose number is higher.
pub(super) fn is_above(number: u64, bytes: &[u8]) -> bool {
    (0..bytes.len()).any(|at| bytes.get(at..).and_then(read).is_some_and(|group| group.number > number))
}

fn checksum(len: &[u8; 4], number: &[u8; 8], records: &[u8]) -> [u8; 8] {
    let mut context = Context::new(&SHA256);
    context.update(len);
    context.update(number);
    context.update(records);
    let mut first = [0; 8];
    first.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    first
}
