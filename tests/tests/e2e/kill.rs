//! D1, D4, D5, D9: what was acknowledged is stored once, through `kill -9`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::{Bus as _, ConsumerConfig, Event, LocalBus, LocalConfig, PartitionLag};
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::load::{Load, log_ids, span_ids};
use afflux_tests::python;
use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use crate::against_duckdb;

const KILLS: usize = 20;
const CLIENTS: usize = 8;
const SPANS_PER_REQUEST: usize = 64;
/// How long load lasts that no kill ends.
const LOAD_LIMIT: Duration = Duration::from_secs(30);
const CATCH_UP: Duration = Duration::from_secs(120);

/// What DuckDB finds in the plain files.
fn stored(python: &Path, dir: &Path, load: &Load) -> anyhow::Result<Value> {
    load.snapshot().write(dir)?;
    let (lake, dir) = (dir.join("data/lake"), dir.display().to_string());
    Ok(serde_json::from_str(&python::run(python, "exactly_once.py", &[&lake.display().to_string(), &dir])?)?)
}

/// What the processors have passed on, as the bus of the stopped process holds it, and how often.
async fn passed_on(dir: &Path) -> anyhow::Result<HashMap<String, usize>> {
    let bus = LocalBus::open(LocalConfig::new(dir))?;
    let topics = ["afflux.spans", "afflux.logs"].map(Arc::from);
    let lag = bus.lag("kill-test", &topics).await?;
    ensure!(lag.iter().all(|partition| partition.start == 0), "retention has taken some");
    let mut left: u64 = lag.iter().map(PartitionLag::records).sum();
    let mut consumer = bus.consumer(ConsumerConfig::new("kill-test", topics)).await?;
    let mut found = HashMap::new();
    while left > 0 {
        let Event::Records(records) = consumer.poll().await? else { continue };
        for record in records {
            let value = record.value.context("a record without a value")?;
            let ids = if record.from.topic.ends_with("logs") { log_ids(&value) } else { span_ids(&value) };
            ids.into_iter().for_each(|id| *found.entry(id).or_default() += 1);
            left -= 1;
        }
    }
    consumer.close().await;
    bus.close().await;
    Ok(found)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_is_stored_once_through_twenty_kills_under_load() -> anyhow::Result<()> {
    let Some(python) = python::interpreter()? else { return Ok(()) };
    let seed = std::env::var("AFFLUX_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("seed {seed}; set AFFLUX_SEED to repeat the moments of the kills");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    // Flushes and new segments are frequent, so that kills hit them.
    let options = Options::up(&dir.path().join("data"))
        .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "300ms")
        .env("AFFLUX__BUS__LOCAL__SEGMENT_BYTES", "4MiB")
        // Names as they come, so that whoever counts the spans need not know how they are folded.
        .env("AFFLUX__PROCESSORS__SPAN_METRICS__CARDINALITY__FOLD_NAMES", "false")
        .env("AFFLUX__PROCESSORS__ACCUMULATE__INTERVAL", "1s");
    let load = Load::new(seed);

    for round in 0..KILLS {
        let before = load.snapshot().acked.len();
        if round % 4 == 3 {
            // Recovery is killed too: it works off what the kill before has left.
            let afflux = Afflux::spawn(dir.path(), &options)?;
            let until = Instant::now() + Duration::from_millis(random.random_range(0..1500));
            while Instant::now() < until {
                load.run(afflux.http, CLIENTS, SPANS_PER_REQUEST, until - Instant::now()).await;
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            afflux.kill()?;
            continue;
        }
        let afflux = Afflux::start(dir.path(), &options).await?;
        let running = tokio::spawn({
            let (load, port) = (load.clone(), afflux.http);
            async move { load.run(port, CLIENTS, SPANS_PER_REQUEST, LOAD_LIMIT).await }
        });
        // The moment counts from the first acknowledgement, so that every kill meets a pipeline under load.
        while load.snapshot().acked.len() == before {
            assert!(!running.is_finished(), "nothing was acknowledged in round {round}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1500))).await;
        afflux.kill()?;
        running.await?;
    }

    let afflux = Afflux::start(dir.path(), &options).await?;
    let started = Instant::now();
    while stored(python, dir.path(), &load)?["missing"] != 0 && started.elapsed() < CATCH_UP {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    afflux.catches_up("processors.accumulate").await?;
    afflux.stop().await?;
    let (acked, sent) = (load.snapshot().acked, load.snapshot().sent);
    let passed_on = passed_on(&dir.path().join("data/bus")).await?;
    let lost = acked.iter().filter(|id| !passed_on.contains_key(*id)).count();
    let doubled = passed_on.values().filter(|count| **count > 1).count();
    let unknown = passed_on.keys().filter(|id| !sent.contains(*id)).count();
    assert_eq!((lost, doubled, unknown), (0, 0, 0), "lost, doubled, unknown behind the processors with seed {seed}");
    let found = stored(python, dir.path(), &load)?;
    let series =
        against_duckdb::check(python, dir.path()).await.map_err(|error| error.context(format!("seed {seed}")))?;
    eprintln!("{found}, {series} series");
    assert!(load.snapshot().acked.len() > KILLS * SPANS_PER_REQUEST, "too little was acknowledged to mean anything");
    for wrong in ["missing", "doubled", "unknown"] {
        assert_eq!(found[wrong], 0, "{wrong} items after {KILLS} kills with seed {seed}: {found}");
    }
    Ok(())
}
