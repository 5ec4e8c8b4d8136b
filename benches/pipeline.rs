//! Whole stages as processes of their own: spans per CPU-second and peak memory.
//!
//! The generator's corpus goes over HTTP to `afflux run --only producers`, then `--only processors` and
//! `--only sinks` work off what lies on the bus. CPU time and peak memory are those that the kernel accounts to
//! the measured process; the client's own are not in them. Run by `make bench`, which builds the binary first.
//!
//! Arguments: `local` or `kafka`, or both (the default); `--spans N` (1,000,000 by default).

// A benchmark reports on its standard output.
#![allow(clippy::print_stdout)]

use std::path::Path;
use std::time::{Duration, Instant};

use afflux_producers::generate::Corpus;
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use anyhow::{Context, Result, bail};
use bytes::Bytes;

const SPANS_PER_REQUEST: usize = 512;
const CLIENTS: usize = 16;
const STAGE_LIMIT: Duration = Duration::from_secs(600);
/// 2026-01-01T00:00:00Z, so that every run writes the same hours.
const START_NANOS: u64 = 1_767_225_600_000_000_000;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    let spans = match args.iter().position(|a| a == "--spans") {
        Some(i) => args.get(i + 1).context("--spans needs a number")?.parse()?,
        None => 1_000_000,
    };
    let asked = |kind: &str| args.iter().any(|a| a == kind) || !args.iter().any(|a| a == "local" || a == "kafka");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let requests = corpus(spans);
        let bytes: usize = requests.iter().map(Bytes::len).sum();
        println!("corpus: {spans} spans, {} bytes each, {} requests", bytes as u64 / spans, requests.len());
        if asked("local") {
            run("local", "bus: {kind: local}", &requests, spans).await?;
        }
        if asked("kafka") {
            match KafkaServer::start()? {
                Some(kafka) => {
                    let bus = format!("bus: {{kind: kafka, kafka: {{brokers: \"{}\"}}}}", kafka.brokers());
                    run("kafka", &bus, &requests, spans).await?;
                }
                None => println!("kafka: skipped, there is no Kafka here"),
            }
        }
        Ok(())
    })
}

fn corpus(spans: u64) -> Vec<Bytes> {
    let mut corpus = Corpus::new(1, START_NANOS);
    let mut left = spans;
    let mut requests = Vec::new();
    while left > 0 {
        let batch = corpus.next_request(SPANS_PER_REQUEST.min(usize::try_from(left).unwrap_or(usize::MAX)));
        left = left.saturating_sub(batch.spans);
        requests.push(batch.traces);
    }
    requests
}

async fn run(kind: &str, bus: &str, requests: &[Bytes], spans: u64) -> Result<()> {
    let dir = tempfile::tempdir()?;
    println!("\n{kind}: {:<26}{:>13}{:>13}{:>11}{:>11}", "stage", "spans/CPU-s", "spans/s", "CPU-s", "peak MiB");
    let row = |stage: &str, (cpu, peak): (f64, u64), wall: f64| {
        let count = spans as f64;
        println!("{kind}: {stage:<26}{:>13.0}{:>13.0}{cpu:>11.2}{:>11}", count / cpu, count / wall, peak >> 20);
    };
    let options = |role: &str| {
        Options::run(role)
            .config(bus)
            .env("AFFLUX__BUS__LOCAL__DIR", dir.path().join("bus").display().to_string())
            .env("AFFLUX__SINKS__PARQUET__URL", dir.path().join("lake").display().to_string())
            .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "10s")
            .env("AFFLUX__LOG__LEVEL", "warn")
    };

    let producers = Afflux::start(dir.path(), &options("producers")).await?;
    let (idle, _) = producers.usage()?;
    let started = Instant::now();
    send(requests, producers.http).await?;
    let (cpu, peak) = producers.usage()?;
    row("OTLP/HTTP -> bus", (cpu - idle, peak), started.elapsed().as_secs_f64());
    producers.stop().await?;

    for (role, component, stage) in
        [("processors", "processors", "bus -> processors -> bus"), ("sinks", "sinks.parquet", "bus -> Parquet")]
    {
        let started = Instant::now();
        let afflux = Afflux::start(dir.path(), &options(role)).await?;
        settled(&afflux, component, spans).await?;
        let wall = started.elapsed().as_secs_f64();
        row(stage, afflux.usage()?, wall);
        afflux.stop().await?;
    }
    let size = lake_bytes(&dir.path().join("lake/spans"))?;
    println!("{kind}: {:.1} bytes of Parquet per span", size as f64 / spans as f64);
    Ok(())
}

/// Posts every request, [`CLIENTS`] at a time, retrying what the receiver asks to retry.
async fn send(requests: &[Bytes], port: u16) -> Result<()> {
    let client = reqwest::Client::new();
    let url = format!("http://127.0.0.1:{port}/v1/traces");
    let next = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, url, next, requests) = (client.clone(), url.clone(), next.clone(), requests.to_vec());
        tasks.spawn(async move {
            while let Some(body) = requests.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                loop {
                    let request = client.post(&url).header("content-type", "application/x-protobuf");
                    let status = request.body(body.clone()).send().await?.status().as_u16();
                    match status {
                        200 => break,
                        429 | 503 => tokio::time::sleep(Duration::from_millis(100)).await,
                        other => bail!("receiver answered {other}"),
                    }
                }
            }
            Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// Waits until the component has settled that many spans, as its own metrics say.
async fn settled(afflux: &Afflux, component: &str, spans: u64) -> Result<()> {
    let started = Instant::now();
    let series = format!("afflux_settled_items_total{{component=\"{component}\",signal=\"spans\"}}");
    while started.elapsed() < STAGE_LIMIT {
        if afflux.metric(&series).await?.is_some_and(|n| n >= spans as f64) {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("{component} did not settle {spans} spans within {STAGE_LIMIT:?}")
}

fn lake_bytes(dir: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        total += if entry.file_type()?.is_dir() { lake_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(total)
}
