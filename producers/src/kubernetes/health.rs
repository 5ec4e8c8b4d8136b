//! How the streams of a cluster are, as the one state of the component.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use afflux_runtime::Metrics;
use afflux_runtime::admin::{Health, State};
use afflux_runtime::metrics::{OutcomeLabels, ReasonLabels, SourceLabels};

use super::NAME;

/// What keeps streams from working.
///
/// A cluster that is away, or does not permit something, leaves the component degraded, not failing: a process that takes
/// something else in is not to be taken out of service for it.
pub(super) struct Board {
    health: Health,
    pub(super) metrics: Arc<Metrics>,
    cluster: String,
    troubles: Mutex<Troubles>,
}

#[derive(Default)]
struct Troubles {
    cluster: BTreeMap<&'static str, String>,
    bus: BTreeMap<&'static str, String>,
}

impl Board {
    pub(super) fn new(cluster: &str, health: Health, metrics: Arc<Metrics>) -> Self {
        Self { health, metrics, cluster: cluster.to_owned(), troubles: Mutex::default() }
    }

    /// The API server does not let a stream work.
    pub(super) fn failed(&self, stream: &'static str, why: &str) {
        let news = self.change(|troubles| troubles.cluster.insert(stream, why.to_owned()).as_deref() != Some(why));
        if news {
            tracing::warn!(cluster = self.cluster, stream, error = why, "the cluster cannot be read; retrying");
        }
    }

    pub(super) fn works(&self, stream: &'static str) {
        if self.change(|troubles| troubles.cluster.remove(stream).is_some()) {
            tracing::info!(cluster = self.cluster, stream, "the cluster is read");
        }
    }

    pub(super) fn bus_failed(&self, stream: &'static str, why: &str) {
        tracing::warn!(
            cluster = self.cluster,
            stream,
            error = why,
            "the bus does not take what was read; starting over"
        );
        self.change(|troubles| troubles.bus.insert(stream, why.to_owned()));
        self.metrics.retries.get_or_create(&ReasonLabels { component: NAME, reason: "bus" }).inc();
    }

    pub(super) fn bus_works(&self, stream: &'static str) {
        self.change(|troubles| troubles.bus.remove(stream));
    }

    /// Counts how a list or a watch came to its end.
    pub(super) fn ended(&self, outcome: &'static str) {
        self.metrics.cluster_watches.get_or_create(&OutcomeLabels { component: NAME, outcome }).inc();
    }

    /// Counts what is not published.
    pub(super) fn dropped(&self, reason: &'static str) {
        self.metrics.dropped_items.get_or_create(&ReasonLabels { component: NAME, reason }).inc();
    }

    fn change<T>(&self, change: impl FnOnce(&mut Troubles) -> T) -> T {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut troubles);
        let up = i64::from(troubles.cluster.is_empty());
        let labels = SourceLabels { component: NAME, source: self.cluster.clone() };
        self.metrics.source_up.get_or_create(&labels).set(up);
        self.health.set(troubles.state(&self.cluster));
        answer
    }
}

impl Troubles {
    fn state(&self, cluster: &str) -> State {
        if let Some(why) = self.bus.values().next() {
            return State::Failing(format!("bus: {why}"));
        }
        if self.cluster.is_empty() {
            return State::Ready;
        }
        let told: Vec<_> = self.cluster.iter().map(|(stream, why)| format!("{stream}: {why}")).collect();
        State::Degraded(format!("cluster {cluster}: {}", told.join("; ")))
    }
}

#[cfg(test)]
mod tests {
    use afflux_runtime::admin::HealthTable;

    use super::*;

    #[test]
    fn a_cluster_that_is_away_degrades_and_a_bus_that_is_away_fails() {
        let (table, metrics) = (HealthTable::default(), Arc::new(Metrics::new()));
        let board = Board::new("eu", table.component(NAME), Arc::clone(&metrics));
        let state = || table.snapshot()[NAME].clone();
        board.failed("events", "away");
        board.failed("objects", "forbidden");
        assert_eq!(state(), State::Degraded("cluster eu: events: away; objects: forbidden".into()));
        assert!(metrics.encode().contains(r#"afflux_source_up{component="producers.kubernetes",source="eu"} 0"#));
        board.bus_failed("events", "full");
        assert_eq!(state(), State::Failing("bus: full".into()));
        board.bus_works("events");
        board.works("events");
        board.works("objects");
        assert_eq!(state(), State::Ready);
        assert!(metrics.encode().contains(r#"afflux_source_up{component="producers.kubernetes",source="eu"} 1"#));
    }
}
