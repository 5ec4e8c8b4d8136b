//! Configuration of the Prometheus sink.

use std::collections::BTreeMap;

use afflux_runtime::delivery::{BatchConfig, DeliveryConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::PrometheusError;
use super::labels::LabelSettings;
use crate::http::{AuthConfig, ClientTlsConfig};

/// Most shards: more would be requests too small to be worth sending.
const MAX_SHARDS: u32 = 64;

/// Where and how series are sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusConfig {
    /// URL of a remote write receiver, such as `http://mimir/api/v1/push`; of a URL without a path, it is
    /// `/api/v1/write`. Empty: the sink is off.
    pub url: String,
    /// Which remote write is spoken.
    pub protocol: ProtocolConfig,
    /// Tenant that all series are sent for (`X-Scope-OrgID`). Empty: that of the records, where they have one.
    pub tenant: Option<String>,
    /// How the sink proves who it is.
    pub auth: AuthConfig,
    /// TLS, which is on where the URL begins with `https://`.
    pub tls: ClientTlsConfig,
    /// Further headers of every request.
    pub headers: BTreeMap<String, String>,
    /// URL of a proxy. Empty: that of the environment.
    pub proxy: Option<String>,
    /// Requests of one batch that are on their way at once; each series always goes the same way.
    pub shards: u32,
    /// Samples of a request at most; a histogram, which is never taken apart, has one for each bucket and two more.
    pub max_samples_per_send: u64,
    /// Label that tells the cluster of a series. Empty: none, and series of several clusters get mixed up.
    pub cluster_label: String,
    /// Label that tells the tenant of a series, for a server without tenants that gets the series of several. Empty:
    /// none.
    pub tenant_label: String,
    /// Labels that every series gets which has none of that name.
    pub external_labels: BTreeMap<String, String>,
    /// Label of exemplars with the trace id; Grafana Tempo's own metrics have `traceID`.
    pub trace_id_label: String,
    /// How records are batched and tried again.
    pub delivery: DeliveryConfig,
}

/// Which remote write is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ProtocolConfig {
    /// 2.0; from then on 1.0 where the server does not understand it.
    #[default]
    #[serde(rename = "auto")]
    Auto,
    /// 1.0 only.
    #[serde(rename = "1.0")]
    V1,
    /// 2.0 only.
    #[serde(rename = "2.0")]
    V2,
}

impl Default for PrometheusConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            protocol: ProtocolConfig::default(),
            tenant: None,
            auth: AuthConfig::default(),
            tls: ClientTlsConfig::default(),
            headers: BTreeMap::new(),
            proxy: None,
            shards: 4,
            max_samples_per_send: 10_000,
            cluster_label: "cluster".into(),
            tenant_label: String::new(),
            external_labels: BTreeMap::new(),
            trace_id_label: "trace_id".into(),
            delivery: DeliveryConfig {
                batch: BatchConfig { items: 10_000, ..BatchConfig::default() },
                ..DeliveryConfig::default()
            },
        }
    }
}

impl PrometheusConfig {
    /// Whether there is somewhere to send to.
    pub fn is_on(&self) -> bool {
        !self.url.is_empty()
    }

    /// Which labels series get besides their own.
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
        if self.shards == 0 || self.shards > MAX_SHARDS {
            return Err(PrometheusError::Shards { shards: self.shards, most: MAX_SHARDS });
        }
        if self.max_samples_per_send == 0 {
            return Err(PrometheusError::NoSamples);
        }
        self.labels().check(super::NAME, &self.trace_id_label)?;
        Ok(self.delivery.validate()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_keys_may_be() {
        let good = PrometheusConfig { url: "http://prometheus:9090".into(), ..PrometheusConfig::default() };
        assert_eq!(good.validate(), Ok(()));
        assert!(good.is_on() && !PrometheusConfig::default().is_on());
        let bad = [
            (PrometheusConfig { shards: 0, ..good.clone() }, "sinks.prometheus.shards: 0"),
            (PrometheusConfig { shards: 65, ..good.clone() }, "sinks.prometheus.shards: 65"),
            (PrometheusConfig { max_samples_per_send: 0, ..good.clone() }, "sinks.prometheus.max_samples_per_send: 0"),
            (
                PrometheusConfig { cluster_label: "k8s.cluster".into(), ..good.clone() },
                "sinks.prometheus.cluster_label: `k8s.c",
            ),
            (PrometheusConfig { tenant_label: "le".into(), ..good.clone() }, "sinks.prometheus.tenant_label: `le`"),
            (
                PrometheusConfig { tenant_label: "cluster".into(), ..good.clone() },
                "sinks.prometheus.tenant_label: `cluster`",
            ),
            (PrometheusConfig { trace_id_label: String::new(), ..good.clone() }, "sinks.prometheus.trace_id_label: ``"),
            (
                PrometheusConfig { external_labels: [("9".into(), "x".into())].into(), ..good.clone() },
                "sinks.prometheus.external_labels: `9`",
            ),
            (
                PrometheusConfig { trace_id_label: "span_id".into(), ..good.clone() },
                "sinks.prometheus.trace_id_label: `s",
            ),
            (
                PrometheusConfig {
                    delivery: DeliveryConfig { concurrency: 0, ..DeliveryConfig::default() },
                    ..good.clone()
                },
                "sinks.prometheus.delivery.concurrency: `0`",
            ),
        ];
        for (config, error) in bad {
            let said = config.validate().unwrap_err().to_string();
            assert!(said.starts_with(error), "{said}");
        }
    }

    #[test]
    fn keys_are_read_and_unknown_ones_refused() {
        let text = r#"{"url":"http://mimir/api/v1/push","protocol":"2.0","tenant":"shop","shards":2}"#;
        let config: PrometheusConfig = serde_json::from_str(text).unwrap();
        assert_eq!((config.protocol, config.tenant.as_deref(), config.shards), (ProtocolConfig::V2, Some("shop"), 2));
        assert_eq!(config.trace_id_label, "trace_id");
        assert!(serde_json::from_str::<PrometheusConfig>(r#"{"uri":"x"}"#).is_err());
    }
}
