//! Trace and span ids, under the keys by which loggers write them.

use memchr::memmem;

/// The trace id under `trace_id`, `traceId`, `trace.id`, `trace-id`, `traceid` or in a `traceparent`, 32 hex digits.
pub(super) fn trace_id(line: &[u8]) -> Option<[u8; 16]> {
    find(line, b"race", b"tT", |rest| {
        let (rest, parent) = match strip_ignoring_case(rest, b"parent") {
            Some(rest) => (rest, true),
            None => (strip_id(rest)?, false),
        };
        let value = value(rest)?;
        hex(if parent { value.strip_prefix(b"00-")? } else { value })
    })
}

/// The span id under the like names, 16 hex digits, or the second id of a `traceparent`.
pub(super) fn span_id(line: &[u8]) -> Option<[u8; 8]> {
    let under_key = find(line, b"pan", b"sS", |rest| hex(value(strip_id(rest)?)?));
    under_key.or_else(|| {
        find(line, b"race", b"tT", |rest| {
            let value = value(strip_ignoring_case(rest, b"parent")?)?;
            hex(value.strip_prefix(b"00-")?.get(33..)?)
        })
    })
}

/// What `read` makes of what follows the first occurrence of a word of which it makes something. The word's first
/// letter is one of two; it stands at the beginning of a key.
fn find<T>(line: &[u8], word: &[u8], first: &[u8; 2], read: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut from = 1;
    while let Some(at) = line.get(from..).and_then(|rest| memmem::find(rest, word)) {
        let at = from + at;
        from = at + word.len();
        let starts = first.contains(&line[at - 1]) && (at < 2 || !line[at - 2].is_ascii_alphanumeric());
        if let Some(found) = starts.then(|| read(&line[from..])).flatten() {
            return Some(found);
        }
    }
    None
}

fn strip_ignoring_case<'a>(text: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// Strips `_id`, `Id`, `.id` and the like.
fn strip_id(text: &[u8]) -> Option<&[u8]> {
    let text = match text.first()? {
        b'_' | b'.' | b'-' => &text[1..],
        _ => text,
    };
    strip_ignoring_case(text, b"id")
}

/// What stands behind the end of a key: `"key": "VALUE`, `key=VALUE`, `key: VALUE`.
fn value(rest: &[u8]) -> Option<&[u8]> {
    // JSON within a JSON string has its quotes escaped.
    let skip = |rest: &mut &[u8], bytes: &[u8]| {
        let length = rest.iter().take_while(|byte| bytes.contains(byte)).count();
        *rest = &rest[length..];
        length
    };
    let mut rest = rest;
    skip(&mut rest, b"\\\"' ");
    if skip(&mut rest, b":=") == 0 {
        return None;
    }
    skip(&mut rest, b"\\\"' ");
    Some(rest)
}

/// An id of exactly so many digits that is not all zeros.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let (digits, rest) = text.split_at_checked(2 * N)?;
    if rest.first().is_some_and(u8::is_ascii_alphanumeric) {
        return None;
    }
    let id = afflux_schemas::hex::decode(std::str::from_utf8(digits).ok()?)?;
    (id != [0; N]).then_some(id)
}
