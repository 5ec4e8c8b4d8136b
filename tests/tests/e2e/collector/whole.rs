//! Spans and log records with what encloses them, comparable whatever the order.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;

/// Spans by trace id and span id.
pub(crate) type Spans = BTreeMap<String, Whole<Span>>;
/// Log records by trace id, span id and time.
pub(crate) type Logs = BTreeMap<String, Whole<LogRecord>>;

/// An item, its attributes sorted.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Whole<T> {
    pub(crate) resource: Vec<KeyValue>,
    pub(crate) scope: (String, String),
    pub(crate) item: T,
}

/// A request whose items can be counted.
pub(crate) trait Counted {
    fn items(&self) -> usize;
}

impl Counted for ExportTraceServiceRequest {
    fn items(&self) -> usize {
        self.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum()
    }
}

impl Counted for ExportLogsServiceRequest {
    fn items(&self) -> usize {
        self.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sorted(attributes: &[KeyValue]) -> Vec<KeyValue> {
    let mut attributes = attributes.to_vec();
    attributes.sort_by(|a, b| a.key.cmp(&b.key));
    attributes
}

fn whole<T>(resource: Option<&Resource>, scope: Option<&InstrumentationScope>, item: T) -> Whole<T> {
    Whole {
        resource: resource.map(|resource| sorted(&resource.attributes)).unwrap_or_default(),
        scope: scope.map(|scope| (scope.name.clone(), scope.version.clone())).unwrap_or_default(),
        item,
    }
}

/// Every span of a request.
pub(crate) fn spans_of(request: &ExportTraceServiceRequest) -> Spans {
    let mut spans = Spans::new();
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                let mut span = span.clone();
                span.attributes = sorted(&span.attributes);
                span.events.iter_mut().for_each(|event| event.attributes = sorted(&event.attributes));
                span.links.iter_mut().for_each(|link| link.attributes = sorted(&link.attributes));
                span.status = span.status.filter(|status| *status != Default::default());
                let id = hex(&span.trace_id) + &hex(&span.span_id);
                spans.insert(id, whole(resource.resource.as_ref(), scope.scope.as_ref(), span));
            }
        }
    }
    spans
}

/// Every log record of a request.
pub(crate) fn logs_of(request: &ExportLogsServiceRequest) -> Logs {
    let mut logs = Logs::new();
    for resource in &request.resource_logs {
        for scope in &resource.scope_logs {
            for log in &scope.log_records {
                let mut log = log.clone();
                log.attributes = sorted(&log.attributes);
                let id = format!("{}{}@{}", hex(&log.trace_id), hex(&log.span_id), log.time_unix_nano);
                logs.insert(id, whole(resource.resource.as_ref(), scope.scope.as_ref(), log));
            }
        }
    }
    logs
}

/// A value as formats without types write it.
fn text(value: Option<&Value>) -> String {
    match value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::BoolValue(value)) => value.to_string(),
        Some(Value::IntValue(value)) => value.to_string(),
        Some(Value::DoubleValue(value)) => value.to_string(),
        other => format!("{other:?}"),
    }
}

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let value = |attribute: &KeyValue| text(attribute.value.as_ref().and_then(|value| value.value.as_ref()));
    attributes.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

impl Whole<Span> {
    /// Compares with what the Collector's receiver made of the same record.
    pub(crate) fn assert_as_translated(&self, theirs: &Self, encoding: &str) {
        assert_eq!(self.item, theirs.item, "{encoding}");
        assert_eq!(self.scope, theirs.scope, "{encoding}");
        // Of Zipkin's spans it gives all of a service the resource of the first, whatever pod they are of.
        if encoding.starts_with("jaeger") {
            assert_eq!(self.resource, theirs.resource, "{encoding}");
        }
    }

    /// Compares with what was sent, as far as the format carries it.
    pub(crate) fn assert_as_sent(&self, sent: &Self, encoding: &str) {
        let zipkin = encoding.starts_with("zipkin");
        let (ours, theirs) = (&self.item, &sent.item);
        let lower = |name: &str| if zipkin { name.to_lowercase() } else { name.to_owned() };
        assert_eq!(lower(&ours.name), lower(&theirs.name), "{encoding}");
        assert_eq!(ours.parent_span_id, theirs.parent_span_id, "{encoding}");
        assert_eq!(ours.kind, theirs.kind, "{encoding} {theirs:?}");
        assert_eq!(ours.trace_state, theirs.trace_state, "{encoding}");
        assert_eq!(ours.status, theirs.status, "{encoding}");
        assert_eq!((&ours.events.len(), &ours.links.len()), (&theirs.events.len(), &theirs.links.len()), "{encoding}");
        assert_eq!(self.scope, sent.scope, "{encoding}");
        let tolerated = if zipkin { 1000 } else { 0 };
        for (ours, theirs) in [
            (ours.start_time_unix_nano, theirs.start_time_unix_nano),
            (ours.end_time_unix_nano, theirs.end_time_unix_nano),
        ] {
            assert!(ours.abs_diff(theirs) <= tolerated, "{encoding}: {ours} for {theirs}");
        }
        let resource = |whole: &Self| -> BTreeMap<String, String> {
            texts(&whole.resource).into_iter().map(|(key, value)| (key, lower(&value))).collect()
        };
        assert_eq!(resource(self), resource(sent), "{encoding}");
        let found = texts(&ours.attributes);
        for (key, value) in texts(&theirs.attributes) {
            let plain = !value.starts_with("Some(");
            assert!(
                found.contains_key(&key) && (!plain || lower(&found[&key]) == lower(&value)),
                "{encoding}: {key}={value} in {found:?}"
            );
        }
    }
}
