//! Label values as Go quotes texts, which is how Loki reads a stream's labels.

use std::fmt::Write as _;

/// Appends a text in quotes, as Go's `strconv.Quote` writes it.
///
/// What is not printable is escaped, and so is the replacement character, which Loki's reader takes for broken UTF-8.
pub(super) fn quote(out: &mut String, text: &str) {
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            ' '..='~' => out.push(character),
            // Writing to a string cannot fail.
            '\0'..='\u{7f}' => drop(write!(out, "\\x{:02x}", u32::from(character))),
            _ if is_printable(character) => out.push(character),
            '\u{80}'..='\u{ffff}' => drop(write!(out, "\\u{:04x}", u32::from(character))),
            _ => drop(write!(out, "\\U{:08x}", u32::from(character))),
        }
    }
    out.push('"');
}

fn is_printable(character: char) -> bool {
    character != char::REPLACEMENT_CHARACTER && character.escape_debug().len() == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_go_does() {
        for (text, quoted) in [
            ("", r#""""#),
            ("plain value", r#""plain value""#),
            ("say \"hi\" \\ there", r#""say \"hi\" \\ there""#),
            ("\u{7}\u{8}\u{c}\n\r\t\u{b}", r#""\a\b\f\n\r\t\v""#),
            ("\0\u{1}\u{7f}\u{1b}", r#""\x00\x01\x7f\x1b""#),
            ("zürich 東京 ☺ 😀", r#""zürich 東京 ☺ 😀""#),
            ("a\u{a0}b\u{200b}c\u{2028}", r#""a\u00a0b\u200bc\u2028""#),
            ("\u{feff}\u{fffd}\u{e000}", r#""\ufeff\ufffd\ue000""#),
            ("\u{10ffff}", r#""\U0010ffff""#),
            ("it's `fine` {x=\"y\"}", r#""it's `fine` {x=\"y\"}""#),
        ] {
            let mut out = String::new();
            quote(&mut out, text);
            assert_eq!(out, quoted, "{text:?}");
        }
    }
}
