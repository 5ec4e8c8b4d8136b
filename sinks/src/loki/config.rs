//! Configuration of the Loki sink.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use afflux_runtime::delivery::DeliveryConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::LokiError;
use super::limits::MARK_BYTES;
use super::policy::Policy;
use crate::http::{AuthConfig, ClientTlsConfig};

/// Longest tenant that Loki takes.
const TENANT_BYTES: usize = 150;
/// Loki takes what is at most an hour behind the newest entry of a stream; a bucket must stay below.
const MOST_BUCKET: Duration = Duration::from_secs(55 * 60);
/// Below this the limits leave no room for what is added to what is cut.
const LEAST_BYTES: u64 = 256;

/// Where log records go, and as what.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LokiConfig {
    /// Address of Loki, such as `http://loki:3100`. Empty: the sink is off.
    pub url: Option<String>,
    /// How entries are handed over.
    pub protocol: Protocol,
    /// Tenant (`X-Scope-OrgID`) of all entries, needed where Loki has `auth_enabled`. Empty: the one that their records
    /// name, if any.
    pub tenant: Option<String>,
    /// Credentials.
    pub auth: AuthConfig,
    /// Certificates.
    pub tls: ClientTlsConfig,
    /// More headers of every request.
    pub headers: BTreeMap<String, String>,
    /// URL of a proxy. Empty: that of the environment.
    pub proxy: Option<String>,
    /// Which attributes become labels of streams; everything else is structured metadata. Not with `otlp`, where Loki
    /// chooses.
    pub labels: LabelsConfig,
    /// Loki's limits (`limits_config`), checked before sending. Not with `otlp`.
    pub limits: LimitsConfig,
    /// What replays of old records do.
    pub backfill: BackfillConfig,
    /// Batches, retries, consumer group.
    pub delivery: DeliveryConfig,
}

/// How entries are handed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Loki's own push API: protobuf in snappy, to `/loki/api/v1/push`.
    #[default]
    Native,
    /// OTLP, to `/otlp/v1/logs`. Loki chooses the labels and applies its limits.
    Otlp,
}

/// Labels of streams.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelsConfig {
    /// The labels to begin with.
    pub preset: LabelPreset,
    /// Further labels, the most important first. One of the preset's name takes its place; without attributes it goes.
    pub extra: Vec<LabelConfig>,
}

/// Sets of labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LabelPreset {
    /// `cluster`, `namespace`, `app`, `container`, `source`, `level`.
    #[default]
    Default,
    /// Those, and `pod`, `node_name` and `job`, for queries that were written for Promtail.
    Promtail,
}

/// A label and where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LabelConfig {
    /// Name of the label.
    pub name: String,
    /// Attributes of the resource, or for want of them of the log record, of which the first that is there counts.
    pub from: Vec<String>,
}

/// Limits of Loki; the defaults are Loki's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// `max_label_names_per_series`. Labels beyond it become structured metadata, the last ones first.
    pub max_label_names: u32,
    /// `max_label_name_length`.
    pub max_label_name_length: u32,
    /// `max_label_value_length`. Longer values are cut; the whole value is then structured metadata.
    pub max_label_value_length: u32,
    /// `max_line_size`. Longer lines are cut and say so.
    pub max_line_size: ByteSize,
    /// `max_structured_metadata_size`, names and values of an entry. What does not fit is left out; 0: everything
    /// fits, as in Loki.
    pub max_structured_metadata_size: ByteSize,
    /// `max_structured_metadata_entries_count`. What is beyond it is left out; 0: nothing is, as in Loki.
    pub max_structured_metadata_entries: u32,
    /// `reject_old_samples_max_age`. Older entries become dead letters; 0s: none do.
    pub max_age: Period,
    /// `creation_grace_period`. Entries further in the future become dead letters; 0s: none do.
    pub max_future: Period,
    /// How far behind a stream's newest entry Loki takes others: half of its `max_chunk_age`. Entries that are older than half
    /// of it when they are sent go into requests of one stream each, for whose entries Loki answers one by one.
    pub order_window: Period,
    /// Streams of a request; 0: any number. Where an ingester refuses entries of several streams for their rate or number, it
    /// tells only of the last one's, and loses the others: 1 has it tell of all, at the price of many requests.
    pub max_streams_per_request: u32,
    /// Bytes of a request before compression. Must stay below `ingestion_burst_size_mb`, which a request that is larger
    /// would never pass.
    pub max_request_size: ByteSize,
}

/// Replays of records that are too old for Loki's ordinary way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct BackfillConfig {
    /// Whether replays send old entries with the header `X-Loki-Backfill-Shard`, for which Loki makes streams of their
    /// own that take any age.
    pub enabled: bool,
    /// Age from which an entry of a replay is old.
    pub after: Period,
    /// Span of time that one shard covers; less than the hour within which Loki takes entries out of order.
    pub bucket: Period,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            max_label_names: 15,
            max_label_name_length: 1024,
            max_label_value_length: 2048,
            max_line_size: ByteSize(256 << 10),
            max_structured_metadata_size: ByteSize(64 << 10),
            max_structured_metadata_entries: 128,
            max_age: Period(Duration::from_secs(7 * 24 * 3600)),
            max_future: Period(Duration::from_secs(600)),
            order_window: Period(Duration::from_secs(3600)),
            max_streams_per_request: 0,
            max_request_size: ByteSize::mib(4),
        }
    }
}

