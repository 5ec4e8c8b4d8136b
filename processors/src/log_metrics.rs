//! Log metrics: how many log records there were of each service and severity, and how many Kubernetes events of each
//! namespace and category.
//!
//! As span metrics, they are deltas in buckets of the records' own time, with no state between transactions.

mod config;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_schemas::otlp::common::Attributes;
use afflux_schemas::otlp::logs::{LogRecordView, LogsView};
use afflux_schemas::otlp::metrics::{Kind, Labels, Point, Temporality, Value};
use hashbrown::HashMap;

pub use config::{InvalidLogMetrics, LogMetricsConfig};

use crate::chain::{At, Envelope, Next, Step, Tally};
use crate::derive::{Derived, MetricName, Owner};
use crate::intern::Texts;
use crate::span_metrics::cardinality::{Governor, OVERFLOW_LABEL, Ticket, Verdict, limited};

/// The step's name.
pub const NAME: &str = "log_metrics";

/// Name of the event that a Kubernetes event is written as.
const KUBERNETES_EVENT: &str = "k8s.event";
const SEVERITIES: [&str; 7] = ["unspecified", "trace", "debug", "info", "warn", "error", "fatal"];
/// Labels of log records, and of Kubernetes events.
const LOG_LABELS: [&str; 2] = ["service", "severity"];
const EVENT_LABELS: [&str; 3] = ["namespace", "category", "type"];
/// Bytes of texts, and sets of labels, that are remembered; beyond them all is forgotten at a commit, and found again.
const MOST_TEXTS: usize = 16 << 20;
const MOST_SETS: usize = 1 << 19;

/// The owner, whether it is an event, and the numbers of the labels' texts.
type Key = (u32, bool, [u32; 3]);

/// A series.
struct Series {
    owner: u32,
    event: bool,
    labels: Labels,
    ticket: Ticket,
    /// What limits have made of it, as a word for it.
    limited: Option<&'static str>,
}

/// The step that counts log records.
pub struct LogMetrics {
    interval_nanos: u64,
    /// Of log records and of events.
    metrics: [MetricName; 2],
    governors: [Governor; 2],
    texts: Texts,
    owners: Vec<Owner>,
    keys: HashMap<Key, u32>,
    series: Vec<Series>,
    /// By series and time bucket, since the last commit.
    counts: HashMap<(u32, u64), u64>,
    now_ms: i64,
}

impl LogMetrics {
    /// A step so configured.
    ///
    /// # Errors
    /// [`InvalidLogMetrics`] names the key at fault.
    pub fn new(config: &LogMetricsConfig) -> Result<Self, InvalidLogMetrics> {
        config.validate()?;
        let metric = |name: &str| MetricName { name: Arc::from(name), unit: "", kind: Kind::Sum(Temporality::Delta) };
        let governor = |labels: &[&str]| Governor::new(config.cardinality.clone(), labels.iter().copied(), None);
        Ok(Self {
            interval_nanos: u64::try_from(config.interval.0.as_nanos()).unwrap_or(u64::MAX),
            metrics: [metric("logs_records_total"), metric("k8s_events_total")],
            governors: [governor(&LOG_LABELS), governor(&EVENT_LABELS)],
            texts: Texts::default(),
            owners: Vec::new(),
            keys: HashMap::new(),
            series: Vec::new(),
            counts: HashMap::new(),
            now_ms: 0,
        })
    }

    fn count(&mut self, envelope: &Envelope) {
        self.now_ms = self.now_ms.max(envelope.timestamp_ms);
        let owner = Owner::of(envelope);
        let owner = self.owners.iter().position(|known| *known == owner).unwrap_or_else(|| {
            self.owners.push(owner);
            self.owners.len() - 1
        }) as u32;
        let received = u64::try_from(envelope.timestamp_ms).unwrap_or_default().saturating_mul(1_000_000);
        for block in LogsView::new(&envelope.value).resource_logs() {
            let service = text(block.resource().attributes(), b"service.name", &mut self.texts);
            let namespace = text(block.resource().attributes(), b"k8s.namespace.name", &mut self.texts);
            for log in block.scope_logs().flat_map(|scope| scope.log_records()) {
                let event = log.event_name() == KUBERNETES_EVENT;
                let labels = if event { self.event(&log, namespace) } else { self.log(&log, service) };
                let series = self.series_of((owner, event, labels));
                let times = [log.time_unix_nano(), log.observed_time_unix_nano()];
                let nanos = times.into_iter().find(|nanos| *nanos > 0).unwrap_or(received);
                *self.counts.entry((series, nanos - nanos % self.interval_nanos)).or_default() += 1;
            }
        }
    }

