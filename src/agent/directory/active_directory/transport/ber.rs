//! BER as LDAP uses it (RFC 4511 §5.1): tags of one byte, definite lengths. Nothing here recurses.

use super::violation::Violation;

/// A message is no longer. An access list has 64 KiB at the most ([MS-DTYP] 2.4.5), an attribute's 5,000 values (a domain
/// controller's own `MaxValRange`) have 150 KiB as SIDs.
pub(super) const MAX_MESSAGE: usize = 256 * 1024;
/// An answer of RFC 4511 has six levels, and extensions are few. The library parses it by recursion.
const MAX_DEPTH: usize = 16;
/// So many elements has a message. The library needs up to a hundred bytes for each.
const MAX_ELEMENTS: usize = 8192;

/// The bit of a tag that says that elements are inside.
const CONSTRUCTED: u8 = 0x20;
/// The bits of a tag that say that more of it follows, which LDAP has no use for.
const LONG_TAG: u8 = 0x1f;

/// What stands before an element's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) tag: u8,
    /// Its own length.
    pub(super) bytes: usize,
    /// The content's.
    pub(super) content: u64,
}

impl Header {
    /// None if it goes on behind `bytes`.
    pub(super) fn read(bytes: &[u8]) -> Result<Option<Self>, Violation> {
        let [tag, first, rest @ ..] = bytes else { return Ok(None) };
        if tag & LONG_TAG == LONG_TAG {
            return Err(Violation::Malformed("a tag of several bytes"));
        }
        let of_length = match first {
            0x80 => return Err(Violation::Malformed("an indefinite length")),
            0x85.. => return Err(Violation::Malformed("a length of more than four bytes")),
            0x81..0x85 => usize::from(first & 0x7f),
            0..0x80 => return Ok(Some(Self { tag: *tag, bytes: 2, content: u64::from(*first) })),
        };
        let Some(length) = rest.get(..of_length) else { return Ok(None) };
        let content = length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte));
        Ok(Some(Self { tag: *tag, bytes: 2 + of_length, content }))
    }

    /// The whole element's length.
    ///
    /// # Errors
    /// If no message is as long.
    pub(super) fn element(&self) -> Result<usize, Violation> {
        let whole = self.content.saturating_add(self.bytes as u64);
        usize::try_from(whole).ok().filter(|whole| *whole <= MAX_MESSAGE).ok_or(Violation::TooLarge(whole))
    }
}

/// Whether a message can be parsed by recursion, element for element, in little memory.
pub(super) fn check(message: &[u8]) -> Result<(), Violation> {
    let (mut at, mut elements) = (0, 0);
    // Where the elements end that are open.
    let mut open: Vec<usize> = Vec::with_capacity(MAX_DEPTH);
    loop {
        while open.last() == Some(&at) {
            open.pop();
        }
        let until = open.last().copied().unwrap_or(message.len());
        if at == until {
            return Ok(());
        }
        let truncated = Violation::Malformed("an element ends behind the one that it is in");
        let Some(header) = Header::read(message.get(at..until).unwrap_or_default())? else { return Err(truncated) };
        let end = at + header.element()?;
        if end > until {
            return Err(truncated);
        }
        elements += 1;
        if elements > MAX_ELEMENTS {
            return Err(Violation::TooManyElements(MAX_ELEMENTS));
        }
        at = if header.tag & CONSTRUCTED == 0 {
            end
        } else {
            if open.len() == MAX_DEPTH {
                return Err(Violation::TooDeep(MAX_DEPTH));
            }
            open.push(end);
            at + header.bytes
        };
    }
}

/// Elements one behind the other, of a message that was checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elements<'a>(&'a [u8]);

