//! How long a million series take to come back from the series topic of a real Kafka, and how much memory.
//!
//! The component that adds deltas up runs three times: over deltas of that many series, which fills the topic; and in a
//! process of its own that finds it full, until it has read it to the end. Series are those of span metrics: of every
//! label set, a count, a size and a histogram.
//!
//! Arguments: `--series N` (1,000,000 by default), `--runs N` (3).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

#[path = "stage.rs"]
#[allow(dead_code)]
mod stage;
#[path = "restore/watched.rs"]
mod watched;

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::Bus;
use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_processors::accumulate::{Accumulate, AccumulateConfig, NAME};
use afflux_processors::derive::{Derived, MetricName, Owner};
use afflux_runtime::Component as _;
use afflux_runtime::dead_letter::now_ms;
use afflux_schemas::otlp::metrics::{Kind, Labels, Point, Temporality, Value};
use afflux_schemas::topics::Topics;
use afflux_tests::kafka::KafkaServer;
use anyhow::{Context as _, Result};
use tokio_util::sync::CancellationToken;
use watched::Watched;

/// Begins the process that restores; the brokers follow.
const RESTORE: &str = "--restore";
const LIMIT: Duration = Duration::from_secs(300);
/// Derived at a time.
const SETS_AT_A_TIME: u64 = 20_000;
const BOUNDS: [f64; 14] =
    [0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048, 4.096, 8.192, 16.384];

fn main() -> Result<()> {
    let (series, runs) = (stage::number("--series", 1_000_000)?, stage::number("--runs", 3)?);
    let restores = std::env::args().skip_while(|arg| arg != RESTORE).nth(1);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        if let Some(brokers) = restores {
            return restore(&brokers).await;
        }
        let Some(kafka) = KafkaServer::start()? else {
            println!("skipped, there is no Kafka here");
            return Ok(());
        };
        let bus: Arc<dyn Bus> = KafkaBus::connect(KafkaConfig::new(kafka.brokers())).await?;
        stage::create_topics(&*bus, &topics()).await?;
        derive(&*bus, series).await?;
        let started = Instant::now();
        accumulate(&bus).await?;
        println!("{series} series written once, {} partitions, in {:.1?}", stage::PARTITIONS, started.elapsed());
        for _ in 0..runs {
            let mut command = tokio::process::Command::new(std::env::current_exe()?);
            let status = command.args([RESTORE, &kafka.brokers()]).status().await?;
            anyhow::ensure!(status.success(), "the process that restores ended with {status}");
        }
        Ok(())
    })
}

fn topics() -> Topics {
    Topics::new("bench")
}

/// Writes a delta of every series.
async fn derive(bus: &dyn Bus, series: u64) -> Result<()> {
    let producer = bus.producer().await?;
    let mut derived = Derived::new(topics().metrics().into(), stage::PARTITIONS, producer.max_record_bytes());
    let owner = Owner { cluster: "bench".into(), tenant: None };
    let metric = |name: &str, kind| MetricName { name: format!("traces_spanmetrics_{name}").into(), unit: "", kind };
    let sum = Kind::Sum(Temporality::Delta);
    let metrics =
        [metric("calls_total", sum), metric("size_total", sum), metric("latency", Kind::Histogram(Temporality::Delta))];
    // Of an interval that is over.
    let timestamp_ms = now_ms() - 60_000;
    let time_unix_nano = u64::try_from(timestamp_ms)? * 1_000_000;
    let counts: Vec<u64> = (0..=BOUNDS.len() as u64).collect();
    for set in 0..series.div_ceil(3) {
        let (service, name) = (format!("service-{}", set % 500), format!("GET /api/v1/resource-{set}/items"));
        let kind_and_status = [("span_kind", "SPAN_KIND_SERVER"), ("status_code", "STATUS_CODE_UNSET")];
        let labels =
            Labels::new([("service", service.as_str()), ("span_name", &name)].into_iter().chain(kind_and_status));
        let histogram = Value::Histogram { sum: 1.5, bounds: &BOUNDS, counts: &counts };
        let left = series - set * 3;
        for (metric, value) in
            metrics.iter().zip([Value::Count(105), Value::Count(45_000), histogram]).take(left.min(3) as usize)
        {
            let start_time_unix_nano = time_unix_nano - 15_000_000_000;
            let point =
                Point { start_time_unix_nano, time_unix_nano, value: Some(value), exemplars: &[], ended_bounds: &[] };
            derived.add(&owner, metric, &labels, &point);
        }
        if set % SETS_AT_A_TIME == SETS_AT_A_TIME - 1 {
            producer.send(derived.take(timestamp_ms, "bench/0/0-0")).await?;
        }
    }
    Ok(producer.send(derived.take(timestamp_ms, "bench/0/0-0")).await?)
}

/// Adds the deltas up.
async fn accumulate(bus: &Arc<dyn Bus>) -> Result<()> {
    let (shutdown, config) = (CancellationToken::new(), AccumulateConfig::default());
    let group = config.group.clone();
    let task = tokio::spawn(Box::new(Accumulate::new(config, topics())?).run(stage::context(bus, NAME, &shutdown)));
    stage::worked_off(&**bus, &group, &topics().metrics(), Instant::now()).await?;
    shutdown.cancel();
    Ok(task.await??)
}

/// Restores all series, once.
async fn restore(brokers: &str) -> Result<()> {
    let watched = Watched::new(KafkaBus::connect(KafkaConfig::new(brokers)).await?);
    let (bus, mut complete): (Arc<dyn Bus>, _) = (Arc::clone(&watched) as _, watched.complete.subscribe());
    let (shutdown, before) = (CancellationToken::new(), stage::cpu_seconds()?);
    let component = Box::new(Accumulate::new(AccumulateConfig::default(), topics())?);
    let task = tokio::spawn(component.run(stage::context(&bus, NAME, &shutdown)));
    let read =
        tokio::time::timeout(LIMIT, complete.wait_for(Option::is_some)).await.context("no end of the series")??;
    let read = read.context("the reader has ended")?;
    let cpu = stage::cpu_seconds()? - before;
    println!(
        "{} records of {} MiB restored in {:.2?} ({cpu:.1} CPU-s), peak memory {} MiB",
        read.records,
        read.bytes >> 20,
        read.took,
        peak_mib()?
    );
    shutdown.cancel();
    Ok(task.await??)
}

fn peak_mib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? >> 10)
}
