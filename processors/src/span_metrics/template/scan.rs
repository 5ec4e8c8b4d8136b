//! One pass over a name.

use super::sql;
use super::word::{self, Found};

/// Greatest number of bytes of an IPv6 address as text.
const IPV6_MAX: usize = 45;

/// A name that is read from left to right, and what it becomes.
pub(super) struct Scan<'a> {
    pub(super) name: &'a str,
    pub(super) bytes: &'a [u8],
    /// What is to be read next; all before it stands folded in `out`.
    pub(super) at: usize,
    pub(super) out: String,
    sql: bool,
}

impl<'a> Scan<'a> {
    pub(super) fn new(name: &'a str, sql: bool) -> Self {
        Self { name, bytes: name.as_bytes(), at: 0, out: String::with_capacity(name.len()), sql }
    }

    pub(super) fn fold(mut self) -> String {
        while let Some(&byte) = self.bytes.get(self.at) {
            if self.sql && sql::punctuation(&mut self, byte) {
                continue;
            }
            match byte {
                b'%' if self.is_percent_encoded() => self.keep(3),
                _ if self.email() || self.ipv6() => {}
                b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => self.word(),
                _ => self.keep(self.char_len()),
            }
        }
        self.out
    }

    /// Copies that many bytes.
    pub(super) fn keep(&mut self, len: usize) {
        let end = (self.at + len).min(self.bytes.len());
        self.out.push_str(&self.name[self.at..end]);
        self.at = end;
    }

    /// Reads over that many bytes, and writes the placeholder; without braces where it stands in braces already.
    pub(super) fn replace(&mut self, len: usize, placeholder: &str) {
        self.at += len;
        let inner = placeholder.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
        match inner {
            Some(inner) if self.out.ends_with('{') && self.bytes.get(self.at) == Some(&b'}') => {
                self.out.push_str(inner)
            }
            _ => self.out.push_str(placeholder),
        }
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The byte before the one to be read.
    pub(super) fn before(&self) -> Option<u8> {
        self.at.checked_sub(1).map(|at| self.bytes[at])
    }

    fn char_len(&self) -> usize {
        self.name[self.at..].chars().next().map_or(1, char::len_utf8)
    }

    fn is_percent_encoded(&self) -> bool {
        matches!(self.rest(), [_, high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    }

    /// Tried once per run of characters that a local part may have.
    fn email(&mut self) -> bool {
        let is_local = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-');
        if !is_local(self.bytes[self.at]) || self.before().is_some_and(is_local) {
            return false;
        }
        let local = word::run(self.rest(), is_local);
        if self.rest().get(local) != Some(&b'@') {
            return false;
        }
        let Some(domain) = word::domain(&self.rest()[local + 1..]) else { return false };
        self.replace(local + 1 + domain, "{email}");
        true
    }

    fn ipv6(&mut self) -> bool {
        let first = self.bytes[self.at];
        let joined = self.before().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b':');
        if joined || !(first.is_ascii_hexdigit() || first == b':') {
            return false;
        }
        let near = &self.rest()[..self.rest().len().min(IPV6_MAX + 1)];
        let len = word::run(near, |byte| byte.is_ascii_hexdigit() || matches!(byte, b':' | b'.'));
        let text = &self.name[self.at..self.at + len];
        let whole = self.rest().get(len).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        let has_digit = text.bytes().any(|byte| byte.is_ascii_digit());
        if !whole || !has_digit || !text.contains("::") && text.matches(':').count() != 7 {
            return false;
        }
        if text.parse::<std::net::Ipv6Addr>().is_err() {
            return false;
        }
        self.replace(len, "{ip}");
        true
    }

    fn word(&mut self) {
        let starts_token = self.before().is_none_or(|byte| !word::is_token(byte));
        let (len, found) = word::at(self.rest(), starts_token, &self.out);
        // As in `1e9`; no identifier begins with a digit.
        let is_number = self.sql && self.bytes[self.at].is_ascii_digit();
        match found {
            Found::Kept | Found::Placeholder("{hex}") if is_number => sql::number(self, len),
            Found::Kept => self.keep(len),
            Found::Number if self.sql => sql::number(self, len),
            Found::Number => self.replace(len, "{id}"),
            Found::Placeholder(placeholder) => self.replace(len, placeholder),
            Found::Suffix(words) => {
                self.keep(words);
                self.replace(len - words, "{id}");
            }
        }
    }
}
