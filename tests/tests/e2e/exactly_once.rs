//! D4 on a real Kafka: consume, transform and produce exactly once, whatever happens to processors, broker and network.
//!
//! `AFFLUX_SOAK_RUNS=N` runs so many rounds in place of one per kind of fault; `AFFLUX_SEED` repeats a run.

mod faults;
mod stage;
mod zombie;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use afflux_bus::Bus as _;
use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_tests::derived;
use afflux_tests::numbered::{Numbered, read_committed};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use self::faults::Fault;
use self::stage::{Site, Stage};

/// Records under way at once.
const SENDERS: usize = 3;
/// Load before a fault, at most, and after it, in milliseconds.
const BEFORE: std::ops::Range<u64> = 300..2500;
const AFTER: std::ops::Range<u64> = 500..2000;
/// Rounds in ten that see another fault on top of the first.
const SECOND: u32 = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_span_leaves_the_processors_once_through_faults_of_every_kind() -> anyhow::Result<()> {
    let Some(site) = Site::open().await? else { return Ok(()) };
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seed = number("AFFLUX_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let rounds = number("AFFLUX_SOAK_RUNS").unwrap_or(Fault::KINDS.len() as u64);
    for round in 0..rounds {
        let seed = seed + round;
        let kind = Fault::KINDS[usize::try_from(seed)? % Fault::KINDS.len()];
        one_round(&site, seed, kind).await.map_err(|error| error.context(format!("AFFLUX_SEED={seed}, {kind:?}")))?;
    }
    Ok(())
}

async fn one_round(site: &Site, seed: u64, kind: Fault) -> anyhow::Result<()> {
    let mut random = StdRng::seed_from_u64(seed);
    let instances = random.random_range(2..=3);
    let mut stage = Stage::start(site, &format!("once-{seed}"), instances).await?;
    let (source, stop) = (Numbered::default(), Arc::new(AtomicBool::new(false)));
    let load = tokio::spawn({
        let (source, stop, topic) = (source.clone(), Arc::clone(&stop), stage.ingest());
        let producer = stage.producer().await?;
        async move { source.send(producer, &topic, SENDERS, stop).await }
    });
    let mut kinds = vec![kind];
    if random.random_ratio(SECOND, 10) {
        kinds.push(Fault::KINDS[random.random_range(0..Fault::KINDS.len())]);
    }
    for kind in &kinds {
        tokio::time::sleep(Duration::from_millis(random.random_range(BEFORE))).await;
        kind.strike(&mut stage, &mut random).await?;
    }
    tokio::time::sleep(Duration::from_millis(random.random_range(AFTER))).await;
    stop.store(true, Ordering::Release);
    load.await?;
    stage.caught_up().await?;
    let refusals = stage.refusals();
    stage.stop().await?;

    let spans = counted(site, &stage).await.map_err(|error| error.context(stage.logs()))?;
    let (brokers, topic) = (site.kafka.brokers(), stage.output());
    let found = tokio::task::spawn_blocking(move || read_committed(&brokers, &topic)).await??;
    let verdict = source.judge(&found);
    eprintln!(
        "AFFLUX_SEED={seed} {kinds:?} on {instances}: {} acknowledged, {} missing, {} doubled, {} unknown, {} \
         transactions refused",
        verdict.acked,
        verdict.missing.len(),
        verdict.doubled.len(),
        verdict.unknown.len(),
        refusals,
    );
    assert!(verdict.acked > 100, "{} spans are too few to mean anything", verdict.acked);
    assert!(verdict.is_exact(), "seed {seed}: {verdict:?}\n{}", stage.logs());
    assert_eq!(spans, [found.len() as u64; 2], "spans by deltas and by series, seed {seed}\n{}", stage.logs());
    Ok(())
}

/// How many spans there were, by the deltas and by the series that these have come to.
async fn counted(site: &Site, stage: &Stage<'_>) -> anyhow::Result<[u64; 2]> {
    const CALLS: &str = "traces_spanmetrics_calls_total";
    let bus = KafkaBus::connect(KafkaConfig::new(site.kafka.brokers())).await?;
    let [metrics, series] = stage.derived();
    let deltas = derived::deltas(&*bus, &metrics, CALLS).await?;
    let totals = derived::series(&*bus, &series, CALLS).await?;
    bus.close().await;
    Ok([deltas, totals].map(|sums| sums.values().flat_map(|sum| &sum.counts).sum()))
}
