//! Whole traces are kept or dropped, each span once, wherever the stage is killed.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::Status;

use super::*;

const TRACES: u64 = 120;
/// Time between two records, in milliseconds.
const STEP_MS: i64 = 500;
/// Time of the first record.
const START_MS: i64 = 1_700_000_000_000;

/// One span of a trace; the last one of every fifth trace has failed.
fn part(trace: u64, number: u64) -> Bytes {
    let status = (trace.is_multiple_of(5) && number == 2).then(|| Status { code: 2, ..Status::default() });
    let span = Span {
        trace_id: u128::from(trace + 1).to_be_bytes().to_vec(),
        span_id: (trace * 3 + number + 1).to_be_bytes().to_vec(),
        name: format!("{trace}-{number}"),
        status,
        ..Span::default()
    };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

async fn publish_at(bus: &Arc<dyn Bus>, timestamp_ms: i64, value: Bytes) {
    let to = PartitionId::new(Topics::default().ingest_spans(), 0);
    let mut headers = Headers::new();
    headers.push(HEADER_ITEMS, "1");
    let record = Record { to, key: None, value: Some(value), timestamp_ms, headers };
    bus.producer().await.unwrap().send(vec![record]).await.unwrap();
}

fn config() -> ProcessorsConfig {
    let json = r#"{
        "chain": {"spans": ["span_metrics", "service_graph", "sample"], "logs": []},
        "sample": {"tail": {"decision_wait": "10s", "policies": [{"error": {}}]}},
        "commit": {"age": "5ms"}
    }"#;
    serde_json::from_str(json).unwrap()
}

/// Runs a stage until so many records are settled, and kills it.
async fn run_until(bus: &Arc<dyn Bus>, settled: u64) {
    let health = HealthTable::default().component(NAME);
    let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
    let context = Context { bus: bus.clone(), metrics, health, shutdown };
    let stage = tokio::spawn(Box::new(ProcessorStage::new(config(), Topics::default(), "here".into())).run(context));
    let topics = [Arc::from(Topics::default().ingest_spans())];
    loop {
        let lag = bus.lag("afflux-processors", &topics).await.unwrap();
        if lag[0].committed.unwrap_or_default() >= settled {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    stage.abort();
    let _ = stage.await;
}

#[tokio::test]
async fn traces_with_errors_are_kept_whole_and_once_through_kills_and_all_spans_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    // The spans of a trace lie some records apart.
    let mut order: Vec<(u64, u64)> = (0..TRACES).flat_map(|trace| (0..3).map(move |number| (trace, number))).collect();
    order.sort_by_key(|(trace, number)| trace * 3 + number * 7);
    let mut sent = 0;
    for (at, (trace, number)) in order.iter().enumerate() {
        publish_at(&bus, START_MS + at as i64 * STEP_MS, part(*trace, *number)).await;
        sent += 1;
        if at % 45 == 44 {
            run_until(&bus, sent - at as u64 % 3).await;
        }
    }
    publish_at(&bus, START_MS + 3_600_000, part(TRACES * 5 + 1, 0)).await;
    run_until(&bus, sent + 1).await;

    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for record in read(&bus, Topics::default().spans()).await {
        let request = ExportTraceServiceRequest::decode(record.value.clone().unwrap()).unwrap();
        let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        spans.for_each(|span| *found.entry(span.name.clone()).or_default() += 1);
    }
    let kept = (0..TRACES).filter(|trace| trace.is_multiple_of(5));
    let expected = kept.flat_map(|trace| (0..3).map(move |number| (format!("{trace}-{number}"), 1)));
    assert_eq!(found, expected.collect());

    let mut counted = 0;
    for record in read(&bus, Topics::default().metrics()).await {
        afflux_schemas::otlp::metrics::read(record.value.as_deref().unwrap(), |series, point| {
            if let (afflux_schemas::otlp::metrics::Value::Count(count), "traces_spanmetrics_calls_total") =
                (point.value.clone().unwrap(), series.metric)
            {
                counted += count;
            }
        })
        .unwrap();
    }
    assert_eq!(counted, sent + 1, "before they are sampled");
}
