use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Cleanup, Headers, PartitionId, Record, TopicSpec};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::*;

const NOW_MS: i64 = 1_760_000_000_000;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn texts(all: &[(&str, &str)]) -> Vec<KeyValue> {
    all.iter().map(|(key, text)| attribute(key, Value::StringValue((*text).into()))).collect()
}

fn request(object: &[(&str, &str)], event_name: &str, own: &[(&str, &str)], body: &str, ms: i64) -> Bytes {
    let mut attributes = texts(own);
    attributes.push(attribute("k8s.event.count", Value::IntValue(12)));
    let log = LogRecord {
        event_name: event_name.into(),
        time_unix_nano: u64::try_from(ms * 1_000_000).unwrap(),
        body: Some(AnyValue { value: Some(Value::StringValue(body.into())) }),
        attributes,
        ..LogRecord::default()
    };
    let scope_logs = vec![ScopeLogs { log_records: vec![log], ..ScopeLogs::default() }];
    let resource = Some(Resource { attributes: texts(object), ..Resource::default() });
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec().into()
}

fn pod_event(pod: &str, kind: &str, ms: i64) -> Bytes {
    let object = [("k8s.object.kind", "Pod"), ("k8s.object.name", pod)];
    let own = [
        ("k8s.event.uid", pod),
        ("k8s.event.reason", "BackOff"),
        ("k8s.event.type", kind),
        ("k8s.namespace.name", "shop"),
        ("k8s.event.start_time", "2025-10-09T08:00:00Z"),
    ];
    request(&object, "k8s.event", &own, r#"{"message": "Back-off", "reason": "other"}"#, ms)
}

async fn world() -> (Arc<dyn Bus>, Events, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let bus: Arc<dyn Bus> = LocalBus::open(LocalConfig::new(dir.path())).unwrap();
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    let topics = Topics::default();
    bus.create_topics(&[TopicSpec { name: topics.events().into(), partitions: 2, cleanup }]).await.unwrap();
    (Arc::clone(&bus), Events::new(bus, &topics), dir)
}

async fn publish(bus: &Arc<dyn Bus>, value: Bytes, timestamp_ms: i64) {
    let mut headers = Headers::new();
    headers.push(HEADER_CLUSTER, Bytes::from_static(b"eu"));
    let to = PartitionId::new(Topics::default().events(), 0);
    let record = Record { to, key: None, value: Some(value), timestamp_ms, headers };
    bus.producer().await.unwrap().send(vec![record]).await.unwrap();
}

async fn next(watch: &mut Watch) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        match watch.next().await.unwrap() {
            Seen::Events(events) => all.extend(events.into_iter().map(|event| event.object)),
            Seen::Complete => return all,
        }
    }
}

#[tokio::test]
async fn events_are_read_with_what_attributes_and_body_say_and_then_those_that_come() {
    let (bus, events, _dir) = world().await;
    publish(&bus, pod_event("a-1", "Warning", NOW_MS), NOW_MS).await;
    let mut watch = events.watch(EventFilter::default()).await.unwrap();
    let expected = KubernetesEvent {
        time_ms: NOW_MS,
        start: "2025-10-09T08:00:00Z".into(),
        cluster: "eu".into(),
        namespace: "shop".into(),
        kind: "Pod".into(),
        object: "a-1".into(),
        event_type: "Warning".into(),
        reason: "BackOff".into(),
        category: String::new(),
        count: 12,
        uid: "a-1".into(),
        message: "Back-off".into(),
    };
    assert_eq!(watch.next().await.unwrap(), Seen::Events(vec![expected]));
    assert_eq!(watch.next().await.unwrap(), Seen::Complete);
    publish(&bus, pod_event("a-2", "Normal", NOW_MS), NOW_MS).await;
    let Seen::Events(more) = watch.next().await.unwrap() else { panic!("it is not complete again") };
    assert_eq!(more[0].object, "a-2");
}

#[tokio::test]
async fn only_those_are_brought_that_were_asked_for() {
    let (bus, events, _dir) = world().await;
    publish(&bus, pod_event("early", "Warning", NOW_MS - 10_000), NOW_MS - 10_000).await;
    // Written late.
    publish(&bus, pod_event("late", "Warning", NOW_MS - 10_000), NOW_MS).await;
    publish(&bus, pod_event("a", "Warning", NOW_MS), NOW_MS).await;
    publish(&bus, pod_event("b", "Normal", NOW_MS), NOW_MS).await;
    let gap = request(&[], "k8s.event.gap", &[], r#"{"type": "Warning", "reason": "Expired", "message": "m"}"#, NOW_MS);
    publish(&bus, gap, NOW_MS).await;
    let other = request(&[("k8s.object.name", "no event")], "other", &[], "x", NOW_MS);
    publish(&bus, other, NOW_MS).await;
    let text = |text: &str| Some(text.to_owned());
    let all = EventFilter { since_ms: NOW_MS - 1000, ..EventFilter::default() };
    for (filter, expected) in [
        (all.clone(), vec!["a", "b", ""]),
        (EventFilter { warnings: true, ..all.clone() }, vec!["a", ""]),
        (EventFilter { pod: text("b"), ..all.clone() }, vec!["b", ""]),
        (EventFilter { namespace: text("none"), ..all.clone() }, vec![""]),
        (EventFilter { cluster: text("us"), ..all }, vec![]),
        (EventFilter::default(), vec!["early", "late", "a", "b", ""]),
    ] {
        let mut watch = events.watch(filter.clone()).await.unwrap();
        assert_eq!(next(&mut watch).await, expected, "{filter:?}");
    }
}
