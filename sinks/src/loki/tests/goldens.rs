//! What attributes become, case by case.

use opentelemetry_proto::tonic::common::v1::{ArrayValue, KeyValueList};

use super::*;
use crate::loki::config::{LabelConfig, LabelPreset, LabelsConfig};

const POD: &[(&str, &str)] = &[
    ("service.name", "cart"),
    ("k8s.namespace.name", "shop"),
    ("k8s.pod.name", "cart-7d4b9-x2x5z"),
    ("k8s.container.name", "main"),
    ("k8s.node.name", "node-1"),
    ("k8s.pod.label.app.kubernetes.io/name", "shopping-cart"),
    ("k8s.cluster.name", "eu-1"),
];

fn one(resource: &[(&str, &str)], log: LogRecord) -> Read {
    let mut all = entries(resource, vec![log]);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn a_pods_line_has_six_labels_and_the_rest_is_structured_metadata() {
    let line = LogRecord {
        severity_number: 18,
        severity_text: "E".into(),
        trace_id: (0..16).collect(),
        span_id: (0..8).collect(),
        flags: 1,
        dropped_attributes_count: 2,
        event_name: "checkout.failed".into(),
        attributes: vec![
            attribute("http.request.method", text("POST")),
            attribute("retries", any_value(Value::IntValue(-3))),
            attribute("ratio", any_value(Value::DoubleValue(0.5))),
            attribute("log.iostream", text("stderr")),
            attribute("empty", text("")),
            attribute("nothing", None),
        ],
        ..log(NOW, "it broke")
    };
    let read = one(POD, line);
    assert_eq!(
        read.labels,
        r#"{app="shopping-cart", cluster="eu-1", container="main", level="error", namespace="shop", source="file"}"#
    );
    assert_eq!((read.time, read.line.as_str()), (NOW, "it broke"));
    assert_eq!(
        read.metadata,
        [
            "trace_id=000102030405060708090a0b0c0d0e0f",
            "span_id=0001020304050607",
            "severity_text=E",
            "event_name=checkout.failed",
            "severity_number=18",
            "flags=1",
            "dropped_attributes_count=2",
            "http_request_method=POST",
            "retries=-3",
            "ratio=0.5",
            "log_iostream=stderr",
            "service_name=cart",
            "k8s_pod_name=cart-7d4b9-x2x5z",
            "k8s_node_name=node-1",
        ]
    );
}

#[test]
fn bodies_become_lines() {
    let list =
        KeyValueList { values: vec![attribute("a", text("x")), attribute("b", any_value(Value::BoolValue(true)))] };
    let array = ArrayValue { values: vec![AnyValue { value: Some(Value::IntValue(1)) }, AnyValue::default()] };
    for (body, line) in [
        (text("plain"), "plain"),
        (text("zwei\nZeilen"), "zwei\nZeilen"),
        (text(&"x".repeat(300)), &*"x".repeat(300)),
        (any_value(Value::IntValue(7)), "7"),
        (any_value(Value::KvlistValue(list)), r#"{"a":"x","b":true}"#),
        (any_value(Value::ArrayValue(array)), "[1,null]"),
        (any_value(Value::BytesValue(vec![0, 1, 2])), r#""AAEC""#),
        (Some(AnyValue::default()), ""),
        (None, ""),
    ] {
        assert_eq!(one(&[], LogRecord { body, ..log(NOW, "") }).line, line);
    }
}

#[test]
fn the_application_is_the_first_thing_that_names_one() {
    for (resource, app) in [
        (&[("k8s.pod.label.app", "b"), ("app.kubernetes.io/name", "a")][..], Some("a")),
        (&[("service.name", "b"), ("k8s.pod.labels.app", "a")], Some("a")),
        (&[("k8s.deployment.name", "b"), ("service.name", "a")], Some("a")),
        (&[("k8s.replicaset.name", "b"), ("k8s.daemonset.name", "a")], Some("a")),
        (&[("service.name", ""), ("k8s.job.name", "a")], Some("a")),
        (&[("service.name", "a"), ("service.name", "b")], Some("a")),
        (&[("host.name", "a")], None),
    ] {
        let labels = one(resource, log(NOW, "")).labels;
        let expected = app.map(|app| format!("app=\"{app}\""));
        assert_eq!(expected.as_ref().is_some_and(|app| labels.contains(app)), app.is_some(), "{labels}");
        assert_eq!(labels.contains("app="), app.is_some(), "{labels}");
    }
}

#[test]
fn kubernetes_events_are_streams_of_their_own_with_the_event_as_line() {
    let event = r#"{"kind":"Event","reason":"BackOff"}"#;
    let line = LogRecord {
        event_name: "k8s.event".into(),
        severity_text: "Warning".into(),
        attributes: texts(&[("k8s.namespace.name", "shop"), ("k8s.event.reason", "BackOff"), ("source", "kubelet")]),
        ..log(NOW, event)
    };
    let read = one(&[("k8s.object.kind", "Pod")], line.clone());
    assert_eq!(read.labels, r#"{cluster="eu-1", level="warn", namespace="shop", source="k8s-events"}"#);
    assert_eq!(read.line, event);
    assert_eq!(
        read.metadata,
        [
            "source_extracted=kubelet",
            "severity_text=Warning",
            "event_name=k8s.event",
            "k8s_event_reason=BackOff",
            "k8s_object_kind=Pod",
        ]
    );
    // On a topic of events, whatever they call themselves.
    let other = LogRecord { event_name: String::new(), ..line };
    let events = Batch { kind: Kind::Events, ..batch(vec![record(vec![block(&[], vec![other])])]) };
    assert!(read_one(&LokiConfig::default(), &events).labels.contains(r#"source="k8s-events""#));
}

fn read_one(config: &LokiConfig, batch: &Batch) -> Read {
    let mut all = read(&encoded(config, batch).requests);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn the_source_is_how_a_line_was_taken_unless_something_says() {
    let with = |key: &str| LogRecord { attributes: texts(&[(key, "x")]), ..log(NOW, "") };
    for (log, source) in [
        (log(NOW, ""), "otlp"),
        (with("log.file.path"), "file"),
        (with("log.file.name"), "file"),
        (with("log.iostream"), "file"),
        (with("source"), "x"),
    ] {
        let labels = one(&[], log).labels;
        assert!(labels.contains(&format!("source=\"{source}\"")), "{labels}");
    }
    assert!(one(&[("source", "syslog")], with("log.file.path")).labels.contains(r#"source="syslog""#));
}

#[test]
fn the_preset_of_promtail_keeps_pod_node_and_job() {
    let labels = LabelsConfig { preset: LabelPreset::Promtail, ..LabelsConfig::default() };
    let config = LokiConfig { labels, ..LokiConfig::default() };
    let of = |resource: &[(&str, &str)]| {
        read_one(&config, &batch(vec![record(vec![block(resource, vec![log(NOW, "")])])])).labels
    };
    let labels = of(POD);
    for label in [r#"pod="cart-7d4b9-x2x5z""#, r#"node_name="node-1""#, r#"job="shop/shopping-cart""#] {
        assert!(labels.contains(label), "{labels}");
    }
    assert!(of(&[("service.name", "a")]).contains(r#"job="a""#));
    assert!(of(&[("service.name", "a"), ("job", "b/c")]).contains(r#"job="b/c""#));
    assert!(!of(&[]).contains("job="));
}

#[test]
fn labels_may_come_from_attributes_of_log_records() {
    let stream = LabelConfig { name: "stream".into(), from: vec!["log.iostream".into()] };
    let none = LabelConfig { name: "level".into(), from: Vec::new() };
    let labels = LabelsConfig { extra: vec![stream, none], ..LabelsConfig::default() };
    let config = LokiConfig { labels, ..LokiConfig::default() };
    let with = |stream: &str| LogRecord {
        severity_number: 9,
        attributes: texts(&[("log.iostream", stream)]),
        ..log(NOW, stream)
    };
    let logs = vec![with("stdout"), with("stderr"), with("stdout")];
    let read = read(&encoded(&config, &batch(vec![record(vec![block(&[], logs)])])).requests);
    let told: Vec<_> = read.iter().map(|read| (read.labels.as_str(), read.metadata.join(" "))).collect();
    let stdout = (r#"{cluster="eu-1", source="file", stream="stdout"}"#, "level=info".to_owned());
    let stderr = (r#"{cluster="eu-1", source="file", stream="stderr"}"#, "level=info".to_owned());
    assert_eq!(told, [stderr, stdout.clone(), stdout]);
}

#[test]
fn the_cluster_is_what_the_header_says_and_what_contradicts_it_stays() {
    let mut received = record(vec![block(&[("k8s.cluster.name", "other")], vec![log(NOW, "")])]);
    let config = LokiConfig::default();
    let first = read_one(&config, &batch(vec![received.clone()]));
    assert!(first.labels.contains(r#"cluster="eu-1""#), "{}", first.labels);
    assert_eq!(first.metadata, ["k8s_cluster_name=other"]);
    received.headers = Headers::new();
    received.headers.set(afflux_schemas::topics::HEADER_SOURCE_CLUSTER, "last");
    let second = read_one(&config, &batch(vec![received.clone()]));
    assert!(second.labels.contains(r#"cluster="other""#) && second.metadata.is_empty(), "{second:?}");
    received.value = record(vec![block(&[], vec![log(NOW, "")])]).value;
    assert!(read_one(&config, &batch(vec![received])).labels.contains(r#"cluster="last""#));
}

#[test]
fn times_are_the_records_own_never_the_present() {
    let observed = LogRecord { observed_time_unix_nano: NOW - 5, ..log(0, "") };
    assert_eq!(one(&[], observed.clone()).time, NOW - 5);
    assert_eq!(one(&[], LogRecord { time_unix_nano: NOW - 7, ..observed }).time, NOW - 7);
    assert_eq!(one(&[], log(NOW - SECOND / 2, "")).time, NOW - SECOND / 2);
    // For want of both, when it was written to the bus.
    let mut received = record(vec![block(&[], vec![log(0, "")])]);
    received.timestamp_ms -= 3;
    assert_eq!(read_one(&LokiConfig::default(), &batch(vec![received])).time, NOW - 3_000_000);
}

#[test]
fn names_that_collide_get_numbers_and_the_entrys_own_come_first() {
    let line = LogRecord {
        trace_id: vec![1; 16],
        attributes: vec![
            attribute("a.b", text("1")),
            attribute("a_b", text("2")),
            attribute("a.b", text("again")),
            attribute("a_b_2", text("3")),
            attribute("trace_id", text("mine")),
            attribute("app", text("x")),
            attribute("scope.name", text("y")),
        ],
        ..log(NOW, "")
    };
    let mut block = block(&[("a-b", "4"), ("r", "5")], vec![line]);
    block.scope_logs[0].scope = scope("lib", "1.0");
    let read = read_one(&LokiConfig::default(), &batch(vec![record(vec![block])]));
    assert_eq!(
        read.metadata,
        [
            "trace_id=01010101010101010101010101010101",
            "a_b=1",
            "a_b_2=2",
            "a_b_2_2=3",
            "trace_id_2=mine",
            "app_extracted=x",
            "scope_name=y",
            "scope_name_2=lib",
            "scope_version=1.0",
            "a_b_3=4",
            "r=5",
        ]
    );
}

#[test]
fn streams_are_sorted_and_entries_stand_in_the_order_of_time() {
    let resource = |name: &str, times: &[u64]| {
        let logs = times.iter().enumerate().map(|(i, time)| log(NOW + time, &format!("{name}{i}"))).collect();
        block(&[("service.name", name)], logs)
    };
    let records =
        vec![record(vec![resource("b", &[3, 1, 3, 2])]), record(vec![resource("a", &[9]), resource("b", &[1])])];
    let read = read(&encoded(&LokiConfig::default(), &batch(records)).requests);
    let lines: Vec<_> = read.iter().map(|read| (read.time - NOW, read.line.as_str())).collect();
    // Of one time, those that came first.
    assert_eq!(lines, [(9, "a0"), (1, "b1"), (1, "b0"), (2, "b3"), (3, "b0"), (3, "b2")]);
    assert_eq!(read.iter().map(|read| &read.labels).collect::<std::collections::BTreeSet<_>>().len(), 2);
}
