//! The top level of a JSON object, without building anything.

use memchr::memchr2;

/// A value at the top level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    /// A string as it stands between its quotes, escapes and all.
    Text(&'a [u8]),
    /// Anything else, as it stands.
    Other(&'a [u8]),
}

/// The entries of the object with which bytes begin: keys as they stand between their quotes, and values. Ends at the
/// object's end or at the first thing that is no JSON.
#[derive(Clone, Debug)]
pub(super) struct Entries<'a> {
    rest: &'a [u8],
    /// What must stand before the next key.
    before: u8,
    closed: bool,
}

impl<'a> Entries<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, before: b'{', closed: false }
    }

    /// Whether the object has been read to its closing brace.
    pub(super) fn closed(&self) -> bool {
        self.closed
    }

    fn advance(&mut self) -> Option<(&'a [u8], Value<'a>)> {
        self.skip_space();
        if self.before == b',' && self.rest.first() == Some(&b'}') {
            self.closed = true;
            return None;
        }
        self.expect(self.before)?;
        if self.before == b'{' && self.rest.first() == Some(&b'}') {
            self.closed = true;
            return None;
        }
        self.before = b',';
        let key = self.string()?;
        self.expect(b':')?;
        let value = match self.rest.first()? {
            b'"' => Value::Text(self.string()?),
            b'{' | b'[' => Value::Other(self.nested()?),
            _ => Value::Other(self.plain()?),
        };
        Some((key, value))
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(&[byte])?;
        self.skip_space();
        Some(())
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(length);
        self.rest = rest;
        taken
    }

    fn string(&mut self) -> Option<&'a [u8]> {
        let text = self.rest.strip_prefix(b"\"")?;
        let end = end_of_string(text)?;
        self.rest = &text[end + 1..];
        Some(&text[..end])
    }

    /// An object or a list, whatever is in it, as far as its brackets match in number.
    fn nested(&mut self) -> Option<&'a [u8]> {
        let (mut depth, mut at) = (0_usize, 0);
        loop {
            match self.rest.get(at)? {
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                b'"' => at += 1 + end_of_string(&self.rest[at + 1..])?,
                _ => {}
            }
            at += 1;
            if depth == 0 {
                return Some(self.take(at));
            }
        }
    }

    fn plain(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| matches!(byte, b',' | b'}' | b' ' | b'\t' | b'\n' | b'\r'))?;
        (end > 0).then(|| self.take(end))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = (&'a [u8], Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let entry = self.advance();
        if entry.is_none() {
            self.rest = &[];
        }
        entry
    }
}

/// Where the quote stands that ends a string.
#[inline]
fn end_of_string(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', text.get(at..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Appends a string with its escapes resolved. Escapes that mean nothing become U+FFFD.
pub(super) fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = memchr::memchr(b'\\', text) {
        out.extend_from_slice(&text[..at]);
        text = &text[at + 1..];
        let plain = match text.first() {
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b'r') => b'\r',
            Some(b'b') => 0x08,
            Some(b'f') => 0x0c,
            Some(&byte @ (b'"' | b'\\' | b'/')) => byte,
            Some(b'u') => {
                let (character, length) = unicode(text);
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                text = &text[length..];
                continue;
            }
            _ => {
                out.extend_from_slice("\u{fffd}".as_bytes());
                continue;
            }
        };
        out.push(plain);
        text = &text[1..];
    }
    out.extend_from_slice(text);
}

/// The character that `uXXXX` or `uXXXX\uXXXX` stands for, and the bytes that it takes.
fn unicode(text: &[u8]) -> (char, usize) {
    let unit = |at: usize| {
        let digits = text.get(at..at + 4)?;
        digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
    };
    let Some(first) = unit(1) else { return (char::REPLACEMENT_CHARACTER, 1) };
    if let (0xd800..0xdc00, Some(b"\\u"), Some(second @ 0xdc00..0xe000)) = (first, text.get(5..7), unit(7)) {
        let code = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
        return (char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER), 11);
    }
    (char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER), 5)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> (Vec<(String, String)>, bool) {
        let mut entries = Entries::new(text.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let mut found = Vec::new();
        for (key, value) in entries.by_ref() {
            found.push((
                text(key),
                text(match value {
                    Value::Text(raw) | Value::Other(raw) => raw,
                }),
            ));
        }
        (found, entries.closed())
    }

    #[test]
    fn the_top_level_is_seen_and_what_is_nested_is_passed_over() {
        let (found, closed) = entries(r#" { "a" : "x\"y" ,"b":{"level":["}"]},"c":-1.5e3, "d":null} rest"#);
        let expected = [("a", r#"x\"y"#), ("b", r#"{"level":["}"]}"#), ("c", "-1.5e3"), ("d", "null")];
        assert_eq!(found, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert!(closed);
        assert_eq!(entries("{}"), (vec![], true));
    }

    #[test]
    fn what_is_cut_off_ends_there_unclosed() {
        for text in ["", "{", r#"{"a":1,"#, r#"{"a":1,"b"#, r#"{"a":1,"b":"x"#, r#"{"a":1,"b":{"#, r#"{"a":1 "b":2}"#] {
            let (found, closed) = entries(text);
            assert!(found.len() <= 1 && !closed, "{text}");
        }
    }

    #[test]
    fn broken_escapes_become_replacement_characters() {
        let of = |text: &str| {
            let mut out = Vec::new();
            unescape(text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(of(r"a\u00e4\ud83d\ude00\n"), "aä😀\n");
        assert_eq!(of(r"\ud83d!"), "\u{fffd}!");
        assert_eq!(of(r"\u12"), "\u{fffd}12");
        assert_eq!(of(r"\x"), "\u{fffd}x");
        assert_eq!(of("end\\"), "end\u{fffd}");
    }

    proptest! {
        #[test]
        fn strings_come_back_as_serde_wrote_them(text in any::<String>(), key in "[a-z]{1,8}") {
            let json = serde_json::to_string(&serde_json::json!({ &key: text })).unwrap();
            let mut entries = Entries::new(json.as_bytes());
            let Some((found, Value::Text(raw))) = entries.next() else { panic!("{json}") };
            let mut out = Vec::new();
            unescape(raw, &mut out);
            prop_assert_eq!((found, String::from_utf8(out).unwrap()), (key.as_bytes(), text));
            prop_assert!(entries.next().is_none() && entries.closed());
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'{'), Just(b'"'), Just(b'\\')], 0..80)) {
            Entries::new(&bytes).for_each(drop);
            unescape(&bytes, &mut Vec::new());
        }
    }
}
