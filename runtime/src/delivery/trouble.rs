//! What keeps a sink from delivering at the moment, told by whoever is waiting.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long deliveries must have failed before that is shown.
const PATIENCE: Duration = Duration::from_secs(10);
/// For how long a backend that has stored something is one that does not refuse everything.
const RECENT: Duration = Duration::from_secs(60);

/// Deliveries that fail at the moment.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    /// When something was stored last.
    stored: Option<Instant>,
    by_id: BTreeMap<u64, Problem>,
}

/// Why a delivery fails.
#[derive(Clone, Debug)]
struct Problem {
    since: Instant,
    error: String,
    /// Why all deliveries are refused, in one word.
    blocked: Option<&'static str>,
}

/// How a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// Nothing has failed for long.
    Well,
    /// Its backend is slow, away, or takes no more for now: nothing is lost, and nobody else is held up.
    Delayed(String),
    /// Its backend refuses everything until somebody mends the cause: a reason in one word, and in full.
    Blocked(&'static str, String),
}

impl Troubles {
    /// One delivery, which has no trouble yet.
    pub(super) fn begin(self: &Arc<Self>) -> Trouble {
        let mut waiting = self.waiting();
        waiting.next += 1;
        Trouble { id: waiting.next, troubles: Arc::clone(self) }
    }

    /// Of those that fail, what matters most.
    pub(super) fn condition(&self) -> Condition {
        let waiting = self.waiting();
        let problems = waiting.by_id.values();
        // Others may be let in: those of another tenant.
        let recently = waiting.stored.filter(|stored| stored.elapsed() < RECENT);
        let alone = |problem: &Problem| recently.is_none_or(|stored| stored < problem.since);
        let mut blocked = problems.clone().filter(|problem| alone(problem));
        if let Some((reason, problem)) = blocked.find_map(|problem| Some((problem.blocked?, problem))) {
            return Condition::Blocked(reason, problem.error.clone());
        }
        let oldest = problems.filter(|problem| problem.since.elapsed() >= PATIENCE).min_by_key(|problem| problem.since);
        oldest.map_or(Condition::Well, |problem| Condition::Delayed(problem.error.clone()))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The trouble that one delivery has. Over when dropped.
#[derive(Debug)]
pub(super) struct Trouble {
    id: u64,
    troubles: Arc<Troubles>,
}

impl Trouble {
    /// An attempt failed.
    pub(super) fn failed(&self, error: &str, blocked: Option<&'static str>) {
        let mut waiting = self.troubles.waiting();
        let since = waiting.by_id.get(&self.id).map_or_else(Instant::now, |problem| problem.since);
        waiting.by_id.insert(self.id, Problem { since, error: error.to_owned(), blocked });
    }

    /// A request is stored.
    pub(super) fn stored(&self) {
        let mut waiting = self.troubles.waiting();
        waiting.stored = Some(Instant::now());
        waiting.by_id.remove(&self.id);
    }

    /// What failed has succeeded.
    pub(super) fn over(&self) {
        self.troubles.waiting().by_id.remove(&self.id);
    }
}

impl Drop for Trouble {
    fn drop(&mut self) {
        self.over();
    }
}
