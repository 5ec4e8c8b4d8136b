//! Counters in a real Prometheus through kills of the processors and of the sink: their growth is what was sent.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::load::Load;
use afflux_tests::prometheus::{self, Labels, Prometheus, Raw};
use anyhow::{Context as _, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const KILLS: usize = 8;
const SPANS_PER_REQUEST: usize = 64;
/// How long what was sent may take to be there.
const CATCH_UP: Duration = Duration::from_secs(120);
const CALLS: &str = "traces_spanmetrics_calls_total";
const LATENCY: &str = "traces_spanmetrics_latency_count";

/// How much the counters of a name have grown, from their raw samples.
///
/// # Errors
/// One falls, comes to nothing in between, or does not begin with zero.
fn growth(raw: &BTreeMap<Labels, Raw>) -> anyhow::Result<u64> {
    let mut sum = 0.0;
    for (labels, Raw { samples, .. }) in raw {
        ensure!(samples.first().is_some_and(|(_, value)| *value == 0.0), "{labels:?} begins with {samples:?}");
        for pair in samples.windows(2) {
            let [(time, before), (later, now)] = pair else { continue };
            ensure!(time < later && before <= now, "{labels:?} falls: {samples:?}");
            sum += now - before;
        }
    }
    Ok(sum as u64)
}

/// What the sink says that it did not pass on.
async fn refused(sinks: &Afflux) -> anyhow::Result<Vec<String>> {
    let text = reqwest::get(format!("http://127.0.0.1:{}/metrics", sinks.admin)).await?.text().await?;
    let wrong = |line: &&str| {
        let about = line.contains("component=\"sinks.prometheus\"");
        let refused = line.starts_with("afflux_dropped_items_total") && !line.contains("already_stored");
        about && (refused || line.starts_with("afflux_dead_letters_total"))
    };
    Ok(text.lines().filter(wrong).map(str::to_owned).collect())
}

struct Stage<'d> {
    dir: &'d Path,
    options: Options,
    running: Option<Afflux>,
}

impl Stage<'_> {
    async fn start(&mut self) -> anyhow::Result<&Afflux> {
        if let Some(running) = self.running.take() {
            running.kill()?;
        }
        Ok(self.running.insert(Afflux::start(self.dir, &self.options).await?))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_grow_by_what_was_sent_through_kills_of_processors_and_sink() -> anyhow::Result<()> {
    let (Some(kafka), Some(program)) = (KafkaServer::shared(), prometheus::program()?) else { return Ok(()) };
    let seed = std::env::var("AFFLUX_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (server, dir) = (Prometheus::start(program).await?, tempfile::tempdir()?);
    let options = |only: &str| {
        Options::run(only)
            .config(&format!("bus: {{kind: kafka}}\nsinks: {{prometheus: {{url: \"{}\"}}}}", server.write_url()))
            .env("AFFLUX__BUS__KAFKA__BROKERS", kafka.brokers())
            .env("AFFLUX__TOPICS__PREFIX", format!("prometheus-kills-{seed}"))
            .env("AFFLUX__PROCESSORS__GROUP", format!("prometheus-kills-{seed}"))
            .env("AFFLUX__PROCESSORS__ACCUMULATE__GROUP", format!("prometheus-kills-a-{seed}"))
            .env("AFFLUX__PROCESSORS__ACCUMULATE__INTERVAL", "1s")
            .env("AFFLUX__SINKS__PROMETHEUS__DELIVERY__GROUP", format!("prometheus-kills-s-{seed}"))
    };
    let producers = Afflux::start(dir.path(), &options("producers")).await?;
    let stage = |only: &str| Stage { dir: dir.path(), options: options(only), running: None };
    let (mut processors, mut sinks) = (stage("processors"), stage("sinks.prometheus"));
    processors.start().await?;
    sinks.start().await?;
    let load = Load::new(seed);
    for kill in 0..KILLS {
        let until = Duration::from_millis(random.random_range(500..3000));
        load.run(producers.http, 4, SPANS_PER_REQUEST, until).await;
        let sink = sinks.running.as_ref().context("it runs")?;
        ensure!(refused(sink).await? == [] as [String; 0], "{:?}", refused(sink).await?);
        if kill % 2 == 0 {
            sinks.start().await?
        } else {
            processors.start().await?
        };
    }
    load.run(producers.http, 4, SPANS_PER_REQUEST, Duration::from_secs(2)).await;
    let outcome = load.snapshot();
    let spans = outcome.acked.iter().filter(|id| !id.contains('@')).count() as u64;
    let sent = outcome.sent.iter().filter(|id| !id.contains('@')).count() as u64;
    ensure!(spans == sent, "{spans} of {sent} spans were acknowledged, though the producers were never killed");
    ensure!(spans > 5000, "{spans} spans are too few to mean anything");

    let (started, mut calls) = (std::time::Instant::now(), 0);
    while calls < spans {
        ensure!(started.elapsed() < CATCH_UP, "Prometheus has {calls} of {spans} calls with seed {seed}");
        tokio::time::sleep(Duration::from_millis(500)).await;
        calls = growth(&server.raw(CALLS).await?)?;
    }
    // Nothing more comes.
    tokio::time::sleep(Duration::from_secs(4)).await;
    let raw = server.raw(CALLS).await?;
    let (calls, latency) = (growth(&raw)?, growth(&server.raw(LATENCY).await?)?);
    ensure!(calls == spans && latency == spans, "{spans} spans, {calls} calls, {latency} latencies with seed {seed}");
    let sink = sinks.running.as_ref().context("it runs")?;
    ensure!(refused(sink).await? == [] as [String; 0], "{:?}", refused(sink).await?);
    let exemplars = server.exemplars("traces_spanmetrics_latency_bucket").await?;
    let traces: HashSet<&str> = outcome.acked.iter().filter_map(|id| id.get(..32)).collect();
    ensure!(exemplars.len() > 10, "{} exemplars", exemplars.len());
    for exemplar in &exemplars {
        let trace = exemplar.labels.get("trace_id").with_context(|| format!("{exemplar:?}"))?;
        ensure!(traces.contains(trace.as_str()), "{exemplar:?} leads to no trace that was sent");
    }
    eprintln!("{spans} spans, {} counters, {} exemplars", raw.len(), exemplars.len());
    Ok(())
}
