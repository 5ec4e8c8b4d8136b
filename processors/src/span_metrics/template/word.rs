//! Telling ids from words.

/// Fewest hexadecimal digits that are taken for a hash.
const HEX_MIN: usize = 8;
/// Fewest letters and digits that are taken for an id where they are no words.
const ID_MIN: usize = 16;
/// Fewest digits directly after letters that are taken for an id.
const SUFFIX_MIN: usize = 5;

/// What a word is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// To be left as it is.
    Kept,
    /// A decimal number.
    Number,
    /// To be replaced.
    Placeholder(&'static str),
    /// That many bytes of words, then an id.
    Suffix(usize),
}

/// How many bytes at the beginning are so.
pub(super) fn run(bytes: &[u8], is: impl Fn(u8) -> bool) -> usize {
    bytes.iter().position(|byte| !is(*byte)).unwrap_or(bytes.len())
}

/// What tokens in the manner of nanoid are made of.
pub(super) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// Length of the word that begins here, and what it is. `out` is what stands before it.
pub(super) fn at(rest: &[u8], starts_token: bool, out: &str) -> (usize, Found) {
    let exact = uuid(rest).map(|len| (len, "{uuid}"));
    let exact = exact.or_else(|| date(rest).map(|len| (len, "{date}"))).or_else(|| ipv4(rest).map(|len| (len, "{ip}")));
    if let Some((len, placeholder)) = exact {
        return (len, Found::Placeholder(placeholder));
    }
    if starts_token && let Some(found) = scrambled(rest) {
        return found;
    }
    let len = run(rest, |byte| byte.is_ascii_alphanumeric());
    let word = &rest[..len];
    if word.iter().all(u8::is_ascii_digit) {
        return number(rest, out);
    }
    if let [b'v' | b'V', digits @ ..] = word
        && is_short_number(digits)
    {
        return (len + more_groups(&rest[len..], 2), Found::Kept);
    }
    (len, letters_and_digits(word))
}

/// A number with its fraction. Versions stay.
fn number(rest: &[u8], out: &str) -> (usize, Found) {
    let first = run(rest, |byte| byte.is_ascii_digit());
    let mut len = first;
    let mut groups = 1;
    while let Some(more) = group(&rest[len..]) {
        len += more;
        groups += 1;
    }
    let http = out.len() >= 5 && out.as_bytes()[out.len() - 5..].eq_ignore_ascii_case(b"HTTP/");
    let version = (2..=3).contains(&groups) && rest[..len].split(|byte| *byte == b'.').all(|part| part.len() <= 2);
    if out.ends_with('/') && (version || http && len <= 3) {
        return (len, Found::Kept);
    }
    (len, Found::Number)
}

/// Length of a dot and digits that end there.
fn group(rest: &[u8]) -> Option<usize> {
    let (b'.', after) = rest.split_first()? else { return None };
    let len = run(after, |byte| byte.is_ascii_digit());
    (len > 0 && ends_at(after, len)).then_some(len + 1)
}

/// Length of up to `most` short groups of digits, each after a dot.
fn more_groups(rest: &[u8], most: usize) -> usize {
    let mut len = 0;
    for _ in 0..most {
        match group(&rest[len..]) {
            Some(more) if more <= 4 => len += more,
            _ => break,
        }
    }
    len
}

fn is_short_number(digits: &[u8]) -> bool {
    (1..=3).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

fn ends_at(bytes: &[u8], len: usize) -> bool {
    bytes.get(len).is_none_or(|byte| !byte.is_ascii_alphanumeric())
}

fn letters_and_digits(word: &[u8]) -> Found {
    let digits = word.iter().filter(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return Found::Kept;
    }
    if let [b'0', b'x' | b'X', hex @ ..] = word
        && !hex.is_empty()
        && hex.iter().all(u8::is_ascii_hexdigit)
    {
        return Found::Placeholder("{hex}");
    }
    if word.len() >= HEX_MIN && word.iter().all(u8::is_ascii_hexdigit) {
        return Found::Placeholder("{hex}");
    }
    if is_compact_time(word) {
        return Found::Placeholder("{date}");
    }
    if word.len() >= ID_MIN && !is_words(word, digits) {
        return Found::Placeholder("{id}");
    }
    let letters = word.len() - digits;
    if digits >= SUFFIX_MIN && word[..letters].iter().all(u8::is_ascii_alphabetic) {
        return Found::Suffix(letters);
    }
    Found::Kept
}

/// As in `20240102T030405Z`.
fn is_compact_time(word: &[u8]) -> bool {
    let word = word.strip_suffix(b"Z").unwrap_or(word);
    word.len() == 15 && word[8] == b'T' && word.iter().enumerate().all(|(at, byte)| at == 8 || byte.is_ascii_digit())
}

/// Whether letters and digits are words as in `Sha256PasswordEncoder`: few digits, in few places, and most letters in
/// runs of small ones.
fn is_words(word: &[u8], digits: usize) -> bool {
    if digits * 5 >= word.len() {
        return false;
    }
    let places = word.chunk_by(|a, b| a.is_ascii_digit() == b.is_ascii_digit()).filter(|run| run[0].is_ascii_digit());
    let mixed = word.iter().any(u8::is_ascii_lowercase) && word.iter().any(u8::is_ascii_uppercase);
    if !mixed {
        return places.count() <= 1;
    }
    places.count() <= 2 && small_runs(word) * 5 >= (word.len() - digits) * 3
}

/// Letters in runs of at least three small ones, with the capital before it.
fn small_runs(word: &[u8]) -> usize {
    let mut letters = 0;
    let mut capital = 0;
    for run in word.chunk_by(|a, b| a.is_ascii_lowercase() == b.is_ascii_lowercase()) {
        if run[0].is_ascii_lowercase() {
            letters += if run.len() >= 3 { run.len() + capital } else { 0 };
        }
        capital = usize::from(run.last().is_some_and(u8::is_ascii_uppercase));
    }
    letters
}

/// A token with dashes and underscores in it, as nanoid makes them, after words of small letters.
///
/// Its parts by themselves may be too short to be seen.
fn scrambled(rest: &[u8]) -> Option<(usize, Found)> {
    let token = &rest[..run(rest, is_token)];
    let mut words = 0;
    let mut parts = token.split(|byte| !byte.is_ascii_alphanumeric()).peekable();
    while parts.next_if(|part| part.iter().all(u8::is_ascii_lowercase)).is_some_and(|part| {
        words += part.len() + 1;
        true
    }) {}
    let long = token.len().saturating_sub(words) >= ID_MIN;
    let is_scrambled = |part: &[u8]| {
        let has = |is: fn(&u8) -> bool| part.iter().any(is);
        let mixed = has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase) && has(u8::is_ascii_digit);
        part.len() >= 6 && mixed && small_runs(part) == 0
    };
    if !long || !parts.any(is_scrambled) {
        return None;
    }
    Some((token.len(), Found::Suffix(words)))
}

