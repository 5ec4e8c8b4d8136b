//! Span metrics and the service graph of an hour of traffic, against what DuckDB counts in the lake.

use afflux_producers::generate::Corpus;
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::python;
use anyhow::ensure;
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use rand::{Rng as _, SeedableRng as _};

use crate::against_duckdb;

const SECOND: u64 = 1_000_000_000;
/// Requests, each of six seconds of traffic.
const REQUESTS: u64 = 600;
const SPANS: usize = 64;
/// Senders at once.
const SENDERS: usize = 8;

/// The requests of the last hour, none of them in its place, and every twentieth twice.
fn requests(random: &mut StdRng) -> anyhow::Result<Vec<Bytes>> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    let start = u64::try_from(now.as_nanos())? - 3600 * SECOND;
    let mut corpus = Corpus::new(random.random(), start);
    let hour = (1..=REQUESTS).map(|n| corpus.next_request_at(start + n * 6 * SECOND, SPANS).traces);
    let mut requests: Vec<Bytes> = hour.collect();
    requests.shuffle(random);
    for at in (0..requests.len()).step_by(20) {
        requests.insert(at, requests[at].clone());
    }
    Ok(requests)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_of_late_doubled_and_mixed_up_spans_is_counted_as_sql_counts_it() -> anyhow::Result<()> {
    let Some(python) = python::interpreter()? else { return Ok(()) };
    let seed = std::env::var("AFFLUX_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or_else(rand::random::<u64>);
    eprintln!("AFFLUX_SEED={seed}");
    let dir = tempfile::tempdir()?;
    // Client and server of a request may come in different requests of OTLP, as far apart as the sending takes. SQL pairs
    // them all, so the service graph waits for longer than that, however busy the machine is.
    let options = Options::up(&dir.path().join("data"))
        .env("AFFLUX__PROCESSORS__SERVICE_GRAPH__WAIT", "1h")
        .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "300ms")
        .env("AFFLUX__PROCESSORS__SPAN_METRICS__CARDINALITY__FOLD_NAMES", "false")
        .env("AFFLUX__PROCESSORS__ACCUMULATE__INTERVAL", "1s");
    let afflux = Afflux::start(dir.path(), &options).await?;
    let requests = requests(&mut StdRng::seed_from_u64(seed))?;
    let (client, url) = (reqwest::Client::new(), format!("http://127.0.0.1:{}/v1/traces", afflux.http));
    for some in requests.chunks(SENDERS) {
        let mut sends = tokio::task::JoinSet::new();
        for body in some {
            let request = client.post(&url).header("content-type", "application/x-protobuf").body(body.clone());
            sends.spawn(async move { request.send().await?.error_for_status() });
        }
        for answer in sends.join_all().await {
            answer?;
        }
    }
    for component in ["processors", "processors.accumulate", "sinks.parquet"] {
        afflux.catches_up(component).await?;
    }
    afflux.stop().await?;
    let series = against_duckdb::check(python, dir.path()).await.map_err(|e| e.context(format!("seed {seed}")))?;
    eprintln!("{} requests, {series} series", requests.len());
    ensure!(series > 50, "{series} series are too few to mean anything");
    Ok(())
}
