//! What a piece of DER is, by its first elements (X.690; RFC 5280, 2315, 7292, 5958).

use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, constructed.
const FIRST: u8 = 0xa0;

/// `signedData`, 1.2.840.113549.1.7.2.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// A serialized store of Windows: version 0, and then `CERT`.
const STORE: &[u8] = &[0, 0, 0, 0, b'C', b'E', b'R', b'T'];

/// What it is.
#[derive(Debug)]
pub(super) enum Kind<'a> {
    Certificate(&'a [u8]),
    /// With these certificates in it.
    Pkcs7(Vec<&'a [u8]>),
    Pkcs12,
    PrivateKey,
    EncryptedKey,
    Request,
    RevocationList,
    Store,
    Page,
    Empty,
    Cut,
    Unknown,
}

impl Kind<'_> {
    /// Without what is inside.
    pub(super) fn named(self) -> Kind<'static> {
        match self {
            Self::Certificate(_) => Kind::Certificate(&[]),
            Self::Pkcs7(_) => Kind::Pkcs7(Vec::new()),
            Self::Pkcs12 => Kind::Pkcs12,
            Self::PrivateKey => Kind::PrivateKey,
            Self::EncryptedKey => Kind::EncryptedKey,
            Self::Request => Kind::Request,
            Self::RevocationList => Kind::RevocationList,
            Self::Store => Kind::Store,
            Self::Page => Kind::Page,
            Self::Empty => Kind::Empty,
            Self::Cut => Kind::Cut,
            Self::Unknown => Kind::Unknown,
        }
    }
}

/// One element: its tag, what is in it, and its whole; then what is behind it.
struct Element<'a> {
    tag: u8,
    inside: &'a [u8],
    whole: &'a [u8],
    rest: &'a [u8],
}

fn element(der: &[u8]) -> Option<Element<'_>> {
    let (tag, after) = der.split_first()?;
    let (first, after) = after.split_first()?;
    let (length, after) = match first {
        0..=0x7f => (usize::from(*first), after),
        0x81..=0x84 => {
            let (length, after) = after.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), after)
        }
        _ => return None,
    };
    let (inside, rest) = after.split_at_checked(length)?;
    let whole = der.get(..der.len() - rest.len())?;
    Some(Element { tag: *tag, inside, whole, rest })
}

/// The tags of the elements in `der`, as far as they can be read.
fn tags(mut der: &[u8]) -> Vec<u8> {
    let mut found = Vec::new();
    while let Some(Element { tag, rest, .. }) = element(der) {
        found.push(tag);
        der = rest;
        if found.len() == 8 {
            break;
        }
    }
    found
}

/// What `bytes` are.
pub(super) fn kind(bytes: &[u8]) -> Kind<'_> {
    let start = String::from_utf8_lossy(bytes.get(..bytes.len().min(512)).unwrap_or_default()).to_ascii_lowercase();
    if start.trim_matches(['\0', '\u{feff}']).trim().is_empty() {
        return Kind::Empty;
    }
    if bytes.starts_with(STORE) {
        return Kind::Store;
    }
    if start.contains("<html") || start.contains("<!doctype") {
        return Kind::Page;
    }
    if bytes.first() != Some(&SEQUENCE) {
        return Kind::Unknown;
    }
    let Some(outer) = element(bytes) else { return Kind::Cut };
    if X509Certificate::from_der(outer.whole).is_ok() {
        return Kind::Certificate(outer.whole);
    }
    let Some(first) = element(outer.inside) else { return Kind::Unknown };
    match (first.tag, first.inside) {
        (OID, SIGNED_DATA) => Kind::Pkcs7(certificates_of(first.rest)),
        (INTEGER, [3]) => Kind::Pkcs12,
        (INTEGER, [0 | 1]) => Kind::PrivateKey,
        (SEQUENCE, inside) => match (tags(inside).as_slice(), tags(outer.inside).as_slice()) {
            // EncryptedPrivateKeyInfo: an algorithm, and then octets.
            (_, [SEQUENCE, OCTETS]) => Kind::EncryptedKey,
            ([INTEGER, SEQUENCE, SEQUENCE, FIRST], _) => Kind::Request,
            ([INTEGER, SEQUENCE, SEQUENCE, 0x17 | 0x18, ..] | [SEQUENCE, SEQUENCE, 0x17 | 0x18, ..], _) => {
                Kind::RevocationList
            }
            _ => Kind::Unknown,
        },
        _ => Kind::Unknown,
    }
}

/// `SignedData`: version, algorithms, contents, and then the certificates in a `[0]`.
fn certificates_of(behind_oid: &[u8]) -> Vec<&[u8]> {
    let inside = || {
        let explicit = element(behind_oid).filter(|found| found.tag == FIRST)?;
        let signed = element(explicit.inside).filter(|found| found.tag == SEQUENCE)?;
        let version = element(signed.inside).filter(|found| found.tag == INTEGER)?;
        let algorithms = element(version.rest).filter(|found| found.tag == SET)?;
        let contents = element(algorithms.rest).filter(|found| found.tag == SEQUENCE)?;
        Some(element(contents.rest).filter(|found| found.tag == FIRST)?.inside)
    };
    let mut rest = inside().unwrap_or_default();
    let mut found = Vec::new();
    while let Some(certificate) = element(rest) {
        rest = certificate.rest;
        if X509Certificate::from_der(certificate.whole).is_ok() {
            found.push(certificate.whole);
        }
    }
    found
}
