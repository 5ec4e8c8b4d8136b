//! Numbers of payment cards.

use std::ops::Range;

/// Digits that a number has.
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Digits that a group has at least: dates and lists of small numbers are none.
const GROUP: usize = 3;

/// Whether there are enough digits for a number.
pub(super) fn has_digits(text: &str) -> bool {
    text.len() >= *DIGITS.start() && text.bytes().filter(u8::is_ascii_digit).count() >= *DIGITS.start()
}

/// Where numbers stand, by rising position.
///
/// A number is 13 to 19 digits that end in the check digit of the others (Luhn), in one group, or in groups of three and
/// more with a single space or dash between them. Groups are taken whole, the longest number first. Digits next to letters, or to a point with digits
/// behind it, are none; nor are numbers that begin with 0, which no issuer has, or with 1, which only airlines have, with
/// 15 digits: times in milliseconds, microseconds and nanoseconds since 1970 begin so.
pub(super) fn find(text: &str) -> impl Iterator<Item = Range<usize>> {
    let text = text.as_bytes();
    let (mut from, mut end) = (0, 0);
    std::iter::from_fn(move || {
        loop {
            let start = from + text[from..].iter().position(u8::is_ascii_digit)?;
            // What is left of a run is not walked through again: it may be long, and hold many numbers.
            if start >= end {
                end = run_end(text, start);
            }
            let found = number(text, start..end);
            from = found.as_ref().map_or(end, |found| found.end);
            if found.is_some() {
                return found;
            }
        }
    })
}

/// End of the groups of digits from `start` on, as far as single separators lead.
fn run_end(text: &[u8], start: usize) -> usize {
    let mut end = start;
    loop {
        end += text[end..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        match text[end..] {
            [b' ' | b'-', next, ..] if next.is_ascii_digit() => end += 1,
            _ => return end,
        }
    }
}

/// Whether digits may begin there.
fn opens(before: &[u8]) -> bool {
    match before {
        [.., digit, b'.'] if digit.is_ascii_digit() => false,
        [.., byte] => !is_letter(*byte),
        [] => true,
    }
}

/// Whether digits may end there.
fn closes(after: &[u8]) -> bool {
    match after {
        [b'.', digit, ..] if digit.is_ascii_digit() => false,
        [byte, ..] => !is_letter(*byte),
        [] => true,
    }
}

/// ASCII letters, and whatever letters of other alphabets are made of.
fn is_letter(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte >= 0x80
}

/// The first and longest number of whole groups within a run.
fn number(text: &[u8], run: Range<usize>) -> Option<Range<usize>> {
    let group = |at: &usize| text[*at].is_ascii_digit() && (*at == run.start || !text[at - 1].is_ascii_digit());
    let mut starts = run.clone().filter(group).filter(|at| opens(&text[..*at]));
    starts.find_map(|start| {
        // No number takes more bytes than that: a separator behind each digit.
        let last = run.end.min(start + 2 * DIGITS.end());
        let whole = |end: &usize| text[end - 1].is_ascii_digit() && (*end == run.end || !text[*end].is_ascii_digit());
        let mut ends = (start + DIGITS.start()..=last).rev().filter(whole).filter(|end| closes(&text[*end..]));
        ends.find(|end| is_number(&text[start..*end])).map(|end| start..end)
    })
}

fn is_number(text: &[u8]) -> bool {
    if text.split(|byte| !byte.is_ascii_digit()).any(|group| group.len() < GROUP) {
        return false;
    }
    let digits = || text.iter().filter(|byte| byte.is_ascii_digit()).map(|byte| u32::from(byte - b'0'));
    let count = digits().count();
    let issued = match digits().next() {
        Some(0) | None => false,
        Some(1) => count == 15,
        Some(_) => true,
    };
    let doubled = |(at, digit): (usize, u32)| match (at + count) % 2 {
        0 => digit * 2 / 10 + digit * 2 % 10,
        _ => digit,
    };
    issued && DIGITS.contains(&count) && digits().enumerate().map(doubled).sum::<u32>().is_multiple_of(10)
}
