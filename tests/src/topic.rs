//! Topics on a broker, from outside of the pipeline.

use std::sync::Arc;
use std::time::Duration;

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus, Cleanup, ConsumerConfig, Event, Received, TopicSpec};
use anyhow::ensure;
use tokio::time::{Instant, timeout};

/// How long what is waited for may take.
const SETTLE: Duration = Duration::from_secs(60);
/// How long a topic stays silent before it is believed to hold no more.
const SILENCE: Duration = Duration::from_secs(1);

/// Creates topics of that many partitions.
pub async fn create(brokers: &str, topics: &[(&str, u32)]) -> anyhow::Result<()> {
    let bus = KafkaBus::connect(KafkaConfig::new(brokers)).await?;
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    let spec = |&(name, partitions): &(&str, u32)| TopicSpec { name: name.into(), partitions, cleanup };
    bus.create_topics(&topics.iter().map(spec).collect::<Vec<_>>()).await?;
    bus.close().await;
    Ok(())
}

/// Reads topics from their beginning until there is enough, and then until they are silent: what comes too much or
/// twice is there as well. Only what was committed is read.
pub async fn read(
    brokers: &str,
    topics: &[&str],
    enough: impl Fn(&[Received]) -> bool,
) -> anyhow::Result<Vec<Received>> {
    let bus = KafkaBus::connect(KafkaConfig::new(brokers)).await?;
    let group = format!("read-{:x}", rand::random::<u64>());
    let topics: Vec<Arc<str>> = topics.iter().map(|topic| (*topic).into()).collect();
    let mut consumer = bus.consumer(ConsumerConfig::new(group, topics.clone())).await?;
    let started = Instant::now();
    let mut records = Vec::new();
    loop {
        match timeout(SILENCE, consumer.poll()).await {
            Ok(event) => {
                if let Event::Records(batch) = event? {
                    records.extend(batch);
                }
            }
            Err(_silent) if enough(&records) => break,
            Err(_silent) => {
                let count = records.len();
                ensure!(started.elapsed() < SETTLE, "only {count} records on {topics:?} after {SETTLE:?}");
            }
        }
    }
    consumer.close().await;
    bus.close().await;
    Ok(records)
}
