//! Severities, as loggers write them.

use crate::files::json::{Entries, Value};

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::files) struct Severity<'a> {
    /// `SeverityNumber` of OpenTelemetry: 1 to 24.
    pub(in crate::files) number: u8,
    /// As the line spells it.
    pub(in crate::files) text: &'a [u8],
}

/// Keys of JSON under which loggers write it, whatever their case.
const KEYS: [&[u8]; 8] =
    [b"level", b"severity", b"lvl", b"log.level", b"loglevel", b"levelname", b"severity_text", b"@level"];
/// Keys of logfmt, with what follows them.
const LOGFMT_KEYS: [&[u8]; 3] = [b"level=", b"lvl=", b"severity="];

/// Bytes at the beginning of a text in which a severity may stand.
const PREFIX: usize = 160;
/// Words before it at most: date, time, thread, logger, process id.
const WORDS: usize = 8;

/// The severity of a line.
pub(super) fn of(line: &[u8]) -> Option<Severity<'_>> {
    let line = line.trim_ascii_start();
    match line.first()? {
        b'{' => of_json(line),
        _ => of_logfmt(line).or_else(|| of_prefix(line)),
    }
}

fn of_json(line: &[u8]) -> Option<Severity<'_>> {
    let is_key = |key: &[u8]| KEYS.iter().any(|known| key.eq_ignore_ascii_case(known));
    let (_, value) = Entries::new(line).find(|(key, _)| is_key(key))?;
    match value {
        Value::Text(text) => word(text),
        Value::Other(text) => number(text),
    }
}

/// Levels as pino and bunyan number them.
fn number(text: &[u8]) -> Option<Severity<'_>> {
    let number = match text {
        b"10" => 1,
        b"20" => 5,
        b"30" => 9,
        b"40" => 13,
        b"50" => 17,
        b"60" => 21,
        _ => return None,
    };
    Some(Severity { number, text })
}

fn of_logfmt(line: &[u8]) -> Option<Severity<'_>> {
    let mut from = 0;
    while let Some(at) = line.get(from..).and_then(|rest| memchr::memchr(b'=', rest)) {
        let at = from + at;
        from = at + 1;
        let Some(key) = LOGFMT_KEYS.iter().find(|key| line[..=at].ends_with(key)) else { continue };
        let start = at + 1 - key.len();
        if start > 0 && !matches!(line[start - 1], b' ' | b'\t') {
            continue;
        }
        let value = line[from..].strip_prefix(b"\"").unwrap_or(&line[from..]);
        let end = value.iter().position(|byte| !byte.is_ascii_alphanumeric()).unwrap_or(value.len());
        return word(&value[..end]);
    }
    None
}

fn of_prefix(line: &[u8]) -> Option<Severity<'_>> {
    klog(line).or_else(|| {
        let head = &line[..line.len().min(PREFIX)];
        let mut after_dash = false;
        for token in
            head.split(|byte| matches!(byte, b' ' | b'\t' | b'|')).filter(|token| !token.is_empty()).take(WORDS)
        {
            if let Some(severity) = token_severity(token) {
                return Some(severity);
            }
            let is_name = token.iter().all(u8::is_ascii_alphabetic) && token.iter().any(u8::is_ascii_lowercase);
            // Prose begins: what a word in it means is anybody's guess. A name may stand between dashes.
            if is_name && !after_dash {
                return None;
            }
            after_dash = token == b"-";
        }
        None
    })
}

/// `I0102 15:04:05.000000`: what Kubernetes' own programs write.
fn klog(line: &[u8]) -> Option<Severity<'_>> {
    let number = match line.first()? {
        b'I' => 9,
        b'W' => 13,
        b'E' => 17,
        b'F' => 21,
        _ => return None,
    };
    let digits = line.get(1..5)?.iter().all(u8::is_ascii_digit);
    (digits && line.get(5) == Some(&b' ')).then_some(Severity { number, text: &line[..1] })
}

/// `INFO`, `[info]`, `<Error>`, `warning:`, `WARNING:root:text`; not a bare `info`, which may be a word of a sentence.
fn token_severity(token: &[u8]) -> Option<Severity<'_>> {
    let bare = token.strip_prefix(b"[").or_else(|| token.strip_prefix(b"(")).or_else(|| token.strip_prefix(b"<"));
    let text = bare.unwrap_or(token);
    let end = text.iter().position(|byte| !byte.is_ascii_alphabetic()).unwrap_or(text.len());
    let (text, rest) = text.split_at(end);
    let marked = match rest.first() {
        None => bare.is_some() || text.iter().all(u8::is_ascii_uppercase),
        Some(b']' | b')' | b'>') => bare.is_some(),
        Some(b':') => true,
        Some(b',' | b';') => text.iter().all(u8::is_ascii_uppercase),
        Some(_) => false,
    };
    marked.then(|| word(text)).flatten()
}

/// What a word means, in whatever case.
fn word(text: &[u8]) -> Option<Severity<'_>> {
    const LONGEST: usize = "informational".len();
    if text.len() > LONGEST {
        return None;
    }
    let mut lower = [0; LONGEST];
    let lower = &mut lower[..text.len()];
    lower.copy_from_slice(text);
    lower.make_ascii_lowercase();
    let number = match &*lower {
        b"trace" | b"trc" | b"finest" | b"finer" => 1,
        b"debug" | b"dbg" | b"debu" | b"fine" | b"verbose" => 5,
        b"info" | b"inf" | b"information" | b"informational" | b"config" => 9,
        b"notice" => 10,
        b"warn" | b"warning" | b"wrn" => 13,
        b"error" | b"err" | b"eror" | b"severe" => 17,
        b"critical" | b"crit" => 18,
        b"alert" => 19,
        b"fatal" | b"ftl" | b"panic" | b"dpanic" | b"emerg" | b"emergency" => 21,
        _ => return None,
    };
    Some(Severity { number, text })
}
