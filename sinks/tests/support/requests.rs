//! Random requests with everything that a sender may get wrong, and the rows that they should become, worked out
//! from the decoded messages.

use std::collections::BTreeMap;

use afflux_schemas::otlp::common::ValueView;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use super::cells::NULL;

/// Requests by seed.
pub struct Requests {
    state: u64,
}

const TEXTS: [&str; 8] = ["", "GET /", "a", "zürich → 東京", "\u{0}", "a \"quoted\"\ntext", "🦀", "the same text"];
const KEYS: [&str; 9] = [
    "service.name", "k8s.namespace.name", "k8s.pod.name", "k8s.node.name", "k8s.cluster.name", "http.route", "", "ü",
    "a.rather.long.attribute.name.that.nobody.would.want.to.type",
];

impl Requests {
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn many<T>(&mut self, below: usize, make: impl Fn(&mut Self) -> T) -> Vec<T> {
        let count = self.below(below);
        (0..count).map(|_| make(self)).collect()
    }

    fn maybe<T>(&mut self, make: impl Fn(&mut Self) -> T) -> Option<T> {
        (self.below(4) != 0).then(|| make(self))
    }

    fn text(&mut self) -> String {
        TEXTS[self.below(TEXTS.len())].into()
    }

    fn id(&mut self, len: usize) -> Vec<u8> {
        match self.below(6) {
            0 => Vec::new(),
            1 => vec![0; len],
            2 => (0..self.below(20)).map(|i| i as u8).collect(),
            _ => (0..len).map(|_| self.next() as u8).collect(),
        }
    }

    fn time(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => u64::MAX - self.next() % 3,
            2 => i64::MAX as u64 - self.next() % 3,
            _ => 1_700_000_000_000_000_000 + self.next() % 10_000_000_000_000,
        }
    }

    fn count(&mut self) -> u32 {
        if self.below(2) == 0 { 0 } else { self.next() as u32 }
    }

    fn value(&mut self, depth: usize) -> AnyValue {
        let value = match self.below(if depth == 0 { 7 } else { 9 }) {
            0 => None,
            1 => Some(Value::BoolValue(self.below(2) == 0)),
            2 => Some(Value::IntValue(self.next() as i64)),
            3 => Some(Value::DoubleValue([0.0, 1.5, f64::NAN, f64::NEG_INFINITY, 1e300][self.below(5)])),
            4 => Some(Value::BytesValue(self.id(5))),
            7 => Some(Value::ArrayValue(ArrayValue { values: self.many(3, |random| random.value(depth - 1)) })),
            8 => Some(Value::KvlistValue(KeyValueList { values: self.many(3, |random| random.attribute(depth - 1)) })),
            _ => Some(Value::StringValue(self.text())),
        };
        AnyValue { value }
    }

    fn attribute(&mut self, depth: usize) -> KeyValue {
        let value = self.maybe(|random| random.value(depth));
        KeyValue { key: KEYS[self.below(KEYS.len())].into(), value, ..KeyValue::default() }
    }

    fn attributes(&mut self) -> Vec<KeyValue> {
        self.many(6, |random| random.attribute(2))
    }

    fn resource(&mut self) -> Resource {
        Resource { attributes: self.attributes(), dropped_attributes_count: self.count(), ..Resource::default() }
    }

    fn scope(&mut self) -> InstrumentationScope {
        InstrumentationScope {
            name: self.text(),
            version: self.text(),
            attributes: self.attributes(),
            dropped_attributes_count: self.count(),
        }
    }

    fn span(&mut self) -> Span {
        Span {
            trace_id: self.id(16),
            span_id: self.id(8),
            trace_state: self.text(),
            parent_span_id: self.id(8),
            flags: self.count(),
            name: self.text(),
            kind: self.below(9) as i32 - 1,
            start_time_unix_nano: self.time(),
            end_time_unix_nano: self.time(),
            attributes: self.attributes(),
            dropped_attributes_count: self.count(),
            events: self.many(3, |random| Event {
                time_unix_nano: random.time(),
                name: random.text(),
                attributes: random.attributes(),
                dropped_attributes_count: random.count(),
            }),
            dropped_events_count: self.count(),
            links: self.many(3, |random| Link {
                trace_id: random.id(16),
                span_id: random.id(8),
                trace_state: random.text(),
                attributes: random.attributes(),
                dropped_attributes_count: random.count(),
                flags: random.count(),
            }),
            dropped_links_count: self.count(),
            status: self.maybe(|random| Status { message: random.text(), code: random.below(5) as i32 - 1 }),
        }
    }

    fn log(&mut self) -> LogRecord {
        LogRecord {
            time_unix_nano: self.time(),
            observed_time_unix_nano: self.time(),
            severity_number: self.below(30) as i32 - 2,
            severity_text: self.text(),
            body: self.maybe(|random| random.value(2)),
            attributes: self.attributes(),
            dropped_attributes_count: self.count(),
            flags: self.count(),
            trace_id: self.id(16),
            span_id: self.id(8),
            event_name: self.text(),
        }
    }

    pub fn traces(&mut self) -> ExportTraceServiceRequest {
        let resource_spans = self.many(3, |random| ResourceSpans {
            resource: random.maybe(Self::resource),
            scope_spans: random.many(3, |random| ScopeSpans {
                scope: random.maybe(Self::scope),
                spans: random.many(8, Self::span),
                schema_url: random.text(),
            }),
            schema_url: random.text(),
        });
        ExportTraceServiceRequest { resource_spans }
    }

    pub fn logs(&mut self) -> ExportLogsServiceRequest {
        let resource_logs = self.many(3, |random| ResourceLogs {
            resource: random.maybe(Self::resource),
            scope_logs: random.many(3, |random| ScopeLogs {
                scope: random.maybe(Self::scope),
                log_records: random.many(8, Self::log),
                schema_url: random.text(),
            }),
            schema_url: random.text(),
        });
        ExportLogsServiceRequest { resource_logs }
    }
}

