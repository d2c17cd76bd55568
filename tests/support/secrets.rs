//! Secrets, in every form in which they could be found where they should not be.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use serde_json::Value;

/// Something that must not be found, in every form it could take.
pub(crate) struct Needle {
    pub(crate) name: String,
    forms: Vec<Vec<u8>>,
}

impl Needle {
    pub(crate) fn of_bytes(name: &str, bytes: &[u8]) -> Self {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let numbers = format!("{bytes:?}").trim_matches(['[', ']']).to_owned();
        let texts = [URL_SAFE_NO_PAD.encode(bytes), STANDARD_NO_PAD.encode(bytes), hex, numbers];
        let mut forms: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        forms.extend([bytes.to_vec(), bytes.escape_ascii().collect()]);
        Self { name: name.to_owned(), forms }
    }

    /// As text, as Active Directory takes it, and both encoded.
    pub(crate) fn of_text(name: &str, text: &str) -> Self {
        let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let mut needle = Self::of_bytes(name, text.as_bytes());
        needle.forms.extend(Self::of_bytes(name, &utf16(text)).forms);
        needle.forms.extend(Self::of_bytes(name, &utf16(&format!("\"{text}\""))).forms);
        // As a debug format or JSON would escape it.
        needle.forms.push(format!("{text:?}").trim_matches('"').as_bytes().to_vec());
        needle
    }

    pub(crate) fn is_in(&self, bytes: &[u8]) -> bool {
        self.forms.iter().any(|form| bytes.windows(form.len()).any(|window| window == form))
    }
}

/// The private part of the key in this file.
pub(crate) fn private_key(file: PathBuf) -> Needle {
    let jwk: Value = serde_json::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
    let name = file.display().to_string();
    Needle::of_bytes(&name, &URL_SAFE_NO_PAD.decode(jwk["d"].as_str().unwrap()).unwrap())
}
