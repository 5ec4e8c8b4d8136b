//! Configuration of log metrics.

use std::time::Duration;

use afflux_runtime::config::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::span_metrics::cardinality::CardinalityConfig;

/// `processors.log_metrics`: how log records are counted, as `logs_records_total{service, severity}`, and Kubernetes
/// events, as `k8s_events_total{namespace, category, type}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LogMetricsConfig {
    /// Width of the time buckets that log records are counted in, by their own time.
    pub interval: Period,
    /// Bounds on the number of series, for each of the two metrics.
    pub cardinality: CardinalityConfig,
}

impl Default for LogMetricsConfig {
    fn default() -> Self {
        Self { interval: Period(Duration::from_secs(15)), cardinality: CardinalityConfig::default() }
    }
}

/// What is wrong with `processors.log_metrics`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidLogMetrics {
    /// Time buckets without width.
    #[error("`processors.log_metrics.interval` is {0}ms; it must be one second at least")]
    Interval(u128),
}

impl LogMetricsConfig {
    pub(super) fn validate(&self) -> Result<(), InvalidLogMetrics> {
        let millis = self.interval.0.as_millis();
        if millis < 1000 { Err(InvalidLogMetrics::Interval(millis)) } else { Ok(()) }
    }
}
