//! LDAP messages (RFC 4511), as far as a test looks into them.

use lber::common::TagClass;
use lber::structure::{PL, StructureTag};

/// Application tags.
const BIND: u64 = 0;
const SEARCH: u64 = 3;
const SEARCH_ENTRY: u64 = 4;
const MODIFY: u64 = 6;
const SEARCH_REFERENCE: u64 = 19;
const EXTENDED_RESPONSE: u64 = 24;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Request {
    Bind,
    /// What the controller says about itself: a search with an empty base.
    RootDse,
    /// Any other search.
    Search,
    Modify,
}

impl Request {
    fn answered_by(self) -> u64 {
        match self {
            Self::Bind => BIND + 1,
            Self::RootDse | Self::Search => SEARCH + 2,
            Self::Modify => MODIFY + 1,
        }
    }
}

/// One message, taken apart.
pub(super) struct Message {
    id: Vec<u8>,
    operation: StructureTag,
    controls: Vec<StructureTag>,
}

/// Takes the first message out of what has been received, if it is there as a whole: as it came, and taken apart.
pub(super) fn take(received: &mut Vec<u8>) -> Option<(Vec<u8>, Message)> {
    let (length, message) = match lber::parse::parse_tag(received) {
        Ok((rest, message)) => (received.len() - rest.len(), message),
        Err(lber::Err::Incomplete(_)) => return None,
        Err(other) => panic!("not BER: {other:?}"),
    };
    let bytes = received.drain(..length).collect();
    let mut parts = message.expect_constructed().unwrap().into_iter();
    let id = parts.next().unwrap().expect_primitive().unwrap();
    Some((bytes, Message { id, operation: parts.next().unwrap(), controls: parts.collect() }))
}

impl Message {
    pub(super) fn id(&self) -> Vec<u8> {
        self.id.clone()
    }

    /// None of what is not answered, or of no interest.
    pub(super) fn request(&self) -> Option<Request> {
        match (self.operation.id, &self.operation.payload) {
            (BIND, _) => Some(Request::Bind),
            (MODIFY, _) => Some(Request::Modify),
            (SEARCH, PL::C(parts)) if text(&parts[0]).is_empty() => Some(Request::RootDse),
            (SEARCH, _) => Some(Request::Search),
            _ => None,
        }
    }

    /// Whether more answers of the same request follow.
    pub(super) fn is_followed(&self) -> bool {
        [SEARCH_ENTRY, SEARCH_REFERENCE].contains(&self.operation.id)
    }

    /// Of a search.
    pub(super) fn search(&mut self) -> Option<Search<'_>> {
        match (self.operation.id, &mut self.operation.payload) {
            (SEARCH, PL::C(parts)) => Some(Search(parts)),
            _ => None,
        }
    }

    /// The entry that a search has found.
    pub(super) fn entry(&self) -> Option<Entry> {
        let (SEARCH_ENTRY, PL::C(parts)) = (self.operation.id, &self.operation.payload) else { return None };
        let attributes = inside(&parts[1]).iter().map(|attribute| {
            let [name, values] = inside(attribute) else { panic!("an attribute has a name and values") };
            (text(name), inside(values).iter().map(|value| primitive(value).clone()).collect())
        });
        Some(Entry { dn: text(&parts[0]), attributes: attributes.collect() })
    }

    /// The same message with another entry.
    pub(super) fn with_entry(self, entry: Entry) -> Self {
        let attributes = entry.attributes.into_iter().map(|(name, values)| {
            let values = values.into_iter().map(octets).collect();
            constructed(TagClass::Universal, 16, vec![octets(name), constructed(TagClass::Universal, 17, values)])
        });
        let attributes = constructed(TagClass::Universal, 16, attributes.collect());
        let operation = constructed(TagClass::Application, SEARCH_ENTRY, vec![octets(entry.dn), attributes]);
        Self { operation, ..self }
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        let id = StructureTag { class: TagClass::Universal, id: 2, payload: PL::P(self.id) };
        let parts = [id, self.operation].into_iter().chain(self.controls).collect();
        let mut bytes = bytes::BytesMut::new();
        lber::write::encode_into(&mut bytes, constructed(TagClass::Universal, 16, parts)).unwrap();
        bytes.to_vec()
    }
}

