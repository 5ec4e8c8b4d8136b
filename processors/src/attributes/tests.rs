//! What rules and patterns do to requests.

mod model;

use afflux_runtime::Signal;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::*;

const EVERYWHERE: [Place; 3] = [Place::Resource, Place::Items, Place::Events];

fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.into())) }
}

fn attribute(key: &str, value: AnyValue) -> KeyValue {
    KeyValue { key: key.into(), value: Some(value), ..KeyValue::default() }
}

fn texts(attributes: &[(&str, &str)]) -> Vec<KeyValue> {
    attributes.iter().map(|(key, value)| attribute(key, text(value))).collect()
}

fn traces(resource: Vec<KeyValue>, span: Vec<KeyValue>, event: Vec<KeyValue>) -> ExportTraceServiceRequest {
    let event = Event { name: "e".into(), attributes: event, ..Event::default() };
    let span = Span { name: "s".into(), attributes: span, events: vec![event], ..Span::default() };
    let block = ResourceSpans {
        resource: Some(Resource { attributes: resource, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }],
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: vec![block] }
}

fn logs(resource: Vec<KeyValue>, record: Vec<KeyValue>, body: Option<AnyValue>) -> ExportLogsServiceRequest {
    let record = LogRecord { attributes: record, body, severity_text: "INFO".into(), ..LogRecord::default() };
    let block = ResourceLogs {
        resource: Some(Resource { attributes: resource, ..Resource::default() }),
        scope_logs: vec![ScopeLogs { log_records: vec![record], ..ScopeLogs::default() }],
        ..ResourceLogs::default()
    };
    ExportLogsServiceRequest { resource_logs: vec![block] }
}

fn edited_traces(editor: &mut Editor, request: &ExportTraceServiceRequest) -> ExportTraceServiceRequest {
    ExportTraceServiceRequest::decode(editor.edit(Signal::Spans, &request.encode_to_vec().into())).unwrap()
}

fn edited_logs(editor: &mut Editor, request: &ExportLogsServiceRequest) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(editor.edit(Signal::Logs, &request.encode_to_vec().into())).unwrap()
}

fn set(key: &str, value: &str, overwrite: bool, on: &[Place]) -> SetAttribute {
    SetAttribute { key: key.into(), value: value.into(), overwrite, on: on.into() }
}

fn rename(from: &str, to: &str, on: &[Place]) -> RenameAttribute {
    RenameAttribute { from: from.into(), to: to.into(), on: on.into() }
}

fn delete(key: &str, on: &[Place]) -> DeleteAttribute {
    DeleteAttribute { key: key.into(), on: on.into() }
}

fn patterns(names: &[&str]) -> RedactConfig {
    let pattern = |name: &&str| PatternConfig { name: (*name).into(), regex: None, action: Action::Mask };
    RedactConfig { patterns: names.iter().map(pattern).collect(), ..RedactConfig::default() }
}

#[test]
fn rules_apply_in_their_order_and_only_where_they_are_meant() {
    let config = AttributesConfig {
        set: vec![set("env", "prod", false, &[Place::Resource]), set("team", "shop", true, &[Place::Items])],
        rename: vec![
            rename("http.url", "url.full", &EVERYWHERE),
            rename("env", "deployment.environment", &[Place::Resource]),
        ],
        delete: vec![delete("tmp.*", &[Place::Items, Place::Events])],
        redact: RedactConfig::default(),
    };
    let mut editor = Editor::new(&config).unwrap();
    let request = traces(
        texts(&[("tmp.x", "1"), ("http.url", "/")]),
        texts(&[("tmp.x", "1"), ("team", "other"), ("http.url", "/"), ("url.full", "/full")]),
        texts(&[("http.url", "/"), ("tmp.y", "2"), ("env", "mine")]),
    );
    let expected = traces(
        texts(&[("tmp.x", "1"), ("url.full", "/"), ("deployment.environment", "prod")]),
        texts(&[("team", "shop"), ("http.url", "/"), ("url.full", "/full")]),
        texts(&[("url.full", "/"), ("env", "mine")]),
    );
    assert_eq!(edited_traces(&mut editor, &request), expected);
    assert_eq!(edited_traces(&mut editor, &expected).encode_to_vec(), {
        let mut again = expected.clone();
        again.resource_spans[0].resource = Some(Resource {
            attributes: texts(&[
                ("tmp.x", "1"),
                ("url.full", "/"),
                ("deployment.environment", "prod"),
                ("env", "prod"),
            ]),
            ..Resource::default()
        });
        again.encode_to_vec()
    });
}

