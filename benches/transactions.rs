//! Consume, transform and produce on Kafka: with transactions against without, the same stage doing the same work.
//!
//! The processors' stage runs inside this process, over topics that are filled before; CPU time is that of this process,
//! the broker's is not in it. Without transactions, outputs are sent by the shared producer and offsets committed when
//! they are acknowledged: at least once. Pairs of runs alternate, and the ratio is that of their medians.
//!
//! Arguments: `--spans N` (2,000,000 by default), `--pairs N` (5).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

#[path = "stage.rs"]
mod stage;

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{
    Bus, BusError, Consumer, ConsumerConfig, Event, Offset, PartitionId, PartitionLag, Producer, Reader, ReaderConfig,
    Record, TopicSpec, Transactional,
};
use afflux_processors::ProcessorsConfig;
use afflux_runtime::config::Period;
use afflux_schemas::topics::Topics;
use afflux_tests::kafka::KafkaServer;
use anyhow::Result;
use async_trait::async_trait;

fn main() -> Result<()> {
    let (spans, pairs) = (stage::number("--spans", 2_000_000)?, stage::number("--pairs", 5)?);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let Some(kafka) = KafkaServer::start()? else {
            println!("skipped, there is no Kafka here");
            return Ok(());
        };
        let bus: Arc<dyn Bus> = KafkaBus::connect(KafkaConfig::new(kafka.brokers())).await?;
        let records = stage::fill(&*bus, &Topics::new("bench"), spans).await?;
        println!("{spans} spans in {records} records, {} partitions", stage::PARTITIONS);
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

/// CPU seconds of a stage without steps, so that nothing but reading and writing is in them.
async fn run(bus: Arc<dyn Bus>, group: &str, age: Duration) -> Result<f64> {
    let mut config = ProcessorsConfig { group: group.into(), ..ProcessorsConfig::default() };
    config.chain.spans.clear();
    config.commit.age = Period(age);
    stage::run(bus, &Topics::new("bench"), config).await
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
