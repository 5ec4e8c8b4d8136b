//! Spans to Tempo: what was acknowledged is read back, whatever the backend and the processes go through.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::load::{Ids, Load};
use afflux_tests::tempo::Tempo;
use anyhow::ensure;
use serde_json::Value;

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

/// What the admin port answers: the status, and the text.
async fn admin(afflux: &Afflux, path: &str) -> anyhow::Result<(u16, String)> {
    let answer = reqwest::get(format!("http://127.0.0.1:{}/{path}", afflux.admin)).await?;
    Ok((answer.status().as_u16(), answer.text().await?))
}

/// Open dead letters of the sink.
fn dead_letters(afflux: &Afflux) -> anyhow::Result<Vec<Value>> {
    let at = format!("127.0.0.1:{}", afflux.admin);
    let output = afflux_tests::afflux::run(&["dead-letters", "list", "--admin", &at])?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
}

/// Why the sink is not ready; `None` where it is.
async fn problem(afflux: &Afflux) -> anyhow::Result<Option<String>> {
    let (status, text) = admin(afflux, "readyz").await?;
    Ok((status == 503).then_some(text))
}

/// Waits until the sink is not ready for a reason with these words.
async fn until_stopped(afflux: &Afflux, words: &str) -> anyhow::Result<String> {
    let started = Instant::now();
    loop {
        let problem = problem(afflux).await?.unwrap_or_default();
        if problem.contains(words) && problem.contains("sinks.tempo") {
            return Ok(problem);
        }
        ensure!(started.elapsed() < PATIENCE, "`{problem}` instead of {words}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
