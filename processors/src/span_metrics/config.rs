//! Configuration of span metrics.

use std::time::Duration;

use afflux_runtime::config::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cardinality::CardinalityConfig;
use super::filter::FilterPolicy;

/// `processors.span_metrics`: how spans are counted.
///
/// Names, labels, buckets and meaning are by default those of the metrics generator of Grafana Tempo.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SpanMetricsConfig {
    /// After whom metrics and labels are named: `tempo`, or `connector` for the Collector's span metrics connector.
    pub naming: Naming,
    /// Width of the time buckets that spans are counted in, by their end.
    pub interval: Period,
    /// Which of the span's own properties are labels.
    pub intrinsic_dimensions: IntrinsicDimensions,
    /// Attributes that are labels too, looked up in the resource first, then in the span.
    pub dimensions: Vec<String>,
    /// Labels made of several attributes.
    pub dimension_mappings: Vec<DimensionMapping>,
    /// Which spans are counted. A span must pass every policy.
    pub filter_policies: Vec<FilterPolicy>,
    /// Whether spans are counted.
    pub calls: bool,
    /// Whether there are histograms of durations.
    pub latency: bool,
    /// Whether the bytes of spans are summed up.
    pub size: bool,
    /// How durations are counted: `classic` between fixed bounds, `native` in exponential buckets, or `both`.
    pub histograms: Histograms,
    /// Bounds of classic histograms in seconds, rising. Empty: those of whom `naming` follows.
    pub buckets: Vec<f64>,
    /// Whether histograms name spans as examples, one per bucket, series and interval.
    pub exemplars: bool,
    /// Whether resources are told in `traces_target_info`, and series have the labels `job` and `instance`.
    pub target_info: bool,
    /// Whether there is a label `instance`, where `target_info` is on.
    pub instance_label: bool,
    /// Resource attributes left out of `traces_target_info`.
    pub target_info_excluded_dimensions: Vec<String>,
    /// A span's attribute with the ratio by which it was sampled: 0.1 counts as ten spans.
    pub span_multiplier_key: Option<String>,
    /// Whether a span counts as many times as its `tracestate` says (`ot=th:`).
    pub weight_by_trace_state: bool,
    /// Spans that ended so long before or after their record was written are not counted. Empty: all are. What is late is
    /// counted in the time bucket that it belongs to.
    pub slack: Option<Period>,
    /// Bounds for the number of series.
    pub cardinality: CardinalityConfig,
}

/// After whom metrics and labels are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// `traces_spanmetrics_calls_total{service, span_name, span_kind, status_code}`, seconds.
    #[default]
    Tempo,
    /// `traces.span.metrics.calls{service.name, span.name, span.kind, status.code}`, milliseconds.
    Connector,
}

/// How durations are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Histograms {
    /// Between fixed bounds.
    #[default]
    Classic,
    /// In exponential buckets, at most 100.
    Native,
    /// Both.
    Both,
}

/// Which of a span's own properties are labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct IntrinsicDimensions {
    /// The resource's `service.name`.
    pub service: bool,
    /// The span's name.
    pub span_name: bool,
    /// The span's kind.
    pub span_kind: bool,
    /// The status code.
    pub status_code: bool,
    /// The status message.
    pub status_message: bool,
}

/// A label made of several attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DimensionMapping {
    /// Name of the label.
    pub name: String,
    /// The attributes whose values are joined; absent ones are left out.
    pub source_labels: Vec<String>,
    /// What stands between them.
    #[serde(default)]
    pub join: String,
}

impl Default for IntrinsicDimensions {
    fn default() -> Self {
        Self { service: true, span_name: true, span_kind: true, status_code: true, status_message: false }
    }
}

impl Default for SpanMetricsConfig {
    fn default() -> Self {
        Self {
            naming: Naming::default(),
            interval: Period(Duration::from_secs(15)),
            intrinsic_dimensions: IntrinsicDimensions::default(),
            dimensions: Vec::new(),
            dimension_mappings: Vec::new(),
            filter_policies: Vec::new(),
            calls: true,
            latency: true,
            size: true,
            histograms: Histograms::default(),
            buckets: Vec::new(),
            exemplars: true,
            target_info: false,
            instance_label: true,
            target_info_excluded_dimensions: Vec::new(),
            span_multiplier_key: None,
            weight_by_trace_state: true,
            slack: None,
            cardinality: CardinalityConfig::default(),
        }
    }
}

/// Bounds in seconds: of Tempo, 0.002 · 2^n.
const TEMPO_BUCKETS: [f64; 14] =
    [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];
/// Bounds in seconds: of the Collector's connector.
const CONNECTOR_BUCKETS: [f64; 16] =
    [0.002, 0.004, 0.006, 0.008, 0.01, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0, 1.4, 2.0, 5.0, 10.0, 15.0];

impl SpanMetricsConfig {
    /// Bounds of classic histograms in seconds.
    pub fn bounds(&self) -> &[f64] {
        match self.naming {
            _ if !self.buckets.is_empty() => &self.buckets,
            Naming::Tempo => &TEMPO_BUCKETS,
            Naming::Connector => &CONNECTOR_BUCKETS,
        }
    }
}
