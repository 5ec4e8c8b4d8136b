//! Spans with a bit of everything.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

/// What the ids of these traces begin with.
pub(crate) const MARK: &str = "7269636800000000";

/// Whether a record of another format holds one of these spans.
pub(crate) fn is_marked(value: &[u8]) -> bool {
    // As bytes, in hex, and the first 6 bytes in base64.
    [&b"rich\0\0\0\0"[..], MARK.as_bytes(), b"cmljaAAA"]
        .iter()
        .any(|mark| value.windows(mark.len()).any(|part| part == *mark))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, text: &str) -> KeyValue {
    attribute(key, Value::StringValue(text.into()))
}

/// A request of one trace; other numbers give other traces.
pub(crate) fn request(trace: u8) -> ExportTraceServiceRequest {
    let mut trace_id = b"rich\0\0\0\0\0\0\0\0\0\0\0".to_vec();
    trace_id.push(trace);
    let span = |number: u8, kind: i32| Span {
        trace_id: trace_id.clone(),
        span_id: vec![0, 0, 0, 0, 0, 0, 1, number],
        parent_span_id: if number == 0 { vec![] } else { vec![0, 0, 0, 0, 0, 0, 1, number - 1] },
        name: format!("Span {number}"),
        kind,
        start_time_unix_nano: 1_767_323_045_678_901_000 + u64::from(number),
        end_time_unix_nano: 1_767_323_045_679_901_000,
        ..Span::default()
    };
    let status = |code: i32, message: &str| Some(Status { code, message: message.into() });
    let spans = vec![
        Span { attributes: values(), trace_state: "a=b,c=d".into(), ..span(0, 2) },
        Span { events: events(), links: links(), status: status(1, ""), ..span(1, 1) },
        Span { status: status(2, "it broke"), attributes: peer(), ..span(2, 3) },
        Span { status: status(2, ""), ..span(3, 4) },
        Span { attributes: vec![text("http.response.status_code", "200")], ..span(4, 5) },
        Span { start_time_unix_nano: 1_767_323_045_000_000_000, ..span(5, 0) },
    ];
    let scope =
        InstrumentationScope { name: "library".into(), version: "1.2".into(), ..InstrumentationScope::default() };
    let resource = [text("service.name", "Rich"), text("host.name", "h"), text("k8s.pod.name", "rich-1")];
    let resource_spans = vec![ResourceSpans {
        resource: Some(Resource { attributes: resource.into(), ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    }];
    ExportTraceServiceRequest { resource_spans }
}

fn values() -> Vec<KeyValue> {
    let list = vec![AnyValue { value: Some(Value::IntValue(1)) }, AnyValue { value: Some(Value::BoolValue(true)) }];
    vec![
        attribute("int", Value::IntValue(i64::MIN)),
        attribute("double", Value::DoubleValue(0.1)),
        attribute("true", Value::BoolValue(true)),
        attribute("bytes", Value::BytesValue(vec![0xde, 0xad, 0xbe])),
        attribute("list", Value::ArrayValue(ArrayValue { values: list })),
        attribute("map", Value::KvlistValue(KeyValueList { values: vec![text("k", "v")] })),
        text("empty", ""),
        text("text", "ä\u{1F600}\"\\\n|"),
    ]
}

fn peer() -> Vec<KeyValue> {
    vec![
        text("network.peer.address", "10.0.0.2"),
        attribute("net.peer.port", Value::IntValue(5432)),
        text("service.peer.name", "db"),
    ]
}

fn events() -> Vec<Event> {
    let event = |name: &str, attributes: Vec<KeyValue>| Event {
        time_unix_nano: 1_767_323_045_679_000_000,
        name: name.into(),
        attributes,
        ..Event::default()
    };
    vec![
        event("plain", vec![]),
        event("exception", vec![text("exception.message", "a|b \"c\""), attribute("count", Value::IntValue(3))]),
    ]
}

fn links() -> Vec<Link> {
    let link = Link { trace_id: vec![15; 16], span_id: vec![10; 8], ..Link::default() };
    vec![Link { attributes: vec![text("why", "batch"), attribute("n", Value::IntValue(2))], ..link }]
}
