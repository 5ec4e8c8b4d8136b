//! `/metrics/derived`, scraped by a real Prometheus.

use std::time::Instant;

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::load::Load;
use afflux_tests::prometheus::{self, Prometheus};
use anyhow::ensure;

use super::kills::{SETTLE, counted, settled_growth};

const REQUESTS: usize = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scraped_counters_grow_by_what_was_counted_and_a_kill_is_no_reset() -> anyhow::Result<()> {
    let Some(program) = prometheus::program()? else { return Ok(()) };
    let (dir, server) = (tempfile::tempdir()?, Prometheus::scraping(program, "/metrics/derived").await?);
    let options = Options::up(&dir.path().join("data"))
        .env("AFFLUX__PROCESSORS__ACCUMULATE__INTERVAL", "1s")
        .config("sinks: {scrape: {zero_for: 5s}}");
    let load = Load::new(rand::random());
    let mut grown = 0.0;
    for round in 0..2 {
        let afflux = Afflux::start(dir.path(), &options).await?;
        server.target(afflux.admin)?;
        // Whoever is scraped for the first time has no zeros to show of what was there before.
        scraped(&server).await?;
        for _ in 0..REQUESTS {
            ensure!(load.send_one(afflux.http, 64).await, "a request was refused in round {round}");
        }
        let started = Instant::now();
        let growth = loop {
            let (_, growth) = settled_growth(&server).await?;
            if growth > grown {
                break growth;
            }
            ensure!(started.elapsed() < SETTLE, "nothing more is scraped");
        };
        eprintln!("round {round}: {growth} counted");
        grown = growth;
        let exemplars = server.exemplars("traces_spanmetrics_latency_bucket").await?;
        let acked = load.snapshot().acked;
        ensure!(!exemplars.is_empty(), "no exemplars");
        for exemplar in exemplars {
            let id =
                ["trace_id", "span_id"].map(|label| exemplar.labels.get(label).cloned().unwrap_or_default()).concat();
            ensure!(acked.contains(&id), "{exemplar:?} leads to no span");
        }
        afflux.kill()?;
    }
    let counted = counted(&dir.path().join("data/bus")).await?;
    ensure!(grown == counted.len() as f64, "{} spans and {grown}", counted.len());
    Ok(())
}

/// Waits until it has scraped once more, and well.
async fn scraped(server: &Prometheus) -> anyhow::Result<()> {
    let now = || async {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_secs_f64();
        server.query_at("timestamp(up{instance=\"afflux\"} == 1)", now).await
    };
    let (started, before) = (Instant::now(), now().await?);
    loop {
        let found = now().await?;
        if !found.is_empty() && found != before {
            return Ok(());
        }
        ensure!(started.elapsed() < SETTLE, "it is not scraped:\n{}", server.log());
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}