type Row = BTreeMap<String, String>;

fn optional(text: &str) -> String {
    if text.is_empty() { NULL.into() } else { text.into() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn optional_id(bytes: &[u8]) -> String {
    if bytes.iter().all(|byte| *byte == 0) { NULL.into() } else { hex(bytes) }
}

fn known_time(nanos: u64) -> u64 {
    if nanos > i64::MAX as u64 { 0 } else { nanos }
}

fn value(value: Option<&AnyValue>) -> String {
    let Some(AnyValue { value: Some(_) }) = value else { return NULL.into() };
    let bytes = value.map(Message::encode_to_vec).unwrap_or_default();
    let mut text = String::new();
    ValueView::new(&bytes).write_text(&mut text);
    text
}

fn attributes(attributes: &[KeyValue]) -> String {
    let mut seen = Vec::new();
    let mut cells = Vec::new();
    for attribute in attributes {
        if !seen.contains(&&attribute.key) {
            seen.push(&attribute.key);
            cells.push(format!("({}, {})", attribute.key, value(attribute.value.as_ref())));
        }
    }
    format!("[{}]", cells.join(", "))
}

/// The first non-empty text of that name.
fn identity(resource: &Resource, name: &str) -> String {
    let text = |attribute: &KeyValue| match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) if attribute.key == name && !text.is_empty() => Some(text.clone()),
        _ => None,
    };
    resource.attributes.iter().find_map(text).unwrap_or(NULL.into())
}

fn shared(
    resource: Option<&Resource>,
    scope: Option<&InstrumentationScope>,
    urls: (&str, &str),
    cluster: &str,
    tenant: bool,
) -> Row {
    let (resource, scope) = (resource.cloned().unwrap_or_default(), scope.cloned().unwrap_or_default());
    let cells = [
        ("service", identity(&resource, "service.name")),
        ("cluster", cluster.into()),
        ("namespace", identity(&resource, "k8s.namespace.name")),
        ("pod", identity(&resource, "k8s.pod.name")),
        ("node", identity(&resource, "k8s.node.name")),
        ("scope_name", optional(&scope.name)),
        ("scope_version", optional(&scope.version)),
        ("resource_attributes", attributes(&resource.attributes)),
        ("scope_attributes", attributes(&scope.attributes)),
        ("tenant", if tenant { "shop".into() } else { NULL.into() }),
        ("resource_schema_url", optional(urls.0)),
        ("scope_schema_url", optional(urls.1)),
    ];
    cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)).collect()
}