#[test]
fn a_sender_is_overruled_only_where_the_rule_says_so() {
    let config = |overwrite| AttributesConfig {
        set: vec![set("env", "prod", overwrite, &[Place::Resource])],
        ..AttributesConfig::default()
    };
    for (overwrite, before, after) in [
        (false, &[][..], &[("env", "prod")][..]),
        (false, &[("env", "test")], &[("env", "test")]),
        (true, &[("a", "b"), ("env", "test"), ("c", "d")], &[("a", "b"), ("env", "prod"), ("c", "d")]),
        (true, &[], &[("env", "prod")]),
        (true, &[("env", "prod")], &[("env", "prod")]),
    ] {
        let mut editor = Editor::new(&config(overwrite)).unwrap();
        let edited = edited_logs(&mut editor, &logs(texts(before), vec![], None));
        assert_eq!(edited, logs(texts(after), vec![], None), "{before:?}");
    }
}

/// An array in a map in an array.
fn nested(value: &str) -> AnyValue {
    let array = |values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) };
    let bytes = AnyValue { value: Some(Value::BytesValue(b"ann@example.com".to_vec())) };
    let values = vec![
        attribute("number", AnyValue { value: Some(Value::IntValue(7)) }),
        attribute("list", array(vec![bytes, text(value)])),
    ];
    array(vec![text("plain"), AnyValue { value: Some(Value::KvlistValue(KeyValueList { values })) }])
}

#[test]
fn texts_are_redacted_wherever_they_stand_and_counted() {
    let mut editor = Editor::new(&AttributesConfig {
        redact: patterns(&["email", "card", "bearer"]),
        ..AttributesConfig::default()
    })
    .unwrap();
    let request = |email: &str, card: &str, token: &str| {
        let header = AnyValue { value: Some(Value::ArrayValue(ArrayValue { values: vec![text(token), text(token)] })) };
        let spans = traces(
            texts(&[("owner", email), ("service.name", "cart")]),
            vec![attribute("http.request.header.authorization", header)],
            texts(&[("exception.message", &format!("card {card} refused"))]),
        );
        (spans, logs(texts(&[("x", email)]), texts(&[("y", card)]), Some(nested(email))))
    };
    let (spans, records) = request("ann@example.com", "4111111111111111", "Custom secret");
    let (clean_spans, clean_records) = request("[redacted:email]", "[redacted:card]", "[redacted:bearer]");
    assert_eq!(edited_traces(&mut editor, &spans), clean_spans);
    let counts = |editor: &Editor| editor.redacted().map(|(name, count)| (name.to_owned(), count)).collect::<Vec<_>>();
    let of =
        |counts: [u64; 3]| ["email", "card", "bearer"].map(String::from).into_iter().zip(counts).collect::<Vec<_>>();
    assert_eq!(counts(&editor), of([1, 1, 2]));
    assert_eq!(edited_logs(&mut editor, &records), clean_records);
    assert_eq!(counts(&editor), of([3, 2, 2]));
    let clean = Bytes::from(clean_records.encode_to_vec());
    assert_eq!(editor.edit(Signal::Logs, &clean).as_ptr(), clean.as_ptr());
    assert_eq!(counts(&editor), of([3, 2, 2]));
}

#[test]
fn a_credential_is_one_however_deep_it_lies() {
    let redact = patterns(&["email", "bearer"]);
    let mut editor = Editor::new(&AttributesConfig { redact, ..AttributesConfig::default() }).unwrap();
    let map = |key: &str, value: AnyValue| AnyValue {
        value: Some(Value::KvlistValue(KeyValueList { values: vec![attribute(key, value)] })),
    };
    let record = |secret: &str| {
        let inherited = attribute("http.request.header.authorization", map("values", map("first", text(secret))));
        let body = map("headers", map("Authorization", text(secret)));
        logs(vec![], vec![inherited, attribute("authorized", text("secret"))], Some(body))
    };
    assert_eq!(edited_logs(&mut editor, &record("secret")), record("[redacted:bearer]"));
    assert_eq!(editor.redacted().collect::<Vec<_>>(), [("email", 0), ("bearer", 2)]);
}

#[test]
fn a_body_of_text_is_redacted_and_names_stay() {
    let mut editor =
        Editor::new(&AttributesConfig { redact: patterns(&["email"]), ..AttributesConfig::default() }).unwrap();
    let record = |body: &str| logs(texts(&[("ann@example.com", "key")]), vec![], Some(text(body)));
    let edited = edited_logs(&mut editor, &record("from ann@example.com to bob@example.com"));
    assert_eq!(edited, record("from [redacted:email] to [redacted:email]"));
    assert_eq!(editor.redacted().collect::<Vec<_>>(), [("email", 2)]);
}

