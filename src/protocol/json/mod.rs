//! JSON, read in one place and to the last byte, so that relay, agent and portal are of one mind about every object.
//!
//! serde's derived readers and `serde_json` are kind: an array passes for an object (its items for the members, in their
//! order), an object for a name (`{"unlock_account":null}`), `null` for what is absent, and a name may stand twice where
//! nobody looks. What is signed by one and read by another has one meaning, so [`strict`] refuses all of that while it is
//! read, without a second look.

mod error;
mod strict;

use serde::de::DeserializeOwned;

pub use error::Error;
pub(super) use error::form;
pub(super) use strict::{Rules, Strict};

/// Objects and arrays within each other. Ours go seven deep; a member that nobody lists may go as deep as this.
pub const MAX_DEPTH: u8 = 16;

/// The greatest integer that every JSON library reads as it is written (RFC 7493 §2.2).
pub const MAX_INTEGER: u64 = (1 << 53) - 1;

/// Reads an object of the protocol, all of `json`.
///
/// # Errors
/// If it is no JSON, or anything in it is not exactly as the protocol has it: which, and what is expected there. The
/// value is never repeated.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    read_by(Rules::OURS, json)
}

/// The same for what stands in a file of ours, or comes from an OpenID provider: `null` is absent there, and integers may
/// have 64 bits.
///
/// # Errors
/// As [`read`].
pub fn read_with_nulls<T: DeserializeOwned>(json: &[u8]) -> Result<T, Error> {
    read_by(Rules::WITH_NULLS, json)
}

fn read_by<T: DeserializeOwned>(rules: Rules, json: &[u8]) -> Result<T, Error> {
    let text = std::str::from_utf8(json).map_err(|_| Error::NotUtf8)?;
    let mut from = serde_json::Deserializer::from_str(text);
    match T::deserialize(Strict::new(&mut from, rules)).and_then(|value| from.end().map(|()| value)) {
        Ok(value) => Ok(value),
        // Where it stands is looked for when it is needed, and not in all that is good.
        Err(error) => {
            let mut again = serde_json::Deserializer::from_str(text);
            let found = serde_path_to_error::deserialize::<_, T>(Strict::new(&mut again, rules)).err();
            Err(found.map_or_else(|| Error::of(&error), |found| Error::at(&found)))
        }
    }
}

#[cfg(test)]
mod tests;
