//! The component on a bus: killed anywhere, it goes on where the last samples were.

use std::collections::BTreeMap;

use afflux_bus::{Cleanup, LocalBus, LocalConfig, ReaderConfig, ReaderEvent, TopicSpec};
use afflux_runtime::Metrics;
use afflux_runtime::admin::HealthTable;
use tokio_util::sync::CancellationToken;

use super::*;

async fn bus(dir: &std::path::Path) -> Arc<dyn Bus> {
    let bus = LocalBus::open(LocalConfig::new(dir)).unwrap();
    let keep = Cleanup::Delete { max_age: None, max_bytes: None };
    let topics = Topics::default();
    let spec = |name: String, cleanup| TopicSpec { name: name.into(), partitions: 2, cleanup };
    let specs =
        [spec(topics.metrics(), keep), spec(topics.series(), Cleanup::Compact), spec(topics.dead_letters(), keep)];
    bus.create_topics(&specs).await.unwrap();
    bus
}

async fn publish(bus: &dyn Bus, partition: u32, time_s: i64, value: Vec<u8>) {
    let to = PartitionId::new(Topics::default().metrics(), partition);
    let mut headers = Headers::new();
    headers.push(HEADER_CLUSTER, "eu");
    let record = Record { to, key: None, value: Some(value.into()), timestamp_ms: time_s * 1000, headers };
    bus.producer().await.unwrap().send(vec![record]).await.unwrap();
}

/// Everything on a topic, in order.
async fn all(bus: &dyn Bus, topic: String) -> Vec<Received> {
    let mut reader = bus.reader(ReaderConfig::new([Arc::from(topic)])).await.unwrap();
    let mut records = Vec::new();
    loop {
        match reader.next().await.unwrap() {
            ReaderEvent::Records(more) => records.extend(more),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => return records,
        }
    }
}

type Started = (tokio::task::JoinHandle<Result<(), ComponentError>>, CancellationToken, Arc<Metrics>);

fn start(bus: &Arc<dyn Bus>) -> Started {
    start_with(bus, config())
}

fn start_with(bus: &Arc<dyn Bus>, config: AccumulateConfig) -> Started {
    let (metrics, shutdown) = (Arc::new(Metrics::new()), CancellationToken::new());
    let health = HealthTable::default().component(NAME);
    let context = Context { bus: bus.clone(), metrics: metrics.clone(), health, shutdown: shutdown.clone() };
    let accumulate = Box::new(Accumulate::new(config, Topics::default()).unwrap());
    (tokio::spawn(accumulate.run(context)), shutdown, metrics)
}

/// Runs until the group has settled all but what the last interval holds, or so many offsets.
async fn run(bus: &Arc<dyn Bus>, until: impl Fn(&[u64]) -> bool, kill: bool) {
    let (task, shutdown, _metrics) = start(bus);
    loop {
        let lag = bus.lag("afflux-accumulate", &[Topics::default().metrics().into()]).await.unwrap();
        if until(&lag.iter().map(|lag| lag.records()).collect::<Vec<_>>()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    if kill {
        task.abort();
        let _ = task.await;
    } else {
        shutdown.cancel();
        task.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn deltas_add_up_exactly_through_kills_and_no_sample_comes_twice_or_out_of_order() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    let mut expected: BTreeMap<String, u64> = BTreeMap::new();
    let (mut published, mut deltas) = (0, 0);
    for round in 0..6_u32 {
        for n in 0..30 {
            let (service, time) = (format!("s{}", (round * 30 + n) % 7), i64::from(round * 300 + n * 10));
            *expected.entry(service.clone()).or_default() += u64::from(n + 1);
            publish(&*bus, n % 2, time, count(&format!("{service}-{}", n % 2), u64::from(n + 1))).await;
            deltas += 1;
        }
        published += 1;
        // The last interval of each round stays open.
        run(&bus, |lag| lag.iter().sum::<u64>() <= 6, round % 2 == 0).await;
    }
    assert_eq!((published, deltas), (6, 180));
    // Far behind all: ends every interval.
    for partition in 0..2 {
        publish(&*bus, partition, 100_000, count("last", 1)).await;
    }
    run(&bus, |lag| lag.iter().all(|&records| records == 0), false).await;

    let mut samples: BTreeMap<(u32, Bytes), Vec<(i64, u64)>> = BTreeMap::new();
    for record in all(&*bus, Topics::default().series()).await {
        let Some(value) = record.value else { continue };
        let series = samples.entry((record.from.partition, record.key.unwrap())).or_default();
        read(&value, |_, point| {
            if let Some(Value::Count(count)) = point.value {
                series.push(((point.time_unix_nano / 1_000_000) as i64, count));
            }
        })
        .unwrap();
    }
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    for ((_, key), samples) in &samples {
        assert!(samples.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{samples:?}");
        let labels = Labels::from_bytes(Identity::read(key).unwrap().labels);
        let service = labels.pairs().next().unwrap().1.split('-').next().unwrap().to_owned();
        assert_eq!(samples[0].1, 0, "{service} begins with zero: {samples:?}");
        *totals.entry(service).or_default() += samples.last().unwrap().1;
    }
    totals.remove("last");
    assert_eq!(totals, expected);
}

#[tokio::test]
async fn a_malformed_record_becomes_a_dead_letter_with_the_next_samples() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish(&*bus, 0, 100, b"\x0a\xff".to_vec()).await;
    publish(&*bus, 0, 100, count("a", 1)).await;
    publish(&*bus, 0, 200, count("a", 1)).await;
    let (task, shutdown, metrics) = start(&bus);
    while !metrics.encode().contains("dead_letters_total{component=\"processors.accumulate\",reason=\"malformed\"} 1") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    shutdown.cancel();
    task.await.unwrap().unwrap();
    let dead = all(&*bus, Topics::default().dead_letters()).await;
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].value.as_deref(), Some(&b"\x0a\xff"[..]));
}

#[tokio::test]
async fn series_of_a_partition_that_is_silent_for_long_end_by_the_clock() {
    let dir = tempfile::tempdir().unwrap();
    let bus = bus(dir.path()).await;
    publish(&*bus, 0, 100, count("a", 1)).await;
    let second = afflux_runtime::config::Period(Duration::from_secs(1));
    let config = AccumulateConfig { interval: second, refresh: second, idle: second, ..config() };
    let (task, shutdown, metrics) = start_with(&bus, config);
    let values = |records: &[Received]| records.iter().map(|r| r.value.is_some()).collect::<Vec<_>>();
    let mut seen = Vec::new();
    let waited = Instant::now();
    while seen != [true, true, false] && waited.elapsed() < Duration::from_secs(20) {
        tokio::time::sleep(Duration::from_millis(50)).await;
        seen = values(&all(&*bus, Topics::default().series()).await);
    }
    assert_eq!(seen, [true, true, false], "its samples, its end and a tombstone: {}", metrics.encode());
    shutdown.cancel();
    task.await.unwrap().unwrap();
}
