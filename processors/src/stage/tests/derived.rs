//! What steps derive and add, through the stage.

use super::*;

#[tokio::test]
async fn what_is_derived_comes_with_the_spans_and_names_all_that_it_was_made_of() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish(&bus, 0, request("a")).await;
    publish(&bus, 1, request("a")).await;
    publish(&bus, 1, request("a")).await;
    for _ in 0..2 {
        run_once(&bus).await;
    }
    let records = read(&bus, Topics::default().metrics()).await;
    let sources: Vec<_> = records.iter().map(|r| header(r, HEADER_SOURCE)).collect();
    assert_eq!(sources, ["afflux.ingest.spans/0/0-0,afflux.ingest.spans/1/0-1"]);
    let mut calls = Vec::new();
    afflux_schemas::otlp::metrics::read(records[0].value.as_deref().unwrap(), |series, point| {
        if let Some(afflux_schemas::otlp::metrics::Value::Count(count)) = point.value {
            calls.push((series.metric.to_owned(), count));
        }
    })
    .unwrap();
    // Three spans of three bytes.
    let expected = [("traces_spanmetrics_calls_total", 3), ("traces_spanmetrics_size_total", 9)];
    assert_eq!(calls, expected.map(|(metric, count)| (metric.to_owned(), count)));
}

/// A request of one span of a pod.
pub(super) fn of_pod(uid: &str) -> Bytes {
    use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
    let value = Some(AnyValue { value: Some(Value::StringValue(uid.into())) });
    let attributes = vec![KeyValue { key: "k8s.pod.uid".into(), value, ..KeyValue::default() }];
    let resource = Some(opentelemetry_proto::tonic::resource::v1::Resource { attributes, ..Default::default() });
    let scope_spans = vec![ScopeSpans { spans: vec![Span::default()], ..Default::default() }];
    let resource_spans = vec![ResourceSpans { resource, scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

/// Makes a pod known.
pub(super) async fn know(bus: &Arc<dyn Bus>, uid: &str, name: &str) {
    use afflux_schemas::objects::{Kind, Object, ObjectKey};
    let value = Some(Object::new(Kind::Pod, "shop", name, uid).encode().unwrap().into());
    let key = Some(ObjectKey::new("here", Kind::Pod, uid).unwrap().to_string().into());
    let to = PartitionId::new(Topics::default().objects(), 0);
    let record = Record { to, key, value, timestamp_ms: 1, headers: Headers::new() };
    bus.producer().await.unwrap().send(vec![record]).await.unwrap();
}

pub(super) fn pod_names(records: &[Received]) -> Vec<String> {
    let name_of = |resource: &ResourceSpans| {
        let attributes = resource.resource.clone().unwrap().attributes;
        let name = attributes.into_iter().find(|attribute| attribute.key == "k8s.pod.name");
        format!("{:?}", name.and_then(|attribute| attribute.value?.value))
    };
    let requests = records.iter().map(|r| ExportTraceServiceRequest::decode(r.value.clone().unwrap()).unwrap());
    requests.flat_map(|request| request.resource_spans).map(|resource| name_of(&resource)).collect()
}

#[tokio::test]
async fn spans_get_the_name_of_a_pod_that_was_known_before_or_comes_while_they_wait() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    know(&bus, "u1", "cart-1").await;
    publish(&bus, 0, of_pod("u1")).await;
    publish(&bus, 0, of_pod("u2")).await;
    publish(&bus, 0, of_pod("u1")).await;
    publish(&bus, 0, of_pod("u3")).await;
    let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
    let health = HealthTable::default().component(NAME);
    let context = Context { bus: bus.clone(), metrics: metrics.clone(), health, shutdown: shutdown.clone() };
    let mut config = ProcessorsConfig::default();
    config.commit.age = afflux_runtime::config::Period(Duration::from_millis(20));
    let stage = tokio::spawn(Box::new(ProcessorStage::new(config, Topics::default(), "here".into())).run(context));
    let spans = Topics::default().spans();
    let mut seen = Vec::new();
    while seen.is_empty() {
        seen = read(&bus, spans.clone()).await;
    }
    assert_eq!(pod_names(&seen).len(), 1, "the second one waits for its pod, and the third one with it");
    know(&bus, "u2", "cart-2").await;
    while pod_names(&seen).len() < 4 {
        seen = read(&bus, spans.clone()).await;
    }
    let name = |name: &str| format!("Some(StringValue({name:?}))");
    assert_eq!(pod_names(&seen), [name("cart-1"), name("cart-2"), name("cart-1"), "None".into()]);
    shutdown.cancel();
    stage.await.unwrap().unwrap();
    let text = metrics.encode();
    for (reason, count) in [("resources_joined", 3), ("resources_missing", 1)] {
        let labels = format!("component=\"processors\",signal=\"spans\",step=\"enrich\",reason=\"{reason}\"");
        assert!(text.contains(&format!("step_outcomes_total{{{labels}}} {count}")), "{text}");
    }
}

#[tokio::test]
async fn what_was_too_large_after_it_was_counted_is_not_counted_again_when_it_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    for encoding in ["otlp_proto", ""] {
        let mut headers = Headers::new();
        headers.push(HEADER_REPLAY_TO, NAME);
        headers.push(HEADER_ATTEMPTS, "1");
        if !encoding.is_empty() {
            headers.push(afflux_schemas::topics::HEADER_ENCODING, encoding);
        }
        let to = PartitionId::new(Topics::default().ingest_spans(), 0);
        let record = Record { to, key: None, value: Some(request(encoding)), timestamp_ms: 1, headers };
        bus.producer().await.unwrap().send(vec![record]).await.unwrap();
    }
    run_once(&bus).await;
    assert_eq!(read(&bus, Topics::default().spans()).await.len(), 1, "both are delivered, as neighbours");
    let metrics = read(&bus, Topics::default().metrics()).await;
    let mut names = Vec::new();
    afflux_schemas::otlp::metrics::read(metrics[0].value.as_deref().unwrap(), |series, _| {
        names.push(series.labels.pairs().find(|(name, _)| *name == "span_name").map(|(_, value)| value.to_owned()));
    })
    .unwrap();
    assert!(
        !names.is_empty() && names.iter().all(Option::is_none),
        "only the one that was malformed before: {names:?}"
    );
}
