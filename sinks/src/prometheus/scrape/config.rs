//! Configuration of what is scraped.

use std::collections::BTreeMap;
use std::time::Duration;

use afflux_runtime::config::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::prometheus::error::PrometheusError;
use crate::prometheus::labels::LabelSettings;

/// What derived series look like under `/metrics/derived`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeConfig {
    /// Label that tells the cluster of a series. Empty: none, and series of several clusters get mixed up.
    pub cluster_label: String,
    /// Label that tells the tenant of a series that has one. Empty: none, and series of several tenants get mixed up.
    pub tenant_label: String,
    /// Labels that every series gets which has none of that name.
    pub external_labels: BTreeMap<String, String>,
    /// Label of exemplars with the trace id; Grafana Tempo's own metrics have `traceID`.
    pub trace_id_label: String,
    /// How long a new series shows zero before its value: somewhat longer than the time between two scrapes. Zero: it
    /// does not, and rates do not see its first counts.
    pub zero_for: Period,
}

impl Default for ScrapeConfig {
    fn default() -> Self {
        Self {
            cluster_label: "cluster".into(),
            tenant_label: "tenant".into(),
            external_labels: BTreeMap::new(),
            trace_id_label: "trace_id".into(),
            zero_for: Period(Duration::from_secs(65)),
        }
    }
}

impl ScrapeConfig {
    pub(super) fn labels(&self) -> LabelSettings {
        LabelSettings {
            cluster_label: self.cluster_label.clone(),
            tenant_label: self.tenant_label.clone(),
            external: self.external_labels.clone(),
        }
    }

    /// Checks every value, without I/O.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn validate(&self) -> Result<(), PrometheusError> {
        self.labels().check(super::NAME, &self.trace_id_label)
    }
}
