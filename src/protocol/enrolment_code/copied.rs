//! A code as it comes out of a mail or a chat, made one line of the code's own characters again. What was lost or changed on
//! the way the check finds.

use zeroize::Zeroizing;

use super::{CHECK_CHARS, PREFIX};
use crate::protocol::jose::from_base64url;

/// What is behind `portal` in the JSON that the code holds: two members of fixed length, in the order in which portals
/// write them. From there the whole code's length is known.
const BEHIND_PORTAL: &str = r#"","portal_key":"","secret":""}"#;
/// Those two: a thumbprint and a secret of 32 bytes each, in base64url.
const FIXED: usize = 2 * 43;

/// The code's own characters.
pub(super) struct Copied {
    pub(super) text: Zeroizing<String>,
    /// How many there should be, if those that are there say so.
    pub(super) of: Option<usize>,
}

/// Nothing, if there is no code in it.
pub(super) fn copied(text: &str) -> Option<Copied> {
    let text = own_characters(text);
    let at = text.find(&format!("{PREFIX}."))?;
    let code = text.get(at..).unwrap_or_default();
    // What was copied along behind it is no part of it.
    let second = code.match_indices('.').nth(1).map(|(at, _)| at);
    let whole = second.map_or(code.len(), |at| code.len().min(at + 1 + CHECK_CHARS));
    let code = code.get(..whole).unwrap_or_default();
    let body = code.get(PREFIX.len() + 1..second.unwrap_or(whole)).unwrap_or_default();
    let of = contents_length(body).map(|length| PREFIX.len() + 1 + length + 1 + CHECK_CHARS);
    Some(Copied { text: Zeroizing::new(code.to_owned()), of })
}

/// Without what mail programs put into it: quotation marks of an answer (`> `), soft line ends and escapes of
/// quoted-printable (RFC 2045 §6.7), soft hyphens and other characters that are drawn as nothing, other hyphens.
fn own_characters(text: &str) -> Zeroizing<String> {
    let mut own = Zeroizing::new(String::with_capacity(text.len()));
    for line in text.lines() {
        let mut rest = line.trim().trim_start_matches(|c: char| c == '>' || c == '|' || c.is_whitespace());
        rest = rest.strip_suffix('=').unwrap_or(rest);
        while let Some(c) = rest.chars().next() {
            let after = rest.get(c.len_utf8()..).unwrap_or_default();
            let escaped = if c == '=' { after.get(..2).and_then(|hex| u8::from_str_radix(hex, 16).ok()) } else { None };
            if let Some(byte) = escaped {
                push(&mut own, char::from(byte));
                rest = after.get(2..).unwrap_or_default();
            } else {
                push(&mut own, c);
                rest = after;
            }
        }
    }
    own
}

fn push(own: &mut String, c: char) {
    match c {
        'A'..='Z' | 'a'..='z' | '0'..='9' | '-' | '_' | '.' => own.push(c),
        // Hyphen, non-breaking hyphen, minus.
        '\u{2010}' | '\u{2011}' | '\u{2212}' => own.push('-'),
        _ => {}
    }
}

/// How long the part in the middle is when it is whole: what is there of it says so, if it goes far enough.
fn contents_length(body: &str) -> Option<usize> {
    // Four characters are three bytes; one alone is none.
    let whole = body.len() - body.len() % 4;
    let json = Zeroizing::new(from_base64url(body.get(..whole)?).ok()?);
    // It may end within a letter.
    let json = json.utf8_chunks().next()?.valid();
    let (_, portal) = json.split_once(r#","portal":""#)?;
    let (portal, _) = portal.split_once('"')?;
    let before = json.len() - json.split_once(r#","portal":""#)?.1.len();
    let bytes = before + portal.len() + BEHIND_PORTAL.len() + FIXED;
    Some((bytes * 4).div_ceil(3))
}

#[cfg(test)]
mod tests {
    use crate::clock::System;
    use crate::protocol::enrolment_code::{EnrolmentCode, InvalidCode, Secret};
    use crate::protocol::ids::InvitationId;
    use crate::protocol::jose::SigningKey;

    fn code() -> EnrolmentCode {
        EnrolmentCode {
            relay: "https://relay.example:8443".into(),
            tenant: "contoso".parse().unwrap(),
            invitation: InvitationId::new(&System, &System),
            token: Secret::new([1; 32]),
            portal: "portal-1".parse().unwrap(),
            portal_key: SigningKey::generate(&System).unwrap().kid().clone(),
            secret: Secret::new([2; 32]),
        }
    }

    /// In lines of so many characters, each between these.
    fn wrapped(text: &str, width: usize, before: &str, behind: &str) -> String {
        let lines = text.as_bytes().chunks(width).map(|line| std::str::from_utf8(line).unwrap());
        lines.map(|line| format!("{before}{line}{behind}")).collect()
    }

    #[test]
    fn whatever_a_mail_program_makes_of_a_code_it_is_that_code() {
        let code = code();
        let text = code.to_text().unwrap();
        for copied in [
            wrapped(&text, 76, "", "\r\n"),
            wrapped(&text, 60, "> ", "\n"),
            wrapped(&text, 60, "> > | ", "\n"),
            wrapped(&text, 75, "", "=\r\n"),
            wrapped(&text, 33, "", "\u{ad}"),
            wrapped(&text, 33, "", "\u{200b}\n    "),
            text.replace('.', "=2E").replace('_', "=5F").replace('-', "=2D"),
            text.replace('-', "\u{2011}"),
            format!("\u{feff}Your code:\n\n  \"{}\"\n", *text),
            format!("<{}>\n\nKind regards\nJane", *text),
            format!("`{}`.", *text),
        ] {
            assert_eq!(copied.parse::<EnrolmentCode>().as_ref(), Ok(&code), "{copied}");
        }
    }

    #[test]
    fn of_a_code_that_was_cut_it_is_said_how_much_of_it_arrived() {
        let text = code().to_text().unwrap();
        for at in [5, 100, 250, 300, text.len() - 13, text.len() - 12, text.len() - 1] {
            let Err(error @ InvalidCode::Incomplete { arrived, of }) = text[..at].parse::<EnrolmentCode>() else {
                panic!("cut at {at}")
            };
            assert_eq!(arrived, at);
            // As soon as the portal's name is there.
            assert!(of == Some(text.len()) || (of.is_none() && at < 300), "cut at {at}: {of:?} of {}", text.len());
            assert!(error.to_string().contains(&format!("{at} ")), "{error}");
        }
        let without_a_line = format!("{}{}", &text[..200], &text[276..]);
        assert!(matches!(without_a_line.parse::<EnrolmentCode>(), Err(InvalidCode::Check { .. })));
        let last = text.len() - 1;
        let other = if text.ends_with('A') { "B" } else { "A" };
        let error = format!("{}{other}", &text[..last]).parse::<EnrolmentCode>().unwrap_err().to_string();
        assert!(error.contains(&format!("{0} of {0} characters", text.len())), "{error}");
    }
}
