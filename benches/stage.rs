//! The processors' stage within this process, over topics of a real Kafka that are filled before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::{Bus, Cleanup, Headers, PartitionId, PartitionLag, Record, TopicSpec};
use afflux_processors::{ProcessorStage, ProcessorsConfig};
use afflux_producers::generate::Corpus;
use afflux_runtime::admin::HealthTable;
use afflux_runtime::{Component as _, Context, Metrics};
use afflux_schemas::topics::Topics;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SPANS_PER_RECORD: usize = 512;
pub(crate) const PARTITIONS: u32 = 4;
/// 2026-01-01T00:00:00Z.
const START_NANOS: u64 = 1_767_225_600_000_000_000;

/// The value of a numeric argument.
pub(crate) fn number(name: &str, default: u64) -> Result<u64> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    if args.next().is_none() {
        return Ok(default);
    }
    Ok(args.next().with_context(|| format!("{name} needs a number"))?.parse()?)
}

/// Creates all topics that components of that prefix need.
pub(crate) async fn create_topics(bus: &dyn Bus, topics: &Topics) -> Result<()> {
    let kept = Cleanup::Delete { max_age: None, max_bytes: None };
    let kind = |name: &String| {
        if *name == topics.objects() || *name == topics.series() { Cleanup::Compact } else { kept }
    };
    let spec = |name: String| TopicSpec { cleanup: kind(&name), name: name.into(), partitions: PARTITIONS };
    Ok(bus.create_topics(&topics.all().map(spec)).await?)
}

/// Writes the corpus to the ingest topic; answers how many records it makes. Times of records are the corpus's.
pub(crate) async fn fill(bus: &dyn Bus, topics: &Topics, spans: u64) -> Result<usize> {
    create_topics(bus, topics).await?;
    let (producer, mut corpus) = (bus.producer().await?, Corpus::new(1, START_NANOS).without_logs());
    let (mut left, mut records, mut now) = (spans, 0, START_NANOS);
    while left > 0 {
        let batch = corpus.next_request(SPANS_PER_RECORD.min(usize::try_from(left)?));
        left = left.saturating_sub(batch.spans);
        now += batch.spans * 100_000;
        let to = PartitionId::new(topics.ingest_spans(), u32::try_from(records)? % PARTITIONS);
        let mut headers = Headers::new();
        headers.push("afflux-cluster", Bytes::from_static(b"bench"));
        headers.push("afflux-items", batch.spans.to_string());
        let timestamp_ms = i64::try_from(now / 1_000_000)?;
        producer.send(vec![Record { to, key: None, value: Some(batch.traces), timestamp_ms, headers }]).await?;
        records += 1;
    }
    Ok(records)
}

/// What a component runs with.
pub(crate) fn context(bus: &Arc<dyn Bus>, component: &'static str, shutdown: &CancellationToken) -> Context {
    Context {
        bus: Arc::clone(bus),
        metrics: Arc::new(Metrics::new()),
        health: HealthTable::default().component(component),
        shutdown: shutdown.clone(),
    }
}

/// CPU seconds of this process while a new group of that name works off everything.
pub(crate) async fn run(bus: Arc<dyn Bus>, topics: &Topics, config: ProcessorsConfig) -> Result<f64> {
    let group = config.group.clone();
    let config = ProcessorsConfig { transactional_id: Some(group.clone()), ..config };
    let shutdown = CancellationToken::new();
    let (before, started) = (cpu_seconds()?, Instant::now());
    let stage = ProcessorStage::new(config, topics.clone(), "bench".into());
    let task = tokio::spawn(Box::new(stage).run(context(&bus, "processors", &shutdown)));
    worked_off(&*bus, &group, &topics.ingest_spans(), started).await?;
    let seconds = cpu_seconds()? - before;
    shutdown.cancel();
    task.await??;
    Ok(seconds)
}

/// Waits until a group has read a topic to its end.
pub(crate) async fn worked_off(bus: &dyn Bus, group: &str, topic: &str, started: Instant) -> Result<()> {
    let topics = [topic.into()];
    // A broker that has just started may not know its groups yet.
    while bus.lag(group, &topics).await.map_or(1, |lag| lag.iter().map(PartitionLag::records).sum::<u64>()) > 0 {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(300), "{group} is not done");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(())
}

/// User and system time of all threads.
pub(crate) fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("malformed stat")?.1.split_ascii_whitespace().collect();
    // In ticks of 10 ms on Linux.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}
