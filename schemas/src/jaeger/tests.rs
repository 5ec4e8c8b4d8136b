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

/// As the Collector's exporter writes it.
const SPAN: &str = r#"{
    "traceId":"AAAAAAAAAAABAgMEBQYHCA==","spanId":"AQIDBAUGBwg=","operationName":"GET /",
    "references":[
        {"traceId":"AAAAAAAAAAABAgMEBQYHCA==","spanId":"CQkJCQkJCQk="},
        {"traceId":"Dw8PDw8PDw8PDw8PDw8PDw==","spanId":"CgoKCgoKCgo=","refType":"FOLLOWS_FROM"}],
    "flags":1,"startTime":"2026-01-02T03:04:05.678Z","duration":"0.001500s",
    "tags":[
        {"key":"span.kind","vStr":"server"},{"key":"n","vType":"INT64","vInt64":"-9223372036854775808"},
        {"key":"d","vType":3,"vFloat64":"NaN"},{"key":"b","vType":"BOOL","vBool":true},
        {"key":"raw","vType":"BINARY","vBinary":"3q0="},{"key":"error","vType":"BOOL","vBool":true},
        {"key":"otel.status_description","vStr":"why"},{"key":"otel.status_code","vStr":"ERROR"},
        {"key":"w3c.tracestate","vStr":"a=b"},{"key":"otel.scope.name","vStr":"lib"},
        {"key":"otel.scope.version","vStr":"2"},{"key":"http.status_code","vType":"INT64","vInt64":503},
        {"key":"odd","vType":"LIST"},{"key":"n","vType":"INT64","vInt64":7}],
    "logs":[{"timestamp":"2026-01-02T03:04:05.679Z","fields":[
        {"key":"event","vStr":"retry"},{"key":"left","vType":"INT64","vInt64":"2"}]}],
    "process":{"serviceName":"cart","tags":[{"key":"hostname","vStr":"h"},{"key":"jaeger.version","vStr":"Go-2"}]},
    "processId":"","warnings":["w"],"later":{"unknown":[1]}}"#;

fn decoded(request: &[u8]) -> (ResourceSpans, Span) {
    let checked = validate::traces(request).expect("valid");
    assert!(checked.canonical && checked.items == 1);
    let mut request = ExportTraceServiceRequest::decode(request).expect("valid");
    let mut resource = request.resource_spans.remove(0);
    let span = resource.scope_spans[0].spans.remove(0);
    (resource, span)
}

fn attributes(list: &[KeyValue]) -> Vec<(&str, Any)> {
    let value = |a: &KeyValue| a.value.clone().and_then(|v| v.value).expect("a value");
    list.iter().map(|a| (a.key.as_str(), value(a))).collect()
}

fn text(text: &str) -> Any {
    Any::StringValue(text.into())
}

