//! Finding what must not be read, and masking it.

mod card;

use std::borrow::Cow;
use std::ops::Range;

use regex::{Captures, Regex};

use sha2::{Digest as _, Sha256};

use super::config::{Action, InvalidAttributes, RedactConfig};

/// Patterns, and how often each has matched.
#[derive(Debug, Default)]
pub(super) struct Redactor {
    patterns: Vec<Pattern>,
}

#[derive(Debug)]
struct Pattern {
    name: String,
    replacement: Replacement,
    kind: Kind,
    matches: u64,
}

/// What takes the place of a match.
#[derive(Debug)]
enum Replacement {
    Mask(String),
    /// Name of the pattern, and what is hashed before the match.
    Hash(String, Sha256),
}

impl Replacement {
    fn of(&self, found: &str) -> Cow<'_, str> {
        match self {
            Self::Mask(mask) => Cow::Borrowed(mask),
            Self::Hash(name, secret) => {
                let digest = secret.clone().chain_update(found).finalize();
                let hex: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
                Cow::Owned(format!("[{name}:{hex}]"))
            }
        }
    }

    /// Whether a text is one, and so nothing to be replaced.
    fn is_one(&self, text: &str) -> bool {
        match self {
            Self::Mask(mask) => text == mask,
            Self::Hash(name, _) => {
                let hash = text.strip_prefix('[').and_then(|rest| rest.strip_prefix(&**name)?.strip_suffix(']'));
                let hex = hash.and_then(|rest| rest.strip_prefix(':'));
                hex.is_some_and(|hex| hex.len() == 16 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()))
            }
        }
    }
}

#[derive(Debug)]
enum Kind {
    Email(Regex),
    Card,
    Bearer([Regex; 2]),
    Own(Regex),
}

/// Any alphabet; a name, or a user and a password before a host too.
const EMAIL: &str = r"[\w.%+-]+@(?:[\w-]+\.)+\p{L}{2,}";
/// A token as RFC 6750 spells it. A word of letters only, fewer than 16, is prose: `bearer authentication failed.`
const BEARER: &str = r"(?ix) (?-u:\b) bearer [\x20\t]+
    (?P<secret> [a-z]* (?: [0-9_~+/=-] | \.+ [a-z0-9_~+/=-] ) [a-z0-9._~+/=-]* | [a-z]{16,} )";
/// A header within a text, with quotes that may be escaped.
const AUTHORIZATION: &str = r#"(?i)(?-u:\b)authorization[\\"']*\s*[:=]\s*[\\"']*(?:basic|negotiate|ntlm|token|apikey)\s+(?P<secret>[^\s"',;\\\[]+)"#;
impl Redactor {
    pub(super) fn new(config: &RedactConfig) -> Result<Self, InvalidAttributes> {
        let mut patterns: Vec<Pattern> = Vec::new();
        for (at, pattern) in config.patterns.iter().enumerate() {
            let name = &pattern.name;
            let fault = |reason| Err(InvalidAttributes::Pattern { at, name: name.clone(), reason });
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
                return fault("which is no name of a pattern: letters, digits, `_`, `-` and `.`");
            }
            if patterns.iter().any(|earlier| earlier.name == *name) {
                return fault("which stands in the list already; name every pattern once");
            }
            let kind = match (&**name, &pattern.regex) {
                ("email" | "card" | "bearer", Some(_)) => {
                    return fault("which needs no `regex`; remove that, or take another name");
                }
                ("email", None) => Kind::Email(compile(at, EMAIL)?),
                ("card", None) => Kind::Card,
                ("bearer", None) => Kind::Bearer([compile(at, BEARER)?, compile(at, AUTHORIZATION)?]),
                (_, Some(regex)) => Kind::Own(compile(at, regex)?),
                (_, None) => return fault("which needs a `regex`; without one there are `email`, `card` and `bearer`"),
            };
            let replacement = match pattern.action {
                Action::Mask => Replacement::Mask(format!("[redacted:{name}]")),
                Action::Hash if config.secret.is_empty() => return Err(InvalidAttributes::NoSecret { at }),
                // A byte that no secret has, so that no two pairs are hashed alike.
                Action::Hash => {
                    let secret = Sha256::new().chain_update(&config.secret).chain_update([0xff]);
                    Replacement::Hash(name.clone(), secret)
                }
            };
            patterns.push(Pattern { name: name.clone(), replacement, kind, matches: 0 });
        }
        Ok(Self { patterns })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// Patterns by name with the number of their matches so far.
    pub(super) fn matches(&self) -> impl Iterator<Item = (&str, u64)> {
        self.patterns.iter().map(|pattern| (&*pattern.name, pattern.matches))
    }

