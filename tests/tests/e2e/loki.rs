//! Log records to Loki: what was acknowledged is read back, whatever the backend and the processes go through.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::load::{Ids, Load, log_ids};
use afflux_tests::loki::Loki;
use anyhow::{Context as _, ensure};
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use serde_json::Value;

mod credentials;
mod faults;
mod limits;
mod refusals;
mod replay;
mod ways;

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// Everything in one process, and a sink that does not wait long.
fn options(dir: &Path, loki: &Loki) -> Options {
    with_sink(Options::up(&dir.join("data")), loki)
}

fn with_sink(options: Options, loki: &Loki) -> Options {
    options
        .env("AFFLUX__SINKS__LOKI__URL", loki.url())
        .env("AFFLUX__SINKS__LOKI__DELIVERY__TIMEOUT", "2s")
        .env("AFFLUX__SINKS__LOKI__DELIVERY__RETRY__INITIAL", "20ms")
        .env("AFFLUX__SINKS__LOKI__DELIVERY__RETRY__MAX", "500ms")
        .env("AFFLUX__SINKS__LOKI__DELIVERY__BATCH__AGE", "50ms")
}

/// Sends so many requests, each of which must be acknowledged.
async fn send(load: &Load, afflux: &Afflux, requests: usize) {
    for _ in 0..requests {
        assert!(load.send_one(afflux.http, 100).await, "a request was refused");
    }
}

/// Log records with these times and lines, of one resource and thus of one stream; all must be acknowledged.
async fn send_lines(afflux: &Afflux, lines: &[(u64, &str)]) -> anyhow::Result<()> {
    let text = |text: &str| Some(AnyValue { value: Some(any_value::Value::StringValue(text.into())) });
    let record =
        |&(time_unix_nano, line): &(u64, &str)| LogRecord { time_unix_nano, body: text(line), ..LogRecord::default() };
    let scope_logs = vec![ScopeLogs { log_records: lines.iter().map(record).collect(), ..ScopeLogs::default() }];
    let service = KeyValue { key: "service.name".into(), value: text("cart"), ..KeyValue::default() };
    let resource = Some(Resource { attributes: vec![service], ..Resource::default() });
    let resource_logs = vec![ResourceLogs { resource, scope_logs, ..ResourceLogs::default() }];
    let request = reqwest::Client::new()
        .post(format!("http://127.0.0.1:{}/v1/logs", afflux.http))
        .header("content-type", "application/x-protobuf")
        .body(ExportLogsServiceRequest { resource_logs }.encode_to_vec());
    let status = request.send().await?.status();
    ensure!(status == 200, "answered {status}");
    Ok(())
}

/// The present, in nanoseconds since the Unix epoch.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_nanos()).unwrap_or_default()
}

/// Lines that are stored, by stream and in the order in which they came.
fn lines(loki: &Loki) -> Vec<String> {
    loki.streams("fake").into_iter().flat_map(|stream| stream.entries).map(|entry| entry.line).collect()
}

/// Ids of the log records that were acknowledged.
fn acked(load: &Load) -> Ids {
    load.snapshot().acked.into_iter().filter(|id| id.contains('@')).collect()
}

/// Waits until nothing of that is missing, for as long as it becomes less; then nothing may be there that was never sent.
async fn holds(loki: &Loki, load: &Load, expected: &Ids) -> anyhow::Result<()> {
    let (mut progress, mut fewest) = (Instant::now(), usize::MAX);
    loop {
        let missing = loki.missing(expected);
        if missing < fewest {
            (progress, fewest) = (Instant::now(), missing);
        }
        if missing == 0 {
            let (found, sent) = (loki.found(), load.snapshot().sent);
            let unknown: HashSet<_> = found.entries.keys().filter(|id| !sent.contains(*id)).collect();
            assert!(unknown.is_empty(), "{} entries that nobody sent: {unknown:?}", unknown.len());
            let (entries, known, doubled) = (found.entries.len(), found.deduplicated, found.doubled());
            eprintln!("{entries} entries, {known} copies ignored, {doubled} stored more than once");
            return Ok(());
        }
        ensure!(progress.elapsed() < PATIENCE, "{missing} of {} entries are missing", expected.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Ids of the log records that a dead letter holds.
fn held(afflux: &Afflux, letter: &Value) -> anyhow::Result<Vec<String>> {
    let id = letter["id"].as_str().context("an id")?;
    let at = format!("127.0.0.1:{}", afflux.admin);
    let raw = afflux_tests::afflux::run(&["dead-letters", "show", id, "--raw", "--admin", &at])?;
    Ok(log_ids(&raw.stdout.into()))
}
