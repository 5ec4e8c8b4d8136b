//! Times and durations as JSON writes those of protobuf.

const NANOS: i128 = 1_000_000_000;

/// Nanoseconds since the epoch of `2026-01-02T03:04:05.678Z`, or with an offset such as `+01:00`.
pub(super) fn timestamp(text: &str) -> Option<i128> {
    let (date, rest) = text.split_once(['T', 't'])?;
    let mut date = date.splitn(3, '-').map(number);
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let at = rest.find(['Z', 'z', '+', '-'])?;
    let (time, zone) = rest.split_at(at);
    let mut time = time.splitn(3, ':');
    let (hour, minute) = (number(time.next()?)?, number(time.next()?)?);
    let (seconds, nanos) = decimal(time.next()?)?;
    let whole = (1..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && seconds <= 60;
    if !whole {
        return None;
    }
    let local = days(year, month, day) * 86_400 + hour * 3600 + minute * 60 + seconds;
    Some((i128::from(local) - i128::from(offset(zone)?)) * NANOS + i128::from(nanos))
}

/// Nanoseconds of `1.5s`.
pub(super) fn duration(text: &str) -> Option<i128> {
    let text = text.strip_suffix('s')?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let (seconds, nanos) = decimal(digits)?;
    Some(sign * (i128::from(seconds) * NANOS + i128::from(nanos)))
}

/// Seconds and nanoseconds; further digits are cut off.
fn decimal(text: &str) -> Option<(i64, i64)> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    fraction.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    let kept = &fraction[..fraction.len().min(9)];
    let nanos = number(kept)? * 10_i64.pow(9 - u32::try_from(kept.len()).ok()?);
    Some((number(whole)?, nanos))
}

/// Digits only, and few enough that nothing overflows.
fn number(text: &str) -> Option<i64> {
    let is_number = (1..=12).contains(&text.len()) && text.bytes().all(|digit| digit.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

/// Seconds east of UTC.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (number(hours)? * 3600 + number(minutes)? * 60))
}

/// Days since the epoch of a date in the Gregorian calendar, counted in years that begin in March.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    365 * year + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400) + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_with_any_precision_and_offset() {
        assert_eq!(timestamp("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(timestamp("2026-01-02T03:04:05.678Z"), Some(1_767_323_045_678_000_000));
        assert_eq!(timestamp("2026-01-02T04:34:05.678000000+01:30"), Some(1_767_323_045_678_000_000));
        assert_eq!(timestamp("2024-02-29T23:59:59.123456789-00:30"), Some(1_709_252_999_123_456_789));
        assert_eq!(timestamp("1969-12-31T23:59:59.5Z"), Some(-500_000_000));
        assert_eq!(timestamp("9999-12-31T23:59:60Z"), Some(253_402_300_800_000_000_000));
        for wrong in ["999999999999-01-01T00:00:00Z", "0000-01-01T00:00:00Z", "10000-01-01T00:00:00Z"] {
            assert_eq!(timestamp(wrong), None, "{wrong}");
        }
        for wrong in ["", "2026-01-02", "2026-13-02T03:04:05Z", "2026-01-02T03:04:05", "2026-01-02T03:04:+5Z", "TZ"] {
            assert_eq!(timestamp(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_are_decimal_seconds() {
        assert_eq!(duration("1.5s"), Some(1_500_000_000));
        assert_eq!(duration("0.000001s"), Some(1000));
        assert_eq!(duration("-2s"), Some(-2_000_000_000));
        for wrong in ["", "1", "s", ".5s", "1.12345678é9s", "1e3s", "9999999999999s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
