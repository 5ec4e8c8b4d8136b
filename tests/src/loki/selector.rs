//! Labels as text: `{app="cart", level="info"}`.

use std::iter::Peekable;
use std::str::Chars;

/// The labels of a stream, sorted; what is wrong with the text.
pub(super) fn parse(text: &str) -> Result<Vec<(String, String)>, String> {
    let mut parser = Parser { rest: text.chars().peekable() };
    let mut labels = parser.labels()?;
    labels.sort();
    Ok(labels)
}

struct Parser<'t> {
    rest: Peekable<Chars<'t>>,
}

impl Parser<'_> {
    fn labels(&mut self) -> Result<Vec<(String, String)>, String> {
        let mut labels = Vec::new();
        self.expect('{')?;
        while self.peek() != Some('}') {
            let name = self.name()?;
            self.expect('=')?;
            self.expect('"')?;
            labels.push((name, self.value()?));
            if self.peek() != Some('}') {
                self.expect(',')?;
            }
        }
        self.expect('}')?;
        match self.peek() {
            None => Ok(labels),
            Some(more) => Err(format!("unexpected {more:?} behind the labels")),
        }
    }

    fn peek(&mut self) -> Option<char> {
        while self.rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        self.rest.peek().copied()
    }

    fn expect(&mut self, wanted: char) -> Result<(), String> {
        match self.peek() {
            Some(found) if found == wanted => {
                self.rest.next();
                Ok(())
            }
            found => Err(format!("unexpected {found:?}, expecting {wanted:?}")),
        }
    }

    fn name(&mut self) -> Result<String, String> {
        self.peek();
        let mut name = String::new();
        while let Some(c) = self.rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
            name.push(c);
        }
        if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(format!("unexpected {:?}, expecting the name of a label", self.rest.peek()));
        }
        Ok(name)
    }

    /// What stands before the closing quote.
    fn value(&mut self) -> Result<String, String> {
        let mut value = Vec::new();
        loop {
            match self.rest.next() {
                None | Some('\n') => return Err("unterminated quoted string".into()),
                Some(char::REPLACEMENT_CHARACTER) => return Err("invalid UTF-8 rune".into()),
                Some('"') => return String::from_utf8(value).map_err(|_| "a value is not UTF-8".into()),
                Some('\\') => self.escape(&mut value)?,
                Some(c) => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }

    /// What stands behind a backslash, as in Go.
    fn escape(&mut self, value: &mut Vec<u8>) -> Result<(), String> {
        let escape = self.rest.next();
        let digits = match escape {
            Some('x') => 2,
            Some('u') => 4,
            Some('U') => 8,
            _ => 0,
        };
        let byte = match escape {
            Some('a') => 0x07,
            Some('b') => 0x08,
            Some('f') => 0x0c,
            Some('n') => b'\n',
            Some('r') => b'\r',
            Some('t') => b'\t',
            Some('v') => 0x0b,
            Some('\\') => b'\\',
            Some('"') => b'"',
            _ if digits > 0 => return self.number(digits, value),
            other => return Err(format!("unknown escape sequence {other:?}")),
        };
        value.push(byte);
        Ok(())
    }

    fn number(&mut self, digits: usize, value: &mut Vec<u8>) -> Result<(), String> {
        let text: String = self.rest.by_ref().take(digits).collect();
        let wrong = || format!("invalid escape of {text:?}");
        let number = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits).ok_or_else(wrong)?;
        if let (2, Ok(byte)) = (digits, u8::try_from(number)) {
            value.push(byte);
            return Ok(());
        }
        let c = char::from_u32(number).ok_or_else(wrong)?;
        value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn labels_are_read_and_sorted() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(parse(r#"{b="2", a="1"}"#), Ok(vec![pair("a", "1"), pair("b", "2")]));
        assert_eq!(parse(r#" { a = "x y" , } "#), Ok(vec![pair("a", "x y")]));
        assert_eq!(parse("{}"), Ok(vec![]));
        let escaped = r#"{a="q\" b\\ n\n é\u00e9\xc3\xa9\U0001f600"}"#;
        assert_eq!(parse(escaped), Ok(vec![pair("a", "q\" b\\ n\n ééé😀")]));
    }

    #[test]
    fn what_is_no_label_is_refused() {
        for wrong in [
            "",
            "a=\"b\"",
            "{a=\"b\"",
            "{a=b}",
            "{1a=\"b\"}",
            "{a.b=\"c\"}",
            "{a=\"b\"}}",
            "{a=\"b\" c=\"d\"}",
            "{a=\"\n\"}",
            r#"{a="\q"}"#,
            r#"{a="\xff"}"#,
            r#"{a="\u12"}"#,
            "{a=\"\u{fffd}\"}",
        ] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
