//! How the sources are, by name, as the one state of the component.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use afflux_runtime::Metrics;
use afflux_runtime::admin::{Health, State};
use afflux_runtime::metrics::SourceLabels;

use super::KafkaSources;

/// What keeps each source from being read, and what the bus says to what was read.
///
/// Sources that are away leave the component degraded, not failing: a process that takes something else in is not to
/// be taken out of service for them.
pub(super) struct Board {
    health: Health,
    metrics: Arc<Metrics>,
    troubles: Mutex<Troubles>,
}

#[derive(Debug, Default)]
struct Troubles {
    sources: BTreeMap<String, String>,
    /// By the source that has something to write.
    bus: BTreeMap<String, String>,
}

impl Board {
    /// None of the sources has answered yet.
    pub(super) fn new<'n>(names: impl Iterator<Item = &'n str>, health: Health, metrics: Arc<Metrics>) -> Self {
        let board = Self { health, metrics, troubles: Mutex::default() };
        names.for_each(|name| board.source_failed(name, "not connected yet"));
        board
    }

    pub(super) fn source_failed(&self, name: &str, why: &str) {
        self.up(name, false);
        self.change(|troubles| {
            troubles.sources.insert(name.to_owned(), why.to_owned());
        });
    }

    pub(super) fn source_works(&self, name: &str) {
        self.up(name, true);
        self.change(|troubles| {
            troubles.sources.remove(name);
        });
    }

    pub(super) fn bus_failed(&self, name: &str, why: &str) {
        self.change(|troubles| {
            troubles.bus.insert(name.to_owned(), why.to_owned());
        });
    }

    pub(super) fn bus_works(&self, name: &str) {
        self.change(|troubles| {
            troubles.bus.remove(name);
        });
    }

    fn up(&self, name: &str, up: bool) {
        let labels = SourceLabels { component: KafkaSources::NAME, source: name.to_owned() };
        self.metrics.source_up.get_or_create(&labels).set(i64::from(up));
    }

    fn change(&self, change: impl FnOnce(&mut Troubles)) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut troubles);
        self.health.set(troubles.state());
    }
}

impl Troubles {
    fn state(&self) -> State {
        if let Some(why) = self.bus.values().next() {
            return State::Failing(format!("bus: {why}"));
        }
        if self.sources.is_empty() {
            return State::Ready;
        }
        let told: Vec<_> = self.sources.iter().map(|(name, why)| format!("source {name}: {why}")).collect();
        State::Degraded(told.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use afflux_runtime::admin::HealthTable;

    use super::*;

    #[test]
    fn the_component_is_as_its_sources_are_and_fails_only_with_the_bus() {
        let (table, metrics) = (HealthTable::default(), Arc::new(Metrics::new()));
        let health = table.component(KafkaSources::NAME);
        let board = Board::new(["east", "west"].into_iter(), health, Arc::clone(&metrics));
        let state = || table.snapshot()[KafkaSources::NAME].clone();
        let both = "source east: not connected yet; source west: not connected yet";
        assert_eq!(state(), State::Degraded(both.into()));
        board.source_works("east");
        board.source_failed("west", "away");
        assert_eq!(state(), State::Degraded("source west: away".into()));
        assert!(table.ready(), "what else the process does goes on");
        let text = metrics.encode();
        assert!(text.contains(r#"afflux_source_up{component="producers.kafka",source="west"} 0"#), "{text}");
        assert!(text.contains(r#"afflux_source_up{component="producers.kafka",source="east"} 1"#), "{text}");
        board.bus_failed("east", "full");
        assert_eq!(state(), State::Failing("bus: full".into()));
        board.bus_works("east");
        board.source_works("west");
        assert_eq!(state(), State::Ready);
    }
}