fn digits<const N: usize>(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + N)?;
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + u32::from(digit - b'0')))
}

fn uuid(rest: &[u8]) -> Option<usize> {
    let text = rest.get(..36)?;
    let dash = |at: usize| matches!(at, 8 | 13 | 18 | 23);
    let well_formed =
        text.iter().enumerate().all(|(at, byte)| if dash(at) { *byte == b'-' } else { byte.is_ascii_hexdigit() });
    (well_formed && ends_at(rest, 36)).then_some(36)
}

/// A date as `2024-01-02`, with as much of `T03:04:05.678+01:00` as there is.
fn date(rest: &[u8]) -> Option<usize> {
    let (_, month, day) = (digits::<4>(rest, 0)?, digits::<2>(rest, 5)?, digits::<2>(rest, 8)?);
    let well_formed = (rest[4], rest[7]) == (b'-', b'-') && (1..=12).contains(&month) && (1..=31).contains(&day);
    if !well_formed {
        return None;
    }
    let len = 10 + time(&rest[10..]);
    ends_at(rest, len).then_some(len)
}

/// Length of a time behind a date; 0 where there is none.
fn time(rest: &[u8]) -> usize {
    let pair = |at: usize, before: u8| rest.get(at) == Some(&before) && digits::<2>(rest, at + 1).is_some();
    if !matches!(rest.first(), Some(b'T' | b't' | b' ')) || digits::<2>(rest, 1).is_none() || !pair(3, b':') {
        return 0;
    }
    let mut len = 6;
    if pair(len, b':') {
        len += 3;
        if matches!(rest.get(len), Some(b'.' | b',')) {
            let fraction = run(&rest[len + 1..], |byte| byte.is_ascii_digit());
            len += if fraction > 0 { fraction + 1 } else { 0 };
        }
    }
    match rest.get(len) {
        Some(b'Z' | b'z') => len + 1,
        Some(b'+' | b'-') if pair(len + 3, b':') && digits::<2>(rest, len + 1).is_some() => len + 6,
        Some(b'+' | b'-') if digits::<4>(rest, len + 1).is_some() => len + 5,
        _ => len,
    }
}

/// Four numbers up to 255; five or more are something else.
fn ipv4(rest: &[u8]) -> Option<usize> {
    let mut len = 0;
    for at in 0..4 {
        if at > 0 {
            (rest.get(len) == Some(&b'.')).then_some(())?;
            len += 1;
        }
        let count = run(&rest[len..], |byte| byte.is_ascii_digit()).min(4);
        let text = std::str::from_utf8(&rest[len..len + count]).ok()?;
        text.parse::<u8>().ok()?;
        len += count;
    }
    (ends_at(rest, len) && group(&rest[len..]).is_none()).then_some(len)
}

/// Length of a domain: labels between dots, the last of them letters only.
pub(super) fn domain(rest: &[u8]) -> Option<usize> {
    let whole = run(rest, |byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
    let (mut len, mut found) = (0, None);
    for (at, label) in rest[..whole].split(|byte| *byte == b'.').enumerate() {
        if label.is_empty() {
            break;
        }
        len += usize::from(at > 0) + label.len();
        // What follows a placeholder's brace is none of it.
        let ends = !matches!(rest.get(len), Some(b'{' | b'_'));
        if at > 0 && label.len() >= 2 && label.iter().all(u8::is_ascii_alphabetic) && ends {
            found = Some(len);
        }
    }
    found
}
