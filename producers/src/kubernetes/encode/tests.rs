use super::*;

fn target() -> Target {
    let cluster = Cluster { name: "eu".into(), uid: "c-1".into() };
    Target { cluster, topic: "afflux.ingest.events".into(), partitions: 4 }
}

fn fixture(name: &str) -> Observation {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/src/kubernetes/fixtures");
    let text = std::fs::read_to_string(format!("{dir}/{name}.json")).unwrap();
    Observation::read(serde_json::from_str(&text).unwrap()).unwrap()
}

fn decoded(record: &Record) -> ExportLogsServiceRequest {
    ExportLogsServiceRequest::decode(record.value.clone().unwrap()).unwrap()
}

/// Attributes as lines.
fn lines(attributes: &[KeyValue]) -> Vec<String> {
    let show = |value: &AnyValue| match &value.value {
        Some(Value::StringValue(text)) => text.clone(),
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{other:?}"),
    };
    attributes.iter().map(|a| format!("{}={}", a.key, show(a.value.as_ref().unwrap()))).collect()
}

#[test]
fn an_event_is_a_log_record_by_the_conventions() {
    let event = fixture("backoff.core-v1");
    let records = target().records(&[(event.clone(), Some(3))], 1_700_000_000_000);
    let [record] = records.as_slice() else { panic!("{records:?}") };
    let headers: Vec<_> = record.headers.0.iter().map(|(n, v)| format!("{n}={}", String::from_utf8_lossy(v))).collect();
    assert_eq!(headers, ["afflux-cluster=eu", "afflux-items=1"]);
    assert_eq!(record.key.as_deref(), Some(&b"eu/c2b1a7f4-3d5e-4c8a-8f0b-1e2d3c4b5a69"[..]));
    assert_eq!((&*record.to.topic, record.timestamp_ms), ("afflux.ingest.events", 1_700_000_000_000));
    let request = decoded(record);
    let [logs] = request.resource_logs.as_slice() else { panic!("{request:?}") };
    let node = "ip-10-0-3-17.eu-central-1.compute.internal";
    let expected = format!(
        "k8s.cluster.name=eu k8s.cluster.uid=c-1 k8s.node.name={node} k8s.object.kind=Pod \
         k8s.object.name=checkout-7d9c6f5b8-x2x7q k8s.object.uid=c2b1a7f4-3d5e-4c8a-8f0b-1e2d3c4b5a69 \
         k8s.object.fieldpath=spec.containers{{checkout}} k8s.object.api_version=v1 \
         k8s.object.resource_version=48201994"
    );
    assert_eq!(lines(&logs.resource.as_ref().unwrap().attributes).join(" "), expected);
    let log = &logs.scope_logs[0].log_records[0];
    let expected = format!(
        "k8s.event.start_time=2026-11-03T08:51:07Z k8s.event.name=checkout-7d9c6f5b8-x2x7q.18a1f3c2d4e5b6a7 \
         k8s.event.uid=0f6a1c8e-5b1d-4f0e-9a64-6d0f7b9d2a11 k8s.event.reason=BackOff k8s.event.type=Warning \
         k8s.event.reporting_component=kubelet k8s.event.reporting_instance={node} \
         k8s.event.resource_version=48213377 k8s.namespace.name=shop k8s.event.count=104 k8s.event.increment=3"
    );
    assert_eq!(lines(&log.attributes).join(" "), expected);
    assert_eq!(
        (log.event_name.as_str(), log.severity_text.as_str(), log.severity_number),
        ("k8s.event", "Warning", 13)
    );
    assert_eq!((log.time_unix_nano, log.observed_time_unix_nano), (event.time, 1_700_000_000_000_000_000));
    assert_eq!(log.body, Some(text_value(&event.body)));
}

#[test]
fn events_of_one_object_share_a_record_in_their_order_up_to_its_size() {
    let event = |uid: &str, object: &str, bytes: usize| {
        let mut event = Observation { uid: uid.into(), body: "x".repeat(bytes), ..Observation::default() };
        event.object.uid = object.into();
        (event, Some(1))
    };
    let third = RECORD_BYTES / 3;
    let events = [
        event("1", "a", 9),
        event("2", "b", 9),
        event("3", "a", third),
        event("4", "a", third),
        event("5", "a", third),
    ];
    let found: Vec<_> = target()
        .records(&events, 1)
        .iter()
        .map(|record| {
            let logs = decoded(record).resource_logs;
            let uid = |logs: &ResourceLogs| lines(&logs.scope_logs[0].log_records[0].attributes)[0].clone();
            let uids: Vec<_> = logs.iter().map(uid).collect();
            assert_eq!(record.headers.get(HEADER_ITEMS).unwrap(), &uids.len().to_string());
            (String::from_utf8(record.key.as_ref().unwrap().to_vec()).unwrap(), uids.join(" "))
        })
        .collect();
    let of = |key: &str, uids: &str| (key.to_owned(), uids.to_owned());
    let all = [
        of("eu/a", "k8s.event.uid=1 k8s.event.uid=3 k8s.event.uid=4"),
        of("eu/a", "k8s.event.uid=5"),
        of("eu/b", "k8s.event.uid=2"),
    ];
    assert_eq!(found, all);
}

#[test]
fn a_gap_says_which_cluster_and_from_when_to_when() {
    let (after, until) = ("7".into(), "9".into());
    let gap = Gap { from_ms: 1_700_000_000_000, to_ms: 1_700_000_060_000, after, until, reason: "expired" };
    let request = decoded(&target().gap(&gap, 1_700_000_061_000));
    let logs = &request.resource_logs[0];
    assert_eq!(lines(&logs.resource.as_ref().unwrap().attributes), ["k8s.cluster.name=eu", "k8s.cluster.uid=c-1"]);
    let log = &logs.scope_logs[0].log_records[0];
    assert_eq!((log.event_name.as_str(), log.severity_number), ("k8s.event.gap", 13));
    let Some(Value::StringValue(body)) = log.body.as_ref().unwrap().value.as_ref() else { panic!("{log:?}") };
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["from"], &body["to"]), (&"2023-11-14T22:13:20Z".into(), &"2023-11-14T22:14:20Z".into()));
    assert_eq!((&body["cluster"], &body["reason"]), (&"eu".into(), &"expired".into()));
}
