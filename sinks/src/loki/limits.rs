//! What is done to what Loki would refuse.

use std::borrow::Cow;
use std::time::Duration;

use afflux_runtime::config::Period;

use super::config::{LimitsConfig, LokiConfig};

/// How far in the future Loki takes entries by default.
const LOKIS_FUTURE: Duration = Duration::from_secs(600);
/// What a line that was cut ends in, with room for its number, at most.
pub(super) const MARK_BYTES: usize = 48;

/// Cuts a line that is longer than `most` bytes between two characters, and says so at its end.
pub(super) fn cut(line: &[u8], most: usize) -> Option<Vec<u8>> {
    if line.len() <= most {
        return None;
    }
    let mark = format!(" …[truncated from {} bytes]", line.len());
    let mut cut = head(line, most.saturating_sub(mark.len())).to_vec();
    cut.extend_from_slice(mark.as_bytes());
    Some(cut)
}

/// The beginning of a text, up to `most` bytes and the end of a character.
pub(super) fn head(text: &[u8], most: usize) -> &[u8] {
    let is_inner = |at: usize| text.get(at).is_some_and(|byte| byte & 0xc0 == 0x80);
    let mut end = most.min(text.len());
    while end > 0 && is_inner(end) {
        end -= 1;
    }
    &text[..end]
}

/// A label's value that is cut where it is longer than `most` bytes.
pub(super) fn head_str(text: &str, most: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(head(text.as_bytes(), most))
}

/// Times that Loki takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    oldest: u64,
    newest: u64,
}

impl Window {
    /// Every time.
    pub(super) const ANY: Self = Self { oldest: 0, newest: u64::MAX };

    /// At a time in nanoseconds since the Unix epoch; `any_age` where what is sent is marked as old.
    pub(super) fn new(limits: &LimitsConfig, now: u64, any_age: bool) -> Self {
        let nanos = |period: Period| u64::try_from(period.0.as_nanos()).unwrap_or(u64::MAX);
        let oldest = if any_age || limits.max_age.0.is_zero() { 0 } else { now.saturating_sub(nanos(limits.max_age)) };
        let last = i64::MAX as u64;
        let newest = if limits.max_future.0.is_zero() { last } else { now.saturating_add(nanos(limits.max_future)) };
        Self { oldest, newest: newest.min(last) }
    }

    /// The time before which entries may be too far behind the newest of their stream, at a time in nanoseconds since the Unix
    /// epoch: those that Loki takes may lie so far in the future.
    pub(super) fn late_before(config: &LokiConfig, now: u64) -> u64 {
        let LimitsConfig { order_window, max_future, .. } = &config.limits;
        let ahead = if max_future.0.is_zero() { LOKIS_FUTURE } else { max_future.0 };
        let window = order_window.0.saturating_sub(ahead).max(order_window.0 / 2);
        now.saturating_sub(u64::try_from(window.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Why Loki would refuse an entry of that time.
    #[inline]
    pub(super) fn refuses(&self, time: u64) -> Option<Untimely> {
        match time {
            _ if time < self.oldest => Some(Untimely::TooOld),
            _ if time > self.newest => Some(Untimely::TooNew),
            _ => None,
        }
    }
}

/// Why an entry comes at the wrong time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Untimely {
    TooOld,
    TooNew,
}

impl Untimely {
    /// A fixed word: Loki's own.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::TooOld => "greater_than_max_sample_age",
            Self::TooNew => "too_far_in_future",
        }
    }

    /// In full.
    pub(super) const fn error(self) -> &'static str {
        match self {
            Self::TooOld => "older than sinks.loki.limits.max_age; a replay sends it with the backfill header",
            Self::TooNew => "further in the future than sinks.loki.limits.max_future",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_is_cut_between_characters_and_says_how_long_it_was() {
        assert_eq!(cut(b"0123456789", 10), None);
        let cut_to = |most: usize| String::from_utf8(cut("é".repeat(100).as_bytes(), most).unwrap()).unwrap();
        assert_eq!(cut_to(60), format!("{} …[truncated from 200 bytes]", "é".repeat(15)));
        assert_eq!(cut_to(61), format!("{} …[truncated from 200 bytes]", "é".repeat(15)));
        assert_eq!(cut_to(62), format!("{} …[truncated from 200 bytes]", "é".repeat(16)));
        assert!((60..=62).all(|most| cut_to(most).len() <= most));
        assert!(format!(" …[truncated from {} bytes]", usize::MAX).len() <= MARK_BYTES);
    }

    #[test]
    fn entries_are_taken_from_the_oldest_to_the_newest_time() {
        let limits = LimitsConfig {
            max_age: Period(Duration::from_nanos(100)),
            max_future: Period(Duration::from_nanos(10)),
            ..LimitsConfig::default()
        };
        let window = Window::new(&limits, 1000, false);
        for (time, verdict) in
            [(899, Some(Untimely::TooOld)), (900, None), (1010, None), (1011, Some(Untimely::TooNew))]
        {
            assert_eq!(window.refuses(time), verdict, "{time}");
        }
        assert_eq!(Window::new(&limits, 1000, true).refuses(0), None);
        let open = LimitsConfig { max_age: Period(Duration::ZERO), max_future: Period(Duration::ZERO), ..limits };
        let open = Window::new(&open, 1000, false);
        assert_eq!((open.refuses(0), open.refuses(i64::MAX as u64)), (None, None));
        assert_eq!(open.refuses(1 << 63), Some(Untimely::TooNew), "beyond what Loki can count");
    }
}
