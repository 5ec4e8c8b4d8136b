use afflux_bus::local::{LocalBus, LocalConfig};
use afflux_bus::{Bus, Cleanup, ConsumerConfig, Headers, PartitionId, Received, Record, TopicSpec};
use afflux_runtime::admin::HealthTable;
use afflux_runtime::{Metrics, dead_letter};
use afflux_schemas::partition::trace_partition;
use afflux_schemas::topics::{HEADER_ATTEMPTS, HEADER_CLUSTER, HEADER_ITEMS, HEADER_REPLAY_TO, HEADER_SOURCE};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::config::{EncodingName, IngestTopic, SignalName};

mod derived;
mod flaky;
mod sampled;

const PARTITIONS: u32 = 2;

async fn bus(dir: &std::path::Path) -> Arc<dyn Bus> {
    let bus = LocalBus::open(LocalConfig::new(dir)).unwrap();
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    let specs: Vec<_> = Topics::default()
        .all()
        .into_iter()
        .map(|name| TopicSpec { name: name.into(), partitions: PARTITIONS, cleanup })
        .collect();
    bus.create_topics(&specs).await.unwrap();
    bus
}

fn request(name: &str) -> Bytes {
    let spans = vec![Span { name: name.into(), ..Default::default() }];
    let scope_spans = vec![ScopeSpans { spans, ..Default::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()
}

async fn publish(bus: &Arc<dyn Bus>, partition: u32, value: Bytes) {
    publish_to(bus, PartitionId::new(Topics::default().ingest_spans(), partition), value).await;
}

async fn publish_to(bus: &Arc<dyn Bus>, to: PartitionId, value: Bytes) {
    let record = Record { to, key: None, value: Some(value), timestamp_ms: 1, headers: Headers::new() };
    bus.producer().await.unwrap().send(vec![record]).await.unwrap();
}

/// Runs a stage until it has drained what is on the bus.
async fn run_once(bus: &Arc<dyn Bus>) -> Arc<Metrics> {
    run_with(bus, ProcessorsConfig::default()).await
}

async fn run_with(bus: &Arc<dyn Bus>, config: ProcessorsConfig) -> Arc<Metrics> {
    let metrics = Arc::new(Metrics::new());
    let shutdown = CancellationToken::new();
    shutdown.cancel();
    let context = Context {
        bus: bus.clone(),
        metrics: metrics.clone(),
        health: HealthTable::default().component(NAME),
        shutdown,
    };
    let stage = ProcessorStage::new(config, Topics::default(), "here".into());
    Box::new(stage).run(context).await.unwrap();
    metrics
}

async fn read(bus: &Arc<dyn Bus>, topic: String) -> Vec<Received> {
    let mut consumer = bus.consumer(ConsumerConfig::new("test", [topic.into()])).await.unwrap();
    let mut records = Vec::new();
    while let Ok(event) = timeout(Duration::from_millis(300), consumer.poll()).await {
        if let Event::Records(batch) = event.unwrap() {
            records.extend(batch);
        }
    }
    consumer.close().await;
    records
}

fn header(record: &Received, name: &str) -> String {
    String::from_utf8(record.headers.get(name).unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn what_was_ingested_comes_out_once_with_its_identity_through_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish(&bus, 1, request("a")).await;
    publish(&bus, 1, request("b")).await;
    run_once(&bus).await;
    publish(&bus, 0, request("c")).await;
    run_once(&bus).await;
    run_once(&bus).await;

    let mut records = read(&bus, Topics::default().spans()).await;
    records.sort_by_key(|r| r.from.partition);
    let seen: Vec<_> = records
        .iter()
        .map(|r| {
            let request = ExportTraceServiceRequest::decode(r.value.clone().unwrap()).unwrap();
            let names: Vec<_> = request.resource_spans.iter().map(|r| r.scope_spans[0].spans[0].name.clone()).collect();
            (
                r.from.partition,
                names.concat(),
                header(r, HEADER_CLUSTER),
                header(r, HEADER_ITEMS),
                header(r, HEADER_SOURCE),
            )
        })
        .collect();
    let expected = [(0, "c", "1", "afflux.ingest.spans/0/0-0"), (1, "ab", "2", "afflux.ingest.spans/1/0-1")]
        .map(|(partition, names, items, source)| (partition, names.into(), "here".into(), items.into(), source.into()));
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_malformed_record_goes_to_the_dead_letters_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish(&bus, 0, Bytes::from_static(b"\x0a\xffnonsense")).await;
    publish(&bus, 0, request("after")).await;
    let metrics = run_once(&bus).await;

    assert_eq!(read(&bus, Topics::default().spans()).await.len(), 1);
    let dead = read(&bus, Topics::default().dead_letters()).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"\x0a\xffnonsense"[..]));
    assert_eq!(header(&dead[0], dead_letter::HEADER_TOPIC), "afflux.ingest.spans");
    assert_eq!(header(&dead[0], dead_letter::HEADER_OFFSET), "0");
    assert_eq!(header(&dead[0], dead_letter::HEADER_REASON), "malformed");
    assert!(metrics.encode().contains("dead_letters_total{component=\"processors\",reason=\"malformed\"} 1"));
}

#[tokio::test]
async fn a_record_that_the_bus_would_not_take_again_becomes_a_dead_letter_and_holds_nothing_up() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    // As large as the bus allows, so that no header finds room.
    let limit = LocalConfig::new(dir.path()).max_record_bytes;
    let overhead = request(&"n".repeat(limit - 1000)).len() - (limit - 1000);
    let large = request(&"n".repeat(limit - overhead));
    assert_eq!(large.len(), limit);
    publish(&bus, 0, large).await;
    publish(&bus, 0, request("after")).await;
    let metrics = run_once(&bus).await;
    run_once(&bus).await;

    let stored = read(&bus, Topics::default().spans()).await;
    assert_eq!(stored.iter().map(|r| header(r, HEADER_SOURCE)).collect::<Vec<_>>(), ["afflux.ingest.spans/0/1-1"]);
    let dead = read(&bus, Topics::default().dead_letters()).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(header(&dead[0], dead_letter::HEADER_OFFSET), "0");
    assert_eq!(header(&dead[0], dead_letter::HEADER_REASON), "too_large");
    assert_eq!(header(&dead[0], dead_letter::HEADER_VALUE_BYTES), limit.to_string());
    assert!(metrics.encode().contains("dead_letters_total{component=\"processors\",reason=\"too_large\"} 1"));
}

