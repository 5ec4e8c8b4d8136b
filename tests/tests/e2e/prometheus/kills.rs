//! D6 through `kill -9`: the counters of a real Prometheus grow by exactly the spans that were counted.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::{Bus, LocalBus, LocalConfig};
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::derived;
use afflux_tests::load::{Load, span_ids};
use afflux_tests::prometheus::{self, Prometheus};
use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

const KILLS: usize = 8;
const CLIENTS: usize = 4;
const SPANS_PER_REQUEST: usize = 64;
/// How long load lasts that no kill ends.
const LOAD_LIMIT: Duration = Duration::from_secs(30);
/// How long a request may take to be acknowledged at all.
const FIRST: Duration = Duration::from_secs(60);
/// How long the last samples may take to Prometheus.
pub(super) const SETTLE: Duration = Duration::from_secs(60);

const CALLS: &str = "traces_spanmetrics_calls_total";

/// What series of the call counter have grown by, by their raw samples; none may ever fall, and all begin with zero.
pub(super) async fn growth(server: &Prometheus) -> anyhow::Result<(usize, f64)> {
    let (raw, mut growth) = (server.raw(CALLS).await?, 0.0);
    for (labels, series) in &raw {
        let samples = &series.samples;
        let (first, last) = (samples.first().context("no samples")?, samples.last().context("no samples")?);
        ensure!(first.1 == 0.0, "{labels:?} begins with {first:?}");
        let falls = samples.windows(2).find(|pair| pair[1].1 < pair[0].1 || pair[1].0 <= pair[0].0);
        ensure!(falls.is_none(), "{labels:?}: {falls:?}");
        growth += last.1 - first.1;
    }
    Ok((raw.len(), growth))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_grow_by_what_was_counted_through_kills_under_load() -> anyhow::Result<()> {
    let Some(program) = prometheus::program()? else { return Ok(()) };
    let seed = std::env::var("AFFLUX_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("seed {seed}; set AFFLUX_SEED to repeat the moments of the kills");
    let mut random = StdRng::seed_from_u64(seed);
    let (dir, server) = (tempfile::tempdir()?, Prometheus::start(program).await?);
    let options = Options::up(&dir.path().join("data"))
        .env("AFFLUX__PROCESSORS__ACCUMULATE__INTERVAL", "1s")
        .env("AFFLUX__SINKS__PROMETHEUS__URL", server.write_url());
    let load = Load::new(seed);
    kill_under_load(dir.path(), &options, &load, &mut random).await?;
    let afflux = Afflux::start(dir.path(), &options).await?;
    for component in ["processors", "processors.accumulate", "sinks.prometheus"] {
        afflux.catches_up(component).await?;
    }
    for reason in ["out_of_order", "duplicate_sample"] {
        let dropped = format!("afflux_dropped_items_total{{component=\"sinks.prometheus\",reason=\"{reason}\"}}");
        ensure!(afflux.metric(&dropped).await?.unwrap_or_default() == 0.0, "{reason} with seed {seed}");
    }
    let (series, growth) = settled_growth(&server).await?;
    afflux.stop().await?;
    let counted = counted(&dir.path().join("data/bus")).await.context(format!("seed {seed}"))?;
    eprintln!("{} spans, {series} series, {growth} counted", counted.len());
    ensure!(counted.len() > KILLS * SPANS_PER_REQUEST, "{} spans are too few to mean anything", counted.len());
    ensure!(growth == counted.len() as f64, "{} spans and {growth} with seed {seed}", counted.len());
    let exemplars = server.exemplars("traces_spanmetrics_latency_bucket").await?;
    ensure!(!exemplars.is_empty(), "no exemplars");
    for exemplar in exemplars {
        let id = ["trace_id", "span_id"].map(|label| exemplar.labels.get(label).cloned().unwrap_or_default()).concat();
        ensure!(counted.contains(&id), "{exemplar:?} leads to no span");
    }
    Ok(())
}

/// Starts and kills, each time at another moment of load.
async fn kill_under_load(dir: &Path, options: &Options, load: &Load, random: &mut StdRng) -> anyhow::Result<()> {
    for round in 0..KILLS {
        let before = load.snapshot().acked.len();
        let afflux = Afflux::start(dir, options).await?;
        let running = tokio::spawn({
            let (load, port) = (load.clone(), afflux.http);
            async move { load.run(port, CLIENTS, SPANS_PER_REQUEST, LOAD_LIMIT).await }
        });
        let started = Instant::now();
        while load.snapshot().acked.len() == before {
            ensure!(started.elapsed() < FIRST, "nothing was acknowledged in round {round}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(500..3500))).await;
        afflux.kill()?;
        running.await?;
    }
    Ok(())
}

/// [`growth`] once it is the same for longer than an interval and what its end waits for.
pub(super) async fn settled_growth(server: &Prometheus) -> anyhow::Result<(usize, f64)> {
    let (mut last, started) = (growth(server).await?, Instant::now());
    loop {
        tokio::time::sleep(Duration::from_secs(6)).await;
        let now = growth(server).await?;
        if now == last {
            return Ok(now);
        }
        last = now;
        ensure!(started.elapsed() < SETTLE, "counters still grow");
    }
}

/// Ids of the spans that the processors have passed on, each of them once, as the bus of the stopped process holds them.
pub(super) async fn counted(dir: &Path) -> anyhow::Result<HashSet<String>> {
    let bus: Arc<dyn Bus> = LocalBus::open(LocalConfig::new(dir))?;
    let spans = derived::all(&*bus, "afflux.spans").await?;
    let letters = derived::all(&*bus, "afflux.dead-letters").await?;
    bus.close().await;
    ensure!(letters.is_empty(), "{} dead letters", letters.len());
    let mut ids = HashSet::new();
    for id in spans.iter().filter_map(|record| record.value.as_ref()).flat_map(span_ids) {
        ensure!(!ids.contains(&id), "{id} is there twice");
        ids.insert(id);
    }
    Ok(ids)
}
