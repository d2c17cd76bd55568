//! The messages of LDAP (RFC 4511 §4), as far as they come to the agent: in no other form does one reach the library, which
//! panics on some.

use super::ber::{Elements, check};
use super::violation::Violation;

/// Universal tags.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const ENUMERATED: u8 = 0x0a;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// Operations: application tags, all constructed.
pub(super) const BIND_REQUEST: u8 = 0x60;
pub(super) const BIND_RESPONSE: u8 = 0x61;
pub(super) const SEARCH_REQUEST: u8 = 0x63;
pub(super) const SEARCH_ENTRY: u8 = 0x64;
pub(super) const SEARCH_DONE: u8 = 0x65;
pub(super) const MODIFY_REQUEST: u8 = 0x66;
pub(super) const MODIFY_RESPONSE: u8 = 0x67;
pub(super) const SEARCH_REFERENCE: u8 = 0x73;
pub(super) const EXTENDED_RESPONSE: u8 = 0x78;

/// Context tags: of a message, and of results.
const CONTROLS: u8 = 0xa0;
const REFERRAL: u8 = 0xa3;
const SASL_CREDENTIALS: u8 = 0x87;
const RESPONSE_NAME: u8 = 0x8a;
const RESPONSE_VALUE: u8 = 0x8b;

/// A message, without its controls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Message<'a> {
    /// 0: it answers nothing (RFC 4511 §4.4).
    pub(super) id: u32,
    /// One of the operations.
    pub(super) operation: u8,
    content: Elements<'a>,
}

impl<'a> Message<'a> {
    /// A request of our own, as the library has written it.
    pub(super) fn of_ours(bytes: &'a [u8]) -> Result<Self, Violation> {
        Ok(Self::read(bytes)?.0)
    }

    /// What a domain controller sends.
    ///
    /// # Errors
    /// If it does not have the form that its operation has, or is none that is waited for.
    pub(super) fn of_theirs(bytes: &'a [u8]) -> Result<Self, Violation> {
        check(bytes)?;
        let (message, mut behind) = Self::read(bytes)?;
        let mut content = message.content;
        match message.operation {
            BIND_RESPONSE | SEARCH_DONE | MODIFY_RESPONSE => result(&mut content)?,
            SEARCH_ENTRY => entry(&mut content)?,
            SEARCH_REFERENCE => uris(content)?,
            EXTENDED_RESPONSE => {
                result(&mut content)?;
                // Active Directory writes the name of a notice of disconnection here.
                behind.take_if(RESPONSE_NAME)?;
            }
            _ => return Err(Violation::Malformed("an operation that no request has as its answer")),
        }
        if let Some(controls) = behind.take_if(CONTROLS)? {
            each(Elements::of(controls), control)?;
        }
        // Elsewhere what is new would be ignored (RFC 4511 §4); the library takes the last element for the operation.
        if behind.is_empty() { Ok(message) } else { Err(Violation::Malformed("a message has too many elements")) }
    }

    /// With what stands behind the operation.
    fn read(bytes: &'a [u8]) -> Result<(Self, Elements<'a>), Violation> {
        let mut outside = Elements::of(bytes);
        let mut inside = Elements::of(outside.take(SEQUENCE)?);
        let id = inside.number(INTEGER)?;
        let (operation, content) = inside.any()?;
        Ok((Self { id, operation, content: Elements::of(content) }, inside))
    }

    /// The result code of an answer that has one.
    pub(super) fn result_code(&self) -> Result<u32, Violation> {
        let mut content = self.content;
        content.number(ENUMERATED)
    }

    /// How many entries a search asks for. The agent never asks for all.
    pub(super) fn size_limit(&self) -> Result<u32, Violation> {
        let mut content = self.content;
        content.take(OCTET_STRING)?;
        content.number(ENUMERATED)?;
        content.number(ENUMERATED)?;
        content.number(INTEGER)
    }
}

fn each<'a>(
    mut elements: Elements<'a>,
    mut one: impl FnMut(&mut Elements<'a>) -> Result<(), Violation>,
) -> Result<(), Violation> {
    while !elements.is_empty() {
        one(&mut elements)?;
    }
    Ok(())
}

/// `LDAPResult`, and what a bind or an extended operation adds.
fn result(content: &mut Elements<'_>) -> Result<(), Violation> {
    content.number(ENUMERATED)?;
    content.text(OCTET_STRING)?;
    content.text(OCTET_STRING)?;
    while let Some(tag) = content.tag() {
        match tag {
            REFERRAL => uris(Elements::of(content.take(REFERRAL)?))?,
            RESPONSE_NAME => {
                content.text(RESPONSE_NAME)?;
            }
            SASL_CREDENTIALS | RESPONSE_VALUE => {
                content.any()?;
            }
            // The library knows them by their number alone.
            other if matches!(other & 0x1f, 3 | 7 | 10 | 11) => {
                return Err(Violation::Malformed("an element is of another type than expected"));
            }
            _ => {
                content.any()?;
            }
        }
    }
    Ok(())
}

fn uris(content: Elements<'_>) -> Result<(), Violation> {
    each(content, |uris| uris.text(OCTET_STRING).map(drop))
}

fn entry(content: &mut Elements<'_>) -> Result<(), Violation> {
    content.text(OCTET_STRING)?;
    each(Elements::of(content.take(SEQUENCE)?), |attributes| {
        let mut attribute = Elements::of(attributes.take(SEQUENCE)?);
        attribute.text(OCTET_STRING)?;
        each(Elements::of(attribute.take(SET)?), |values| values.take(OCTET_STRING).map(drop))
    })
}

fn control(controls: &mut Elements<'_>) -> Result<(), Violation> {
    let mut control = Elements::of(controls.take(SEQUENCE)?);
    control.text(OCTET_STRING)?;
    if control.take_if(BOOLEAN)?.is_some_and(<[u8]>::is_empty) {
        return Err(Violation::Malformed("a boolean without a value"));
    }
    control.take_if(OCTET_STRING)?;
    if control.is_empty() { Ok(()) } else { Err(Violation::Malformed("a control has too many elements")) }
}
