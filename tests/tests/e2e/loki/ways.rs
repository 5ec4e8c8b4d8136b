//! Ways to the backend, and that none of the sinks is in another's.

use std::time::{Duration, Instant};

use afflux_tests::afflux::Afflux;
use afflux_tests::load::{Ids, Load};
use afflux_tests::loki::{self, Fault, Loki};
use afflux_tests::tempo::{self, Tempo};
use anyhow::ensure;

use super::{acked, holds, options, send};

/// Within which spans must have arrived.
const AT_ONCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_arrive_at_once_while_loki_is_away_and_loki_catches_up() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let (loki, tempo) = (Loki::start(loki::Options::default()).await?, Tempo::start(tempo::Settings::default()).await?);
    let options = options(dir.path(), &loki)
        .env("AFFLUX__SINKS__TEMPO__ENDPOINT", tempo.endpoint())
        .env("AFFLUX__SINKS__TEMPO__DELIVERY__BATCH__AGE", "50ms");
    let afflux = Afflux::start(dir.path(), &options).await?;
    loki.always(Some(Fault::Unavailable));
    let load = Load::new(rand::random());
    for _ in 0..3 {
        send(&load, &afflux, 5).await;
        let spans: Ids = load.snapshot().acked.into_iter().filter(|id| !id.contains('@')).collect();
        let started = Instant::now();
        while tempo.missing(&spans) > 0 {
            ensure!(started.elapsed() < AT_ONCE, "{} spans are missing", tempo.missing(&spans));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    afflux.falls_behind("sinks.loki").await?;
    assert!(loki.count(Fault::Unavailable.word()) > 0, "Loki was never asked");
    assert_eq!(loki.stored(), 0);
    assert_eq!(afflux.problem().await?, None, "a backend that is away takes nothing out of service");

    loki.always(None);
    holds(&loki, &load, &acked(&load)).await?;
    afflux.settles("sinks.loki", "logs", acked(&load).len()).await?;
    assert_eq!((afflux.dead_letters()?.len(), loki.found().doubled()), (0, 0), "given up, or doubled");
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn log_records_go_over_otlp() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let loki = Loki::start(loki::Options::default()).await?;
    let options = options(dir.path(), &loki).env("AFFLUX__SINKS__LOKI__PROTOCOL", "otlp");
    let afflux = Afflux::start(dir.path(), &options).await?;
    loki.script(3, Fault::Unavailable);
    loki.script(1, Fault::StoreAndReset);
    let load = Load::new(rand::random());
    send(&load, &afflux, 20).await;
    holds(&loki, &load, &acked(&load)).await?;
    afflux.settles("sinks.loki", "logs", acked(&load).len()).await?;
    assert_eq!((afflux.dead_letters()?.len(), loki.found().doubled()), (0, 0), "given up, or doubled");
    assert!(loki.deduplicated() > 0, "no answer was lost after a write");
    for stream in loki.streams("fake") {
        let labels = ["service_name", "k8s_cluster_name"].map(|name| stream.labels.contains_key(name));
        assert_eq!(labels, [true; 2], "{:?}: Loki chooses", stream.labels);
    }
    afflux.stop().await
}
