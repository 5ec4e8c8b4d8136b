//! What `/status` says: per component its state, totals, rates and lag.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::Instant;

use super::health::HealthTable;
use crate::dead_letter::DeadLetters;
use crate::delivery::Replays;
use crate::kubernetes_events::Events;
use crate::metrics::{Metrics, Sample};

/// Time between two samples of the counters.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Samples kept: rates are over the last ten seconds.
const SAMPLES: usize = 11;

/// The answer of `/status`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Id of the process.
    pub pid: u32,
    /// Seconds since the process started.
    pub uptime_seconds: f64,
    /// Whether every component is ready.
    pub ready: bool,
    /// Per component, by name.
    pub components: BTreeMap<String, ComponentStatus>,
    /// The configuration in force, without secrets.
    pub config: Value,
}

/// What is known of one component.
///
/// Totals, rates and gauges go by metric (without `afflux_` and `_total`), then by what its values are split by: the
/// signal, the reason, or nothing (`""`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ComponentStatus {
    /// `starting`, `ready`, `failing`, `finished` or `stopped`.
    pub state: String,
    /// Why it is not ready.
    pub detail: Option<String>,
    /// Names of the steps that telemetry passes through within it, in order, by signal; absent where there are none. What
    /// they did is in `totals` and `rates`: `step_items` by `SIGNAL/STEP`, `step_dropped_items` and `step_outcomes` by
    /// `SIGNAL/STEP/REASON`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub chain: BTreeMap<String, Vec<String>>,
    /// Counters since the process started.
    pub totals: BTreeMap<String, BTreeMap<String, f64>>,
    /// Counters per second, over the last ten seconds at most.
    pub rates: BTreeMap<String, BTreeMap<String, f64>>,
    /// Gauges.
    pub gauges: BTreeMap<String, BTreeMap<String, f64>>,
    /// How far its consumer groups are behind.
    pub lag: Vec<Lag>,
}

/// How far a consumer group is behind in one partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lag {
    /// Full topic name.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
    /// Records not yet settled.
    pub records: u64,
    /// Age of the oldest of them in seconds; absent where another instance owns the partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
}

/// Watches the counters of a process, to tell how it is.
#[derive(Debug)]
pub struct Monitor {
    version: &'static str,
    started: Instant,
    config: Value,
    pub(super) health: HealthTable,
    pub(super) metrics: Arc<Metrics>,
    history: Mutex<VecDeque<(Instant, Vec<Sample>)>>,
    pub(super) dead_letters: OnceLock<DeadLetters>,
    pub(super) replays: OnceLock<Replays>,
    pub(super) events: OnceLock<Events>,
}

impl Monitor {
    /// A monitor of a process that starts now. `config` must be free of secrets.
    pub fn new(version: &'static str, config: Value, health: HealthTable, metrics: Arc<Metrics>) -> Self {
        let history = Mutex::default();
        let (dead_letters, replays, events) = (OnceLock::new(), OnceLock::new(), OnceLock::new());
        Self { version, started: Instant::now(), config, health, metrics, history, dead_letters, replays, events }
    }

    /// Lets the admin port show, replay and drop the dead letters of the process's bus. The first ones stay.
    pub fn set_dead_letters(&self, dead_letters: DeadLetters) {
        let _ = self.dead_letters.set(dead_letters);
    }

    /// Lets the admin port feed sinks of the process again. The first ones stay.
    pub fn set_replays(&self, replays: Replays) {
        let _ = self.replays.set(replays);
    }

    /// Lets the admin port show the Kubernetes events on the process's bus. The first ones stay.
    pub fn set_events(&self, events: Events) {
        let _ = self.events.set(events);
    }

    /// Samples the counters every second, until dropped. Without it, rates are averages since the start.
    pub async fn watch(&self) {
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        loop {
            ticks.tick().await;
            let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
            history.push_back((Instant::now(), self.metrics.samples()));
            if history.len() > SAMPLES {
                history.pop_front();
            }
        }
    }

    /// How the process is now.
    pub fn status(&self) -> Status {
        let now = Instant::now();
        let samples = self.metrics.samples();
        let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, before) = match history.front() {
            Some((at, samples)) if *at < now => (now - *at, samples.as_slice()),
            _ => (now - self.started, [].as_slice()),
        };
        let mut components: BTreeMap<String, ComponentStatus> = BTreeMap::new();
        for (name, state) in self.health.snapshot() {
            let component = components.entry(name.to_owned()).or_default();
            state.as_str().clone_into(&mut component.state);
            component.detail = state.detail().map(str::to_owned);
            let owned = |steps: Vec<&str>| steps.into_iter().map(str::to_owned).collect();
            let chain = self.health.chain(name).into_iter().filter(|(_, steps)| !steps.is_empty());
            component.chain = chain.map(|(signal, steps)| (signal.to_owned(), owned(steps))).collect();
        }
        for sample in &samples {
            let Some(component) = sample.label("component").and_then(|name| components.get_mut(name)) else { continue };
            component.add(sample, before, since.as_secs_f64());
        }
        Status {
            version: self.version.to_owned(),
            pid: std::process::id(),
            uptime_seconds: (now - self.started).as_secs_f64(),
            ready: self.health.ready(),
            components,
            config: self.config.clone(),
        }
    }
}