#[tokio::test]
async fn a_topic_of_others_is_read_in_its_encoding_and_split_by_trace() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    // Its name is that of a mirrored topic of ours; what is configured counts.
    let name = "edge.afflux.ingest.spans";
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    bus.create_topics(&[TopicSpec { name: name.into(), partitions: 1, cleanup }]).await.unwrap();
    let spans: Vec<_> =
        (1..=40).map(|id| format!(r#"{{"traceId":"{id:032x}","id":"{id:x}","name":"{id}"}}"#)).collect();
    publish_to(&bus, PartitionId::new(name, 0), format!("[{}]", spans.join(",")).into()).await;
    publish_to(&bus, PartitionId::new(name, 0), Bytes::from_static(b"[{}]")).await;
    let topic = IngestTopic {
        topic: name.into(),
        signal: SignalName::Spans,
        encoding: EncodingName::ZipkinJson,
        cluster: Some("edge".into()),
    };
    let config = ProcessorsConfig { ingest: vec![topic], ..ProcessorsConfig::default() };
    let stage = ProcessorStage::new(config.clone(), Topics::default(), "here".into());
    assert_eq!(&*stage.subscriptions()[0].topics[3], name, "its lag is reported");
    run_with(&bus, config).await;

    let mut seen = Vec::new();
    for record in read(&bus, Topics::default().spans()).await {
        assert_eq!(header(&record, HEADER_CLUSTER), "edge");
        assert_eq!(header(&record, HEADER_SOURCE), format!("{name}/0/0-0"));
        let request = ExportTraceServiceRequest::decode(record.value.clone().unwrap()).unwrap();
        for span in request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans) {
            let id = <[u8; 16]>::try_from(&span.trace_id[..]).unwrap();
            assert_eq!(trace_partition(&id, PARTITIONS), record.from.partition);
            seen.push(span.name.parse::<u32>().unwrap());
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (1..=40).collect::<Vec<_>>());
    let dead = read(&bus, Topics::default().dead_letters()).await;
    assert_eq!(dead.iter().map(|letter| header(letter, dead_letter::HEADER_OFFSET)).collect::<Vec<_>>(), ["1"]);
    assert_eq!(header(&dead[0], dead_letter::HEADER_REASON), "malformed");
}

#[tokio::test]
async fn a_replay_for_another_is_passed_over_and_one_for_the_stage_goes_on_as_any_record() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    for (to, value) in
        [("sinks.parquet", request("theirs")), (NAME, request("ours")), (NAME, Bytes::from_static(b"\x0a"))]
    {
        let mut headers = Headers::new();
        headers.push(HEADER_REPLAY_TO, to);
        headers.push(HEADER_ATTEMPTS, "3");
        headers.push("foreign", "kept");
        let to = PartitionId::new(Topics::default().ingest_spans(), 0);
        let record = Record { to, key: None, value: Some(value), timestamp_ms: 1, headers };
        bus.producer().await.unwrap().send(vec![record]).await.unwrap();
    }
    let metrics = run_once(&bus).await;
    let records = read(&bus, Topics::default().spans()).await;
    assert_eq!(records.iter().map(|r| header(r, HEADER_SOURCE)).collect::<Vec<_>>(), ["afflux.ingest.spans/0/1-1"]);
    assert!(records[0].headers.get(HEADER_REPLAY_TO).is_none() && records[0].headers.get(HEADER_ATTEMPTS).is_none());
    assert_eq!(header(&records[0], "foreign"), "kept");
    let dead = read(&bus, Topics::default().dead_letters()).await;
    assert_eq!(dead.iter().map(|r| header(r, dead_letter::HEADER_DEAD_ATTEMPTS)).collect::<Vec<_>>(), ["4"]);
    let passed = "dropped_items_total{component=\"processors\",reason=\"replay_of_another\"} 1";
    assert!(metrics.encode().contains(passed), "{}", metrics.encode());
}

