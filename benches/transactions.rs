//! Consume, transform and produce on Kafka: with transactions against without, the same stage doing the same work.
//!
//! The processors' stage runs inside this process, over topics that are filled before; CPU time is that of this process,
//! the broker's is not in it. Without transactions, outputs are sent by the shared producer and offsets committed when
//! they are acknowledged: at least once. Pairs of runs alternate, and the ratio is that of their medians.
//!
//! Arguments: `--spans N` (2,000,000 by default), `--pairs N` (5).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{
    Bus, BusError, Cleanup, Consumer, ConsumerConfig, Event, Headers, Offset, PartitionId, PartitionLag, Producer,
    Reader, ReaderConfig, Record, TopicSpec, Transactional,
};
use afflux_processors::{ProcessorStage, ProcessorsConfig};
use afflux_producers::generate::Corpus;
use afflux_runtime::admin::HealthTable;
use afflux_runtime::config::Period;
use afflux_runtime::{Component as _, Context, Metrics};
use afflux_schemas::topics::Topics;
use afflux_tests::kafka::KafkaServer;
use anyhow::{Context as _, Result};
use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

const SPANS_PER_RECORD: usize = 512;
const PARTITIONS: u32 = 4;
const PREFIX: &str = "bench";

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().collect();
    let number = |name: &str, default: u64| match args.iter().position(|arg| arg == name) {
        Some(at) => args.get(at + 1).with_context(|| format!("{name} needs a number"))?.parse().map_err(Into::into),
        None => Ok::<_, anyhow::Error>(default),
    };
    let (spans, pairs) = (number("--spans", 2_000_000)?, number("--pairs", 5)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let Some(kafka) = KafkaServer::start()? else {
            println!("skipped, there is no Kafka here");
            return Ok(());
        };
        let bus: Arc<dyn Bus> = KafkaBus::connect(KafkaConfig::new(kafka.brokers())).await?;
        let records = fill(&*bus, spans).await?;
        println!("{spans} spans in {records} records, {PARTITIONS} partitions");
        for age in [Duration::from_millis(200), Duration::from_millis(20)] {
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for pair in 0..pairs {
                let group = |kind: &str| format!("{kind}-{}-{pair}", age.as_millis());
                with.push(run(Arc::clone(&bus), &group("with"), age).await?);
                let plain = Arc::new(Untransacted(Arc::clone(&bus)));
                without.push(run(plain, &group("without"), age).await?);
            }
            let per_cpu = |seconds: &mut Vec<f64>| {
                seconds.sort_by(f64::total_cmp);
                spans as f64 / seconds[seconds.len() / 2]
            };
            let (with, without) = (per_cpu(&mut with), per_cpu(&mut without));
            println!(
                "commit age {age:?}: {with:.0} spans/CPU-s with transactions, {without:.0} without, ratio {:.3}",
                with / without
            );
        }
        Ok(())
    })
}

/// Writes the corpus to the ingest topic.
async fn fill(bus: &dyn Bus, spans: u64) -> Result<usize> {
    let topics = Topics::new(PREFIX);
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    let names = [topics.ingest_spans(), topics.ingest_logs(), topics.spans(), topics.logs(), topics.dead_letters()];
    let specs: Vec<_> =
        names.into_iter().map(|name| TopicSpec { name: name.into(), partitions: PARTITIONS, cleanup }).collect();
    bus.create_topics(&specs).await?;
    let (producer, mut corpus, mut left, mut records) = (bus.producer().await?, Corpus::new(1, 1), spans, 0);
    while left > 0 {
        let batch = corpus.next_request(SPANS_PER_RECORD.min(usize::try_from(left)?));
        left = left.saturating_sub(batch.spans);
        let to = PartitionId::new(topics.ingest_spans(), u32::try_from(records)? % PARTITIONS);
        let mut headers = Headers::new();
        headers.push("afflux-cluster", Bytes::from_static(b"bench"));
        headers.push("afflux-items", batch.spans.to_string());
        producer.send(vec![Record { to, key: None, value: Some(batch.traces), timestamp_ms: 1, headers }]).await?;
        records += 1;
    }
    Ok(records)
}

/// CPU seconds of this process while a new group works off everything.
async fn run(bus: Arc<dyn Bus>, group: &str, age: Duration) -> Result<f64> {
    let mut config = ProcessorsConfig { group: group.into(), ..ProcessorsConfig::default() };
    config.transactional_id = Some(group.into());
    config.commit.age = Period(age);
    let (shutdown, health) = (CancellationToken::new(), HealthTable::default());
    let context = Context {
        bus: Arc::clone(&bus),
        metrics: Arc::new(Metrics::new()),
        health: health.component("processors"),
        shutdown: shutdown.clone(),
    };
    let topics = [Topics::new(PREFIX).ingest_spans().into()];
    let (before, started) = (cpu_seconds()?, Instant::now());
    let stage = ProcessorStage::new(config, Topics::new(PREFIX), "bench".into());
    let task = tokio::spawn(Box::new(stage).run(context));
    // A broker that has just started may not know its groups yet.
    while bus.lag(group, &topics).await.map_or(1, |lag| lag.iter().map(PartitionLag::records).sum::<u64>()) > 0 {
        anyhow::ensure!(started.elapsed() < Duration::from_secs(300), "{group} is not done");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let seconds = cpu_seconds()? - before;
    shutdown.cancel();
    task.await??;
    Ok(seconds)
}

/// User and system time of all threads.
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit_once(')').context("malformed stat")?.1.split_ascii_whitespace().collect();
    // In ticks of 10 ms on Linux.
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

/// A bus whose consumers settle at least once.
struct Untransacted(Arc<dyn Bus>);

#[async_trait]
impl Bus for Untransacted {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        self.0.create_topics(topics).await
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        self.0.producer().await
    }

    async fn consumer(&self, config: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError> {
        let config = ConsumerConfig { transactional_id: None, ..config };
        Ok(Box::new(Plain { consumer: self.0.consumer(config).await?, producer: self.0.producer().await? }))
    }

    async fn reader(&self, config: ReaderConfig) -> Result<Box<dyn Reader>, BusError> {
        self.0.reader(config).await
    }

    async fn transactional(&self, id: Arc<str>) -> Result<Box<dyn Transactional>, BusError> {
        self.0.transactional(id).await
    }

    async fn lag(&self, group: &str, topics: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        self.0.lag(group, topics).await
    }

    async fn close(&self) {}
}

struct Plain {
    consumer: Box<dyn Consumer>,
    producer: Arc<dyn Producer>,
}

#[async_trait]
impl Consumer for Plain {
    async fn poll(&mut self) -> Result<Event, BusError> {
        self.consumer.poll().await
    }

    async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError> {
        self.consumer.commit(offsets).await
    }

    async fn transact(&mut self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError> {
        self.producer.send(outputs).await?;
        self.consumer.commit(offsets).await
    }

    async fn committed(&mut self, partition: &PartitionId) -> Result<Option<u64>, BusError> {
        self.consumer.committed(partition).await
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.consumer.pause(partition)
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.consumer.resume(partition)
    }

    async fn close(self: Box<Self>) {
        self.consumer.close().await;
    }
}
