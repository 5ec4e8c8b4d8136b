//! The oracle: through everything that a backend does and kills of the process, no log record is missing.

use std::path::Path;
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::faults::{Fault, SOMETIMES, is_long, outages, seed};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::load::Load;
use afflux_tests::loki::{self, Loki};
use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{PATIENCE, acked, holds, options, send, with_sink};

const CLIENTS: usize = 2;
const SPANS_PER_REQUEST: usize = 64;
/// Log records, of which there are about a quarter as many as spans.
const ENOUGH: usize = 400;
/// Four times what is promised.
const COMMITTED_WITHIN: Duration = Duration::from_secs(1);

/// Of what was sent twice, most is known again; nothing comes twice that a living process knew to be stored.
///
/// That nothing at all is doubled cannot be asserted: Loki knows an entry again within its stream's open block, and what is
/// written between an answer that is lost and the next attempt (2 s later where the answer just does not come), or since
/// the oldest request without an answer before a kill, may be more than a block. How much is up to the machine's speed.
fn not_doubled_without_need(loki: &Loki) {
    let found = loki.found();
    assert!(found.deduplicated > 0, "no answer was lost after a write");
    assert_eq!(found.needless, 0, "of {} doubled ones, the sink had been told of some", found.doubled());
}

/// Every phase and the faults in between, each ended by `kill -9` at some moment of load.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_record_is_missing_whatever_the_backend_does_and_however_often_it_is_killed() -> anyhow::Result<()> {
    let (seed, dir) = (seed(), tempfile::tempdir()?);
    let mut random = StdRng::seed_from_u64(seed);
    let loki = Loki::start(loki::Options::default()).await?;
    let (mut options, load) = (options(dir.path(), &loki), Load::new(seed));
    if is_long() {
        // A build without optimisation is busy for seconds with what a minute has brought, and reads no answers meanwhile.
        options = options.env("AFFLUX__SINKS__LOKI__DELIVERY__TIMEOUT", "10s");
    }
    // At least once each, however little a slow machine sends.
    SOMETIMES.iter().for_each(|fault| loki.script(1, *fault));
    for (fault, time) in outages() {
        let afflux = Afflux::start(dir.path(), &options).await?;
        let running = tokio::spawn({
            let (load, port) = (load.clone(), afflux.http);
            async move { load.run(port, CLIENTS, SPANS_PER_REQUEST, Duration::from_secs(600)).await }
        });
        loki.sometimes(random.random(), 4, &SOMETIMES);
        tokio::time::sleep(Duration::from_millis(random.random_range(500..1500))).await;
        loki.always(Some(fault));
        tokio::time::sleep(time).await;
        until_met(&loki, fault).await?;
        loki.always(None);
        loki.cut();
        tokio::time::sleep(Duration::from_millis(random.random_range(500..1500))).await;
        afflux.kill()?;
        running.await?;
        // Requests of the dead process end with their connections.
        loki.cut();
    }
    loki.sometimes(0, 1, &[]);
    let afflux = Afflux::start(dir.path(), &options).await?;
    holds(&loki, &load, &acked(&load)).await?;
    assert_eq!(afflux.dead_letters()?, [] as [serde_json::Value; 0], "nothing was given up");
    let afflux = comes_back_to_where_it_was(&loki, &load, dir.path(), &options, afflux).await?;
    afflux.stop().await?;

    for fault in SOMETIMES {
        assert!(loki.count(fault.word()) > 0, "{fault:?} was never met");
    }
    assert!(acked(&load).len() > ENOUGH, "too little was acknowledged to mean anything");
    not_doubled_without_need(&loki);
    Ok(())
}

async fn until_met(loki: &Loki, fault: Fault) -> anyhow::Result<()> {
    let started = Instant::now();
    while loki.count(fault.word()) == 0 {
        ensure!(started.elapsed() < PATIENCE, "{fault:?} was never met");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Kills a process that has had nothing on its way for long enough to have committed it: nothing may come twice after that.
async fn comes_back_to_where_it_was(
    loki: &Loki,
    load: &Load,
    dir: &Path,
    options: &Options,
    afflux: Afflux,
) -> anyhow::Result<Afflux> {
    let mut requests = 0;
    while requests < loki.arrivals().len() {
        requests = loki.arrivals().len();
        tokio::time::sleep(COMMITTED_WITHIN).await;
    }
    afflux.kill()?;
    let before = (loki.stored(), loki.deduplicated());
    let acked_before = acked(load).len();
    let afflux = Afflux::start(dir, options).await?;
    send(load, &afflux, 3).await;
    holds(loki, load, &acked(load)).await?;
    let more = (acked(load).len() - acked_before) as u64;
    assert_eq!(
        (loki.stored(), loki.deduplicated()),
        (before.0 + more, before.1),
        "after a kill with nothing on its way"
    );
    Ok(afflux)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_no_log_record_is_missing_however_often_the_sink_is_killed() -> anyhow::Result<()> {
    const KILLS: usize = 5;
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let (seed, dir) = (seed(), tempfile::tempdir()?);
    let mut random = StdRng::seed_from_u64(seed);
    let loki = Loki::start(loki::Options::default()).await?;
    let on_kafka = |role: &str| {
        Options::run(role)
            .config("bus: {kind: kafka}")
            .env("AFFLUX__BUS__KAFKA__BROKERS", kafka.brokers())
            .env("AFFLUX__TOPICS__PREFIX", "to-loki")
    };
    let others = Afflux::start(dir.path(), &on_kafka("producers,processors")).await?;
    let sink = with_sink(on_kafka("sinks.loki"), &loki).env("AFFLUX__SINKS__LOKI__DELIVERY__INSTANCE_ID", "1");
    loki.sometimes(seed, 4, &SOMETIMES);
    let load = Load::new(seed);
    let running = tokio::spawn({
        let (load, port) = (load.clone(), others.http);
        async move { load.run(port, 1, SPANS_PER_REQUEST, Duration::from_secs(15)).await }
    });
    for _ in 0..KILLS {
        let sink = Afflux::start(dir.path(), &sink).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(1000..2500))).await;
        sink.kill()?;
        loki.cut();
    }
    running.await?;
    loki.sometimes(0, 1, &[]);
    let sink = Afflux::start(dir.path(), &sink).await?;
    holds(&loki, &load, &acked(&load)).await?;
    assert_eq!(sink.dead_letters()?, [] as [serde_json::Value; 0], "nothing was given up");
    sink.stop().await?;
    others.stop().await?;
    assert!(acked(&load).len() > ENOUGH, "too little was acknowledged to mean anything");
    not_doubled_without_need(&loki);
    Ok(())
}
