//! Untrusted text: whatever another party wrote, for people to read. It may hold what moves a terminal's cursor, what
//! nobody sees, what turns the direction of reading, and words that look like this program's own.
//!
//! So it has no `Display`, and none of the ways that lead to one. It is shown quoted, or as a cell of a table, with
//! everything spelt out that is not simply a visible character; and it is carried on as the data that it is.

use std::borrow::Cow;
use std::fmt::{self, Write};

use icu_properties::props::{DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup};
use icu_properties::{CodePointMapData, CodePointSetData};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// So much of a text is shown, in characters, between quotation marks: a command line with some long names.
pub const MAX_QUOTED_CHARS: usize = 1000;

/// So much of a text is shown, in characters, as a cell of a table.
pub const MAX_CELL_CHARS: usize = 64;

/// Text that another party wrote, for people: show it as such, with nothing in it that a terminal would obey.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Untrusted(String);

impl Untrusted {
    /// For a sentence: between quotation marks, in one line, as JSON spells it, and not longer than [`MAX_QUOTED_CHARS`].
    #[must_use]
    pub fn quoted(&self) -> Quoted<'_> {
        Quoted { text: &self.0, most: MAX_QUOTED_CHARS }
    }

    /// For a table: a plain word as it is, so that it lines up; everything else, which could pass for several cells or for
    /// none, quoted. Not longer than [`MAX_CELL_CHARS`].
    #[must_use]
    pub fn cell(&self) -> String {
        let is_plain = |c: char| !c.is_whitespace() && !is_hidden(c) && !matches!(c, '"' | '\\');
        if !self.0.is_empty() && self.0.chars().all(is_plain) && self.0.chars().nth(MAX_CELL_CHARS).is_none() {
            return self.0.clone();
        }
        Quoted { text: &self.0, most: MAX_CELL_CHARS }.to_string()
    }

    /// The text itself, to be compared, parsed or put on the wire. Never to be shown: `tests/house.rs` knows who asks.
    #[must_use]
    pub fn as_data(&self) -> &str {
        &self.0
    }

    /// The same, for good.
    #[must_use]
    pub fn into_data(self) -> String {
        self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds `words`.
    #[must_use]
    pub fn contains(&self, words: &str) -> bool {
        self.0.contains(words)
    }
}

impl fmt::Debug for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.quoted(), f)
    }
}

impl From<String> for Untrusted {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Untrusted {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<str> for Untrusted {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Untrusted {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// A text between quotation marks.
#[derive(Clone, Copy, Debug)]
pub struct Quoted<'a> {
    text: &'a str,
    most: usize,
}

impl fmt::Display for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.text.chars().take(self.most) {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                c => spell(f, c)?,
            }
        }
        f.write_char('"')?;
        match self.text.chars().skip(self.most).count() {
            0 => Ok(()),
            more => write!(f, " (and {more} more characters)"),
        }
    }
}

/// In one line: what is hidden is spelt out. For texts of libraries, in which there may be anybody's words.
#[must_use]
pub fn one_line(text: &str) -> Cow<'_, str> {
    spelt_out(text, is_hidden)
}

/// The same for a text of several lines: its line feeds stay. JSON stays JSON, with the same values: hidden characters
/// stand only inside its strings, and `\uXXXX` is how it spells them (RFC 8259 §7).
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    spelt_out(text, |c| c != '\n' && is_hidden(c))
}

fn spelt_out(text: &str, is_wanted: fn(char) -> bool) -> Cow<'_, str> {
    // Nearly all there is: every line of a log comes here. Without a way out in the middle it is many bytes at a time.
    let is_plain = text.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    if is_plain || !text.contains(is_wanted) {
        return Cow::Borrowed(text);
    }
    let mut spelt = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        // Writing to a text does not fail.
        let _ = if is_wanted(c) { spell(&mut spelt, c) } else { spelt.write_char(c) };
    }
    Cow::Owned(spelt)
}

fn spell(out: &mut impl Write, c: char) -> fmt::Result {
    match c {
        '\n' => out.write_str("\\n"),
        '\r' => out.write_str("\\r"),
        '\t' => out.write_str("\\t"),
        c if is_hidden(c) => c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}")),
        c => out.write_char(c),
    }
}

