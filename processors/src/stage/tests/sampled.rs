//! Whole traces are kept or dropped, each span once, wherever the stage is killed.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::trace::v1::Status;

use super::derived::{know, of_pod, pod_names};
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
    waiting_for("10s")
}

fn waiting_for(time: &str) -> ProcessorsConfig {
    let mut config = without_sample();
    config.chain.spans.push(crate::config::SpanStep::Sample);
    let tail = format!(r#"{{"tail": {{"decision_wait": "{time}", "policies": [{{"error": {{}}}}]}}}}"#);
    config.sample = serde_json::from_str(&tail).unwrap();
    config
}

fn without_sample() -> ProcessorsConfig {
    let json = r#"{
        "chain": {"spans": ["span_metrics", "service_graph"], "logs": []},
        "commit": {"age": "5ms"}
    }"#;
    serde_json::from_str(json).unwrap()
}

/// Names of the spans that came out, and how often each did.
pub(super) async fn found(bus: &Arc<dyn Bus>) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for record in read(bus, Topics::default().spans()).await {
        let request = ExportTraceServiceRequest::decode(record.value.clone().unwrap()).unwrap();
        let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        spans.for_each(|span| *found.entry(span.name.clone()).or_default() += 1);
    }
    found
}

/// How many calls were counted.
async fn counted(bus: &Arc<dyn Bus>) -> u64 {
    let mut counted = 0;
    for record in read(bus, Topics::default().metrics()).await {
        afflux_schemas::otlp::metrics::read(record.value.as_deref().unwrap(), |series, point| {
            if let (afflux_schemas::otlp::metrics::Value::Count(count), "traces_spanmetrics_calls_total") =
                (point.value.clone().unwrap(), series.metric)
            {
                counted += count;
            }
        })
        .unwrap();
    }
    counted
}

/// Records that the group has committed.
async fn committed(bus: &Arc<dyn Bus>) -> u64 {
    let lag = bus.lag("afflux-processors", &[Arc::from(Topics::default().ingest_spans())]).await.unwrap();
    lag[0].committed.unwrap_or_default()
}

/// Runs a stage until so many records are settled, and kills it.
async fn run_until(bus: &Arc<dyn Bus>, settled: u64) {
    let health = HealthTable::default().component(NAME);
    let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
    let context = Context { bus: bus.clone(), metrics, health, shutdown };
    let stage = tokio::spawn(Box::new(ProcessorStage::new(config(), Topics::default(), "here".into())).run(context));
    let settling = async {
        while committed(bus).await < settled {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(60), settling).await.unwrap();
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
            // Twenty records wait.
            run_until(&bus, sent - 20 - at as u64 % 3).await;
        }
    }
    publish_at(&bus, START_MS + 3_600_000, part(TRACES * 5 + 1, 0)).await;
    run_until(&bus, sent).await;

    let kept = (0..TRACES).filter(|trace| trace.is_multiple_of(5));
    let expected = kept.flat_map(|trace| (0..3).map(move |number| (format!("{trace}-{number}"), 1)));
    assert_eq!(found(&bus).await, expected.collect());

    assert_eq!(counted(&bus).await, sent, "before they are sampled");
}

/// Publishes failed spans of so many traces.
async fn publish_failed(bus: &Arc<dyn Bus>, traces: u64) {
    for trace in 0..traces {
        publish_at(bus, START_MS + trace as i64 * STEP_MS, part(trace * 5, 2)).await;
    }
}

#[tokio::test]
async fn what_waits_is_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish_failed(&bus, 40).await;
    for _ in 0..2 {
        run_with(&bus, config()).await;
        assert_eq!((committed(&bus).await, found(&bus).await.len()), (20, 20), "10 s are twenty records");
        assert_eq!(counted(&bus).await, 20, "what waits was not counted");
    }
    publish_at(&bus, START_MS + 20 * STEP_MS + 10_000, part(1, 0)).await;
    run_with(&bus, config()).await;
    assert_eq!((committed(&bus).await, found(&bus).await.len(), counted(&bus).await), (21, 21, 21));
}

