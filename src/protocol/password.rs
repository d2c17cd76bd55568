//! A password in memory.

use std::fmt;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

use super::limits::MAX_PASSWORD_CHARS;

/// A password: Unicode, 1 to 256 characters, never trimmed. Overwritten when dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Zeroizing<String>);

/// Why a text can't be a password. It doesn't repeat the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPassword {
    /// No character at all.
    #[error("the password is empty")]
    Empty,
    /// More than 256 characters.
    #[error("the password is longer than {MAX_PASSWORD_CHARS} characters")]
    TooLong,
}

impl Password {
    /// Takes `text` as it is.
    ///
    /// # Errors
    /// If it is empty or has more than 256 characters.
    pub fn new(text: String) -> Result<Self, InvalidPassword> {
        let text = Zeroizing::new(text);
        if text.is_empty() {
            return Err(InvalidPassword::Empty);
        }
        if text.chars().count() > MAX_PASSWORD_CHARS {
            return Err(InvalidPassword::TooLong);
        }
        Ok(Self(text))
    }

    /// The characters. Whoever calls this keeps them out of logs and errors.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}
