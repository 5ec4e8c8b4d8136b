//! Configuration of the sink for Tempo and other OTLP backends.

use std::collections::BTreeMap;

use afflux_runtime::delivery::{DeliveryConfig, InvalidDelivery};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::NAME;
use crate::http::{AuthConfig, ClientTlsConfig, HttpConfigError};

/// Where spans are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TempoConfig {
    /// URL of the OTLP receiver, such as `http://tempo:4317`. Empty: the sink is off.
    pub endpoint: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Compression of requests.
    pub compression: Compression,
    /// Tenant (`X-Scope-OrgID`) of all spans. Empty: the one that their records name, if any.
    pub tenant: Option<String>,
    /// Credentials.
    pub auth: AuthConfig,
    /// TLS, where the endpoint begins with `https://`.
    pub tls: ClientTlsConfig,
    /// Headers of every request.
    pub headers: BTreeMap<String, String>,
    /// URL of a proxy. Empty: that of the environment, if any.
    pub proxy: Option<String>,
    /// How records are taken off the bus and handed over.
    pub delivery: DeliveryConfig,
}

/// How an OTLP receiver is spoken to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// OTLP/gRPC, usually on port 4317.
    #[default]
    Grpc,
    /// OTLP/HTTP with protobuf, usually on port 4318; `/v1/traces` is appended where the endpoint does not end in it.
    Http,
}

/// Compression of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// None: the bytes of the bus as they are.
    #[default]
    None,
    /// gzip, which costs far more time than everything else; for narrow networks.
    Gzip,
}

/// A configuration that cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TempoConfigError {
    /// Of the HTTP client.
    #[error(transparent)]
    Http(#[from] HttpConfigError),
    /// Of the delivery.
    #[error("{NAME}.delivery.{0}")]
    Delivery(#[from] InvalidDelivery),
    /// The tenant is no header value.
    #[error("{NAME}.tenant: `{0}` has characters that no header may have")]
    Tenant(String),
}
