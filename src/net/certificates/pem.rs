//! The textual encodings of PKIX, read as kindly as they are copied (RFC 7468).

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// So many letters has a line.
const LINE: usize = 64;

/// Between a `BEGIN` and its `END`.
pub(super) struct Block<'a> {
    pub(super) label: &'a str,
    /// With a password, as OpenSSL once did it, inside.
    pub(super) encrypted: bool,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// All blocks; also on a single line, as forms on web pages make of it.
pub(super) fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, begun)) = rest.split_once("-----BEGIN ") {
        let Some((label, behind)) = begun.split_once("-----") else { break };
        // A block that was cut off has no end.
        let (body, after) = behind.split_once("-----END ").unwrap_or((behind, ""));
        rest = after;
        let encrypted = body.contains("ENCRYPTED");
        // Headers (RFC 1421) end with an empty line.
        let body = body.rsplit_once(": ").map_or(body, |(_, behind)| behind.split_once("\n").map_or("", |(_, b)| b));
        found.push(Block { label, encrypted, der: decoded(body).unwrap_or_default() });
    }
    found
}

/// Base64 of something in DER, with nothing around it.
pub(super) fn without_lines(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    if text.trim_start().starts_with("MI") { decoded(text) } else { None }
}

fn decoded(body: &str) -> Option<Zeroizing<Vec<u8>>> {
    let body: Zeroizing<Vec<u8>> = Zeroizing::new(body.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect());
    BASE64.decode(&*body).ok().map(Zeroizing::new)
}

/// Certificates for whoever reads nothing else.
#[must_use]
pub fn to_pem(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|certificate| block("CERTIFICATE", certificate).to_string()).collect()
}

/// The same of a private key.
#[must_use]
pub fn key_to_pem(key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        _ => "PRIVATE KEY",
    };
    block(label, key.secret_der())
}

fn block(label: &str, der: &[u8]) -> Zeroizing<String> {
    let body = Zeroizing::new(BASE64.encode(der));
    // Large enough at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(body.len() + body.len() / LINE + 2 * label.len() + 40));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = body.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}
