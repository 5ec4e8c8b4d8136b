//! How long to wait before the next attempt.

use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Delays between attempts: exponential from an initial one up to a cap, jittered.
///
/// The n-th delay after a success lies between half of and all of `min(initial * 2^n, max)`, so that clients
/// that failed together do not come back together. A delay that the other side asked for is never undercut,
/// and may be over the cap.
#[derive(Debug)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    current: Duration,
    random: SmallRng,
}

impl Backoff {
    /// Delays from `initial` up to `max`, which is raised to `initial` where it is less.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self::seeded(initial, max, rand::random())
    }

    /// As [`Backoff::new`]; the same seed gives the same delays.
    pub fn seeded(initial: Duration, max: Duration, seed: u64) -> Self {
        Self { initial, max: max.max(initial), current: initial, random: SmallRng::seed_from_u64(seed) }
    }

    /// The delay before the next attempt.
    ///
    /// `given` is what the other side asked for (Retry-After, RetryInfo, an error's class): the delay is that
    /// plus a tenth at most.
    pub fn next(&mut self, given: Option<Duration>) -> Duration {
        let base = self.current;
        self.current = base.saturating_mul(2).min(self.max);
        match given {
            Some(asked) => asked.saturating_add(self.part(asked / 10)),
            None => (base / 2).saturating_add(self.part(base - base / 2)),
        }
    }

    /// Sleeps for [`Backoff::next`]. Cancel safe; the attempt counts as soon as this is called.
    pub async fn wait(&mut self, given: Option<Duration>) {
        let delay = self.next(given);
        tokio::time::sleep(delay).await;
    }

    /// Starts over from the initial delay, after an attempt that succeeded.
    pub fn reset(&mut self) {
        self.current = self.initial;
    }

    /// A random share of a delay.
    fn part(&mut self, of: Duration) -> Duration {
        of.mul_f64(self.random.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIAL: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(5);

    #[test]
    fn delays_double_up_to_the_cap_and_stay_between_half_and_all() {
        for seed in 0..200 {
            let mut backoff = Backoff::seeded(INITIAL, MAX, seed);
            for attempt in 0..40 {
                let base = INITIAL.saturating_mul(1 << attempt.min(20)).min(MAX);
                let delay = backoff.next(None);
                assert!(delay >= base / 2 && delay <= base, "attempt {attempt} of seed {seed}: {delay:?}");
            }
        }
    }

    #[test]
    fn delays_of_two_seeds_differ_and_of_one_seed_do_not() {
        let delays = |seed| {
            let mut backoff = Backoff::seeded(INITIAL, MAX, seed);
            std::iter::repeat_with(|| backoff.next(None)).take(8).collect::<Vec<_>>()
        };
        assert_eq!(delays(1), delays(1));
        assert_ne!(delays(1), delays(2));
    }

    #[test]
    fn a_given_delay_is_never_undercut_and_may_pass_the_cap() {
        for seed in 0..200 {
            let mut backoff = Backoff::seeded(INITIAL, MAX, seed);
            for asked in [Duration::ZERO, Duration::from_millis(1), MAX * 10] {
                let delay = backoff.next(Some(asked));
                assert!(delay >= asked && delay <= asked + asked / 10, "{asked:?} became {delay:?}");
            }
        }
    }

    #[test]
    fn success_starts_over() {
        let mut backoff = Backoff::seeded(INITIAL, MAX, 7);
        for _ in 0..10 {
            backoff.next(None);
        }
        backoff.reset();
        assert!(backoff.next(None) <= INITIAL);
    }

    #[test]
    fn extreme_limits_neither_overflow_nor_panic() {
        let mut backoff = Backoff::seeded(Duration::MAX, Duration::ZERO, 3);
        assert!(backoff.next(None) >= Duration::MAX / 2);
        assert!(backoff.next(Some(Duration::MAX)) == Duration::MAX);
        assert_eq!(Backoff::seeded(Duration::ZERO, Duration::ZERO, 3).next(None), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_takes_the_delay_on_the_clock() {
        let mut backoff = Backoff::seeded(INITIAL, MAX, 11);
        let expected = Backoff::seeded(INITIAL, MAX, 11).next(None);
        let start = tokio::time::Instant::now();
        backoff.wait(None).await;
        let waited = start.elapsed();
        // The clock of a paused runtime moves in whole milliseconds.
        assert!(waited >= expected && waited <= expected + Duration::from_millis(1), "{waited:?} of {expected:?}");
    }
}
