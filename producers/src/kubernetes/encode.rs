//! Events as records of the bus: OTLP log records by the conventions of OpenTelemetry for Kubernetes.

use std::sync::Arc;

use afflux_bus::{Headers, PartitionId, Record};
use afflux_schemas::partition::java_partition;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_ITEMS};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::event::Observation;

/// Event name of log records that are Kubernetes events.
pub(super) const EVENT: &str = "k8s.event";
/// Event name of log records that say between which times events may be missing.
pub(super) const GAP: &str = "k8s.event.gap";
/// By how much the count has grown since the event was published last.
const INCREMENT: &str = "k8s.event.increment";
/// Bytes of one record, about: neighbours of one object are put together up to that.
const RECORD_BYTES: usize = 256 << 10;

/// The cluster, as it stands on every record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cluster {
    /// As configured.
    pub(super) name: Arc<str>,
    /// Uid of its namespace `kube-system`.
    pub(super) uid: Arc<str>,
}

/// Where records go.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) cluster: Cluster,
    pub(super) topic: Arc<str>,
    pub(super) partitions: u32,
}

/// An observation, and by how much its count has grown, where that is known.
pub(super) type Counted = (Observation, Option<i64>);

/// What may be missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// Nothing that is missing happened before, in milliseconds since the Unix epoch.
    pub(super) from_ms: i64,
    /// Nor after.
    pub(super) to_ms: i64,
    /// Resource version of the last event that was published before.
    pub(super) after: String,
    /// Resource version of the list that was published next.
    pub(super) until: String,
    /// A fixed word, such as `expired`.
    pub(super) reason: &'static str,
}

impl Target {
    /// The events in records, those of one object in their order.
    pub(super) fn records(&self, events: &[Counted], now_ms: i64) -> Vec<Record> {
        let mut open: Vec<(String, Vec<ResourceLogs>, usize)> = Vec::new();
        let mut records = Vec::new();
        let mut index = std::collections::HashMap::new();
        for (event, increment) in events {
            let key = format!("{}/{}", self.cluster.name, event.object.identity());
            let at = *index.entry(key.clone()).or_insert_with(|| {
                open.push((key, Vec::new(), 0));
                open.len() - 1
            });
            let (key, logs, bytes) = &mut open[at];
            if *bytes > 0 && *bytes + event.size() > RECORD_BYTES {
                records.push(self.record(key, std::mem::take(logs), now_ms));
                *bytes = 0;
            }
            *bytes += event.size();
            let log = log_record(event, *increment, now_ms);
            logs.push(logs_of(self.resource(event), log));
        }
        records.extend(open.into_iter().map(|(key, logs, _)| self.record(&key, logs, now_ms)));
        records
    }

    /// The record that says what may be missing.
    pub(super) fn gap(&self, gap: &Gap, now_ms: i64) -> Record {
        let time = |ms: i64| jiff::Timestamp::from_millisecond(ms).map(|time| time.to_string()).unwrap_or_default();
        let (from, to, cluster) = (time(gap.from_ms), time(gap.to_ms), &self.cluster.name);
        let message = format!("events of the cluster {cluster} that happened between {from} and {to} may be missing");
        let body = serde_json::json!({
            "kind": "EventGap", "type": "Warning", "reason": gap.reason, "message": message,
            "cluster": **cluster, "clusterUid": *self.cluster.uid, "from": from, "to": to,
            "afterResourceVersion": gap.after, "untilResourceVersion": gap.until,
        });
        let attributes =
            [("k8s.event.gap.from", &*from), ("k8s.event.gap.to", &*to), ("k8s.event.gap.reason", gap.reason)];
        let log = LogRecord {
            time_unix_nano: nanos(gap.to_ms),
            observed_time_unix_nano: nanos(now_ms),
            severity_number: SeverityNumber::Warn.into(),
            severity_text: "Warning".into(),
            body: Some(text_value(&body.to_string())),
            attributes: texts(&attributes),
            event_name: GAP.into(),
            ..LogRecord::default()
        };
        let resource = [("k8s.cluster.name", &*self.cluster.name), ("k8s.cluster.uid", &*self.cluster.uid)];
        self.record(&format!("{cluster}/{}", self.cluster.uid), vec![logs_of(texts(&resource), log)], now_ms)
    }

