//! The oracle: through everything that a backend does and kills of the process, no span is missing.

use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::faults::{Fault, SOMETIMES, outages, seed};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::load::Load;
use afflux_tests::tempo::{Settings, Tempo};
use anyhow::ensure;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use super::{PATIENCE, acked, holds, options, with_sink};

const CLIENTS: usize = 2;
const SPANS_PER_REQUEST: usize = 64;

/// Every phase and the faults in between, each ended by `kill -9` at some moment of load.
async fn no_span_is_missing(protocol: &str) -> anyhow::Result<()> {
    let (seed, dir) = (seed(), tempfile::tempdir()?);
    let mut random = StdRng::seed_from_u64(seed);
    let tempo = Tempo::start(Settings::default()).await?;
    let (options, load) = (options(dir.path(), &tempo, protocol), Load::new(seed));
    // At least once each, whatever chance has of them.
    SOMETIMES.iter().for_each(|fault| tempo.script(1, *fault));
    for (fault, time) in outages() {
        let afflux = Afflux::start(dir.path(), &options).await?;
        let running = tokio::spawn({
            let (load, port) = (load.clone(), afflux.http);
            async move { load.run(port, CLIENTS, SPANS_PER_REQUEST, Duration::from_secs(600)).await }
        });
        tempo.sometimes(random.random(), 4, &SOMETIMES);
        tokio::time::sleep(Duration::from_millis(random.random_range(500..1500))).await;
        tempo.always(Some(fault));
        tokio::time::sleep(time).await;
        until_met(&tempo, fault).await?;
        tempo.always(None);
        tempo.cut();
        tokio::time::sleep(Duration::from_millis(random.random_range(500..1500))).await;
        afflux.kill()?;
        running.await?;
    }
    tempo.sometimes(0, 1, &[]);
    let afflux = Afflux::start(dir.path(), &options).await?;
    holds(&tempo, &load, &acked(&load)).await?;
    assert_eq!(afflux.dead_letters()?, [] as [serde_json::Value; 0], "nothing was given up");
    afflux.stop().await?;

    for fault in SOMETIMES {
        assert!(tempo.count(fault.word()) > 0, "{fault:?} was never met");
    }
    assert!(acked(&load).len() > 1000, "too little was acknowledged to mean anything");
    assert!(tempo.found().duplicates > 0, "no answer was lost after a write");
    Ok(())
}

async fn until_met(tempo: &Tempo, fault: Fault) -> anyhow::Result<()> {
    let started = Instant::now();
    while tempo.count(fault.word()) == 0 {
        ensure!(started.elapsed() < PATIENCE, "{fault:?} was never met");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc_no_span_is_missing_whatever_the_backend_does_and_however_often_it_is_killed() -> anyhow::Result<()> {
    no_span_is_missing("grpc").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http_no_span_is_missing_whatever_the_backend_does_and_however_often_it_is_killed() -> anyhow::Result<()> {
    no_span_is_missing("http").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_kafka_no_span_is_missing_however_often_the_sink_is_killed() -> anyhow::Result<()> {
    const KILLS: usize = 5;
    let Some(kafka) = KafkaServer::shared() else { return Ok(()) };
    let (seed, dir) = (seed(), tempfile::tempdir()?);
    let mut random = StdRng::seed_from_u64(seed);
    let tempo = Tempo::start(Settings::default()).await?;
    let on_kafka = |role: &str| {
        Options::run(role)
            .config("bus: {kind: kafka}")
            .env("AFFLUX__BUS__KAFKA__BROKERS", kafka.brokers())
            .env("AFFLUX__TOPICS__PREFIX", "to-tempo")
    };
    let others = Afflux::start(dir.path(), &on_kafka("producers,processors")).await?;
    let sink =
        with_sink(on_kafka("sinks.tempo"), &tempo, "grpc").env("AFFLUX__SINKS__TEMPO__DELIVERY__INSTANCE_ID", "1");
    tempo.sometimes(seed, 4, &SOMETIMES);
    let load = Load::new(seed);
    let running = tokio::spawn({
        let (load, port) = (load.clone(), others.http);
        async move { load.run(port, 1, SPANS_PER_REQUEST, Duration::from_secs(20)).await }
    });
    for _ in 0..KILLS {
        let sink = Afflux::start(dir.path(), &sink).await?;
        tokio::time::sleep(Duration::from_millis(random.random_range(1000..3000))).await;
        sink.kill()?;
    }
    running.await?;
    tempo.sometimes(0, 1, &[]);
    let sink = Afflux::start(dir.path(), &sink).await?;
    holds(&tempo, &load, &acked(&load)).await?;
    sink.stop().await?;
    others.stop().await?;
    assert!(acked(&load).len() > 1000, "too little was acknowledged to mean anything");
    Ok(())
}
