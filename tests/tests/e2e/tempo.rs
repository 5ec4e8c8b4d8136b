//! Spans to Tempo: what was acknowledged is read back, whatever the backend and the processes go through.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::load::{Ids, Load};
use afflux_tests::tempo::Tempo;
use anyhow::ensure;

mod credentials;
mod faults;
mod refusals;
mod ways;

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything in one process, and a sink that does not wait long.
fn options(dir: &Path, tempo: &Tempo, protocol: &str) -> Options {
    with_sink(Options::up(&dir.join("data")), tempo, protocol)
}

fn with_sink(options: Options, tempo: &Tempo, protocol: &str) -> Options {
    options
        .env("AFFLUX__SINKS__TEMPO__ENDPOINT", tempo.endpoint())
        .env("AFFLUX__SINKS__TEMPO__PROTOCOL", protocol)
        .env("AFFLUX__SINKS__TEMPO__DELIVERY__TIMEOUT", "2s")
        .env("AFFLUX__SINKS__TEMPO__DELIVERY__RETRY__INITIAL", "20ms")
        .env("AFFLUX__SINKS__TEMPO__DELIVERY__RETRY__MAX", "500ms")
        .env("AFFLUX__SINKS__TEMPO__DELIVERY__BATCH__AGE", "50ms")
}

/// Sends so many requests, each of which must be acknowledged.
async fn send(load: &Load, afflux: &Afflux, requests: usize) {
    for _ in 0..requests {
        assert!(load.send_one(afflux.http, 100).await, "a request was refused");
    }
}

/// Ids of the spans that were acknowledged.
fn acked(load: &Load) -> Ids {
    load.snapshot().acked.into_iter().filter(|id| !id.contains('@')).collect()
}

/// Waits until nothing of that is missing, for as long as it becomes less; then nothing may be there that was never sent.
async fn holds(tempo: &Tempo, load: &Load, expected: &Ids) -> anyhow::Result<()> {
    let (mut progress, mut fewest) = (Instant::now(), usize::MAX);
    loop {
        let missing = tempo.missing(expected);
        if missing < fewest {
            (progress, fewest) = (Instant::now(), missing);
        }
        if missing == 0 {
            let (found, sent) = (tempo.found(), load.snapshot().sent);
            let unknown: HashSet<_> = found.spans.keys().filter(|id| !sent.contains(*id)).collect();
            assert!(unknown.is_empty(), "{} spans that nobody sent: {unknown:?}", unknown.len());
            eprintln!("{} spans, {} copies removed", found.spans.len(), found.duplicates);
            return Ok(());
        }
        ensure!(progress.elapsed() < PATIENCE, "{missing} of {} spans are missing", expected.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
