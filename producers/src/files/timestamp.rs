//! RFC 3339 times at the beginning of lines.

/// Reads the time with which `bytes` begin: nanoseconds since the Unix epoch, and the bytes that it takes.
///
/// Date and time stand apart by `T` or a space, a fraction follows a dot or a comma, and there is a zone: `Z` or an
/// offset with or without colon. `None` for everything else, and for times before 1970 and after 2500.
pub(super) fn leading(bytes: &[u8]) -> Option<(u64, usize)> {
    let head: &[u8; 19] = bytes.first_chunk()?;
    let separators = [(4, b'-'), (7, b'-'), (13, b':'), (16, b':')];
    if separators.iter().any(|&(at, byte)| head[at] != byte) || !matches!(head[10], b'T' | b't' | b' ') {
        return None;
    }
    let year = pair(head, 0)? * 100 + pair(head, 2)?;
    let (month, day) = (pair(head, 5)?, pair(head, 8)?);
    let (hour, minute, second) = (pair(head, 11)?, pair(head, 14)?, pair(head, 17)?);
    // 60 is a leap second.
    if !(1970..=2500).contains(&year) || !(1..=12).contains(&month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    if !(1..=days_of(year, month)).contains(&day) {
        return None;
    }
    let (nanos, at) = fraction(bytes, 19);
    let (offset, end) = zone(bytes, at)?;
    let seconds = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second;
    let seconds = u64::try_from(seconds - offset).ok()?;
    Some((seconds * 1_000_000_000 + nanos, end))
}

#[inline]
fn pair(bytes: &[u8], at: usize) -> Option<i64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| i64::from(byte - b'0'));
    Some(digit(*bytes.get(at)?)? * 10 + digit(*bytes.get(at + 1)?)?)
}

/// Nanoseconds behind a dot or comma, and where they end. Digits beyond the ninth are passed over.
fn fraction(bytes: &[u8], at: usize) -> (u64, usize) {
    if !matches!(bytes.get(at), Some(b'.' | b',')) {
        return (0, at);
    }
    let digits = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit());
    let (mut nanos, mut weight, mut end) = (0, 100_000_000, at + 1);
    for digit in digits {
        nanos += u64::from(digit - b'0') * weight;
        weight /= 10;
        end += 1;
    }
    if end == at + 1 { (0, at) } else { (nanos, end) }
}

/// Seconds east of Greenwich, and where the zone ends.
fn zone(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    let sign = match bytes.get(at)? {
        b'Z' | b'z' => return Some((0, at + 1)),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let hours = pair(bytes, at + 1)?;
    let minutes_at = if bytes.get(at + 3) == Some(&b':') { at + 4 } else { at + 3 };
    let minutes = pair(bytes, minutes_at)?;
    (hours < 24 && minutes < 60).then_some((sign * (hours * 3600 + minutes * 60), minutes_at + 2))
}

fn days_of(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01; years are counted from March, so that a leap day is the last of its year.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn runtimes_and_loggers_write_times_so() {
        let day = 1_709_210_096_000_000_000; // 2024-02-29T12:34:56Z
        for (text, nanos) in [
            ("2024-02-29T12:34:56Z", day),
            ("2024-02-29T12:34:56.123456789Z", day + 123_456_789),
            ("2024-02-29T12:34:56.5+00:00", day + 500_000_000),
            ("2024-02-29T14:04:56.000000001+01:30", day + 1),
            ("2024-02-29 10:34:56,25-0200", day + 250_000_000),
            ("2024-02-29T12:34:56.1234567891Z", day + 123_456_789),
            ("1970-01-01T00:00:00Z", 0),
        ] {
            let line = format!("{text} stdout");
            assert_eq!(leading(line.as_bytes()), Some((nanos, text.len())), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_with_a_zone_is_none() {
        for text in [
            "",
            "2024-02-29T12:34:56",
            "2024-02-29T12:34:56 ",
            "2024-02-30T12:34:56Z",
            "2023-02-29T12:34:56Z",
            "2024-13-01T12:34:56Z",
            "2024-01-01T24:00:00Z",
            "2024-01-01T00:00:00.Z",
            "2024-01-01T00:00:00+1",
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+01:00",
            "20240229T123456Z0000000",
        ] {
            assert_eq!(leading(text.as_bytes()), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_time_reads_as_another_library_prints_it(seconds in 0u64..16_000_000_000, nanos in 0u32..1_000_000_000) {
            let time = std::time::UNIX_EPOCH + std::time::Duration::new(seconds, nanos);
            let text = humantime::format_rfc3339_nanos(time).to_string();
            let expected = seconds * 1_000_000_000 + u64::from(nanos);
            prop_assert_eq!(leading(text.as_bytes()), Some((expected, text.len())));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            leading(&bytes);
        }
    }
}
