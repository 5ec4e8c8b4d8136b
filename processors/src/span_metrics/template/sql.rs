//! Statements of SQL: literals become `?`, comments go.

use super::scan::Scan;

/// Digits within a quoted name from which on it is taken for a literal.
const NAME_DIGITS: usize = 5;

/// Whether a name is a statement. It is told by its first words, which folding leaves as they are.
pub(super) fn is_statement(name: &str) -> bool {
    let (first, rest) = split_word(name.trim_start());
    let is = |word: &str, wanted: &[&str]| wanted.iter().any(|wanted| word.eq_ignore_ascii_case(wanted));
    if rest.is_empty() {
        return false;
    }
    if is(first, &["SELECT", "UPDATE", "WITH"]) {
        return true;
    }
    // DELETE is a method of HTTP too.
    let (second, rest) = split_word(rest.trim_start());
    !rest.is_empty()
        && (is(first, &["DELETE"]) && is(second, &["FROM"])
            || is(first, &["INSERT", "MERGE", "REPLACE"]) && is(second, &["INTO"]))
}

fn split_word(text: &str) -> (&str, &str) {
    text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()))
}

/// Reads a quote, a comment, a placeholder or a closing parenthesis, if that is what comes.
pub(super) fn punctuation(scan: &mut Scan<'_>, byte: u8) -> bool {
    match (byte, scan.rest().get(1)) {
        (b'\'', _) => {
            let len = quoted(scan.rest());
            literal(scan, len);
        }
        (b'"' | b'`', _) => name_or_literal(scan),
        (b'/', Some(b'*')) => {
            let end = find(&scan.rest()[2..], b"*/").map_or(scan.rest().len(), |at| at + 4);
            comment(scan, end);
        }
        (b'-', Some(b'-')) => {
            let end = find(scan.rest(), b"\n").unwrap_or(scan.rest().len());
            comment(scan, end);
        }
        (b'?', _) => literal(scan, 1),
        (b')', _) => {
            scan.keep(1);
            join_tuples(&mut scan.out);
        }
        _ => return false,
    }
    true
}

/// A number, `len` bytes long. `$1` and `:1` are placeholders already, and `orders_2024` is a name.
pub(super) fn number(scan: &mut Scan<'_>, len: usize) {
    match scan.before() {
        Some(b'$' | b':' | b'@') if len <= 3 => scan.keep(len),
        Some(b'_') => scan.replace(len, "{id}"),
        _ => literal(scan, len),
    }
}

/// Writes `?`, once for a whole list.
fn literal(scan: &mut Scan<'_>, len: usize) {
    scan.at += len;
    let before = scan.out.trim_end().strip_suffix(',').map(str::trim_end);
    match before.filter(|before| before.ends_with('?')).map(str::len) {
        Some(before) => scan.out.truncate(before),
        None => scan.out.push('?'),
    }
}

/// `(?), (?)` becomes `(?)`.
fn join_tuples(out: &mut String) {
    let before = out.strip_suffix("(?)").and_then(|before| before.trim_end().strip_suffix(',')).map(str::trim_end);
    if let Some(before) = before.filter(|before| before.ends_with("(?)")).map(str::len) {
        out.truncate(before);
    }
}

fn comment(scan: &mut Scan<'_>, len: usize) {
    scan.at += len;
    if scan.at == scan.bytes.len() {
        scan.out.truncate(scan.out.trim_end().len());
    } else if !scan.out.ends_with(char::is_whitespace) {
        scan.out.push(' ');
    }
}

/// Length of what the first byte quotes. A doubled quote, and one behind a backslash, is within.
fn quoted(rest: &[u8]) -> usize {
    let quote = rest[0];
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        at += match byte {
            b'\\' => 2,
            _ if byte != quote => 1,
            _ if rest.get(at + 1) == Some(&quote) => 2,
            _ => return at + 1,
        };
    }
    rest.len()
}

/// Double quotes and backticks quote names, and in MySQL, the former quote literals: after a comparison, with no dot
/// behind, or with what names do not have.
fn name_or_literal(scan: &mut Scan<'_>) {
    let len = quoted(scan.rest());
    let closed = len > 2 && scan.rest()[len - 1] == scan.rest()[0];
    let inner = &scan.rest()[1..len.max(2) - 1];
    let named = inner.first().is_some_and(|first| !first.is_ascii_digit())
        && inner.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$'))
        && inner.iter().filter(|byte| byte.is_ascii_digit()).count() < NAME_DIGITS;
    let compared = scan.bytes[scan.at] == b'"'
        && scan.out.trim_end().ends_with(['=', '<', '>'])
        && scan.rest().get(len) != Some(&b'.');
    if closed && named && !compared { scan.keep(len) } else { literal(scan, len) }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