    fn resource(&self, event: &Observation) -> Vec<KeyValue> {
        let object = &event.object;
        texts(&[
            ("k8s.cluster.name", &self.cluster.name),
            ("k8s.cluster.uid", &self.cluster.uid),
            ("k8s.node.name", &event.node),
            ("k8s.object.kind", &object.kind),
            ("k8s.object.name", &object.name),
            ("k8s.object.uid", &object.uid),
            ("k8s.object.fieldpath", &object.field_path),
            ("k8s.object.api_version", &object.api_version),
            ("k8s.object.resource_version", &object.resource_version),
        ])
    }

    fn record(&self, key: &str, resource_logs: Vec<ResourceLogs>, now_ms: i64) -> Record {
        let mut headers = Headers::new();
        headers.push(HEADER_CLUSTER, Bytes::copy_from_slice(self.cluster.name.as_bytes()));
        headers.push(HEADER_ITEMS, resource_logs.len().to_string());
        let partition = java_partition(key.as_bytes(), self.partitions);
        let value = ExportLogsServiceRequest { resource_logs }.encode_to_vec();
        Record {
            to: PartitionId { topic: Arc::clone(&self.topic), partition },
            key: Some(Bytes::copy_from_slice(key.as_bytes())),
            value: Some(value.into()),
            timestamp_ms: now_ms,
            headers,
        }
    }
}

fn log_record(event: &Observation, increment: Option<i64>, now_ms: i64) -> LogRecord {
    let namespace = if event.object.namespace.is_empty() { &event.namespace } else { &event.object.namespace };
    let mut attributes = texts(&[
        ("k8s.event.action", &event.action),
        ("k8s.event.start_time", &event.created),
        ("k8s.event.name", &event.name),
        ("k8s.event.uid", &event.uid),
        ("k8s.event.reason", &event.reason),
        ("k8s.event.type", &event.kind),
        ("k8s.event.reporting_component", &event.component),
        ("k8s.event.reporting_instance", &event.host),
        ("k8s.event.resource_version", &event.resource_version),
        ("k8s.namespace.name", namespace),
    ]);
    attributes.push(number("k8s.event.count", event.count));
    attributes.extend(increment.map(|increment| number(INCREMENT, increment)));
    let severity = match event.kind.as_str() {
        "Normal" => SeverityNumber::Info,
        "Warning" => SeverityNumber::Warn,
        _ => SeverityNumber::Unspecified,
    };
    LogRecord {
        time_unix_nano: event.time,
        observed_time_unix_nano: nanos(now_ms),
        severity_number: severity.into(),
        severity_text: event.kind.clone(),
        body: Some(text_value(&event.body)),
        attributes,
        event_name: EVENT.into(),
        ..LogRecord::default()
    }
}

fn logs_of(resource: Vec<KeyValue>, log: LogRecord) -> ResourceLogs {
    let scope = InstrumentationScope {
        name: "afflux/producers.kubernetes".into(),
        version: env!("CARGO_PKG_VERSION").into(),
        ..InstrumentationScope::default()
    };
    let scope_logs = ScopeLogs { scope: Some(scope), log_records: vec![log], ..ScopeLogs::default() };
    let resource = Resource { attributes: resource, ..Resource::default() };
    ResourceLogs { resource: Some(resource), scope_logs: vec![scope_logs], ..ResourceLogs::default() }
}

/// Attributes of those texts that are not empty.
fn texts(pairs: &[(&str, &str)]) -> Vec<KeyValue> {
    let given = pairs.iter().filter(|(_, text)| !text.is_empty());
    given.map(|(key, text)| attribute(key, text_value(text))).collect()
}

fn number(key: &str, value: i64) -> KeyValue {
    attribute(key, AnyValue { value: Some(Value::IntValue(value)) })
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

fn text_value(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.into())) }
}

fn nanos(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or_default().saturating_mul(1_000_000)
}

#[cfg(test)]
mod tests;