fn of_tags(tags: &str) -> Span {
    let json = format!(r#"{{"traceId":"AQIDBAUGBwg=","spanId":"AQIDBAUGBwg=","tags":[{tags}]}}"#);
    decoded(&from_json(json.as_bytes()).expect("valid")).1
}

#[test]
fn every_part_of_a_span_finds_its_place() {
    let (resource, span) = decoded(&from_json(SPAN.as_bytes()).expect("valid"));
    let described = resource.resource.expect("a resource").attributes;
    let expected =
        [("service.name", text("cart")), ("host.name", text("h")), ("opencensus.exporterversion", text("Jaeger-Go-2"))];
    assert_eq!(attributes(&described), expected);
    let scope = resource.scope_spans[0].scope.clone().expect("a scope");
    assert_eq!((scope.name.as_str(), scope.version.as_str()), ("lib", "2"));
    assert_eq!(span.trace_id, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((&span.span_id[..], &span.parent_span_id[..]), (&[1, 2, 3, 4, 5, 6, 7, 8][..], &[9; 8][..]));
    assert_eq!((span.name.as_str(), span.kind, span.flags, span.trace_state.as_str()), ("GET /", 2, 1, "a=b"));
    assert_eq!(span.start_time_unix_nano, 1_767_323_045_678_000_000);
    assert_eq!(span.end_time_unix_nano, 1_767_323_045_679_500_000);
    let status = span.status.clone().expect("a status");
    assert_eq!((status.code, status.message.as_str()), (2, "why"));
    let found = attributes(&span.attributes);
    assert!(matches!(found[1].1, Any::DoubleValue(nan) if nan.is_nan()));
    let others: Vec<_> = found.into_iter().filter(|(key, _)| *key != "d").collect();
    let expected = [
        ("n", Any::IntValue(7)),
        ("b", Any::BoolValue(true)),
        ("raw", Any::BytesValue(vec![0xde, 0xad])),
        ("http.response.status_code", Any::IntValue(503)),
        ("odd", text("<Unknown Jaeger TagType \"-1\">")),
    ];
    assert_eq!(others, expected);
    assert_eq!((span.events[0].name.as_str(), span.events[0].time_unix_nano), ("retry", 1_767_323_045_679_000_000));
    assert_eq!(attributes(&span.events[0].attributes), [("left", Any::IntValue(2))]);
    assert_eq!(span.links.len(), 1, "the parent is no link");
    assert_eq!((&span.links[0].trace_id[..], &span.links[0].span_id[..]), (&[15; 16][..], &[10; 8][..]));
    assert_eq!(attributes(&span.links[0].attributes), [("opentracing.ref_type", text("follows_from"))]);
}

#[test]
fn status_comes_from_the_error_tag_then_from_its_own_then_from_http() {
    let status = |tags: &str| of_tags(tags).status.map_or((0, String::new()), |s| (s.code, s.message));
    let (error, http) =
        (r#"{"key":"error","vType":"BOOL","vBool":true}"#, r#"{"key":"http.status_message","vStr":"m"}"#);
    assert_eq!(status(error), (2, String::new()));
    assert_eq!(status(&format!("{error},{http}")), (2, "m".into()));
    assert_eq!(status(r#"{"key":"error","vStr":"true"}"#), (0, String::new()), "a text is no flag");
    assert_eq!(status(r#"{"key":"otel.status_code","vStr":"ok"}"#), (1, String::new()));
    assert_eq!(status(&format!(r#"{error},{{"key":"otel.status_code","vStr":"OK"}}"#)), (2, String::new()));
    let of_http = |kind: &str, code: u32| {
        let tags =
            format!(r#"{{"key":"span.kind","vStr":"{kind}"}},{{"key":"http.status_code","vStr":"{code}"}},{http}"#);
        status(&tags)
    };
    assert_eq!(of_http("client", 404), (2, "m".into()));
    assert_eq!(of_http("server", 404), (0, String::new()));
    assert_eq!(of_http("server", 500), (2, "m".into()));
    assert_eq!(of_http("client", 302), (0, String::new()));
}

#[test]
fn a_span_that_it_follows_is_the_parent_for_want_of_another() {
    let json = SPAN.replace("Dw8PDw8PDw8PDw8PDw8PDw==", "AAAAAAAAAAABAgMEBQYHCA==").replace(
        r#"{"traceId":"AAAAAAAAAAABAgMEBQYHCA==","spanId":"CQkJCQkJCQk="},"#,
        r#"{"traceId":"Dg4ODg4ODg4ODg4ODg4ODg==","spanId":"CQkJCQkJCQk="},"#,
    );
    let (_, span) = decoded(&from_json(json.as_bytes()).expect("valid"));
    assert_eq!(span.parent_span_id, [10; 8]);
    assert_eq!(span.links.len(), 2, "nothing of what it said is lost");
}

/// The same span in protobuf, written by hand after `model.proto`.
fn in_protobuf() -> Vec<u8> {
    let message = |fill: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = Vec::new();
        fill(&mut bytes);
        bytes
    };
    let tag = |key: &str, kind: u64, value: &dyn Fn(&mut Vec<u8>)| {
        message(&|out| {
            put_len_field(out, 1, key.as_bytes());
            put_varint_field(out, 2, kind);
            value(out);
        })
    };
    let text = |key: &str, text: &str| tag(key, 0, &|out| put_len_field(out, 3, text.as_bytes()));
    let time = |seconds: u64, nanos: u64| {
        message(&|out| {
            put_varint_field(out, 1, seconds);
            put_varint_field(out, 2, nanos);
        })
    };
    let reference = |trace: [u8; 16], span: [u8; 8], kind: u64| {
        message(&|out| {
            put_len_field(out, 1, &trace);
            put_len_field(out, 2, &span);
            put_varint_field(out, 3, kind);
        })
    };
    let trace = [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    message(&|out| {
        put_len_field(out, 1, &trace);
        put_len_field(out, 2, &trace[8..]);
        put_len_field(out, 3, b"GET /");
        put_len_field(out, 4, &reference(trace, [9; 8], 0));
        put_len_field(out, 4, &reference([15; 16], [10; 8], 1));
        put_varint_field(out, 5, 1);
        put_len_field(out, 6, &time(1_767_323_045, 678_000_000));
        put_len_field(out, 7, &time(0, 1_500_000));
        put_len_field(out, 8, &text("span.kind", "server"));
        put_len_field(out, 8, &tag("n", 2, &|out| put_varint_field(out, 5, i64::MIN.cast_unsigned())));
        put_len_field(out, 8, &tag("d", 3, &|out| put_fixed64_field(out, 6, f64::NAN.to_bits())));
        put_len_field(out, 8, &tag("b", 1, &|out| put_varint_field(out, 4, 1)));
        put_len_field(out, 8, &tag("raw", 4, &|out| put_len_field(out, 7, &[0xde, 0xad])));
        put_len_field(out, 8, &tag("error", 1, &|out| put_varint_field(out, 4, 1)));
        put_len_field(out, 8, &text("otel.status_description", "why"));
        put_len_field(out, 8, &text("otel.status_code", "ERROR"));
        put_len_field(out, 8, &text("w3c.tracestate", "a=b"));
        put_len_field(out, 8, &text("otel.library.name", "lib"));
        put_len_field(out, 8, &text("otel.library.version", "2"));
        put_len_field(out, 8, &tag("http.status_code", 2, &|out| put_varint_field(out, 5, 503)));
        put_len_field(out, 8, &tag("odd", u64::MAX, &|_| {}));
        put_len_field(out, 8, &tag("n", 2, &|out| put_varint_field(out, 5, 7)));
        let left = tag("left", 2, &|out| put_varint_field(out, 5, 2));
        let log = message(&|out| {
            put_len_field(out, 1, &time(1_767_323_045, 679_000_000));
            put_len_field(out, 2, &text("event", "retry"));
            put_len_field(out, 2, &left);
        });
        put_len_field(out, 9, &log);
        let process = message(&|out| {
            put_len_field(out, 1, b"cart");
            put_len_field(out, 2, &text("hostname", "h"));
            put_len_field(out, 2, &text("jaeger.version", "Go-2"));
        });
        put_len_field(out, 10, &process);
        put_len_field(out, 12, b"w");
        put_len_field(out, 99, b"unknown");
    })
}

#[test]
fn protobuf_and_json_of_a_span_give_the_same_request() {
    assert_eq!(from_proto(&in_protobuf()).expect("valid"), from_json(SPAN.as_bytes()).expect("valid"));
}

#[test]
fn errors_say_where() {
    let mut record = in_protobuf();
    record[1] = 15;
    let error = from_proto(&record).expect_err("an id of 15 bytes").to_string();
    assert_eq!(error, "malformed protobuf in Span at byte 0: field 1 has 15 bytes instead of 16 or 8");
    let error = from_proto(&[0x42, 3, 0x0a, 1, 0xff]).expect_err("no text").to_string();
    assert_eq!(error, "malformed protobuf in KeyValue at byte 2: field 1 is not UTF-8");
    let error = from_proto(&[0x42, 2, 0x08, 1]).expect_err("a number").to_string();
    assert_eq!(error, "malformed protobuf in KeyValue at byte 2: field 1 has wire type 0 instead of 2");
    for (json, expected) in [
        (
            r#"{"traceId":"AQ=="}"#,
            r#"malformed JSON: invalid value: string "AQ==", expected 16 or 8 bytes in base64 at line 1 column 17"#,
        ),
        (
            r#"{"startTime":"now"}"#,
            r#"malformed JSON: invalid value: string "now", expected a time such as 2026-01-02T03:04:05.678Z at line 1 column 18"#,
        ),
        ("7", "malformed JSON: invalid type: integer `7`, expected struct Span at line 1 column 1"),
    ] {
        assert_eq!(from_json(json.as_bytes()).expect_err(json).to_string(), expected);
    }
}

#[test]
fn a_span_of_countless_parts_is_refused_before_it_is_built() {
    let tags = [0x42, 0].repeat(MOST + 1);
    assert!(matches!(from_proto(&tags), Err(Undecodable::TooMany { .. })));
    let mut logs = [0x12, 0].repeat(MOST);
    let mut record = Vec::new();
    put_len_field(&mut record, 9, &logs);
    assert!(matches!(from_proto(&record), Err(Undecodable::TooMany { .. })));
    logs.clear();
    let json = format!(r#"{{"tags":[{}{{}}]}}"#, "{},".repeat(MOST));
    assert!(from_json(json.as_bytes()).expect_err("too many").to_string().contains("a list of over 65536 entries"));
}

proptest! {
    #[test]
    fn no_bytes_panic_and_what_is_read_is_a_valid_request(
        at in any::<prop::sample::Index>(), byte: u8, cut in any::<prop::sample::Index>(), noise: Vec<u8>
    ) {
        for whole in [in_protobuf(), SPAN.as_bytes().to_vec(), noise] {
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