impl Default for BackfillConfig {
    fn default() -> Self {
        let (after, bucket) = (Period(Duration::from_secs(3600)), Period(Duration::from_secs(1800)));
        Self { enabled: true, after, bucket }
    }
}

impl fmt::Debug for LokiConfig {
    /// Leaves the values of headers out, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LokiConfig")
            .field("url", &self.url)
            .field("protocol", &self.protocol)
            .field("tenant", &self.tenant)
            .field("headers", &self.headers.keys())
            .field("labels", &self.labels)
            .field("limits", &self.limits)
            .field("backfill", &self.backfill)
            .field("delivery", &self.delivery)
            .finish_non_exhaustive()
    }
}

impl LokiConfig {
    /// The address, unless the sink is off.
    pub fn address(&self) -> Option<&str> {
        self.url.as_deref().filter(|url| !url.is_empty())
    }

    /// Checks every value, without I/O.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn validate(&self) -> Result<(), LokiError> {
        if let Some(url) = self.address()
            && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return wrong("url", url, "no address; write it like http://HOST:3100");
        }
        if let Some(tenant) = self.tenant.as_deref().filter(|tenant| !tenant.is_empty() && !is_tenant(tenant)) {
            return wrong("tenant", tenant, "no name of a tenant; letters, digits and !-_.*'() make one, 150 at most");
        }
        self.labels.validate(&self.limits)?;
        self.limits.validate()?;
        self.backfill.validate()?;
        Ok(self.delivery.validate()?)
    }
}

fn wrong(field: impl Into<String>, value: impl ToString, problem: &'static str) -> Result<(), LokiError> {
    Err(LokiError::Value { field: field.into(), value: value.to_string(), problem })
}

/// Whether Loki takes a text as the name of a tenant to write to.
pub(super) fn is_tenant(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!-_.*'()".contains(&byte);
    (1..=TENANT_BYTES).contains(&text.len()) && text.bytes().all(allowed) && text != "." && text != ".."
}

impl LabelsConfig {
    fn validate(&self, limits: &LimitsConfig) -> Result<(), LokiError> {
        let mut seen = BTreeSet::new();
        for (i, label) in self.extra.iter().enumerate() {
            let name = |problem| wrong(format!("labels.extra[{i}].name"), &label.name, problem);
            let mut characters = label.name.bytes();
            let first = characters.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
            if !first || !characters.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
                return name("no name of a label; begin with a letter, go on with letters, digits and underscores");
            }
            if label.name.starts_with("__") {
                return name("reserved; leave out the underscores in front");
            }
            if label.name.len() > limits.max_label_name_length as usize {
                return name("longer than limits.max_label_name_length");
            }
            if !seen.insert(&label.name) {
                return name("there twice; name all its attributes in one place");
            }
            if label.from.iter().any(String::is_empty) {
                return wrong(format!("labels.extra[{i}].from"), "", "empty; name an attribute");
            }
        }
        if Policy::new(self).is_empty() {
            return wrong("labels.extra", "", "what takes every label away; Loki needs one");
        }
        Ok(())
    }
}

impl LimitsConfig {
    /// Bytes and number of pairs of structured metadata that an entry may have.
    pub(super) fn metadata(&self) -> (usize, usize) {
        let limit = |value: usize| if value == 0 { usize::MAX } else { value };
        (limit(self.max_structured_metadata_size.as_usize()), limit(self.max_structured_metadata_entries as usize))
    }

    fn validate(&self) -> Result<(), LokiError> {
        let few = |field: &str, value: u32| {
            let field = format!("limits.{field}");
            if value == 0 { wrong(field, value, "too few; write Loki's own limit") } else { Ok(()) }
        };
        few("max_label_names", self.max_label_names)?;
        few("max_label_name_length", self.max_label_name_length)?;
        few("max_label_value_length", self.max_label_value_length)?;
        let little = |field: &str, value: ByteSize| {
            let field = format!("limits.{field}");
            if value.0 < LEAST_BYTES { wrong(field, value, "too little; write Loki's own limit") } else { Ok(()) }
        };
        const { assert!(LEAST_BYTES > MARK_BYTES as u64) };
        little("max_line_size", self.max_line_size)?;
        little("max_request_size", self.max_request_size)
    }
}

impl BackfillConfig {
    fn validate(&self) -> Result<(), LokiError> {
        if !(Duration::from_secs(1)..=MOST_BUCKET).contains(&self.bucket.0) {
            return wrong("backfill.bucket", self.bucket, "not between 1s and 55m; write 30m");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
