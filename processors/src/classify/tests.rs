use std::collections::BTreeSet;

use afflux_bus::{Headers, PartitionId};
use afflux_runtime::Signal;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use prost::Message;

use super::*;
use crate::chain::{Chain, Route};

fn value(text: &str) -> Option<AnyValue> {
    Some(AnyValue { value: Some(Any::StringValue(text.into())) })
}

fn event(attributes: &[(&str, &str)], body: &str) -> LogRecord {
    let attribute =
        |(key, text): &(&str, &str)| KeyValue { key: (*key).into(), value: value(text), ..KeyValue::default() };
    LogRecord {
        event_name: EVENT.into(),
        severity_number: 9,
        body: value(body),
        attributes: attributes.iter().map(attribute).collect(),
        ..LogRecord::default()
    }
}

fn request(log_records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
}

fn classify(request: &ExportLogsServiceRequest) -> ExportLogsServiceRequest {
    let envelope = Envelope {
        signal: Signal::Events,
        value: request.encode_to_vec().into(),
        items: 1,
        cluster: "eu".into(),
        timestamp_ms: 0,
        headers: Headers::new(),
        route: Route::default(),
    };
    let from = PartitionId::new("in", 0);
    let at = At { from: &from, offset: 0, timestamp_ms: 0, stream_time_ms: 0, repeat: false, counted: false };
    let mut passed = Vec::new();
    Chain::new(vec![Box::new(Classify)]).process(envelope, &at, &mut |envelope| passed.push(envelope.value));
    ExportLogsServiceRequest::decode(&passed[0][..]).unwrap()
}

/// Category and severity that an event gets.
fn of(log: LogRecord) -> (String, i32) {
    let logs = classify(&request(vec![log])).resource_logs.remove(0).scope_logs.remove(0).log_records;
    let category = logs[0].attributes.iter().find(|attribute| attribute.key == CATEGORY);
    let text = category.and_then(|attribute| attribute.value.clone()?.value);
    let Some(Any::StringValue(category)) = text else { panic!("{:?}", logs[0]) };
    (category, logs[0].severity_number)
}

fn body(reason: &str, message: &str, kind: &str) -> String {
    serde_json::json!({"kind": "Event", "reason": reason, "message": message, "type": kind}).to_string()
}

#[test]
fn events_as_clusters_write_them_have_their_category_and_severity() {
    for (reason, message, kind, category, severity) in [
        ("OOMKilling", "Memory cgroup out of memory: Killed process 4242 (java)", "Warning", "oom", 17),
        ("BackOff", "Back-off restarting failed container app in pod shop-1_shop(…)", "Warning", "crash_loop", 17),
        ("BackOff", "Back-off pulling image \"registry/none:1\"", "Normal", "image_pull", 9),
        ("Failed", "Failed to pull image \"x\": rpc error: code = NotFound", "Warning", "image_pull", 17),
        ("Failed", "Error: ErrImagePull", "Warning", "image_pull", 17),
        ("Failed", "Error: configmap \"settings\" not found", "Warning", "failed", 17),
        ("Evicted", "The node was low on resource: memory.", "Warning", "evicted", 17),
        ("TaintManagerEviction", "Marking for deletion Pod shop/cart-1", "Normal", "evicted", 13),
        ("FailedScheduling", "0/3 nodes are available: 3 Insufficient cpu.", "Warning", "scheduling", 13),
        ("Scheduled", "Successfully assigned shop/cart-1 to node-1", "Normal", "scheduling", 9),
        ("FailedMount", "MountVolume.SetUp failed for volume \"data\"", "Warning", "volume", 13),
        ("FailedCreatePodSandBox", "… networkPlugin cni failed to set up pod …", "Warning", "network", 13),
        ("NodeNotReady", "Node node-1 status is now: NodeNotReady", "Normal", "node", 13),
        ("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503", "Warning", "probe", 13),
        ("SyncLoadBalancerFailed", "Error syncing load balancer", "Warning", "network", 13),
        ("SuccessfulRescale", "New size: 4; reason: cpu resource utilization", "Normal", "scaling", 9),
        ("BackoffLimitExceeded", "Job has reached the specified backoff limit", "Warning", "failed", 17),
        ("SomethingFailed", "", "Warning", "failed", 17),
        ("Killing", "Stopping container app", "Normal", "other", 9),
        ("Created", "Created container app", "Normal", "other", 9),
    ] {
        let expected = (category.to_owned(), severity);
        assert_eq!(of(event(&[], &body(reason, message, kind))), expected, "{reason}: {message}");
    }
}

#[test]
fn attributes_come_before_the_body_and_either_api_is_read() {
    let new = r#"{"reason": "BackOff", "note": "Back-off pulling image", "type": "Warning"}"#;
    assert_eq!(of(event(&[], new)), ("image_pull".into(), 17));
    let known = [(REASON, "OOMKilling"), (TYPE, "Normal")];
    assert_eq!(of(event(&known, new)), ("oom".into(), 17));
    assert_eq!(of(event(&[(REASON, "Unhealthy"), (TYPE, "Warning")], "no JSON")), ("probe".into(), 13));
    let by_text = LogRecord { severity_text: "Warning".into(), ..event(&[(REASON, "FailedMount")], "") };
    assert_eq!(of(by_text), ("volume".into(), 13));
    let by_number = LogRecord { severity_number: 13, ..event(&[(REASON, "FailedMount")], "") };
    assert_eq!(of(by_number), ("volume".into(), 13));
}

#[test]
fn all_else_stays_as_it_is_and_a_second_time_changes_nothing() {
    let logs = vec![
        LogRecord { event_name: "other".into(), ..event(&[(REASON, "OOMKilling")], "x") },
        event(&[(CATEGORY, "own"), (REASON, "OOMKilling")], "x"),
    ];
    let untouched = request(logs);
    assert_eq!(classify(&untouched), untouched);
    let once = classify(&request(vec![event(&[(REASON, "OOMKilling")], "x")]));
    assert_eq!(classify(&once), once);
    assert_eq!(once.resource_logs[0].scope_logs[0].log_records[0].attributes.len(), 2);
}

#[test]
fn the_documentation_lists_every_category_and_its_reasons() {
    let docs = include_str!("../../../docs/kubernetes-events.md");
    let mut seen = BTreeSet::new();
    for category in Category::ALL {
        let row = format!("| `{}` | ", category.as_str());
        let line = docs.lines().find(|line| line.starts_with(&row)).unwrap_or_else(|| panic!("no row {row}"));
        for reason in category.reasons() {
            assert!(line.contains(&format!("`{reason}`")), "{reason} is not in {line}");
            assert!(seen.insert(reason), "{reason} is there twice");
        }
    }
}
