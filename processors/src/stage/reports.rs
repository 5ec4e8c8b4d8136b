//! What the chains show on the admin port.

use std::time::Duration;

use afflux_runtime::admin::Health;
use tokio::time::Instant;

use crate::work::Work;

/// Time between two reports at least: making one holds the stage up.
const EVERY: Duration = Duration::from_secs(5);
/// Part of the stage's time that reports may take, where they take long: a hundredth.
const SHARE: u32 = 100;

/// When the steps are asked for their reports: at the start, and after commits, [`EVERY`] so often at most. The last commit
/// before a silence is reported too.
pub(super) struct Reports {
    /// `None` where nothing was committed since the last reports.
    due: Option<Instant>,
    /// The earliest time of the next ones.
    next: Instant,
}

impl Reports {
    /// Shows which steps there are, in their order, and what they report before anything has come.
    pub(super) fn start(work: &Work, health: &Health) -> Self {
        for path in work.paths() {
            health.set_chain(path.signal, path.chain.names());
        }
        show(work, health);
        Self { due: None, next: Instant::now() }
    }

    /// When the next reports are to be published.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// A transaction was committed.
    pub(super) fn committed(&mut self) {
        self.due = Some(self.next);
    }

    /// Publishes what every step reports.
    pub(super) fn publish(&mut self, work: &Work, health: &Health) {
        let begin = Instant::now();
        show(work, health);
        (self.due, self.next) = (None, begin + EVERY.max(begin.elapsed() * SHARE));
    }
}

fn show(work: &Work, health: &Health) {
    let reports = work.paths().iter().flat_map(|path| path.chain.reports());
    reports.for_each(|(name, report)| health.publish(name, report));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use afflux_runtime::admin::HealthTable;
    use afflux_runtime::{Metrics, Signal};
    use afflux_schemas::topics::Topics;
    use serde_json::Value;

    use super::*;
    use crate::chain::{At, Chain, Envelope, Next, Step};
    use crate::derive::Derived;
    use crate::merge::{Merger, OutputTopics};
    use crate::work::{DeadLetters, Path};

    /// Reports how often it was asked.
    struct Asked(AtomicU64);

    impl Step for Asked {
        fn name(&self) -> &'static str {
            "asked"
        }
        fn process(&mut self, envelope: Envelope, _: &At<'_>, next: &mut Next<'_>) {
            next.pass(envelope);
        }
        fn report(&self) -> Option<(&'static str, Value)> {
            Some(("asked", (self.0.fetch_add(1, Ordering::Relaxed) + 1).into()))
        }
    }

    fn work() -> Work {
        let path = |signal, steps| Path { signal, partitions: 1, chain: Chain::new(steps) };
        let paths = [
            path(Signal::Spans, vec![Box::new(Asked(AtomicU64::new(0))) as Box<_>]),
            path(Signal::Logs, vec![]),
            path(Signal::Events, vec![]),
        ];
        let made = (Merger::new(OutputTopics::of(&Topics::default()), 1), Derived::new("m".into(), 1, 1));
        let dead_letters = DeadLetters { topic: "d".into(), partitions: 1 };
        Work::new(vec![], paths, made, dead_letters, "c".into(), Arc::new(Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn commits_are_reported_at_once_after_a_silence_and_every_five_seconds_in_a_row() {
        let (work, table) = (work(), HealthTable::default());
        let health = table.component("processors");
        let mut reports = Reports::start(&work, &health);
        assert_eq!((table.report("asked"), reports.due()), (Some(1.into()), None), "before any commit");
        let start = Instant::now();
        let mut published = Vec::new();
        // A commit a second, then none, then one more.
        for second in (0..12).chain([60]) {
            tokio::time::advance(start + Duration::from_secs(second) - Instant::now()).await;
            reports.committed();
            while let Some(due) = reports.due().filter(|due| *due < start + Duration::from_secs(second + 1)) {
                tokio::time::advance(due.saturating_duration_since(Instant::now())).await;
                reports.publish(&work, &health);
                published.push((Instant::now() - start).as_secs());
            }
        }
        assert_eq!(published, [0, 5, 10, 60]);
        assert_eq!(table.report("asked"), Some(5.into()));
        assert_eq!(reports.due(), None);
    }
}
