use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::prelude::*;
use prost::Message as _;

use super::{logs, room, traces};

fn span(json: &str) -> Span {
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{json}]}}]}}]}}"#);
    let bytes = traces(text.as_bytes()).unwrap_or_else(|e| panic!("{json}: {e}"));
    let mut request = ExportTraceServiceRequest::decode(&bytes[..]).expect("valid protobuf");
    request.resource_spans.remove(0).scope_spans.remove(0).spans.remove(0)
}

fn span_error(json: &str) -> String {
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{json}]}}]}}]}}"#);
    traces(text.as_bytes()).expect_err(json).to_string()
}

fn attribute(json: &str) -> Option<Any> {
    let span = span(&format!(r#"{{"attributes":[{{"key":"k","value":{json}}}]}}"#));
    span.attributes[0].value.clone().expect("a value").value
}

#[test]
fn ids_are_hex_of_either_case_and_any_length() {
    let mixed = span(r#"{"traceId":"5B8EFFF798038103d269b633813fc60c","spanId":"EEE19B7EC3C1B174","parentSpanId":""}"#);
    assert_eq!(mixed.trace_id, 0x5b8e_fff7_9803_8103_d269_b633_813f_c60c_u128.to_be_bytes());
    assert_eq!(mixed.span_id, 0xeee1_9b7e_c3c1_b174_u64.to_be_bytes());
    assert!(mixed.parent_span_id.is_empty());
    assert_eq!(span(r#"{"traceId":"0102"}"#).trace_id, [1, 2], "length is judged with the protobuf");
    assert!(span_error(r#"{"traceId":"abc"}"#).contains("expected traceId, hex digits"));
    assert!(span_error(r#"{"traceId":"AAECAwQFBgcICQoLDA0ODw=="}"#).contains("hex digits"), "base64 is not for ids");
}

#[test]
fn enums_are_numbers_and_their_names_are_understood() {
    assert_eq!(span(r#"{"kind":3,"status":{"code":2}}"#).kind, 3);
    assert_eq!(span(r#"{"kind":"SPAN_KIND_CLIENT"}"#).kind, 3);
    assert_eq!(span(r#"{"kind":99}"#).kind, 99, "enums are open");
    assert_eq!(span(r#"{"kind":-1}"#).kind, -1);
    assert_eq!(span(r#"{"status":{"code":"STATUS_CODE_ERROR"}}"#).status.expect("a status").code, 2);
    assert!(span_error(r#"{"kind":"CLIENT"}"#).contains("expected kind, the number of an enum"));
    assert!(span_error(r#"{"kind":4294967296}"#).contains("4294967296 does not fit kind"));
}

#[test]
fn integers_of_64_bits_are_numbers_or_strings() {
    let max = u64::MAX;
    for json in [format!(r#"{{"endTimeUnixNano":{max}}}"#), format!(r#"{{"endTimeUnixNano":"{max}"}}"#)] {
        assert_eq!(span(&json).end_time_unix_nano, max);
    }
    assert_eq!(attribute(r#"{"intValue":"-9223372036854775808"}"#), Some(Any::IntValue(i64::MIN)));
    assert_eq!(attribute(r#"{"intValue":-9223372036854775808}"#), Some(Any::IntValue(i64::MIN)));
    assert_eq!(attribute(r#"{"intValue":1e3}"#), Some(Any::IntValue(1000)));
    assert_eq!(span(r#"{"droppedEventsCount":"7","flags":257}"#).dropped_events_count, 7);
    assert!(span_error(r#"{"startTimeUnixNano":-1}"#).contains("-1 does not fit startTimeUnixNano"));
    assert!(span_error(r#"{"startTimeUnixNano":1.5}"#).contains("startTimeUnixNano"));
    assert!(span_error(r#"{"startTimeUnixNano":"soon"}"#).contains("64-bit integer"));
}

#[test]
fn unknown_names_are_ignored_and_null_is_absent() {
    let json = r#"{"name":"a","later":{"deep":[1,{"x":null}]},"kind":null,"attributes":null,"status":null,
        "traceState":null,"links":[]}"#;
    assert_eq!(span(json), Span { name: "a".into(), ..Span::default() });
    for json in [r#"{"attributes":[{"key":"k","value":null}]}"#, r#"{"attributes":[{"key":"k"}]}"#] {
        assert_eq!(span(json).attributes[0].value, None, "{json}");
    }
}

#[test]
fn names_as_in_the_proto_are_understood() {
    let span = span(r#"{"trace_id":"01","start_time_unix_nano":5,"attributes":[{"key":"k","value":{"int_value":1}}]}"#);
    assert_eq!((span.trace_id, span.start_time_unix_nano), (vec![1], 5));
    assert_eq!(span.attributes[0].value, Some(AnyValue { value: Some(Any::IntValue(1)) }));
}

#[test]
fn attribute_values_of_every_type_keep_type_and_zero() {
    assert_eq!(attribute(r#"{"stringValue":""}"#), Some(Any::StringValue(String::new())));
    assert_eq!(attribute(r#"{"boolValue":false}"#), Some(Any::BoolValue(false)));
    assert_eq!(attribute(r#"{"intValue":0}"#), Some(Any::IntValue(0)));
    assert_eq!(attribute(r#"{"doubleValue":0}"#), Some(Any::DoubleValue(0.0)));
    assert_eq!(attribute(r#"{"doubleValue":-1.5e300}"#), Some(Any::DoubleValue(-1.5e300)));
    assert_eq!(attribute(r#"{"doubleValue":"Infinity"}"#), Some(Any::DoubleValue(f64::INFINITY)));
    assert!(matches!(attribute(r#"{"doubleValue":"NaN"}"#), Some(Any::DoubleValue(nan)) if nan.is_nan()));
    assert_eq!(attribute(r#"{"arrayValue":{}}"#), Some(Any::ArrayValue(ArrayValue::default())));
    assert_eq!(attribute(r#"{"kvlistValue":{"values":[]}}"#), Some(Any::KvlistValue(KeyValueList::default())));
    assert_eq!(attribute("{}"), None);
    for base64 in ["+/8AAQ==", "+/8AAQ", "-_8AAQ=="] {
        assert_eq!(
            attribute(&format!(r#"{{"bytesValue":"{base64}"}}"#)),
            Some(Any::BytesValue(vec![0xfb, 0xff, 0, 1]))
        );
    }
    assert!(span_error(r#"{"attributes":[{"key":"k","value":{"bytesValue":"*"}}]}"#).contains("base64"));
    assert!(span_error(r#"{"attributes":[{"key":"k","value":"bare"}]}"#).contains("expected value, an object"));
}

#[test]
fn text_that_is_not_the_message_is_refused_with_its_place() {
    for (text, expected) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[]", "expected an object (ExportTraceServiceRequest)"),
        ("{} {}", "trailing characters"),
        (r#"{"resourceSpans":{}}"#, "expected resourceSpans, an array of objects"),
        (r#"{"resourceSpans":[null]}"#, "expected an object (ResourceSpans)"),
        (r#"{"resourceSpans":["#, "EOF while parsing a list"),
    ] {
        let error = traces(text.as_bytes()).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let broken = b"{\"resourceSpans\":[{\"schemaUrl\":\"\xff\"}]}";
    assert!(traces(broken).is_err(), "strings are UTF-8");
}

#[test]
fn a_lone_surrogate_is_read_as_a_replacement_character() {
    for (json, expected) in [
        (r"\ud800", "\u{fffd}"),
        (r"\udc00", "\u{fffd}"),
        (r"a\uD83Db", "a\u{fffd}b"),
        (r"\ud83d\n\ud83d\ud83d\ude00", "\u{fffd}\n\u{fffd}😀"),
        (r"\ude00\ud83d", "\u{fffd}\u{fffd}"),
        (r"\u00ed\ua000\ufffd", "\u{ed}\u{a000}\u{fffd}"),
    ] {
        assert_eq!(span(&format!(r#"{{"name":"{json}"}}"#)).name, expected, "{json}");
        assert_eq!(attribute(&format!(r#"{{"stringValue":"{json}"}}"#)), Some(Any::StringValue(expected.into())));
        let key = span(&format!(r#"{{"attributes":[{{"key":"{json}"}}]}}"#)).attributes.remove(0).key;
        assert_eq!(key, expected);
        assert_eq!(span(&format!(r#"{{"{json}":{{"{json}":"{json}"}},"name":"a"}}"#)).name, "a", "an unknown name");
    }
    let text = r#"{"resourceSpans":[{"resource":{"entityRefs":[{"idKeys":["\ud800","b"]}]}}]}"#;
    let request = ExportTraceServiceRequest::decode(&traces(text.as_bytes()).unwrap()[..]).unwrap();
    let resource = request.resource_spans[0].resource.as_ref().unwrap();
    assert_eq!(resource.entity_refs[0].id_keys, ["\u{fffd}", "b"]);
    assert!(span_error(r#"{"traceId":"\ud800"}"#).contains("hex escape"), "only in text");
    assert!(span_error(r#"{"name":"\ud80"}"#).contains("invalid escape"), "not even a surrogate");
}

#[test]
fn text_where_a_string_belongs_is_a_string() {
    assert_eq!(span(r#"{"name":null}"#).name, "");
    for wrong in ["1", "1.5", "true", "{}", "[]", "[\"a\"]", "[97]"] {
        let error = span_error(&format!(r#"{{"name":{wrong}}}"#));
        assert!(error.contains("expected name, a string"), "{wrong}: {error}");
    }
    let error = traces(br#"{"resourceSpans":[{"resource":{"entityRefs":[{"idKeys":[1]}]}}]}"#).unwrap_err();
    assert!(error.to_string().contains("a string in idKeys"), "{error}");
}

#[test]
fn nesting_without_end_is_an_error_not_a_stack_overflow() {
    let deep = r#"{"arrayValue":{"values":["#.repeat(100_000);
    let text = format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{deep}"#);
    assert!(logs(text.as_bytes()).expect_err("too deep").to_string().contains("recursion limit exceeded"));
}

#[test]
fn output_is_no_longer_than_the_room_set_aside() {
    for span in ["{}", r#"{"kind":-1}"#, r#"{"flags":1}"#, r#"{"name":"é\n"}"#, r#"{"events":[{},{}]}"#] {
        let spans = vec![span; 10_000].join(",");
        let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#);
        let bytes = traces(text.as_bytes()).unwrap();
        assert!(bytes.len() <= room(text.len()), "{span}: {} from {}", bytes.len(), text.len());
        assert_eq!(bytes.capacity(), room(text.len()), "{span}: one allocation");
    }
}

#[test]
fn truncation_at_every_byte_is_an_error() {
    let text = serde_json::to_vec(&ExportTraceServiceRequest { resource_spans: vec![ResourceSpans::default(); 2] });
    let text = text.unwrap();
    for end in 0..text.len() {
        assert!(traces(&text[..end]).is_err(), "{end}");
    }
}

fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        ".{0,8}".prop_map(Any::StringValue),
        any::<bool>().prop_map(Any::BoolValue),
        any::<i64>().prop_map(Any::IntValue),
        (-1e6..1e6).prop_map(Any::DoubleValue),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Any::BytesValue),
    ];
    let value = leaf.prop_recursive(3, 12, 4, |inner| {
        let value = inner.prop_map(|value| AnyValue { value: Some(value) });
        prop_oneof![
            prop::collection::vec(value.clone(), 0..4).prop_map(|values| Any::ArrayValue(ArrayValue { values })),
            prop::collection::vec((".{0,4}", value).prop_map(key_value), 0..4)
                .prop_map(|values| Any::KvlistValue(KeyValueList { values })),
        ]
    });
    value.prop_map(|value| AnyValue { value: Some(value) })
}

fn key_value((key, value): (String, AnyValue)) -> KeyValue {
    KeyValue { key, value: Some(value), ..KeyValue::default() }
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    prop::collection::vec((".{0,4}", any_value()).prop_map(key_value), 0..4)
}

fn spans() -> impl Strategy<Value = Span> {
    let ids = (any::<[u8; 16]>(), any::<[u8; 8]>(), prop_oneof![Just(vec![]), Just(vec![7; 8])]);
    (ids, ".{0,9}", -2..9, any::<(u64, u64, u32)>(), attributes(), attributes()).prop_map(
        |((trace, span, parent_span_id), name, kind, (start, end, count), attributes, more)| Span {
            trace_id: trace.to_vec(),
            span_id: span.to_vec(),
            parent_span_id,
            trace_state: name.chars().rev().collect(),
            flags: count,
            events: vec![Event {
                time_unix_nano: end,
                name: name.clone(),
                attributes: more.clone(),
                dropped_attributes_count: count,
            }],
            links: vec![Link {
                trace_id: trace.to_vec(),
                span_id: span.to_vec(),
                attributes: more,
                flags: count,
                ..Link::default()
            }],
            status: (kind >= 0).then(|| Status { message: name.clone(), code: kind }),
            name,
            kind,
            start_time_unix_nano: start,
            end_time_unix_nano: end,
            attributes,
            dropped_attributes_count: count,
            dropped_events_count: count / 2,
            dropped_links_count: 0,
        },
    )
}

fn log_records() -> impl Strategy<Value = LogRecord> {
    (any::<[u8; 16]>(), ".{0,9}", -2..30, any::<(u64, u64, u32)>(), attributes(), proptest::option::of(any_value()))
        .prop_map(|(trace, text, severity_number, (time, observed, count), attributes, body)| LogRecord {
            time_unix_nano: time,
            observed_time_unix_nano: observed,
            severity_number,
            severity_text: text.clone(),
            body,
            attributes,
            dropped_attributes_count: count,
            flags: count,
            trace_id: trace.to_vec(),
            span_id: trace[..8].to_vec(),
            event_name: text,
        })
}

fn scope(attributes: Vec<KeyValue>) -> Option<InstrumentationScope> {
    Some(InstrumentationScope { name: "n".into(), version: "v".into(), attributes, dropped_attributes_count: 3 })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn traces_come_out_as_an_independent_writer_put_them_in(
        spans in prop::collection::vec(spans(), 0..4), attributes in attributes(),
    ) {
        let request = ExportTraceServiceRequest { resource_spans: vec![ResourceSpans {
            resource: Some(Resource { attributes: attributes.clone(), dropped_attributes_count: 1, entity_refs: vec![] }),
            scope_spans: vec![ScopeSpans { scope: scope(attributes), spans, schema_url: "s".into() }],
            schema_url: "r".into(),
        }]};
        let bytes = traces(&serde_json::to_vec(&request).unwrap()).unwrap();
        prop_assert_eq!(ExportTraceServiceRequest::decode(&bytes[..]).unwrap(), request);
    }

    #[test]
    fn logs_come_out_as_an_independent_writer_put_them_in(
        log_records in prop::collection::vec(log_records(), 0..4), attributes in attributes(),
    ) {
        let request = ExportLogsServiceRequest { resource_logs: vec![ResourceLogs {
            resource: Some(Resource { attributes: attributes.clone(), ..Resource::default() }),
            scope_logs: vec![ScopeLogs { scope: scope(attributes), log_records, schema_url: "s".into() }],
            schema_url: "r".into(),
        }]};
        let bytes = logs(&serde_json::to_vec(&request).unwrap()).unwrap();
        prop_assert_eq!(ExportLogsServiceRequest::decode(&bytes[..]).unwrap(), request);
    }
}
