//! What a sink waits for besides events: the end of an outage of the bus, and the end of its own catching up.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::Bus;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

/// How long a poll stays silent before a stopping sink calls itself caught up with the processors.
const CAUGHT_UP_AFTER: Duration = Duration::from_millis(300);
/// How long a stopping sink reads on at most: on a busy bus it would never catch up.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);
/// How often a bus that did not answer is asked whether it does again.
const PROBE_EVERY: Duration = Duration::from_secs(2);

/// A stop was asked for: what the processors committed last is still read.
#[derive(Clone, Copy, Debug)]
pub struct CatchUp {
    limit: Instant,
    silent: Instant,
}

impl CatchUp {
    /// It begins now.
    pub fn begin() -> Self {
        let now = Instant::now();
        Self { limit: now + CATCH_UP_LIMIT, silent: now + CAUGHT_UP_AFTER }
    }

    /// Something came.
    pub fn heard(&mut self) {
        self.silent = Instant::now() + CAUGHT_UP_AFTER;
    }

    /// When it is over unless something comes.
    pub fn ends_at(&self) -> Instant {
        self.limit.min(self.silent)
    }
}

/// Whether the bus answers. An idle sink hears nothing from a bus that has come back, so it asks.
pub struct Outage {
    bus: Arc<dyn Bus>,
    group: Arc<str>,
    topics: Vec<Arc<str>>,
    /// What the bus said last.
    pub problem: Option<String>,
    /// Notified when it answers again.
    pub answers: Arc<Notify>,
    /// Asks again and again.
    probe: Option<JoinHandle<()>>,
}

impl Outage {
    /// None so far.
    pub fn new(bus: Arc<dyn Bus>, group: &str, topics: Vec<Arc<str>>) -> Self {
        Self { bus, group: group.into(), topics, problem: None, answers: Arc::default(), probe: None }
    }

    /// The bus does not answer.
    pub fn begin(&mut self, problem: String) {
        self.problem = Some(problem);
        if self.probe.is_some() {
            return;
        }
        // A word from an earlier outage is not about this one.
        self.answers = Arc::default();
        let (bus, answers) = (Arc::clone(&self.bus), Arc::clone(&self.answers));
        let (group, topics) = (Arc::clone(&self.group), self.topics.clone());
        self.probe = Some(tokio::spawn(async move {
            sleep(PROBE_EVERY).await;
            while bus.lag(&group, &topics).await.is_err() {
                sleep(PROBE_EVERY).await;
            }
            answers.notify_one();
        }));
    }

    /// The bus answers. Says whether that is news.
    pub fn over(&mut self) -> bool {
        if let Some(probe) = self.probe.take() {
            probe.abort();
        }
        self.problem.take().is_some()
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        self.over();
    }
}
