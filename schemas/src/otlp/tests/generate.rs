//! Requests of every shape, as `prost` messages.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

/// Short text of all planes, often empty.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => Just(String::new()),
        4 => "[ -~]{1,12}".prop_map(String::from),
        1 => vec(any::<char>(), 1..6).prop_map(|chars| chars.into_iter().collect()),
        1 => Just("a line that is longer than the sixty-four bytes of a block of vectors, é".to_owned()),
    ]
}

const KNOWN: &[&str] = &["service.name", "k8s.cluster.name", "k8s.pod.name", "k8s.node.name", "k8s.namespace.name"];

/// Names that identify resources, among others.
fn attribute_key() -> impl Strategy<Value = String> {
    prop_oneof![2 => prop::sample::select(KNOWN).prop_map(String::from), 3 => text()]
}

fn blob() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..20)
}

/// One of a few ids of `len` bytes, so that traces have several spans; now and then no valid id.
fn id(len: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => (1..6_usize).prop_map(move |id| (0..len).map(|i| if i == id * 5 % len { id as u8 } else { 9 }).collect::<Vec<u8>>()),
        1 => Just(Vec::new()),
        1 => Just(vec![0; len]),
        1 => Just(vec![7; len - 1]),
    ]
}

/// Mostly what senders use, and any number.
fn count() -> impl Strategy<Value = u32> {
    prop_oneof![Just(0), 1..4_u32, any::<u32>()]
}

fn number() -> impl Strategy<Value = i32> {
    prop_oneof![4 => 0..6_i32, 1 => any::<i32>()]
}

fn value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        4 => text().prop_map(Value::StringValue),
        1 => any::<bool>().prop_map(Value::BoolValue),
        1 => any::<i64>().prop_map(Value::IntValue),
        1 => any::<f64>().prop_map(Value::DoubleValue),
        1 => blob().prop_map(Value::BytesValue),
        1 => any::<i32>().prop_map(Value::StringValueStrindex),
    ];
    option::weighted(0.9, leaf).prop_map(|value| AnyValue { value }).prop_recursive(4, 8, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(key_value(inner), 0..4).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    })
}

fn key_value(value: impl Strategy<Value = AnyValue>) -> impl Strategy<Value = KeyValue> {
    let strindex = prop_oneof![9 => Just(0), 1 => any::<i32>()];
    (attribute_key(), option::weighted(0.9, value), strindex).prop_map(|(key, value, key_strindex)| KeyValue {
        key,
        value,
        key_strindex,
    })
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec(key_value(value()), 0..4)
}

fn entity() -> impl Strategy<Value = EntityRef> {
    (text(), text(), vec(text(), 0..2), vec(text(), 0..2)).prop_map(
        |(schema_url, r#type, id_keys, description_keys)| EntityRef { schema_url, r#type, id_keys, description_keys },
    )
}

/// Often with the name of one of a few clusters.
fn resource_attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let cluster = prop::sample::select(&["eu", "us", ""]).prop_map(|name| KeyValue {
        key: "k8s.cluster.name".into(),
        value: Some(AnyValue { value: Some(Value::StringValue(name.into())) }),
        key_strindex: 0,
    });
    vec(prop_oneof![1 => cluster, 2 => key_value(value())], 0..4)
}

fn resource() -> impl Strategy<Value = Option<Resource>> {
    let resource =
        (resource_attributes(), count(), vec(entity(), 0..2)).prop_map(|(attributes, dropped, entity_refs)| Resource {
            attributes,
            dropped_attributes_count: dropped,
            entity_refs,
        });
    option::weighted(0.8, resource)
}

fn scope() -> impl Strategy<Value = Option<InstrumentationScope>> {
    let scope = (text(), text(), attributes(), count()).prop_map(|(name, version, attributes, dropped)| {
        InstrumentationScope { name, version, attributes, dropped_attributes_count: dropped }
    });
    option::weighted(0.8, scope)
}

fn event() -> impl Strategy<Value = Event> {
    (any::<u64>(), text(), attributes(), count()).prop_map(|(time_unix_nano, name, attributes, dropped)| Event {
        time_unix_nano,
        name,
        attributes,
        dropped_attributes_count: dropped,
    })
}

fn link() -> impl Strategy<Value = Link> {
    (id(16), id(8), text(), attributes(), count(), any::<u32>()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count: dropped,
            flags,
        },
    )
}

fn status() -> impl Strategy<Value = Option<Status>> {
    option::of((text(), number()).prop_map(|(message, code)| Status { message, code }))
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), text(), prop_oneof![id(8), Just(Vec::new())], any::<u32>());
    let plain = (text(), number(), any::<u64>(), any::<u64>(), count(), count(), count());
    let nested = (attributes(), vec(event(), 0..3), vec(link(), 0..3), status());
    (ids, plain, nested).prop_map(|(ids, plain, nested)| Span {
        trace_id: ids.0,
        span_id: ids.1,
        trace_state: ids.2,
        parent_span_id: ids.3,
        flags: ids.4,
        name: plain.0,
        kind: plain.1,
        start_time_unix_nano: plain.2,
        end_time_unix_nano: plain.3,
        dropped_attributes_count: plain.4,
        dropped_events_count: plain.5,
        dropped_links_count: plain.6,
        attributes: nested.0,
        events: nested.1,
        links: nested.2,
        status: nested.3,
    })
}

fn log_record() -> impl Strategy<Value = LogRecord> {
    let plain = (any::<u64>(), any::<u64>(), number(), text(), count(), any::<u32>(), text());
    (plain, option::of(value()), attributes(), id(16), id(8)).prop_map(
        |(plain, body, attributes, trace_id, span_id)| LogRecord {
            time_unix_nano: plain.0,
            observed_time_unix_nano: plain.1,
            severity_number: plain.2,
            severity_text: plain.3,
            dropped_attributes_count: plain.4,
            flags: plain.5,
            event_name: plain.6,
            body,
            attributes,
            trace_id,
            span_id,
        },
    )
}

/// Trace requests.
pub(super) fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scopes = (scope(), vec(span(), 0..5), text()).prop_map(|(scope, spans, schema_url)| ScopeSpans {
        scope,
        spans,
        schema_url,
    });
    let blocks = (resource(), vec(scopes, 0..4), text())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(blocks, 0..4).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// Log requests.
pub(super) fn logs() -> impl Strategy<Value = ExportLogsServiceRequest> {
    let scopes = (scope(), vec(log_record(), 0..5), text()).prop_map(|(scope, log_records, schema_url)| ScopeLogs {
        scope,
        log_records,
        schema_url,
    });
    let blocks = (resource(), vec(scopes, 0..4), text()).prop_map(|(resource, scope_logs, schema_url)| ResourceLogs {
        resource,
        scope_logs,
        schema_url,
    });
    vec(blocks, 0..4).prop_map(|resource_logs| ExportLogsServiceRequest { resource_logs })
}
