use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::otlp::build::MOST;
use crate::otlp::validate;
use crate::wire::{put_fixed64_field, put_len_field, put_varint_field};

const SPANS: &str = r#"[{
    "traceId":"1020304050607","parentId":"0909090909090909","id":"a","kind":"CLIENT","name":"get",
    "timestamp":1767323045678000,"duration":1500,
    "localEndpoint":{"serviceName":"cart","ipv4":"10.0.0.1","port":8080},
    "remoteEndpoint":{"serviceName":"db","ipv4":"10.0.0.2","ipv6":"2001:DB8::0:1","port":5432},
    "annotations":[{"timestamp":1767323045679000,"value":"retry|{\"left\":2,\"in\":[1]}|3"},
                   {"timestamp":1767323045679000,"value":"a|b|c"}],
    "tags":{"http.status_code":"503","k8s.pod.name":"cart-1","otel.scope.name":"lib","otel.library.version":"2",
            "otel.status_code":"Error","otel.status_description":"why","error":"true","w3c.tracestate":"a=b",
            "otlp.link.0":"0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f|0a0a0a0a0a0a0a0a|x=y|{\"k\":true}|1",
            "otlp.link.1":"what"},
    "debug":true,"later":{"unknown":[1]}}]"#;

fn decoded(request: &[u8]) -> Vec<(ResourceSpans, Span)> {
    assert!(validate::traces(request).expect("valid").canonical);
    let request = ExportTraceServiceRequest::decode(request).expect("valid");
    let mut spans = Vec::new();
    for resource in request.resource_spans {
        for scope in &resource.scope_spans {
            spans.extend(scope.spans.iter().map(|span| (resource.clone(), span.clone())));
        }
    }
    spans
}

fn attributes(list: &[KeyValue]) -> Vec<(&str, Any)> {
    let value = |a: &KeyValue| a.value.clone().and_then(|v| v.value).expect("a value");
    list.iter().map(|a| (a.key.as_str(), value(a))).collect()
}

fn text(text: &str) -> Any {
    Any::StringValue(text.into())
}

fn one(fields: &str) -> (ResourceSpans, Span) {
    let json = format!(r#"[{{"traceId":"1","id":"2",{fields}}}]"#);
    decoded(&from_json(json.as_bytes()).expect("valid")).remove(0)
}

#[test]
fn every_part_of_a_span_finds_its_place() {
    let (resource, span) = decoded(&from_json(SPANS.as_bytes()).expect("valid")).remove(0);
    let described = resource.resource.expect("a resource").attributes;
    assert_eq!(attributes(&described), [("k8s.pod.name", text("cart-1")), ("service.name", text("cart"))]);
    let scope = resource.scope_spans[0].scope.clone().expect("a scope");
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("lib", "2"));
    assert_eq!(span.trace_id, 0x0001_0203_0405_0607_u128.to_be_bytes());
    assert_eq!((&span.span_id[..], &span.parent_span_id[..]), (&10_u64.to_be_bytes()[..], &[9; 8][..]));
    assert_eq!((span.name.as_str(), span.kind, span.flags, span.trace_state.as_str()), ("get", 3, 1, "a=b"));
    assert_eq!(span.start_time_unix_nano, 1_767_323_045_678_000_000);
    assert_eq!(span.end_time_unix_nano, 1_767_323_045_679_500_000);
    let status = span.status.clone().expect("a status");
    assert_eq!((status.code, status.message.as_str()), (2, "why"));
    let expected = [
        ("otlp.link.1", text("what")),
        ("http.response.status_code", text("503")),
        ("service.peer.name", text("db")),
        ("network.local.address", text("10.0.0.1")),
        ("net.host.port", Any::IntValue(8080)),
        ("network.peer.address", text("2001:db8::1")),
        ("net.peer.port", Any::IntValue(5432)),
    ];
    assert_eq!(attributes(&span.attributes), expected);
    assert_eq!((span.events[0].name.as_str(), span.events[0].dropped_attributes_count), ("retry", 3));
    assert_eq!(attributes(&span.events[0].attributes), [("left", Any::IntValue(2))]);
    assert_eq!((span.events[1].name.as_str(), span.events[1].time_unix_nano), ("a|b|c", 1_767_323_045_679_000_000));
    assert_eq!((&span.links[0].trace_id[..], span.links[0].trace_state.as_str()), (&[15; 16][..], "x=y"));
    assert_eq!(attributes(&span.links[0].attributes), [("k", Any::BoolValue(true))]);
}

