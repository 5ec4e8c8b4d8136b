//! Sinks from a real Kafka to a server that takes everything and keeps nothing: items per CPU-second.
//!
//! The sink runs inside this process, over topics that are filled before; CPU time is that of this process. The broker's
//! and the server's are not in it: the server is a process of its own, which this program starts of itself.
//!
//! Arguments: any of `loki`, `tempo`, `prometheus`, or all (the default); `--items N` (2,000,000 by default), `--turns N` (3).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

#[path = "common.rs"]
mod common;
#[path = "sinks/null_server.rs"]
mod null_server;
#[path = "sinks/series.rs"]
mod series;

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus, Headers, PartitionId, Record};
use afflux_producers::generate::Corpus;
use afflux_runtime::Component;
use afflux_runtime::config::Period;
use afflux_runtime::delivery::DeliveryConfig;
use afflux_schemas::otlp::concat;
use afflux_schemas::topics::Topics;
use afflux_sinks::loki::{self, LimitsConfig, LokiConfig};
use afflux_sinks::prometheus::{self, PrometheusConfig};
use afflux_sinks::tempo::{self, TempoConfig};
use afflux_tests::kafka::KafkaServer;
use anyhow::{Context as _, Result};
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

/// Items in a request that is on the bus.
const ITEMS_PER_RECORD: usize = 512;
/// Records that are written together.
const AT_ONCE: usize = 32;
/// 2026-01-01T00:00:00Z.
const START_NANOS: u64 = 1_767_225_600_000_000_000;

fn main() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if std::env::args().any(|arg| arg == null_server::ARGUMENT) {
        return runtime.block_on(null_server::serve());
    }
    let (items, turns) = (common::number("--items", 2_000_000)?, common::number("--turns", 3)?);
    let known = ["loki", "tempo", "prometheus"];
    let asked: Vec<String> = std::env::args().filter(|arg| known.contains(&arg.as_str())).collect();
    runtime.block_on(async {
        let Some(kafka) = KafkaServer::start()? else {
            println!("skipped, there is no Kafka here");
            return Ok(());
        };
        let bus: Arc<dyn Bus> = KafkaBus::connect(KafkaConfig::new(kafka.brokers())).await?;
        let server = null_server::NullServer::start()?;
        for sink in known.iter().filter(|sink| asked.is_empty() || asked.iter().any(|name| name == *sink)) {
            let topics = Topics::new(format!("bench-{sink}"));
            let items = fill(&*bus, &topics, sink, items).await?;
            let mut rates = Vec::new();
            for turn in 0..turns {
                let delivery = DeliveryConfig { group: Some(format!("{sink}-{turn}")), ..DeliveryConfig::default() };
                let seconds = run(&bus, component(sink, &topics, server.port(), delivery)?).await?;
                rates.push(items as f64 / seconds);
            }
            rates.sort_by(f64::total_cmp);
            let (median, best) = (rates[rates.len() / 2] / 1e6, rates.last().copied().unwrap_or_default() / 1e6);
            println!("Kafka -> {sink}: {median:.2} M items per CPU-second (best {best:.2} M), {items} items");
        }
        Ok(())
    })
}

fn component(sink: &str, topics: &Topics, port: u16, delivery: DeliveryConfig) -> Result<Box<dyn Component>> {
    let url = format!("http://127.0.0.1:{port}");
    let built: Option<Box<dyn Component>> = match sink {
        "loki" => {
            // The corpus is older than Loki would take.
            let limits = LimitsConfig { max_age: Period(Duration::ZERO), ..LimitsConfig::default() };
            let config = LokiConfig { url: Some(url), delivery, limits, ..LokiConfig::default() };
            loki::sink(&config, topics)?.map(|sink| Box::new(sink) as _)
        }
        "prometheus" => {
            let delivery = DeliveryConfig { batch: PrometheusConfig::default().delivery.batch, ..delivery };
            let config = PrometheusConfig { url, delivery, ..PrometheusConfig::default() };
            prometheus::sink(&config, topics)?.map(|sink| Box::new(sink) as _)
        }
        "tempo" => {
            let config = TempoConfig { endpoint: url, delivery, ..TempoConfig::default() };
            tempo::sink(&config, topics)?.map(|sink| Box::new(sink) as _)
        }
        other => anyhow::bail!("no sink {other}"),
    };
    built.context("the sink is off")
}

/// CPU seconds of this process while a new group works off everything.
async fn run(bus: &Arc<dyn Bus>, component: Box<dyn Component>) -> Result<f64> {
    let shutdown = CancellationToken::new();
    let subscription = component.subscriptions().remove(0);
    let (before, started) = (common::cpu_seconds()?, Instant::now());
    let task = tokio::spawn(component.run(common::context(bus, "sink", &shutdown)));
    for topic in &subscription.topics {
        common::worked_off(&**bus, &subscription.group, topic, started).await?;
    }
    let seconds = common::cpu_seconds()? - before;
    shutdown.cancel();
    task.await??;
    Ok(seconds)
}

/// Writes what a sink reads; answers how many items there are: spans, log records, or samples as Prometheus has them.
async fn fill(bus: &dyn Bus, topics: &Topics, sink: &str, items: u64) -> Result<u64> {
    common::create_topics(bus, topics).await?;
    if sink == "prometheus" {
        return series::fill(bus, topics, items).await;
    }
    let (producer, mut corpus) = (bus.producer().await?, Corpus::new(1, START_NANOS));
    let (mut written, mut records, mut now) = (0, 0_u32, START_NANOS);
    let (mut parts, mut count, mut together) = (Vec::new(), 0, Vec::new());
    while written < items {
        let batch = corpus.next_request(ITEMS_PER_RECORD);
        now += batch.spans * 100_000;
        let (topic, value, more) = match sink {
            "tempo" => (topics.spans(), batch.traces, batch.spans),
            _ => (topics.logs(), batch.logs, batch.log_records),
        };
        parts.push(value);
        count += more;
        if count < ITEMS_PER_RECORD as u64 {
            continue;
        }
        let value = concat(parts.iter().map(|part| &part[..]));
        let to = PartitionId::new(topic, records % common::PARTITIONS);
        let mut headers = Headers::new();
        headers.push("afflux-cluster", Bytes::from_static(b"bench"));
        headers.push("afflux-items", count.to_string());
        let timestamp_ms = i64::try_from(now / 1_000_000)?;
        together.push(Record { to, key: None, value: Some(value), timestamp_ms, headers });
        if together.len() >= AT_ONCE {
            producer.send(std::mem::take(&mut together)).await?;
        }
        (written, records) = (written + count, records + 1);
        (parts, count) = (Vec::new(), 0);
    }
    producer.send(together).await?;
    Ok(written)
}