    fn series_of(&mut self, key: Key) -> u32 {
        if let Some(&known) = self.keys.get(&key) {
            return known;
        }
        let (owner, event, values) = key;
        let governor = &mut self.governors[usize::from(event)];
        let text = |(at, &value): (usize, &u32)| (at, self.texts.text(value).to_owned());
        let mut values: Vec<(usize, String)> =
            values.iter().enumerate().take(governor.labels().len()).map(text).collect();
        let verdict = governor.admit(&self.owners[owner as usize].governed(), &mut values, self.now_ms);
        let labels = match verdict {
            Verdict::Own(_) => {
                let values = values.iter().filter(|(_, value)| !value.is_empty());
                Labels::new(values.map(|(at, value)| (governor.labels()[*at].as_str(), value.as_str())))
            }
            Verdict::Overflow(_) => Labels::new([OVERFLOW_LABEL]),
        };
        let at = self.series.len() as u32;
        let limited = limited(&verdict, &values);
        self.series.push(Series { owner, event, labels, ticket: verdict.ticket(), limited });
        self.keys.insert(key, at);
        at
    }

    fn log(&mut self, log: &LogRecordView<'_>, service: u32) -> [u32; 3] {
        let severity = usize::try_from(log.severity_number().saturating_add(3) / 4).unwrap_or_default().min(6);
        [service, self.texts.intern(SEVERITIES[severity].as_bytes()), 0]
    }

    fn event(&mut self, log: &LogRecordView<'_>, namespace: u32) -> [u32; 3] {
        let own = text(log.attributes(), b"k8s.namespace.name", &mut self.texts);
        let category = text(log.attributes(), b"k8s.event.category", &mut self.texts);
        let kind = text(log.attributes(), b"k8s.event.type", &mut self.texts);
        [if own == 0 { namespace } else { own }, category, kind]
    }
}

/// Number of an attribute's text; that of none where it is absent.
fn text(attributes: Attributes<'_>, key: &[u8], texts: &mut Texts) -> u32 {
    let found = attributes.into_iter().find(|attribute| attribute.key_bytes() == key);
    found.map_or(0, |attribute| texts.intern(attribute.value().as_str().unwrap_or_default().as_bytes()))
}

impl Step for LogMetrics {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, envelope: Envelope, at: &At<'_>, next: &mut Next<'_>) {
        if !at.repeat && !at.counted {
            self.count(&envelope);
        }
        next.pass(envelope);
    }

    fn close(&mut self, derived: &mut Derived, tally: &mut Tally) {
        // Several keys may have led to the same labels, and the same input gives the same output.
        let mut counts: BTreeMap<(u32, bool, &Labels, u64), u64> = BTreeMap::new();
        let mut stale = false;
        for ((at, time), count) in self.counts.drain() {
            let Series { owner, event, labels, ticket, limited } = &self.series[at as usize];
            if let Some(word) = limited {
                tally.note(word, count);
            }
            stale |= !self.governors[usize::from(*event)].touch(*ticket, count, self.now_ms);
            *counts.entry((*owner, *event, labels, time)).or_default() += count;
        }
        for ((owner, event, labels, time), count) in counts {
            let time_unix_nano = time.saturating_add(self.interval_nanos);
            let value = Some(Value::Count(count));
            let point = Point { start_time_unix_nano: time, time_unix_nano, value, exemplars: &[], ended_bounds: &[] };
            derived.add(&self.owners[owner as usize], &self.metrics[usize::from(event)], labels, &point);
        }
        let now_ms = self.now_ms;
        let expired = self.governors.each_mut().map(|governor| !governor.expire(now_ms).is_empty()).contains(&true);
        if stale || expired || self.texts.bytes() > MOST_TEXTS || self.keys.len() > MOST_SETS {
            self.texts = Texts::default();
            self.owners.clear();
            self.keys.clear();
            self.series.clear();
        }
    }
}