#[test]
fn a_shared_span_is_its_own_parent_and_others_never() {
    assert_eq!(one(r#""parentId":"3","shared":true,"kind":"SERVER""#).1.parent_span_id, 2_u64.to_be_bytes());
    assert_eq!(one(r#""shared":true"#).1.parent_span_id, 2_u64.to_be_bytes());
    assert_eq!(one(r#""parentId":"3""#).1.parent_span_id, 3_u64.to_be_bytes());
    assert!(one(r#""parentId":"2""#).1.parent_span_id.is_empty());
}

#[test]
fn an_error_tag_means_failure_whatever_it_says() {
    let status = |tags: &str| one(&format!(r#""tags":{{{tags}}}"#)).1;
    let failed = status(r#""error":"timeout""#);
    assert_eq!(
        (failed.status.expect("a status").code, attributes(&failed.attributes)[0].clone()),
        (2, ("error", text("timeout")))
    );
    assert_eq!(status(r#""otel.status_code":"Ok""#).status.expect("a status").code, 1);
    assert_eq!(status(r#""otel.status_code":"STATUS_CODE_OK","error":"""#).status.expect("a status").code, 2);
    let both = status(r#""http.status_code":"200","http.response.status_code":"201""#);
    assert_eq!(attributes(&both.attributes)[0], ("http.response.status_code", text("201")));
    assert_eq!(both.attributes.len(), 2, "not both, but the mark of a span without a time");
    let internal = status(r#""span.kind":"internal""#);
    assert_eq!((internal.kind, internal.attributes.len()), (1, 1), "the mark of a span without a time is left");
    assert_eq!(attributes(&internal.attributes), [("otel.zipkin.absentField.startTime", Any::BoolValue(true))]);
}

#[test]
fn resources_that_differ_stay_apart_and_the_service_goes_where_it_came_from() {
    let span = |pod: &str| {
        format!(
            r#"{{"traceId":"1","id":"2","timestamp":1,"localEndpoint":{{"serviceName":"s"}},
                "tags":{{"k8s.pod.name":"{pod}","otlp.service.name.source":"faas.name"}}}}"#
        )
    };
    let json = format!("[{},{},{}]", span("a"), span("b"), span("a"));
    let request = from_json(json.as_bytes()).expect("valid");
    let request = ExportTraceServiceRequest::decode(request).expect("valid");
    assert_eq!(request.resource_spans.len(), 2);
    assert_eq!(request.resource_spans[0].scope_spans[0].spans.len(), 2);
    let described = &request.resource_spans[0].resource.as_ref().expect("a resource").attributes;
    assert_eq!(attributes(described), [("k8s.pod.name", text("a")), ("faas.name", text("s"))]);
    let (nameless, _) = one(r#""localEndpoint":{"serviceName":"otlpresourcenoservicename"}"#);
    assert!(nameless.resource.expect("a resource").attributes.is_empty());
}

/// The same span in protobuf, written by hand after `zipkin.proto`.
fn in_protobuf() -> Vec<u8> {
    let endpoint = |service: &str, v4: &[u8], v6: &[u8], port: u64| {
        let mut out = Vec::new();
        put_len_field(&mut out, 1, service.as_bytes());
        put_len_field(&mut out, 2, v4);
        put_len_field(&mut out, 3, v6);
        put_varint_field(&mut out, 4, port);
        out
    };
    let pair = |a: &str, b: &str| {
        let mut out = Vec::new();
        put_len_field(&mut out, 1, a.as_bytes());
        put_len_field(&mut out, 2, b.as_bytes());
        out
    };
    let mut span = Vec::new();
    put_len_field(&mut span, 1, &0x0001_0203_0405_0607_u64.to_be_bytes());
    put_len_field(&mut span, 2, &[9; 8]);
    put_len_field(&mut span, 3, &10_u64.to_be_bytes());
    put_varint_field(&mut span, 4, 1);
    put_len_field(&mut span, 5, b"get");
    put_fixed64_field(&mut span, 6, 1_767_323_045_678_000);
    put_varint_field(&mut span, 7, 1500);
    // As Go writes an address of version 4.
    let v4 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1];
    put_len_field(&mut span, 8, &endpoint("cart", &v4, &[], 8080));
    let v6 = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    put_len_field(&mut span, 9, &endpoint("db", &[10, 0, 0, 2], &v6, 5432));
    for value in ["retry|{\"left\":2,\"in\":[1]}|3", "a|b|c"] {
        let mut annotation = Vec::new();
        put_fixed64_field(&mut annotation, 1, 1_767_323_045_679_000);
        put_len_field(&mut annotation, 2, value.as_bytes());
        put_len_field(&mut span, 10, &annotation);
    }
    for (key, value) in [
        ("http.status_code", "503"),
        ("k8s.pod.name", "cart-1"),
        ("otel.scope.name", "lib"),
        ("otel.library.version", "2"),
        ("otel.status_code", "Error"),
        ("otel.status_description", "why"),
        ("error", "true"),
        ("w3c.tracestate", "a=b"),
        ("otlp.link.0", "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f|0a0a0a0a0a0a0a0a|x=y|{\"k\":true}|1"),
        ("otlp.link.1", "what"),
    ] {
        put_len_field(&mut span, 11, &pair(key, value));
    }
    put_varint_field(&mut span, 12, 1);
    let mut list = Vec::new();
    put_len_field(&mut list, 1, &span);
    list
}

#[test]
fn protobuf_and_json_of_a_span_give_the_same_request() {
    assert_eq!(from_proto(&in_protobuf()).expect("valid"), from_json(SPANS.as_bytes()).expect("valid"));
    let single = &SPANS[1..SPANS.len() - 1];
    assert_eq!(from_json(single.as_bytes()).expect("valid"), from_json(SPANS.as_bytes()).expect("valid"));
    assert!(from_json(b"[]").expect("valid").is_empty());
}

#[test]
fn errors_say_where() {
    for (json, expected) in [
        (r#"[{"traceId":"1"}]"#, "malformed JSON: missing field `id` at line 1 column 16"),
        (
            r#"[{"traceId":"xyz","id":"1"}]"#,
            r#"malformed JSON: invalid value: string "xyz", expected up to 32 hex digits at line 1 column 17"#,
        ),
        (
            r#"[{"traceId":"1","id":"1","timestamp":-1}]"#,
            "malformed JSON: timestamp is no number of microseconds since the epoch at line 1 column 41",
        ),
        ("[] x", "malformed JSON: trailing characters at line 1 column 4"),
    ] {
        assert_eq!(from_json(json.as_bytes()).expect_err(json).to_string(), expected);
    }
    let error = from_proto(&[0x0a, 2, 0x1a, 1]).expect_err("cut off").to_string();
    assert_eq!(error, "malformed protobuf in Span at byte 2: a field reaches past the end of its message");
    let error = from_proto(&[0x0a, 0, 0x0a, 0]).expect_err("no ids").to_string();
    assert_eq!(error, "malformed protobuf in Span at byte 2: field 1 has 0 bytes instead of 16 or 8");
    let error = from_proto(&[0x0a, 12, 0x0a, 8, 1, 1, 1, 1, 1, 1, 1, 1, 0x1a, 0]).expect_err("no id").to_string();
    assert_eq!(error, "malformed protobuf in Span at byte 2: field 3 has 0 bytes instead of 8");
    let error = from_proto(&[0x0a, 3, 0x1a, 1, 7]).expect_err("an id of a byte").to_string();
    assert_eq!(error, "malformed protobuf in Span at byte 2: field 3 has 1 bytes instead of 8");
}

#[test]
fn a_span_of_countless_parts_is_refused_before_it_is_built() {
    let mut record = Vec::new();
    put_len_field(&mut record, 1, &[0x52, 0].repeat(MOST + 1));
    assert!(matches!(from_proto(&record), Err(Undecodable::TooMany { .. })));
    let json = format!(r#"[{{"traceId":"1","id":"2","annotations":[{}{{}}]}}]"#, "{},".repeat(MOST));
    assert!(from_json(json.as_bytes()).expect_err("too many").to_string().contains("a list of over 65536 entries"));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_a_valid_request(
        at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(), noise: Vec<u8>
    ) {
        for whole in [in_protobuf(), SPANS.as_bytes().to_vec(), noise] {
            let mut record = whole.clone();
            if !record.is_empty() {
                let at = at.index(record.len());
                record[at] = byte;
            }
            for record in [&record[..], &record[..cut.index(record.len() + 1)]] {
                for request in [from_proto(record), from_json(record)].into_iter().flatten() {
                    prop_assert!(validate::traces(&request).expect("valid").canonical);
                }
            }
        }
    }
}
