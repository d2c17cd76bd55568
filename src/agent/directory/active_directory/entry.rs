//! The values of an entry's attributes.

use ldap3::SearchEntry;

/// An attribute's values as bytes. Values that happen to be UTF-8 are handed out as text.
pub(super) fn bytes(entry: &SearchEntry, attribute: &str) -> Vec<Vec<u8>> {
    let texts = entry.attrs.get(attribute).into_iter().flatten().map(|text| text.clone().into_bytes());
    texts.chain(entry.bin_attrs.get(attribute).into_iter().flatten().cloned()).collect()
}

/// An attribute's first value as text.
pub(super) fn text<'a>(entry: &'a SearchEntry, attribute: &str) -> Option<&'a str> {
    entry.attrs.get(attribute)?.first().map(String::as_str)
}