    /// The text without what matches; none if nothing does. A `credential` is one as a whole.
    pub(super) fn redact(&mut self, text: &str, credential: bool) -> Option<String> {
        let mut redacted = Cow::Borrowed(text);
        for pattern in &mut self.patterns {
            if let Some(masked) = pattern.redact(&redacted, credential) {
                redacted = Cow::Owned(masked);
            }
        }
        match redacted {
            Cow::Owned(masked) if masked != text => Some(masked),
            _ => None,
        }
    }
}

/// Whether the value of an attribute of that name is a credential as a whole.
pub(super) fn is_credential(key: &[u8]) -> bool {
    let name = key.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    let names: [&[u8]; 3] = [b"authorization", b"proxy-authorization", b"proxy_authorization"];
    names.iter().any(|known| name.eq_ignore_ascii_case(known))
}

impl Pattern {
    fn redact(&mut self, text: &str, credential: bool) -> Option<String> {
        let (mask, matches) = (&self.replacement, &mut self.matches);
        match &self.kind {
            Kind::Email(regex) => {
                memchr::memchr(b'@', text.as_bytes())?;
                replace(text, captured(regex, text), mask, matches)
            }
            Kind::Card => card::has_digits(text).then(|| replace(text, card::find(text), mask, matches))?,
            Kind::Bearer(_) if credential => replace(text, std::iter::once(0..text.len()), mask, matches),
            Kind::Bearer([bearer, authorization]) => {
                let tokens = has_word(text, b"bearer", 0).then(|| replace(text, captured(bearer, text), mask, matches));
                let masked = tokens.flatten();
                let text = masked.as_deref().unwrap_or(text);
                // The rarest of its letters leads to the word soonest.
                let found = has_word(text, b"authorization", 7)
                    .then(|| replace(text, captured(authorization, text), mask, matches));
                found.flatten().or(masked)
            }
            Kind::Own(regex) => replace(text, captured(regex, text), mask, matches),
        }
    }
}

/// Whether a word of any case occurs, looked for by its letter at `rare`.
fn has_word(text: &str, word: &[u8], rare: usize) -> bool {
    let (text, letter) = (text.as_bytes(), word[rare]);
    memchr::memchr2_iter(letter, letter.to_ascii_uppercase(), text).any(|at| {
        let start = at.checked_sub(rare);
        let found = start.and_then(|start| text.get(start..start + word.len()));
        found.is_some_and(|found| found.eq_ignore_ascii_case(word))
    })
}

/// What is to be masked of each match: its group `secret`, or all of it.
fn captured(regex: &Regex, text: &str) -> impl Iterator<Item = Range<usize>> {
    let secret =
        |captures: Captures<'_>| captures.name("secret").or_else(|| captures.get(0)).map(|found| found.range());
    regex.captures_iter(text).filter_map(secret)
}

/// The text with a mask in each place that `found` names, by rising position; none if none is left to be masked.
fn replace(
    text: &str,
    found: impl Iterator<Item = Range<usize>>,
    mask: &Replacement,
    matches: &mut u64,
) -> Option<String> {
    let mut masked = String::new();
    let mut copied = 0;
    for at in found.filter(|at| !at.is_empty() && !mask.is_one(&text[at.clone()])) {
        masked.push_str(&text[copied..at.start]);
        masked.push_str(&mask.of(&text[at.clone()]));
        copied = at.end;
        *matches += 1;
    }
    if copied == 0 {
        return None;
    }
    masked.push_str(&text[copied..]);
    Some(masked)
}

fn compile(at: usize, regex: &str) -> Result<Regex, InvalidAttributes> {
    let fault = |reason| InvalidAttributes::Regex { at, regex: regex.into(), reason };
    let compiled = Regex::new(regex).map_err(|error| fault(reason(&error.to_string())))?;
    if compiled.is_match("") {
        return Err(fault("it matches nothing at all, and so would match everywhere".into()));
    }
    Ok(compiled)
}

/// The library's error in one line: it writes the expression, a caret below the place, and `error:`.
fn reason(error: &str) -> String {
    let caret = error.lines().find_map(|line| {
        let below = line.strip_prefix("    ")?;
        let only = below.bytes().all(|byte| matches!(byte, b' ' | b'^'));
        below.find('^').filter(|_| only)
    });
    let what = error.lines().find_map(|line| line.strip_prefix("error: ")).unwrap_or(error);
    let what = what.lines().next().unwrap_or_default().to_lowercase();
    caret.map_or_else(|| what.clone(), |before| format!("{what}, at character {}", before + 1))
}

#[cfg(test)]
mod tests;