#[test]
fn without_rules_nothing_is_touched() {
    let mut editor = Editor::new(&AttributesConfig::default()).unwrap();
    let bytes = Bytes::from(logs(texts(&[("a", "b")]), vec![], Some(nested("ann@example.com"))).encode_to_vec());
    assert_eq!(editor.edit(Signal::Logs, &bytes).as_ptr(), bytes.as_ptr());
    let damaged = Bytes::from(vec![0x0a, 0x7f, 0x0a]);
    let config = AttributesConfig {
        set: vec![set("a", "b", true, &EVERYWHERE)],
        redact: patterns(&["card"]),
        ..AttributesConfig::default()
    };
    assert_eq!(Editor::new(&config).unwrap().edit(Signal::Spans, &damaged), damaged);
}

#[test]
fn rules_that_cannot_be_meant_are_refused_with_their_key() {
    let error = |json: &str| Editor::new(&serde_json::from_str(json).unwrap()).unwrap_err().to_string();
    for (json, expected) in [
        (
            r#"{"set":[{"key":"a","value":""},{"key":"","value":"x"}]}"#,
            "`processors.attributes.set.1.key` is ``, which",
        ),
        (r#"{"set":[{"key":"a","value":"","on":[]}]}"#, "`processors.attributes.set.0.on` is empty; name `resource`"),
        (r#"{"rename":[{"from":"a","to":""}]}"#, "`processors.attributes.rename.0.to` is ``, which is no name"),
        (r#"{"rename":[{"from":"","to":"a"}]}"#, "`processors.attributes.rename.0.from` is ``, which is no name"),
        (r#"{"rename":[{"from":"a*","to":"b"}]}"#, "`processors.attributes.rename.0.from` is `a*`, which is no name"),
        (r#"{"set":[{"key":"a*","value":"b"}]}"#, "`processors.attributes.set.0.key` is `a*`, which is no name"),
        (r#"{"delete":[{"key":"a*"},{"key":"*a"}]}"#, "`processors.attributes.delete.1.key` is `*a`, which is no name"),
        (
            r#"{"redact":{"patterns":[{"name":"x","regex":"["}]}}"#,
            "`processors.attributes.redact.patterns.0.regex` is `[`",
        ),
    ] {
        let error = error(json);
        assert!(error.starts_with(expected), "{error}");
    }
    let read: AttributesConfig =
        serde_json::from_str(r#"{"delete":[{"key":"a"}],"set":[{"key":"k","value":"v"}]}"#).unwrap();
    assert_eq!(read.delete, [delete("a", &EVERYWHERE)]);
    assert_eq!(read.set, [set("k", "v", false, &[Place::Resource])]);
    serde_json::from_str::<AttributesConfig>(r#"{"delete":[{"key":"a","on":["spans"]}]}"#).unwrap_err();
    serde_json::from_str::<AttributesConfig>(r#"{"redact":{"patterns":[{"name":"x","action":"drop"}]}}"#).unwrap_err();
}

#[test]
fn a_configuration_is_read_as_it_is_documented() {
    let yaml = r"
set: [{key: env, value: prod, overwrite: true, on: [resource, items]}]
rename: [{from: http.url, to: url.full}]
delete: [{key: tmp.*, on: [events]}]
redact:
  patterns:
    - name: email
    - {name: ssn, regex: '\d{3}-\d{2}-\d{4}'}
";
    let config: AttributesConfig = afflux_runtime::config::load("afflux.yaml", yaml, []).unwrap();
    let ssn = PatternConfig { name: "ssn".into(), regex: Some(r"\d{3}-\d{2}-\d{4}".into()), action: Action::Mask };
    let expected = AttributesConfig {
        set: vec![set("env", "prod", true, &[Place::Resource, Place::Items])],
        rename: vec![rename("http.url", "url.full", &EVERYWHERE)],
        delete: vec![delete("tmp.*", &[Place::Events])],
        redact: RedactConfig {
            patterns: [patterns(&["email"]).patterns, vec![ssn]].concat(),
            ..RedactConfig::default()
        },
    };
    assert_eq!(config, expected);
    let wrong = afflux_runtime::config::load::<AttributesConfig>("afflux.yaml", "delete: [{key: a, on: [spans]}]", []);
    let error = wrong.unwrap_err().to_string();
    assert!(error.contains("delete.0.on.0"), "{error}");
}