impl ComponentStatus {
    fn add(&mut self, sample: &Sample, before: &[Sample], seconds: f64) {
        let place = (sample.label("topic"), sample.label("partition"));
        if let ("lag_records" | "lag_seconds", (Some(topic), Some(partition))) = (sample.name.as_str(), place) {
            let lag = self.lag_of(topic, partition.parse().unwrap_or_default());
            match sample.name.as_str() {
                // A gauge never holds more than 2^53 records.
                "lag_records" => lag.records = sample.value.max(0.0) as u64,
                _ => lag.seconds = Some(sample.value),
            }
            return;
        }
        let others: Vec<&str> =
            sample.labels.iter().filter(|(name, _)| name != "component").map(|(_, value)| value.as_str()).collect();
        let split = others.join("/");
        if !sample.counter {
            self.gauges.entry(sample.name.clone()).or_default().insert(split, sample.value);
            return;
        }
        let earlier = before.iter().find(|s| s.name == sample.name && s.labels == sample.labels);
        let grown = sample.value - earlier.map_or(0.0, |s| s.value);
        let rate = if seconds > 0.0 { grown / seconds } else { 0.0 };
        self.rates.entry(sample.name.clone()).or_default().insert(split.clone(), rate);
        self.totals.entry(sample.name.clone()).or_default().insert(split, sample.value);
    }
}

impl ComponentStatus {
    fn lag_of(&mut self, topic: &str, partition: u32) -> &mut Lag {
        let found = self.lag.binary_search_by(|lag| (lag.topic.as_str(), lag.partition).cmp(&(topic, partition)));
        let at = found.unwrap_or_else(|at| {
            self.lag.insert(at, Lag { topic: topic.to_owned(), partition, records: 0, seconds: None });
            at
        });
        &mut self.lag[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::State;
    use crate::metrics::{ComponentLabels, PartitionLabels, ReasonLabels, Signal, StepLabels, StepReasonLabels};

    const SPANS: ComponentLabels = ComponentLabels { component: "producers.x", signal: "spans" };

    fn monitor() -> Monitor {
        let health = HealthTable::default();
        health.component("producers.x").set(State::Ready);
        health.component("sinks.y").set(State::Starting("waits for the store".into()));
        Monitor::new("1.2.3", serde_json::json!({"cluster": "c"}), health, Arc::new(Metrics::new()))
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_over_the_last_ten_seconds_and_totals_since_the_start() {
        let monitor = monitor();
        let load = async {
            for second in 0..60 {
                let items = if second < 30 { 100 } else { 7 };
                monitor.metrics.accepted_items.get_or_create(&SPANS).inc_by(items);
                tokio::time::sleep(SAMPLE_EVERY).await;
            }
        };
        tokio::select! {
            () = monitor.watch() => {}
            () = load => {}
        }
        let status = monitor.status();
        let component = &status.components["producers.x"];
        assert_eq!(component.totals["accepted_items"]["spans"], 30.0 * 107.0);
        let rate = component.rates["accepted_items"]["spans"];
        assert!((6.2..=7.8).contains(&rate), "{rate}");
        assert_eq!(status.uptime_seconds.round(), 60.0);
    }

    #[tokio::test(start_paused = true)]
    async fn states_reasons_and_lag_stand_with_their_component() {
        let monitor = monitor();
        let refused = ReasonLabels { component: "producers.x", reason: "too_large" };
        monitor.metrics.refused_requests.get_or_create(&refused).inc();
        for partition in [1, 0] {
            let labels = PartitionLabels { component: "sinks.y", topic: "t".into(), partition };
            monitor.metrics.lag_records.get_or_create(&labels).set(i64::from(partition) * 5);
        }
        let labels = PartitionLabels { component: "sinks.y", topic: "t".into(), partition: 1 };
        monitor.metrics.lag_seconds.get_or_create(&labels).set(7.5);
        monitor.metrics.expired_records.get_or_create(&labels).inc_by(9);
        let status = monitor.status();
        assert!(!status.ready);
        assert_eq!(status.components["producers.x"].state, "ready");
        assert_eq!(status.components["producers.x"].totals["refused_requests"]["too_large"], 1.0);
        let sink = &status.components["sinks.y"];
        assert_eq!((sink.state.as_str(), sink.detail.as_deref()), ("starting", Some("waits for the store")));
        let lag = |partition, records, seconds| Lag { topic: "t".into(), partition, records, seconds };
        assert_eq!(sink.lag, [lag(0, 0, None), lag(1, 5, Some(7.5))]);
        assert_eq!(sink.totals["expired_records"]["t/1"], 9.0);
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }

    #[test]
    fn steps_stand_in_their_order_and_are_counted_by_signal_and_name() {
        let monitor = monitor();
        let (component, signal, step) = ("producers.x", "spans", "sample");
        let health = monitor.health.component(component);
        health.set_chain(Signal::Spans, vec!["before"]);
        health.set_chain(Signal::Spans, vec!["sample", "count", "attributes"]);
        let labels = StepLabels { component, signal, step };
        monitor.metrics.step_items.get_or_create(&labels).inc_by(5);
        let labels = StepReasonLabels { component, signal, step, reason: "sampled_out" };
        monitor.metrics.step_dropped_items.get_or_create(&labels).inc_by(4);
        let status = monitor.status();
        let of = &status.components[component];
        let expected = [("spans".to_owned(), ["sample", "count", "attributes"].map(str::to_owned).to_vec())];
        assert_eq!(of.chain, BTreeMap::from(expected));
        assert_eq!(of.totals["step_items"]["spans/sample"], 5.0);
        assert_eq!(of.totals["step_dropped_items"]["spans/sample/sampled_out"], 4.0);
        let text = serde_json::to_string(&status).unwrap();
        assert_eq!(text.matches("\"chain\"").count(), 1, "components without steps do not say so: {text}");
        assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    }
}
