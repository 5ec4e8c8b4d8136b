//! Configuration of the processor stage.

mod chain;
mod ingest;

use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period, Section};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::accumulate::AccumulateConfig;
use crate::attributes::AttributesConfig;
use crate::enrich::EnrichConfig;
use crate::log_metrics::LogMetricsConfig;
use crate::sample::SampleConfig;
use crate::service_graph::GraphConfig;
use crate::span_metrics::SpanMetricsConfig;

pub use chain::{ChainConfig, LogStep, SpanStep};
pub use ingest::{EncodingName, IngestTopic, InvalidIngest, SignalName};

/// `processors`: the stage between the ingest topics and the topics that sinks read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessorsConfig {
    /// Consumer group of the stage.
    pub group: String,
    /// Name of this instance's transactions; must be unique per instance and stay the same when it restarts.
    /// By default the group and the host name.
    pub transactional_id: Option<String>,
    /// Name of this instance within the group; must be unique and stay the same when it restarts. On Kafka, its
    /// partitions then wait for a restart instead of going to others and back. Empty: they do not.
    pub instance_id: Option<String>,
    /// Whether topics named `SOURCE.` and the name of an ingest topic are read too, as MirrorMaker 2 names what it mirrors
    /// from other Kafka clusters. `SOURCE` is the cluster of what names none.
    pub mirrors: bool,
    /// When a transaction is committed.
    pub commit: CommitConfig,
    /// Topics of others that are read besides our own ingest topics. They must exist: afflux does not create them.
    pub ingest: Vec<IngestTopic>,
    /// Which steps telemetry passes through.
    pub chain: ChainConfig,
    /// The step `attributes`.
    pub attributes: AttributesConfig,
    /// The step `enrich`.
    pub enrich: EnrichConfig,
    /// The step `span_metrics`.
    pub span_metrics: SpanMetricsConfig,
    /// The step `service_graph`.
    pub service_graph: GraphConfig,
    /// The step `sample`.
    pub sample: SampleConfig,
    /// The step `log_metrics`.
    pub log_metrics: LogMetricsConfig,
    /// Adds the deltas of derived metrics up to series.
    pub accumulate: Section<AccumulateConfig>,
}

/// `processors.commit`: a transaction ends at whichever limit is reached first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommitConfig {
    /// Age of the oldest record read since the last commit.
    pub age: Period,
    /// Bytes read since the last commit.
    pub bytes: ByteSize,
}

impl Default for ProcessorsConfig {
    fn default() -> Self {
        Self {
            group: "afflux-processors".into(),
            transactional_id: None,
            instance_id: None,
            mirrors: false,
            commit: CommitConfig::default(),
            ingest: Vec::new(),
            chain: ChainConfig::default(),
            attributes: AttributesConfig::default(),
            enrich: EnrichConfig::default(),
            span_metrics: SpanMetricsConfig::default(),
            service_graph: GraphConfig::default(),
            sample: SampleConfig::default(),
            log_metrics: LogMetricsConfig::default(),
            accumulate: Section::default(),
        }
    }
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self { age: Period(Duration::from_millis(200)), bytes: ByteSize::mib(8) }
    }
}
