//! What benchmarks of components within this process have in common.

#[path = "args.rs"]
mod args;

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::{Bus, Cleanup, PartitionLag, TopicSpec};
use afflux_runtime::admin::HealthTable;
use afflux_runtime::{Context, Metrics};
use afflux_schemas::topics::Topics;
use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;

pub(crate) use args::number;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub(crate) const PARTITIONS: u32 = 4;

/// Creates all topics that components of that prefix need.
pub(crate) async fn create_topics(bus: &dyn Bus, topics: &Topics) -> Result<()> {
    let kept = Cleanup::Delete { max_age: None, max_bytes: None };
    let kind = |name: &String| {
        if *name == topics.objects() || *name == topics.series() { Cleanup::Compact } else { kept }
    };
    let spec = |name: String| TopicSpec { cleanup: kind(&name), name: name.into(), partitions: PARTITIONS };
    Ok(bus.create_topics(&topics.all().map(spec)).await?)
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