#[tokio::test]
async fn what_waits_is_not_lost_where_the_wait_is_made_shorter_or_nothing_is_sampled_any_more() {
    for after in [waiting_for("1s"), without_sample(), waiting_for("60s"), config()] {
        let dir = tempfile::tempdir().unwrap();
        let bus = bus(dir.path()).await;
        publish_failed(&bus, 40).await;
        run_with(&bus, config()).await;
        run_with(&bus, after.clone()).await;
        publish_at(&bus, START_MS + 3_600_000, part(1, 0)).await;
        run_with(&bus, after.clone()).await;
        let mut found = found(&bus).await;
        found.remove("1-0");
        assert_eq!(found, (0..40).map(|trace| (format!("{}-2", trace * 5), 1)).collect(), "{:?}", after.sample);
    }
}

#[tokio::test]
async fn span_metrics_behind_tail_sampling_count_what_it_keeps_once_over_restarts() {
    let json = r#"{
        "chain": {"spans": ["sample", "span_metrics"], "logs": []},
        "sample": {"tail": {"decision_wait": "10s", "policies": [{"error": {}}]}}
    }"#;
    let config: ProcessorsConfig = serde_json::from_str(json).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    for at in 0..90 {
        publish_at(&bus, START_MS + at as i64 * STEP_MS, part(at / 3, at % 3)).await;
        if at % 25 == 24 {
            run_with(&bus, config.clone()).await;
        }
    }
    publish_at(&bus, START_MS + 3_600_000, part(1, 0)).await;
    run_with(&bus, config).await;
    assert_eq!((found(&bus).await.values().sum::<usize>(), counted(&bus).await), (18, 18));
}

#[tokio::test]
async fn a_record_waits_for_its_pod_first_and_for_its_trace_then() {
    let json = r#"{
        "chain": {"spans": ["enrich", "sample"], "logs": []},
        "sample": {"tail": {"decision_wait": "1s", "policies": [{"error": {}}]}}
    }"#;
    let config: ProcessorsConfig = serde_json::from_str(json).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    know(&bus, "u1", "cart-1").await;
    // The third one lets the second go by its time, and waits behind it.
    for (after_ms, uid) in [(0, "u1"), (100, "u2"), (5_000, "u1")] {
        publish_at(&bus, START_MS + after_ms, of_pod(uid)).await;
    }
    run_with(&bus, config.clone()).await;
    let names = async || pod_names(&read(&bus, Topics::default().spans()).await);
    let name = |name: &str| format!("Some(StringValue({name:?}))");
    assert_eq!((committed(&bus).await, names().await), (2, vec![name("cart-1"), "None".into()]));
    know(&bus, "u2", "cart-2").await;
    for (after_ms, uid) in [(6_000, "u2"), (7_000, "u1")] {
        publish_at(&bus, START_MS + after_ms, of_pod(uid)).await;
    }
    run_with(&bus, config).await;
    let expected = vec![name("cart-1"), "None".into(), name("cart-1"), name("cart-2")];
    assert_eq!((committed(&bus).await, names().await), (4, expected));
}

#[tokio::test]
async fn what_is_refused_keeps_its_place_among_what_waits() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish_at(&bus, START_MS, part(0, 2)).await;
    publish_at(&bus, START_MS + 1, Bytes::from_static(b"\x0a\xffnonsense")).await;
    let dead = async || read(&bus, Topics::default().dead_letters()).await.len();
    run_with(&bus, config()).await;
    assert_eq!((committed(&bus).await, dead().await), (0, 0));
    publish_at(&bus, START_MS + 10_000, part(1, 0)).await;
    run_with(&bus, config()).await;
    assert_eq!((committed(&bus).await, dead().await), (1, 0));
    publish_at(&bus, START_MS + 10_001, part(1, 1)).await;
    run_with(&bus, config()).await;
    assert_eq!((committed(&bus).await, dead().await), (2, 1));
    assert_eq!(found(&bus).await, [("0-2".to_owned(), 1)].into());
}

#[tokio::test]
async fn what_there_is_no_room_for_goes_on_early_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish_failed(&bus, 10).await;
    let mut narrow = config();
    // With its headers, a record is larger than what it holds.
    let size = part(0, 2).len() as u64;
    narrow.sample.tail.as_mut().unwrap().max_bytes = afflux_runtime::config::ByteSize(4 * size);
    let metrics = run_with(&bus, narrow).await.encode();
    let early = committed(&bus).await;
    assert!((7..10).contains(&early), "{early} of ten went on, with room for less than four");
    let labels = "component=\"processors\",signal=\"spans\",step=\"sample\",reason=\"decided_early\"";
    assert!(metrics.contains(&format!("step_outcomes_total{{{labels}}} {early}")), "{metrics}");
    assert_eq!(found(&bus).await.len() as u64, early);
}