fn with(mut row: Row, cells: impl IntoIterator<Item = (&'static str, String)>) -> Row {
    row.extend(cells.into_iter().map(|(name, cell)| (name.to_owned(), cell)));
    row
}

pub fn expected_spans(request: &ExportTraceServiceRequest, cluster: &str, tenant: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for block in &request.resource_spans {
        for inner in &block.scope_spans {
            let urls = (block.schema_url.as_str(), inner.schema_url.as_str());
            let shared = shared(block.resource.as_ref(), inner.scope.as_ref(), urls, cluster, tenant);
            rows.extend(inner.spans.iter().map(|span| with(shared.clone(), span_cells(span))));
        }
    }
    rows
}

fn span_cells(span: &Span) -> Vec<(&'static str, String)> {
    let kinds = ["unspecified", "internal", "server", "client", "producer", "consumer"];
    let statuses = ["unset", "ok", "error"];
    let named = |names: &[&str], number: i32| {
        usize::try_from(number).ok().and_then(|number| names.get(number)).unwrap_or(&names[0]).to_string()
    };
    let (mut start, mut end) = (known_time(span.start_time_unix_nano), known_time(span.end_time_unix_nano));
    if start == 0 {
        start = end;
    }
    if end == 0 {
        end = start;
    }
    let event = |event: &Event| {
        let time = known_time(event.time_unix_nano);
        format!("({time}, {}, {}, {})", event.name, attributes(&event.attributes), event.dropped_attributes_count)
    };
    let link = |link: &Link| {
        let (trace_id, span_id, state) = (hex(&link.trace_id), hex(&link.span_id), optional(&link.trace_state));
        let attributes = attributes(&link.attributes);
        format!("({trace_id}, {span_id}, {state}, {}, {attributes}, {})", link.flags, link.dropped_attributes_count)
    };
    let status = span.status.clone().unwrap_or_default();
    vec![
        ("trace_id", hex(&span.trace_id)),
        ("span_id", hex(&span.span_id)),
        ("parent_span_id", optional_id(&span.parent_span_id)),
        ("trace_state", optional(&span.trace_state)),
        ("flags", span.flags.to_string()),
        ("name", span.name.clone()),
        ("kind", named(&kinds, span.kind)),
        ("start_time", start.to_string()),
        ("end_time", end.to_string()),
        ("duration_ns", (end as i64 - start as i64).to_string()),
        ("status", named(&statuses, status.code)),
        ("status_message", optional(&status.message)),
        ("attributes", attributes(&span.attributes)),
        ("events", format!("[{}]", span.events.iter().map(event).collect::<Vec<_>>().join(", "))),
        ("links", format!("[{}]", span.links.iter().map(link).collect::<Vec<_>>().join(", "))),
        ("dropped_attributes_count", span.dropped_attributes_count.to_string()),
        ("dropped_events_count", span.dropped_events_count.to_string()),
        ("dropped_links_count", span.dropped_links_count.to_string()),
    ]
}

pub fn expected_logs(request: &ExportLogsServiceRequest, cluster: &str, tenant: bool) -> Vec<Row> {
    let mut rows = Vec::new();
    for block in &request.resource_logs {
        for inner in &block.scope_logs {
            let urls = (block.schema_url.as_str(), inner.schema_url.as_str());
            let shared = shared(block.resource.as_ref(), inner.scope.as_ref(), urls, cluster, tenant);
            rows.extend(inner.log_records.iter().map(|log| with(shared.clone(), log_cells(log))));
        }
    }
    rows
}

fn log_cells(log: &LogRecord) -> Vec<(&'static str, String)> {
    let observed = known_time(log.observed_time_unix_nano);
    let time = match known_time(log.time_unix_nano) {
        0 => observed,
        time => time,
    };
    let severity = match log.severity_number {
        1..=4 => "trace",
        5..=8 => "debug",
        9..=12 => "info",
        13..=16 => "warn",
        17..=20 => "error",
        21..=24 => "fatal",
        _ => NULL,
    };
    vec![
        ("time", time.to_string()),
        ("observed_time", if observed == 0 { NULL.into() } else { observed.to_string() }),
        ("severity_number", log.severity_number.to_string()),
        ("severity_text", optional(&log.severity_text)),
        ("severity", severity.into()),
        ("body", value(log.body.as_ref())),
        ("event_name", optional(&log.event_name)),
        ("trace_id", optional_id(&log.trace_id)),
        ("span_id", optional_id(&log.span_id)),
        ("flags", log.flags.to_string()),
        ("attributes", attributes(&log.attributes)),
        ("dropped_attributes_count", log.dropped_attributes_count.to_string()),
    ]
}
