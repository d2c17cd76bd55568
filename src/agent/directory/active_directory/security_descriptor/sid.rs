//! Security identifiers ([MS-DTYP] 2.4.2).

use std::fmt;

/// Whom an entry of an access list is about: a user, a group, or something like "everyone".
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in super::super) struct Sid {
    /// 48 bits.
    authority: u64,
    sub_authorities: Vec<u32>,
}

/// `SECURITY_NT_AUTHORITY`.
const NT: u64 = 5;
/// As many sub-authorities as there may be.
const MAX_SUB_AUTHORITIES: usize = 15;

impl Sid {
    /// Everybody ([MS-DTYP] 2.4.2.4).
    pub(in super::super) fn everyone() -> Self {
        Self { authority: 1, sub_authorities: vec![0] }
    }

    /// `PRINCIPAL_SELF`: in an account's access list, the account.
    pub(in super::super) fn myself() -> Self {
        Self::nt(&[10])
    }

    /// Of the authority NT: `S-1-5-…`.
    pub(in super::super) fn nt(sub_authorities: &[u32]) -> Self {
        Self { authority: NT, sub_authorities: sub_authorities.to_vec() }
    }

    /// In its text form, `S-1-5-21-1-2-3-1104`.
    pub(in super::super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("S-1-").or_else(|| text.strip_prefix("s-1-"))?.split('-');
        let authority = match parts.next()? {
            hexadecimal if hexadecimal.starts_with("0x") => u64::from_str_radix(hexadecimal.get(2..)?, 16).ok()?,
            decimal => decimal.parse().ok()?,
        };
        let sub_authorities = parts.map(|part| part.parse().ok()).collect::<Option<Vec<_>>>()?;
        let fits = authority < 1 << 48 && (1..=MAX_SUB_AUTHORITIES).contains(&sub_authorities.len());
        fits.then_some(Self { authority, sub_authorities })
    }

    /// Of an account or a group of a domain: its number in whichever domain it is ([MS-DTYP] 2.4.2.4, `S-1-5-21-…`).
    pub(in super::super) fn rid_of_a_domain(&self) -> Option<u32> {
        match (self.authority, self.sub_authorities.as_slice()) {
            (NT, [21, _, _, _, rid]) => Some(*rid),
            _ => None,
        }
    }

    /// Of a group of `BUILTIN`: its number there (`S-1-5-32-…`).
    pub(in super::super) fn rid_of_builtin(&self) -> Option<u32> {
        match (self.authority, self.sub_authorities.as_slice()) {
            (NT, [32, rid]) => Some(*rid),
            _ => None,
        }
    }

    /// Of an account or a group of this domain.
    pub(in super::super) fn with(&self, rid: u32) -> Self {
        let sub_authorities = self.sub_authorities.iter().copied().chain([rid]).collect();
        Self { authority: self.authority, sub_authorities }
    }

    /// From its bytes; whatever stands behind it is not looked at.
    pub(in super::super) fn read(bytes: &[u8]) -> Option<Self> {
        let [1, count, rest @ ..] = bytes else { return None };
        let count = usize::from(*count);
        if count > MAX_SUB_AUTHORITIES {
            return None;
        }
        let (authority, rest) = rest.split_at_checked(6)?;
        let authority = authority.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
        let sub_authorities = rest.get(..4 * count)?.chunks_exact(4);
        let sub_authorities = sub_authorities.map(|word| Some(u32::from_le_bytes(word.try_into().ok()?)));
        Some(Self { authority, sub_authorities: sub_authorities.collect::<Option<_>>()? })
    }

    /// As the value of a filter: each byte escaped (RFC 4515 §3).
    pub(in super::super) fn in_a_filter(&self) -> String {
        self.to_bytes().iter().map(|byte| format!("\\{byte:02x}")).collect()
    }

    /// Its bytes.
    pub(in super::super) fn to_bytes(&self) -> Vec<u8> {
        // What is read has no more than 15.
        let count = u8::try_from(self.sub_authorities.len()).unwrap_or(u8::MAX);
        let authority = self.authority.to_be_bytes();
        let mut bytes = vec![1, count];
        bytes.extend(authority.iter().skip(2));
        bytes.extend(self.sub_authorities.iter().flat_map(|word| word.to_le_bytes()));
        bytes
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.authority < 1 << 32 {
            write!(f, "S-1-{}", self.authority)?;
        } else {
            write!(f, "S-1-0x{:012x}", self.authority)?;
        }
        self.sub_authorities.iter().try_for_each(|word| write!(f, "-{word}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sid_is_written_as_it_was_read() {
        let bytes = [1, 2, 0, 0, 0, 0, 0, 5, 32, 0, 0, 0, 0x20, 2, 0, 0];
        let sid = Sid::read(&bytes).unwrap();
        assert_eq!(sid.to_string(), "S-1-5-32-544");
        assert_eq!(sid.to_bytes(), bytes);
        assert_eq!(Sid::everyone().to_string(), "S-1-1-0");
        let large = Sid::read(&[1, 0, 1, 0, 0, 0, 0, 0]).unwrap();
        assert_eq!(large.to_string(), "S-1-0x010000000000");
    }

    #[test]
    fn a_sid_is_read_from_its_text_and_says_whose_it_is() {
        for text in ["S-1-5-32-544", "S-1-5-21-1-2-3-1104", "S-1-1-0", "S-1-0x010000000000-1"] {
            assert_eq!(Sid::parse(text).unwrap().to_string(), text);
        }
        for text in ["", "S-1-5", "S-1-5-", "S-1-5-x", "S-2-5-1", "S-1-5--1", "S-1-5-4294967296", "Domain Admins"] {
            assert_eq!(Sid::parse(text), None, "{text}");
        }
        let (domain, builtin) = (Sid::parse("S-1-5-21-1-2-3-512").unwrap(), Sid::parse("S-1-5-32-544").unwrap());
        assert_eq!((domain.rid_of_a_domain(), domain.rid_of_builtin()), (Some(512), None));
        assert_eq!((builtin.rid_of_a_domain(), builtin.rid_of_builtin()), (None, Some(544)));
        assert_eq!(Sid::parse("S-1-5-21-1-2-3").unwrap().with(512), domain);
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_no_sid() {
        for bytes in [&[][..], &[1], &[2, 0, 0, 0, 0, 0, 0, 0], &[1, 1, 0, 0, 0, 0, 0, 5, 1, 2, 3], &[1, 16, 0]] {
            assert_eq!(Sid::read(bytes), None, "{bytes:?}");
        }
    }
}