impl<'a> Elements<'a> {
    pub(super) fn of(content: &'a [u8]) -> Self {
        Self(content)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// The tag of the next one.
    pub(super) fn tag(self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The next one, whatever its tag.
    pub(super) fn any(&mut self) -> Result<(u8, &'a [u8]), Violation> {
        let missing = Violation::Malformed("an element is missing");
        let Some(header) = Header::read(self.0)? else { return Err(missing) };
        let Some((element, rest)) = self.0.split_at_checked(header.element()?) else { return Err(missing) };
        self.0 = rest;
        Ok((header.tag, element.get(header.bytes..).unwrap_or_default()))
    }

    /// The content of the next one, which has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], Violation> {
        match self.any()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(Violation::Malformed("an element is of another type than expected")),
        }
    }

    /// The same, if it has it.
    pub(super) fn take_if(&mut self, tag: u8) -> Result<Option<&'a [u8]>, Violation> {
        if self.tag() == Some(tag) { self.take(tag).map(Some) } else { Ok(None) }
    }

    /// The same of a text.
    pub(super) fn text(&mut self, tag: u8) -> Result<&'a str, Violation> {
        str::from_utf8(self.take(tag)?).map_err(|_| Violation::Malformed("a text is not UTF-8"))
    }

    /// The same of a number that is not negative.
    pub(super) fn number(&mut self, tag: u8) -> Result<u32, Violation> {
        match self.take(tag)? {
            digits @ [0..0x80, ..] if digits.len() <= 4 => {
                Ok(digits.iter().fold(0, |number, digit| number << 8 | u32::from(*digit)))
            }
            _ => Err(Violation::Malformed("a number is out of range")),
        }
    }
}

/// With a length of four bytes, as domain controllers write it.
#[cfg(test)]
pub(super) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    [&[tag, 0x84][..], &u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes(), content].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements in elements.
    fn nested(depth: usize) -> Vec<u8> {
        (0..depth).fold(Vec::new(), |inner, _| element(0x30, &inner))
    }

    #[test]
    fn depth_and_number_of_elements_are_bounded_and_each_ends_where_the_one_around_it_does_at_the_latest() {
        check(&nested(MAX_DEPTH)).unwrap();
        check(&element(0x30, &[0x04, 0].repeat(MAX_ELEMENTS - 1))).unwrap();
        for (refused, expected) in [
            (nested(MAX_DEPTH + 1), Violation::TooDeep(MAX_DEPTH)),
            // 83 kB of them overflowed the stack of the library's parser.
            ([0x30, 0x80].repeat(41_500), Violation::Malformed("an indefinite length")),
            (nested(30_000), Violation::TooDeep(MAX_DEPTH)),
            (element(0x30, &[0x04, 0].repeat(MAX_ELEMENTS)), Violation::TooManyElements(MAX_ELEMENTS)),
            (vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff], Violation::TooLarge(0x7fff_ffff + 6)),
            (vec![0x30, 3, 0x04, 2, 0], Violation::Malformed("an element ends behind the one that it is in")),
            (vec![0x30, 1, 0x04], Violation::Malformed("an element ends behind the one that it is in")),
            (vec![0x3f, 0x81, 0], Violation::Malformed("a tag of several bytes")),
            (vec![0x04, 0x85, 0, 0, 0, 0, 0], Violation::Malformed("a length of more than four bytes")),
            (vec![0x04, 0xff], Violation::Malformed("a length of more than four bytes")),
        ] {
            assert_eq!(check(&refused), Err(expected), "{:02x?}", &refused[..refused.len().min(16)]);
        }
    }

    #[test]
    fn the_length_of_a_message_is_known_from_its_first_bytes() {
        for whole in [vec![0x30, 0x05], vec![0x30, 0x81, 0xc8], vec![0x30, 0x84, 0, 1, 0, 0]] {
            for cut in 0..whole.len() {
                assert_eq!(Header::read(&whole[..cut]), Ok(None));
            }
            assert_eq!(Header::read(&whole).unwrap().unwrap().bytes, whole.len());
        }
        let longest = Header { tag: 0x30, bytes: 6, content: (MAX_MESSAGE - 6) as u64 };
        assert_eq!(longest.element(), Ok(MAX_MESSAGE));
        let longer = Header { content: longest.content + 1, ..longest };
        assert_eq!(longer.element(), Err(Violation::TooLarge(MAX_MESSAGE as u64 + 1)));
    }
}
