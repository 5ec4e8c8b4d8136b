//! Templates of span names: ids, hashes and numbers within them become placeholders, so that no series is made per id.
//!
//! Names are read once from left to right, word by word; a word is a run of letters and digits.
//!
//! | within a name | becomes |
//! | --- | --- |
//! | a number, also after a word: `/users/17`, `worker-17`, `user123456` | `{id}` |
//! | 16 or more letters and digits that are no words, as in ULIDs and tokens | `{id}` |
//! | a UUID | `{uuid}` |
//! | 8 or more hexadecimal digits, not all of them letters; `0x1f` | `{hex}` |
//! | an ISO date, with or without time | `{date}` |
//! | an IPv4 or IPv6 address | `{ip}` |
//! | an e-mail address | `{email}` |
//! | query and fragment of a path or URL | nothing |
//! | numbers and quoted literals in SQL; lists of them | `?` |
//! | comments in SQL | nothing |
//!
//! What is short and has letters stays, as do versions: `v1`, `/api/2.0/jobs`, `HTTP/1.1`, `md5`, `oauth2`, `Foo2Bar`.
//! Placeholders of others stay: `/users/{id}`, `/users/:id`, `$1`, `%s`.

mod scan;
mod sql;
mod word;

use scan::Scan;

/// Passes over a name until none changes it. Hardly any name takes more than one; see [`fold`].
const PASSES: usize = 4;

/// The template of a name; `None` where it is the name as it is.
///
/// A template is at most four times as long as its name, and is its own template. The cost is linear.
pub fn fold(name: &str) -> Option<String> {
    let mut folded = pass(name)?;
    // What was replaced can leave something behind that looks otherwise by itself.
    for _ in 1..PASSES {
        match pass(&folded) {
            Some(further) => folded = further,
            None => break,
        }
    }
    Some(folded)
}

fn pass(name: &str) -> Option<String> {
    // Most names have nothing to be looked at.
    let telling =
        |byte: u8| byte.is_ascii_digit() || matches!(byte, b'?' | b'#' | b'@' | b'\'' | b'"' | b'`' | b'*' | b'-');
    if !name.bytes().any(telling) {
        return None;
    }
    let folded = if sql::is_statement(name) {
        Scan::new(name, true).fold()
    } else {
        let path = without_query(name);
        // What is left may be a statement.
        Scan::new(&path, sql::is_statement(&path)).fold()
    };
    (folded != name).then_some(folded)
}

/// Cuts queries and fragments off what looks like a path or URL.
fn without_query(name: &str) -> String {
    let mut kept = String::with_capacity(name.len());
    for part in name.split_inclusive(char::is_whitespace) {
        let chunk = part.trim_end_matches(char::is_whitespace);
        kept.push_str(&chunk[..end_of_path(chunk)]);
        kept.push_str(&part[chunk.len()..]);
    }
    kept
}

/// Where the query or fragment begins. `?` does so after a slash, or before a `key=value`; `#` does so in what begins
/// with a slash or a scheme, but not in `UsersController#show`.
fn end_of_path(chunk: &str) -> usize {
    let bytes = chunk.as_bytes();
    let last_equals = bytes.iter().rposition(|byte| *byte == b'=').unwrap_or(0);
    let (mut slash, mut url) = (false, bytes.first() == Some(&b'/'));
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'/' => {
                slash = true;
                url |= bytes[..at].ends_with(b":/");
            }
            b'?' if slash || at < last_equals => return at,
            b'#' if url => return at,
            _ => {}
        }
    }
    bytes.len()
}

#[cfg(test)]
mod tests;