/// The answer to a request: a result code and a diagnostic message.
pub(super) fn answer(id: Vec<u8>, request: Request, code: u8, diagnostic: &str) -> Vec<u8> {
    result(id, request.answered_by(), code, diagnostic)
}

/// The answer to a request for StartTLS: it begins.
pub(super) fn tls_begins(id: Vec<u8>) -> Vec<u8> {
    result(id, EXTENDED_RESPONSE, 0, "")
}

fn result(id: Vec<u8>, operation: u64, code: u8, diagnostic: &str) -> Vec<u8> {
    let code = StructureTag { class: TagClass::Universal, id: 10, payload: PL::P(vec![code]) };
    let operation = constructed(TagClass::Application, operation, vec![code, octets(""), octets(diagnostic)]);
    Message { id, operation, controls: Vec::new() }.bytes()
}

/// A search on its way to the controller.
pub(crate) struct Search<'a>(&'a mut Vec<StructureTag>);

impl Search<'_> {
    /// Where it looks.
    pub(crate) fn base(&self) -> String {
        text(&self.0[0])
    }

    pub(crate) fn set_base(&mut self, base: &str) {
        self.0[0] = octets(base);
    }

    /// The value that this attribute must equal, if the filter says so anywhere.
    pub(crate) fn asserted(&mut self, attribute: &str) -> Option<&mut Vec<u8>> {
        asserted(&mut self.0[6], attribute)
    }

    /// What is to be read.
    pub(crate) fn attributes(&self) -> Vec<String> {
        inside(&self.0[7]).iter().map(text).collect()
    }
}

fn asserted<'a>(filter: &'a mut StructureTag, attribute: &str) -> Option<&'a mut Vec<u8>> {
    /// Context tags of RFC 4511 §4.5.1.7.
    const NOT: u64 = 2;
    const EQUALITY: u64 = 3;
    let (id, PL::C(parts)) = (filter.id, &mut filter.payload) else { return None };
    match id {
        ..=NOT => parts.iter_mut().find_map(|part| asserted(part, attribute)),
        EQUALITY if text(&parts[0]).eq_ignore_ascii_case(attribute) => match &mut parts[1].payload {
            PL::P(value) => Some(value),
            PL::C(_) => None,
        },
        _ => None,
    }
}

/// An entry on its way to the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) dn: String,
    pub(crate) attributes: Vec<(String, Vec<Vec<u8>>)>,
}

impl Entry {
    /// An attribute's values, if it has any.
    pub(crate) fn values(&mut self, attribute: &str) -> Option<&mut Vec<Vec<u8>>> {
        let found = self.attributes.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case(attribute));
        found.map(|(_, values)| values)
    }

    /// From now on it has these, or none.
    pub(crate) fn set(&mut self, attribute: &str, values: &[&str]) {
        self.attributes.retain(|(name, _)| !name.eq_ignore_ascii_case(attribute));
        if !values.is_empty() {
            self.attributes
                .push((attribute.to_owned(), values.iter().map(|value| value.as_bytes().to_vec()).collect()));
        }
    }
}

fn constructed(class: TagClass, id: u64, inside: Vec<StructureTag>) -> StructureTag {
    StructureTag { class, id, payload: PL::C(inside) }
}

fn octets(bytes: impl Into<Vec<u8>>) -> StructureTag {
    StructureTag { class: TagClass::Universal, id: 4, payload: PL::P(bytes.into()) }
}

fn primitive(tag: &StructureTag) -> &Vec<u8> {
    match &tag.payload {
        PL::P(bytes) => bytes,
        PL::C(_) => panic!("an octet string is primitive: {tag:?}"),
    }
}

fn inside(tag: &StructureTag) -> &[StructureTag] {
    match &tag.payload {
        PL::C(inside) => inside,
        PL::P(_) => panic!("a sequence is constructed: {tag:?}"),
    }
}

fn text(tag: &StructureTag) -> String {
    String::from_utf8_lossy(primitive(tag)).into_owned()
}