#[tokio::test]
async fn an_empty_request_is_settled_and_is_no_dead_letter() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish(&bus, 0, Bytes::new()).await;
    let metrics = run_once(&bus).await;
    assert!(read(&bus, Topics::default().dead_letters()).await.is_empty());
    let lag = bus.lag("afflux-processors", &[Topics::default().ingest_spans().into()]).await.unwrap();
    assert_eq!(lag[0].records(), 0);
    assert!(metrics.encode().contains("settled_items_total{component=\"processors\",signal=\"spans\"} 0"));
}

#[tokio::test]
async fn an_output_over_the_limit_is_split_down_to_the_item_that_is_too_large_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let written = bus(dir.path()).await;
    // The limit is lower when it is read than when it was written.
    let (small, large) = ("s".repeat(30_000), "l".repeat(90_000));
    let spans =
        [&small[..], &small, &large, &small, &small].map(|name| Span { name: name.into(), ..Default::default() });
    let scope_spans = vec![ScopeSpans { spans: spans.into(), ..Default::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..Default::default() }];
    publish(&written, 0, request("first")).await;
    publish(&written, 0, ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()).await;
    written.close().await;
    drop(written);
    let narrow = LocalConfig { max_record_bytes: 70_000, ..LocalConfig::new(dir.path()) };
    let bus: Arc<dyn Bus> = LocalBus::open(narrow).unwrap();
    let metrics = run_once(&bus).await;

    let records = read(&bus, Topics::default().spans()).await;
    let mut lengths = Vec::new();
    for record in &records {
        let request = ExportTraceServiceRequest::decode(record.value.clone().unwrap()).unwrap();
        let names: Vec<_> =
            request.resource_spans.iter().flat_map(|r| &r.scope_spans[0].spans).map(|s| s.name.len()).collect();
        assert_eq!(header(record, HEADER_ITEMS), names.len().to_string());
        lengths.extend(names);
    }
    lengths.sort_unstable();
    assert_eq!(lengths, [5, 30_000, 30_000, 30_000, 30_000]);
    let dead = read(&bus, Topics::default().dead_letters()).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(header(&dead[0], dead_letter::HEADER_OFFSET), "1");
    let error = header(&dead[0], dead_letter::HEADER_ERROR);
    assert!(error.starts_with("a single item of 90"), "{error}");
    assert!(metrics.encode().contains("dead_letters_total{component=\"processors\",reason=\"too_large\"} 1"));
}

#[tokio::test]
async fn a_record_from_the_future_goes_on_with_a_time_that_every_broker_takes() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    let to = PartitionId::new(Topics::default().ingest_spans(), 0);
    let day = 24 * 3600 * 1000;
    let now = dead_letter::now_ms();
    for timestamp_ms in [now + day, now - day] {
        let value = Some(request("a"));
        let record = Record { to: to.clone(), key: None, value, timestamp_ms, headers: Headers::new() };
        bus.producer().await.unwrap().send(vec![record]).await.unwrap();
        run_once(&bus).await;
    }
    let times: Vec<_> = read(&bus, Topics::default().spans()).await.iter().map(|r| r.timestamp_ms - now).collect();
    assert!((60_000..70_000).contains(&times[0]), "{times:?}");
    assert_eq!(times[1], -day);
}
