//! `processors.chain`: which steps telemetry passes through, in which order.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `processors.chain`: the steps of each signal in order, each at most once. Their settings stand beside, under their
/// names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChainConfig {
    /// Steps that spans pass through. What stands behind `sample` sees only what it keeps.
    pub spans: Vec<SpanStep>,
    /// Steps that log records pass through.
    pub logs: Vec<LogStep>,
    /// Steps that Kubernetes events pass through.
    pub events: Vec<LogStep>,
}

/// A step of the spans' chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SpanStep {
    /// Sets, renames, deletes and redacts attributes.
    Attributes,
    /// Adds what Kubernetes knows of the pod.
    Enrich,
    /// Counts spans by service, name, kind and status, with their durations.
    SpanMetrics,
    /// Counts requests between services, by pairing client and server spans.
    ServiceGraph,
    /// Keeps some traces or spans and drops the others.
    Sample,
}

/// A step of the chains of log records and Kubernetes events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogStep {
    /// Sets, renames, deletes and redacts attributes and bodies.
    Attributes,
    /// Tells the category and severity of Kubernetes events.
    Classify,
    /// Adds what Kubernetes knows of the pod.
    Enrich,
    /// Counts log records by service and severity, and Kubernetes events by namespace and category.
    LogMetrics,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            spans: vec![SpanStep::Enrich, SpanStep::SpanMetrics, SpanStep::ServiceGraph],
            logs: vec![LogStep::Enrich, LogStep::LogMetrics],
            events: vec![LogStep::Classify, LogStep::Enrich, LogStep::LogMetrics],
        }
    }
}

impl ChainConfig {
    /// Whether log records or events pass through a step.
    pub(crate) fn has(&self, step: LogStep) -> bool {
        self.logs.contains(&step) || self.events.contains(&step)
    }
}
