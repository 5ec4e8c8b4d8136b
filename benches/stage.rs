//! The processors' stage within this process, over topics of a real Kafka that are filled before.

#[path = "common.rs"]
mod common;

use std::sync::Arc;
use std::time::Instant;

use afflux_bus::{Bus, Headers, PartitionId, Record};
use afflux_processors::{ProcessorStage, ProcessorsConfig};
use afflux_producers::generate::Corpus;
use afflux_runtime::Component as _;
use afflux_schemas::topics::Topics;
use anyhow::Result;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

pub(crate) use self::common::*;

const SPANS_PER_RECORD: usize = 512;
/// 2026-01-01T00:00:00Z.
const START_NANOS: u64 = 1_767_225_600_000_000_000;

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
