//! Every metric of the process, in one table.

mod ages;
pub mod reference;
mod samples;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use afflux_bus::PartitionId;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metered::Watch;

pub use ages::Ages;
pub use reference::Described;
pub use samples::Sample;

/// What kind of telemetry an item is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Signal {
    /// Spans of traces.
    Spans,
    /// Log records.
    Logs,
    /// Kubernetes events, each a log record.
    Events,
}

impl Signal {
    /// As in topic names, table names and label values.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Spans => "spans",
            Self::Logs => "logs",
            Self::Events => "events",
        }
    }
}

/// Labels of a component's throughput.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ComponentLabels {
    /// The component's name, e.g. `sinks.parquet`.
    pub component: &'static str,
    /// `spans`, `logs`, `events`.
    pub signal: &'static str,
}

/// Labels of what was refused or dropped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReasonLabels {
    /// The component's name.
    pub component: &'static str,
    /// A fixed word, e.g. `malformed`, `too_large`, `bus_full`.
    pub reason: &'static str,
}

/// Labels of a step of a processor's chain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepLabels {
    /// The component that runs it.
    pub component: &'static str,
    /// `spans`, `logs`, `events`.
    pub signal: &'static str,
    /// The step's name, e.g. `enrich`.
    pub step: &'static str,
}

/// Labels of what a step did with items.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StepReasonLabels {
    /// The component that runs it.
    pub component: &'static str,
    /// `spans`, `logs`, `events`.
    pub signal: &'static str,
    /// The step's name.
    pub step: &'static str,
    /// A fixed word, e.g. `sampled_out`, `joined`.
    pub reason: &'static str,
}

/// Labels of what a consumer did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabels {
    /// The component that reads.
    pub component: &'static str,
    /// A fixed word, e.g. `committed`, `fenced`, `assigned`.
    pub outcome: &'static str,
}

/// Labels of a consumer's position.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabels {
    /// The component that reads.
    pub component: &'static str,
    /// Full topic name.
    pub topic: String,
    /// Partition number.
    pub partition: u32,
}

/// Labels of another Kafka cluster, or of a Kubernetes cluster, that is read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SourceLabels {
    /// The component that reads.
    pub component: &'static str,
    /// The source's name.
    pub source: String,
}

impl PartitionLabels {
    /// Labels of a partition that a component reads.
    pub fn new(component: &'static str, partition: &PartitionId) -> Self {
        Self { component, topic: partition.topic.to_string(), partition: partition.partition }
    }
}

