//! When the next request is due.

use std::time::Duration;

use tokio::time::Instant;

/// Longest that a span waits for its request to fill up.
const MAX_GATHERING: Duration = Duration::from_millis(200);
/// How far a run may fall behind before it gives up catching up.
const MAX_BEHIND: Duration = Duration::from_secs(1);

/// A schedule of requests of equal size at equal distance.
#[derive(Debug)]
pub(super) struct Pace {
    /// Spans in each request.
    pub(super) spans: usize,
    distance: Duration,
    due: Instant,
}

impl Pace {
    /// `rate` is in spans per second; 0 means that the next request is always due.
    pub(super) fn new(rate: u64, most_spans: usize, start: Instant) -> Self {
        if rate == 0 {
            return Self { spans: most_spans, distance: Duration::ZERO, due: start };
        }
        let gathered = (rate as f64 * MAX_GATHERING.as_secs_f64()).ceil() as usize;
        let spans = gathered.clamp(1, most_spans);
        Self { spans, distance: Duration::from_secs_f64(spans as f64 / rate as f64), due: start }
    }

    /// When the next request is to be sent.
    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Says that a request was sent. What was missed more than a second ago is not caught up.
    pub(super) fn sent(&mut self, now: Instant) {
        self.due = (self.due + self.distance).max(now.checked_sub(MAX_BEHIND).unwrap_or(now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spans sent within that time if every request leaves when it is due.
    fn sent_within(rate: u64, seconds: u64) -> usize {
        let start = Instant::now();
        let mut pace = Pace::new(rate, 512, start);
        let mut spans = 0;
        while pace.due() < start + Duration::from_secs(seconds) {
            spans += pace.spans;
            pace.sent(pace.due());
        }
        spans
    }

    #[test]
    fn every_rate_is_kept_and_slow_ones_do_not_wait_for_full_requests() {
        for rate in [1, 3, 50, 2_560, 100_000, 1_000_000] {
            let sent = sent_within(rate, 10);
            let wanted = rate as usize * 10;
            assert!(sent.abs_diff(wanted) <= wanted / 100 + 1, "{sent} of {wanted}");
        }
        let start = Instant::now();
        let mut pace = Pace::new(50, 512, start);
        pace.sent(start);
        assert_eq!((pace.spans, pace.due() - start), (10, Duration::from_millis(200)));
    }

    #[test]
    fn after_a_stall_a_second_is_caught_up_at_most() {
        let start = Instant::now();
        let mut pace = Pace::new(1_000, 100, start);
        let later = start + Duration::from_secs(60);
        let mut spans = 0;
        while pace.due() <= later {
            spans += pace.spans;
            pace.sent(later);
        }
        assert!((1_000..=1_300).contains(&spans), "{spans}");
    }
}
