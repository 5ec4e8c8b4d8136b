//! How many lines of a file, and of all files, go on in a second.

use std::time::{Duration, Instant};

/// What is done with what comes too fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// It stays in its file until its time comes.
    Wait,
    /// It is left out, and counted.
    Drop,
}

/// Lines per second, of each file and of all together; `None` is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rates {
    pub(super) file: Option<u64>,
    pub(super) total: Option<u64>,
    pub(super) excess: Excess,
}

/// A token bucket that holds the lines of a second, and may be overdrawn.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// Lines per second; `None` is no limit.
    rate: Option<f64>,
    level: f64,
    at: Instant,
}

impl Bucket {
    /// A full one.
    pub(super) fn new(rate: Option<u64>, now: Instant) -> Self {
        let rate = rate.map(|rate| rate as f64);
        Self { rate, level: rate.unwrap_or_default(), at: now }
    }

    /// Lets in what time has brought.
    pub(super) fn refill(&mut self, now: Instant) {
        if let Some(rate) = self.rate {
            let passed = now.saturating_duration_since(self.at).as_secs_f64();
            self.level = (self.level + passed * rate).min(rate);
            self.at = now;
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.rate.is_some() && self.level < 1.0
    }

    /// Takes a line out.
    #[inline]
    pub(super) fn take(&mut self) {
        self.level -= 1.0;
    }

    /// How long until there is a line in it.
    pub(super) fn until_next(&self) -> Duration {
        let missing = (1.0 - self.level).max(0.0);
        self.rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64((missing / rate).min(60.0)))
    }
}

/// The buckets that a line comes out of.
pub(super) struct Meter<'a> {
    pub(super) file: &'a mut Bucket,
    pub(super) total: &'a mut Bucket,
    pub(super) excess: Excess,
}

impl Meter<'_> {
    /// Whether a line may go on.
    #[inline]
    pub(super) fn lets_pass(&mut self) -> bool {
        if self.excess == Excess::Drop && (self.file.is_empty() || self.total.is_empty()) {
            return false;
        }
        self.file.take();
        self.total.take();
        true
    }

    /// How long nothing more is to be read; `None` where it may.
    pub(super) fn pause(&self) -> Option<Duration> {
        let wait = self.excess == Excess::Wait && (self.file.is_empty() || self.total.is_empty());
        wait.then(|| self.file.until_next().max(self.total.until_next()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_lets_so_many_pass_in_a_second_and_holds_no_more_than_that() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Some(10), start);
        let passed = |bucket: &mut Bucket, at: Duration| {
            bucket.refill(start + at);
            let mut passed = 0;
            while !bucket.is_empty() {
                bucket.take();
                passed += 1;
            }
            passed
        };
        assert_eq!(passed(&mut bucket, Duration::ZERO), 10);
        assert_eq!(passed(&mut bucket, Duration::from_millis(450)), 4);
        assert_eq!(passed(&mut bucket, Duration::from_secs(100)), 10);
        assert_eq!(bucket.until_next(), Duration::from_millis(100));
        assert!(!Bucket::new(None, start).is_empty());
    }

    #[test]
    fn what_is_over_is_refused_or_overdrawn_and_paid_for_by_waiting() {
        let now = Instant::now();
        for (excess, passes) in [(Excess::Drop, false), (Excess::Wait, true)] {
            let (mut file, mut total) = (Bucket::new(Some(2), now), Bucket::new(None, now));
            let mut meter = Meter { file: &mut file, total: &mut total, excess };
            assert!(meter.lets_pass() && meter.lets_pass());
            assert_eq!((meter.lets_pass(), meter.pause().is_some()), (passes, passes));
        }
    }
}
