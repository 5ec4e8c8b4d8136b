//! OTLP as Loki maps it: some resource attributes are labels, the rest is structured metadata.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use prost::Message;

use super::push::{Push, PushEntry, PushStream};

/// Resource attributes that are labels.
const LABELS: [&str; 18] = [
    "service.name",
    "service.namespace",
    "service.instance.id",
    "deployment.environment",
    "deployment.environment.name",
    "cloud.region",
    "cloud.availability_zone",
    "k8s.cluster.name",
    "k8s.namespace.name",
    "k8s.pod.name",
    "k8s.container.name",
    "container.name",
    "k8s.replicaset.name",
    "k8s.deployment.name",
    "k8s.statefulset.name",
    "k8s.daemonset.name",
    "k8s.cronjob.name",
    "k8s.job.name",
];

/// A request in OTLP.
pub(super) fn decode(bytes: &[u8]) -> Result<Push, String> {
    let request = ExportLogsServiceRequest::decode(bytes).map_err(|error| error.to_string())?;
    let mut push = Push::default();
    for block in request.resource_logs {
        let resource = block.resource.unwrap_or_default().attributes;
        let (labels, rest): (Vec<_>, Vec<_>) = resource.into_iter().partition(|a| LABELS.contains(&a.key.as_str()));
        let mut labels = pairs(&labels);
        if !labels.iter().any(|(name, _)| name == "service_name") {
            labels.push(("service_name".into(), "unknown_service".into()));
        }
        labels.sort();
        let mut entries = Vec::new();
        for scope_logs in block.scope_logs {
            let scope = scope_logs.scope.unwrap_or_default();
            let mut common = pairs(&rest);
            common.extend(pairs(&scope.attributes));
            common.extend((!scope.name.is_empty()).then(|| ("scope_name".into(), scope.name)));
            entries.extend(scope_logs.log_records.iter().map(|log| entry(log, &common)));
        }
        push.streams.push(PushStream { labels: Ok(labels), entries });
    }
    Ok(push)
}

fn entry(log: &LogRecord, common: &[(String, String)]) -> PushEntry {
    let mut metadata = pairs(&log.attributes);
    let hex = |id: &[u8]| id.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    metadata.extend((log.severity_number != 0).then(|| ("severity_number".into(), log.severity_number.to_string())));
    metadata.extend((!log.severity_text.is_empty()).then(|| ("severity_text".into(), log.severity_text.clone())));
    metadata.extend((!log.trace_id.is_empty()).then(|| ("trace_id".into(), hex(&log.trace_id))));
    metadata.extend((!log.span_id.is_empty()).then(|| ("span_id".into(), hex(&log.span_id))));
    metadata.extend_from_slice(common);
    // Without either Loki takes the present; here it is 0, which is refused as too old.
    let time = if log.time_unix_nano == 0 { log.observed_time_unix_nano } else { log.time_unix_nano };
    let line = log.body.as_ref().map_or_else(String::new, text);
    PushEntry { time: i64::try_from(time).unwrap_or(i64::MAX), line, metadata }
}

fn pairs(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let mut pairs = Vec::new();
    for attribute in attributes {
        flatten(&attribute.key, attribute.value.as_ref(), &mut pairs);
    }
    pairs
}

/// Maps become one pair for each of their values.
fn flatten(key: &str, value: Option<&AnyValue>, pairs: &mut Vec<(String, String)>) {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::KvlistValue(list)) => {
            list.values.iter().for_each(|inner| flatten(&format!("{key}_{}", inner.key), inner.value.as_ref(), pairs));
        }
        Some(_) => {
            let name = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            pairs.push((name, value.map(text).unwrap_or_default()));
        }
        None => {}
    }
}

fn text(value: &AnyValue) -> String {
    match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        other => serde_json::to_string(other).unwrap_or_default(),
    }
}
