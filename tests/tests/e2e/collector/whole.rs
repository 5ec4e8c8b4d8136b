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
        let mut expected = theirs.item.clone();
        if encoding.starts_with("zipkin") {
            // It knows only the older name of this attribute of resources.
            expected.attributes.retain(|attribute| attribute.key != "deployment.environment.name");
        } else {
            // Of Zipkin's spans it gives all of a service the resource of the first, whatever pod they are of.
            assert_eq!(self.resource, theirs.resource, "{encoding}");
        }
        assert_eq!(self.item, expected, "{encoding}");
        assert_eq!(self.scope, theirs.scope, "{encoding}");
    }

    /// Compares with what was sent, as far as the format carries it.
    pub(crate) fn assert_as_sent(&self, sent: &Self, encoding: &str) {
        let zipkin = encoding.starts_with("zipkin");
        let (ours, theirs) = (&self.item, &sent.item);
        let lower = |name: &str| if zipkin { name.to_lowercase() } else { name.to_owned() };
        assert_eq!(lower(&ours.name), lower(&theirs.name), "{encoding}");
        let rest = |span: &Span| {
            let counts = (span.events.len(), span.links.len());
            (span.parent_span_id.clone(), span.kind, span.trace_state.clone(), span.status.clone(), counts)
        };
        assert_eq!(rest(ours), rest(theirs), "{encoding}");
        assert_eq!(self.scope, sent.scope, "{encoding}");
        // Start and duration are cut off to microseconds, each for itself.
        let tolerated = if zipkin { 2000 } else { 0 };
        for (ours, theirs) in [
            (ours.start_time_unix_nano, theirs.start_time_unix_nano),
            (ours.end_time_unix_nano, theirs.end_time_unix_nano),
        ] {
            assert!(ours.abs_diff(theirs) <= tolerated, "{encoding}: {ours} for {theirs}");
        }
        let mut found = texts(&ours.attributes);
        if zipkin {
            // Tags that are not known to tell of a resource are taken for the span's.
            let (resource, known) = (texts(&self.resource), texts(&sent.resource));
            assert!(resource.keys().all(|key| known.contains_key(key)), "{encoding}: {resource:?}");
            found.extend(resource);
            assert_carried(&found, &sent.resource, encoding, lower);
        } else {
            assert_eq!(self.resource, sent.resource, "{encoding}");
        }
        assert_carried(&found, &theirs.attributes, encoding, lower);
    }
}

/// Every attribute is there, its value too where it is no list, map or bytes.
fn assert_carried(
    found: &BTreeMap<String, String>,
    sent: &[KeyValue],
    encoding: &str,
    normal: impl Fn(&str) -> String,
) {
    for (key, value) in texts(sent) {
        let plain = !value.starts_with("Some(");
        let is_same = |found: &String| !plain || normal(found) == normal(&value);
        assert!(found.get(&key).is_some_and(is_same), "{encoding}: {key}={value} in {found:?}");
    }
}