/// Whether a terminal may do anything but show it: controls, formats (bidirectional ones among them), separators of
/// lines, what no font has, and what is drawn as nothing (UAX #44: categories C, Zl, Zp, and `Default_Ignorable_Code_Point`).
fn is_hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    let category = CodePointMapData::<GeneralCategory>::new().get(c);
    GeneralCategoryGroup::Other.contains(category)
        || matches!(category, GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator)
        || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

#[cfg(test)]
mod tests {
    use std::borrow::Borrow;
    use std::ops::Deref;

    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// What must leave no program, said without the tables that the code uses.
    fn is_harmful(c: char) -> bool {
        matches!(
            u32::from(c),
            0..0x20 | 0x7f..=0x9f | 0xad | 0x34f | 0x61c | 0x115f | 0x1160 | 0x17b4 | 0x17b5 | 0x180b..=0x180f
                | 0x200b..=0x200f | 0x2028..=0x202e | 0x2060..=0x206f | 0x3164 | 0xfe00..=0xfe0f | 0xfeff | 0xffa0
                | 0xfff0..=0xfffb | 0x1d173..=0x1d17a | 0xe0000..=0xe0fff
        )
    }

    #[test]
    fn every_character_that_hides_or_moves_something_is_spelt_out_and_letters_are_not() {
        for c in '\0'..=char::MAX {
            assert!(!is_harmful(c) || is_hidden(c), "U+{:04X}", u32::from(c));
        }
        for visible in "Aé ßñ日本語العربيةעברית😀ไทย हिन्दी e\u{301}—„“".chars()
        {
            assert!(!is_hidden(visible), "U+{:04X}", u32::from(visible));
        }
    }

    #[test]
    fn it_is_quoted_as_json_spells_it() {
        let text = Untrusted::from("a\"b\\c\x1b[2J\r\n\u{202e}\u{e0041}é");
        assert_eq!(text.quoted().to_string(), r#""a\"b\\c\u001b[2J\r\n\u202e\udb40\udc41é""#);
        assert_eq!(format!("{text:?}"), text.quoted().to_string());
        assert_eq!(serde_json::from_str::<String>(&text.quoted().to_string()).unwrap(), text.as_data());
    }

    #[test]
    fn only_a_plain_word_is_a_cell_as_it_is() {
        for plain in ["dc1.corp.example", "0.1.0-rc.1", "größe"] {
            assert_eq!(Untrusted::from(plain).cell(), plain);
        }
        for (text, cell) in [
            ("", r#""""#),
            ("dc1  trusted  yes", r#""dc1  trusted  yes""#),
            ("a\u{200b}", r#""a\u200b""#),
            ("a\u{a0}b", "\"a\u{a0}b\""),
        ] {
            assert_eq!(Untrusted::from(text).cell(), cell);
        }
        let long = Untrusted::from("x".repeat(100));
        assert_eq!(long.cell(), format!("\"{}\" (and 36 more characters)", "x".repeat(64)));
    }

    #[test]
    fn nothing_shows_it_by_accident() {
        // Two impls fit if the trait is there, and then this does not compile.
        macro_rules! is_not {
            ($($wanted:path),*) => {$({
                trait Either<A> { fn which() {} }
                impl<T: ?Sized> Either<()> for T {}
                struct Wanted;
                impl<T: ?Sized + $wanted> Either<Wanted> for T {}
                let () = <Untrusted as Either<_>>::which();
            })*};
        }
        is_not!(fmt::Display, AsRef<str>, AsRef<[u8]>, Borrow<str>, Deref, Into<String>, std::error::Error);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_it_is_nothing_harmful_is_shown_and_the_data_stays(text in any::<String>(), at in 0usize..1200) {
            let text = format!("{}{text}", "x".repeat(at));
            let untrusted = Untrusted::from(text.clone());
            for shown in [untrusted.quoted().to_string(), untrusted.cell(), one_line(&text).into_owned()] {
                prop_assert!(!shown.contains(is_harmful), "{shown:?}");
            }
            let json = serde_json::json!({ "text": untrusted, text.clone(): [text.clone()] });
            let shown = lines(&format!("{json:#}\n")).into_owned();
            prop_assert!(!shown.contains(|c| c != '\n' && is_harmful(c)), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), json);
            prop_assert_eq!(lines(&shown), shown.as_str());
        }
    }
}
