//! Wall time as an input.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// Tells the time of day; the system's unless a test sets another.
#[derive(Clone)]
pub struct Clock {
    now_ms: Arc<dyn Fn() -> i64 + Send + Sync>,
}

impl Clock {
    /// A clock that answers with this function, in milliseconds since the Unix epoch.
    pub fn new(now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        Self { now_ms: Arc::new(now_ms) }
    }

    /// The system's clock.
    pub fn system() -> Self {
        Self::new(|| {
            let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
        })
    }

    /// Milliseconds since the Unix epoch.
    pub(crate) fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    /// This moment, to measure an age from.
    pub(crate) fn mark(&self) -> Mark {
        Mark { instant: Instant::now(), wall_ms: self.now_ms() }
    }

    /// How old a mark is: by the monotonic clock or the wall clock, whichever says more. The former stands still
    /// while a machine is suspended, the latter may be set back.
    pub(crate) fn age(&self, mark: Mark) -> Duration {
        let wall = u64::try_from(self.now_ms() - mark.wall_ms).unwrap_or(0);
        mark.instant.elapsed().max(Duration::from_millis(wall))
    }
}

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.now_ms())
    }
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark {
    instant: Instant,
    wall_ms: i64,
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn age_is_what_the_faster_clock_says() {
        let wall = Arc::new(AtomicI64::new(1_000_000));
        let clock = Clock::new({
            let wall = Arc::clone(&wall);
            move || wall.load(Ordering::Relaxed)
        });
        let mark = clock.mark();
        tokio::time::advance(Duration::from_secs(5)).await;
        wall.fetch_sub(60_000, Ordering::Relaxed);
        assert_eq!(clock.age(mark), Duration::from_secs(5), "the wall clock was set back");
        wall.fetch_add(120_000, Ordering::Relaxed);
        assert_eq!(clock.age(mark), Duration::from_secs(60), "the machine was suspended");
    }
}
