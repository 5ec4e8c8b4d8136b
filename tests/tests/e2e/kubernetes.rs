//! D2: each Kubernetes event once, or a gap that says so, whatever the API server does.

mod bad_input;
mod faults;
mod kills;
mod leaders;
mod objects;
mod pipeline;
mod records;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kubernetes::oracle::{self, Gap, Published};
use afflux_tests::kubernetes::{ApiServer, event};
use anyhow::ensure;
use tempfile::TempDir;

/// How long what has happened may take to be on the bus.
const SETTLE: Duration = Duration::from_secs(60);
/// Number of the event by which it is known that all before it is published.
const LAST: usize = 99_999;
const PUBLISHED: &str = r#"afflux_accepted_items_total{component="producers.kubernetes",signal="events"}"#;

/// A cluster and a process that reads it, on a local bus.
struct World {
    dir: TempDir,
    server: ApiServer,
    options: Options,
}

impl World {
    async fn new(config: &str) -> anyhow::Result<Self> {
        let (dir, server) = (tempfile::tempdir()?, ApiServer::start().await?);
        let kubeconfig = server.kubeconfig(dir.path())?;
        let yaml = format!(
            "bus: {{local: {{dir: {}}}}}\nproducers:\n  kubernetes:\n    kubeconfig: {}\n    cluster: eu\n    \
             objects: {{enabled: false}}\n    events: {{watch_timeout: 4s, {config}}}\n",
            dir.path().join("bus").display(),
            kubeconfig.display()
        );
        let options = Options::run("producers.kubernetes").config(&yaml);
        Ok(Self { dir, server, options })
    }

    async fn start(&self) -> anyhow::Result<Afflux> {
        Afflux::start(self.dir.path(), &self.options).await
    }

    fn token(&self) -> PathBuf {
        self.dir.path().join("token")
    }

    /// Events `from` to `to`, each for the first time.
    fn happen(&self, events: std::ops::Range<usize>, count: i64) {
        for n in events {
            self.server.put(afflux_tests::kubernetes::EVENTS, event::event(n, count));
        }
    }

    /// As [`World::happen`], and the watches that are open are not told.
    fn happen_silently(&self, events: std::ops::Range<usize>, count: i64) {
        for n in events {
            self.server.put_silently(afflux_tests::kubernetes::EVENTS, event::event(n, count));
        }
    }

    /// What is on the bus of the stopped process.
    async fn bus(&self) -> anyhow::Result<(Vec<Published>, Vec<Gap>)> {
        let records = oracle::read_local(&self.dir.path().join("bus"), "afflux.ingest.events").await?;
        oracle::published(&records)
    }

    /// Lets a last event happen, and waits until it is on the bus of the process, which is stopped then.
    async fn settle(&self, afflux: Afflux) -> anyhow::Result<(Vec<Published>, Vec<Gap>)> {
        let last = self.server.put(afflux_tests::kubernetes::EVENTS, event::event(LAST, 1));
        let (begun, mut running, mut patience) = (Instant::now(), Some(afflux), Duration::from_millis(500));
        loop {
            let afflux = match running.take() {
                Some(afflux) => afflux,
                None => self.start().await?,
            };
            tokio::time::sleep(patience).await;
            patience *= 2;
            let log = afflux.log();
            afflux.stop().await?;
            let (events, gaps) = self.bus().await?;
            if events.iter().any(|event| event.version == last) {
                return Ok((events, gaps));
            }
            ensure!(begun.elapsed() < SETTLE, "the last event was not published:\n{log}");
        }
    }
}

/// Waits until a process has published that many events since its start.
async fn publishes(afflux: &Afflux, events: usize) -> anyhow::Result<()> {
    let begun = Instant::now();
    while afflux.metric(PUBLISHED).await?.unwrap_or_default() < events as f64 {
        ensure!(begun.elapsed() < SETTLE, "{events} events were not published:\n{}", afflux.log());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