macro_rules! metrics {
    ($($(#[doc = $help:literal])+ $field:ident: $ty:ty = $name:literal,)+) => {
        /// The table. Every field is registered under the name behind it, with its first doc line as help.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Mutex<Registry>,
            watches: Mutex<Vec<Weak<Watch>>>,
            $($(#[doc = $help])+ pub $field: $ty,)+
        }

        impl Metrics {
            /// A registry with every metric at zero.
            #[allow(clippy::new_without_default)]
            pub fn new() -> Self {
                let mut registry = Registry::with_prefix("afflux");
                $(let $field = <$ty>::default();
                registry.register($name, concat!($($help),+).trim().trim_end_matches('.'), $field.clone());)+
                Self { registry: Mutex::new(registry), watches: Mutex::default(), $($field,)+ }
            }

            /// Every metric, for the documentation.
            pub const REFERENCE: &[Described] =
                &[$(Described { name: $name, help: concat!($($help),+), rust_type: stringify!($ty) },)+];

            /// Creates a child of every family: empty ones are not exposed.
            #[cfg(test)]
            fn fill(&self) {
                $(drop(self.$field.get_or_create(&Default::default()));)+
            }
        }
    };
}

metrics! {
    /// Spans or log records accepted from clients, after the bus acknowledged them.
    accepted_items: Family<ComponentLabels, Counter> = "accepted_items",
    /// Uncompressed request bytes accepted from clients.
    accepted_bytes: Family<ComponentLabels, Counter> = "accepted_bytes",
    /// Requests answered with an error, by reason.
    refused_requests: Family<ReasonLabels, Counter> = "refused_requests",
    /// Items dropped on purpose, by reason.
    dropped_items: Family<ReasonLabels, Counter> = "dropped_items",
    /// Records that could not be delivered and went to the dead letters, by reason.
    dead_letters: Family<ReasonLabels, Counter> = "dead_letters",
    /// Items that a processor or sink took from the bus and settled.
    settled_items: Family<ComponentLabels, Counter> = "settled_items",
    /// Record bytes that a processor or sink took from the bus and settled.
    settled_bytes: Family<ComponentLabels, Counter> = "settled_bytes",
    /// Items that came to a step of a processor's chain.
    step_items: Family<StepLabels, Counter> = "step_items",
    /// Items that a step dropped on purpose, by reason.
    step_dropped_items: Family<StepReasonLabels, Counter> = "step_dropped_items",
    /// What a step did with items that went on, or found in them, by a word for it.
    step_outcomes: Family<StepReasonLabels, Counter> = "step_outcomes",
    /// Cumulative series that are kept, per partition of the metrics topic.
    active_series: Family<PartitionLabels, Gauge> = "active_series",
    /// Attempts that failed and are retried, by reason.
    retries: Family<ReasonLabels, Counter> = "retries",
    /// Records that retention took from the bus before the component could read them, per partition.
    expired_records: Family<PartitionLabels, Counter> = "expired_records",
    /// Records not yet settled, per partition.
    lag_records: Family<PartitionLabels, Gauge> = "lag_records",
    /// Age of the oldest record that this instance has not settled, per partition that it owns: by the record's own time,
    /// and where all that was read is settled, by the last one's.
    lag_seconds: Family<PartitionLabels, Gauge<f64, AtomicU64>> = "lag_seconds",
    /// How long the oldest record that was read and is not settled has been waiting, per partition that is owned.
    watermark_age_seconds: Family<PartitionLabels, Gauge<f64, AtomicU64>> = "watermark_age_seconds",
    /// Partitions that came (`assigned`) and went (`revoked`) in rebalances and restarts of transactions.
    rebalanced_partitions: Family<OutcomeLabels, Counter> = "rebalanced_partitions",
    /// Commits of offsets by outcome: `committed`, `fenced` (somebody else has taken over), `failed`, `refused`.
    commits: Family<OutcomeLabels, Counter> = "commits",
    /// Transactions by outcome: as commits, and `restarted` (their end unknown, settled by starting over).
    transactions: Family<OutcomeLabels, Counter> = "transactions",
    /// Input partitions that are set aside because their output takes nothing; `signal` is empty.
    suspended_partitions: Family<ComponentLabels, Gauge> = "suspended_partitions",
    /// Records copied from another Kafka cluster, after the bus acknowledged them. One that is copied again counts again.
    copied_records: Family<SourceLabels, Counter> = "copied_records",
    /// Bytes of those records: keys, values and headers.
    copied_bytes: Family<SourceLabels, Counter> = "copied_bytes",
    /// Whether a source answers, another Kafka cluster or a Kubernetes API server: 1, or 0.
    source_up: Family<SourceLabels, Gauge> = "source_up",
    /// Records of another Kafka cluster not yet copied.
    source_lag_records: Family<SourceLabels, Gauge> = "source_lag_records",
    /// Lists and watches of a Kubernetes API server by how they ended (`listed`, `closed`, `empty`, `silent`, `expired`,
    /// `failed`), gaps that were published (`gap`), and resource versions that are no numbers (`uncomparable`).
    cluster_watches: Family<OutcomeLabels, Counter> = "cluster_watches",
    /// Files that are open for reading.
    open_files: Family<ComponentLabels, Gauge> = "open_files",
    /// Bytes of files that were read; what is read again counts again.
    file_bytes_read: Family<ComponentLabels, Counter> = "file_bytes_read",
    /// Age of records, by their own time, when a backend acknowledged them.
    delivery_age_seconds: Family<ComponentLabels, Ages> = "delivery_age_seconds",
    /// Freshness: the age of the newest record that a backend has acknowledged.
    freshness_seconds: Family<ComponentLabels, Gauge<f64, AtomicU64>> = "freshness_seconds",
    /// Items that a sink changed to fit the limits of its backend, by the change.
    changed_items: Family<ReasonLabels, Counter> = "changed_items",
    /// Whether a backend refuses whatever it is sent, by reason: 1, or 0.
    blocked: Family<ReasonLabels, Gauge> = "blocked",
    /// Bytes in flight within a component's budget.
    in_flight_bytes: Family<ComponentLabels, Gauge> = "in_flight_bytes",
    /// Files that a sink completed.
    files_written: Family<ComponentLabels, Counter> = "files_written",
    /// Bytes of the files that a sink completed.
    file_bytes_written: Family<ComponentLabels, Counter> = "file_bytes_written",
}

impl Metrics {
    /// Reads what a consumer has in hand whenever the metrics are read, as long as there is that consumer.
    pub(crate) fn watch(&self, watch: &Arc<Watch>) {
        self.watches().push(Arc::downgrade(watch));
    }

    fn watches(&self) -> MutexGuard<'_, Vec<Weak<Watch>>> {
        self.watches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The OpenMetrics text of every metric.
    pub fn encode(&self) -> String {
        self.watches().retain(|watch| watch.upgrade().inspect(|watch| watch.report(self)).is_some());
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &registry);
        text
    }

    /// Every value that is exposed now.
    pub fn samples(&self) -> Vec<Sample> {
        samples::parse(&self.encode())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_of_the_reference_is_exposed() {
        let metrics = Metrics::new();
        metrics.fill();
        let text = metrics.encode();
        for Described { name, help, .. } in Metrics::REFERENCE {
            assert!(text.contains(&format!("# HELP afflux_{name} ")), "{name} is missing");
            assert!(!help.trim().is_empty(), "{name} has no help");
        }
    }
}
