//! How the component is, as its parts see it, and its counters.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use afflux_runtime::admin::{Health, State};
use afflux_runtime::metrics::{ComponentLabels, ReasonLabels};
use afflux_runtime::{Context, Metrics};

use super::NAME;
use super::output::Tally;

const LOGS: ComponentLabels = ComponentLabels { component: NAME, signal: "logs" };

/// What is wrong, and what was done.
pub(super) struct Board {
    health: Health,
    metrics: Arc<Metrics>,
    troubles: Mutex<Troubles>,
    /// Whether the system tells of all changes.
    told: AtomicBool,
}

#[derive(Debug, Default)]
struct Troubles {
    bus: Option<String>,
    positions: Option<String>,
    /// Whether files have been looked for.
    looked: bool,
    unreadable: BTreeMap<PathBuf, ErrorKind>,
}

impl Board {
    pub(super) fn new(context: &Context) -> Self {
        let (health, metrics) = (context.health.clone(), Arc::clone(&context.metrics));
        Self { health, metrics, troubles: Mutex::default(), told: AtomicBool::new(true) }
    }

    /// What the bus said, where it takes nothing.
    pub(super) fn bus(&self, problem: Option<String>) {
        self.change(|troubles| troubles.bus = problem);
    }

    pub(super) fn retried(&self) {
        self.metrics.retries.get_or_create(&ReasonLabels { component: NAME, reason: "bus" }).inc();
    }

    /// The bus holds that many lines and bytes.
    pub(super) fn stored(&self, items: u64, bytes: usize) {
        self.metrics.accepted_items.get_or_create(&LOGS).inc_by(items);
        self.metrics.accepted_bytes.get_or_create(&LOGS).inc_by(bytes as u64);
    }

    pub(super) fn dead(&self, reason: &'static str) {
        self.metrics.dead_letters.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
    }

    /// Positions were written, or could not be.
    pub(super) fn saved(&self, error: Option<io::Error>) {
        let problem = error.map(|error| format!("positions cannot be written: {error}"));
        if let Some(problem) = &problem {
            tracing::error!(problem, "what is read now is read again after a restart");
        }
        self.change(|troubles| troubles.positions = problem);
    }

    /// Files were looked for; so many are open.
    pub(super) fn found(&self, files: usize, unreadable: &BTreeMap<PathBuf, ErrorKind>) {
        self.metrics.open_files.get_or_create(&LOGS).set(i64::try_from(files).unwrap_or(i64::MAX));
        self.change(|troubles| {
            troubles.looked = true;
            troubles.unreadable.clone_from(unreadable);
        });
    }

    /// Directories are watched, or some cannot be.
    pub(super) fn watching(&self, watching: io::Result<()>) {
        let told = watching.is_ok();
        if self.told.swap(told, Ordering::Relaxed)
            && let Err(error) = watching
        {
            tracing::warn!(%error, "not all directories can be watched; files are polled (see fs.inotify.max_user_watches)");
        }
    }

    /// Whether the system tells of all changes.
    pub(super) fn told_of_changes(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    pub(super) fn in_flight(&self, bytes: usize) {
        let labels = ComponentLabels { component: NAME, signal: "all" };
        self.metrics.in_flight_bytes.get_or_create(&labels).set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// What was done to lines.
    pub(super) fn tally(&self, tally: Tally, replaced: u64) {
        let Tally { cut, unwrapped, rewritten, limited, waited, bytes } = tally;
        let changes = [("line_cut", cut), ("invalid_utf8", replaced), ("other_format", unwrapped)];
        for (reason, count) in changes.into_iter().filter(|(_, count)| *count > 0) {
            self.metrics.changed_items.get_or_create(&ReasonLabels { component: NAME, reason }).inc_by(count);
        }
        if limited > 0 {
            let labels = ReasonLabels { component: NAME, reason: "rate_limited" };
            self.metrics.dropped_items.get_or_create(&labels).inc_by(limited);
        }
        if waited > 0 {
            self.metrics
                .retries
                .get_or_create(&ReasonLabels { component: NAME, reason: "rate_limited" })
                .inc_by(waited);
        }
        if rewritten > 0 {
            tracing::debug!(files = rewritten, "files were truncated, and are read from their beginning");
        }
        self.metrics.file_bytes_read.get_or_create(&LOGS).inc_by(bytes);
    }

    fn change(&self, change: impl FnOnce(&mut Troubles)) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut troubles);
        self.health.set(troubles.state());
    }
}

impl Troubles {
    fn state(&self) -> State {
        if let Some(why) = &self.bus {
            return State::Failing(format!("bus: {why}"));
        }
        if !self.looked {
            return State::Starting("looking for files".into());
        }
        let unreadable = self.unreadable.iter().map(|(dir, why)| format!("{} cannot be listed: {why}", dir.display()));
        let told: Vec<_> = self.positions.iter().cloned().chain(unreadable).collect();
        if told.is_empty() { State::Ready } else { State::Degraded(told.join("; ")) }
    }
}
