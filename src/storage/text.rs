//! Text that people have made, perhaps on Windows: its editors put a byte order mark before UTF-8, and PowerShell writes
//! UTF-16. Both are read as what they say. What else is no UTF-8 is refused: whoever guessed would change a password.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use zeroize::Zeroizing;

/// Which of two bytes comes first.
type Order = fn([u8; 2]) -> u16;

const UTF8_MARK: &[u8] = &[0xef, 0xbb, 0xbf];
const UTF16_LE_MARK: [u8; 2] = [0xff, 0xfe];
const UTF16_BE_MARK: [u8; 2] = [0xfe, 0xff];

/// The text in a file.
///
/// # Errors
/// If it can't be read, or is no text; then the command that makes it one.
pub fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    read_text_from(&mut File::open(path)?)
}

/// The same of what is open already, to its end.
///
/// # Errors
/// As [`read_text`].
pub fn read_text_from(from: &mut impl Read) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.read_to_end(&mut bytes)?;
    decode(&bytes)
}

/// Bytes as text.
///
/// # Errors
/// If they are none.
pub fn decode(bytes: &[u8]) -> io::Result<Zeroizing<String>> {
    let no_text = |from: &str| {
        let why = format!("this is no UTF-8 text; convert it: iconv -f {from} -t UTF-8 OLD > NEW");
        io::Error::new(ErrorKind::InvalidData, why)
    };
    let (order, bytes): (Option<Order>, _) = match bytes {
        [a, b, rest @ ..] if [*a, *b] == UTF16_LE_MARK => (Some(u16::from_le_bytes), rest),
        [a, b, rest @ ..] if [*a, *b] == UTF16_BE_MARK => (Some(u16::from_be_bytes), rest),
        _ if has_zeros(bytes, 1) => (Some(u16::from_le_bytes), bytes),
        _ if has_zeros(bytes, 0) => (Some(u16::from_be_bytes), bytes),
        _ => (None, bytes.strip_prefix(UTF8_MARK).unwrap_or(bytes)),
    };
    let Some(order) = order else {
        return match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Zeroizing::new(text.to_owned())),
            // Whoever has another code page knows it.
            Err(_) => Err(no_text("WINDOWS-1252")),
        };
    };
    let (pairs, []) = bytes.as_chunks::<2>() else { return Err(no_text("UTF-16")) };
    // Large enough at once: growing would leave copies behind.
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 2));
    for unit in char::decode_utf16(pairs.iter().copied().map(order)) {
        text.push(unit.map_err(|_| no_text("UTF-16"))?);
    }
    Ok(text)
}

/// Whether every second byte from `first` on is zero, and no other: letters of Western languages in UTF-16 without a mark.
fn has_zeros(bytes: &[u8], first: usize) -> bool {
    let zero = |at: usize, byte: &u8| (*byte == 0) == (at % 2 == first);
    !bytes.is_empty() && bytes.len().is_multiple_of(2) && bytes.iter().enumerate().all(|(at, byte)| zero(at, byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn whatever_an_editor_on_windows_makes_of_a_text_is_that_text() {
        for text in ["Passw0rd", "a", "Größe-9\r\nzwei\r\n", ""] {
            let marked = format!("\u{feff}{text}");
            let forms = [
                text.as_bytes().to_vec(),
                marked.clone().into_bytes(),
                utf16(&marked, u16::to_le_bytes),
                utf16(&marked, u16::to_be_bytes),
            ];
            for form in forms {
                assert_eq!(&**decode(&form).unwrap(), text, "{form:x?}");
            }
        }
        for order in [u16::to_le_bytes, u16::to_be_bytes] {
            assert_eq!(&**decode(&utf16("Passw0rd\r\n", order)).unwrap(), "Passw0rd\r\n");
        }
    }

    #[test]
    fn what_is_no_text_is_refused_with_the_command_that_converts_and_never_repeated() {
        for (bytes, from) in
            [(&b"Gr\xf6\xdfe"[..], "WINDOWS-1252"), (b"\xff\xfea", "UTF-16"), (b"\xff\xfe\x00\xd8", "UTF-16")]
        {
            let error = decode(bytes).unwrap_err().to_string();
            assert!(error.contains(&format!("iconv -f {from} -t UTF-8")) && !error.contains("Gr"), "{error}");
        }
    }
}
