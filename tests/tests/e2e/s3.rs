//! D5 on an S3-compatible store: what was acknowledged is there once, through `kill -9`.

use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options, query_with};
use afflux_tests::load::Load;
use afflux_tests::python;
use afflux_tests::s3::S3Server;
use serde_json::Value;

const LAKE: &str = "s3://lake/telemetry";
const KILLS: usize = 5;
const CLIENTS: usize = 2;
const SPANS_PER_REQUEST: usize = 64;
const CATCH_UP: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_holds_every_acknowledged_span_once_and_answers_queries() -> anyhow::Result<()> {
    let Some(python) = python::interpreter()? else { return Ok(()) };
    let store = S3Server::start(python, "lake").await?;
    let environment = store.environment();
    let dir = tempfile::tempdir()?;
    let options =
        Options::up(&dir.path().join("data")).env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "300ms").config(&format!(
            "sinks: {{parquet: {{url: \"{LAKE}\", s3: {{endpoint: \"{}\", region: eu-central-1, allow_http: true, \
             access_key_id: afflux, secret_access_key: afflux}}}}}}",
            store.endpoint()
        ));
    let load = Load::new(11);
    let stored = || -> anyhow::Result<Value> {
        load.snapshot().write(dir.path())?;
        let args = [LAKE, &dir.path().display().to_string()];
        Ok(serde_json::from_str(&python::run_with(python, "exactly_once.py", &args, &environment)?)?)
    };

    for moment in 1..=KILLS {
        let afflux = Afflux::start(dir.path(), &options).await?;
        let running = tokio::spawn({
            let (load, port) = (load.clone(), afflux.http);
            async move { load.run(port, CLIENTS, SPANS_PER_REQUEST, Duration::from_secs(30)).await }
        });
        tokio::time::sleep(Duration::from_millis(300) * u32::try_from(moment)?).await;
        afflux.kill()?;
        running.await?;
    }

    let afflux = Afflux::start(dir.path(), &options).await?;
    let started = Instant::now();
    while stored()?["missing"] != 0 && started.elapsed() < CATCH_UP {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    afflux.stop().await?;
    let found = stored()?;
    assert!(load.snapshot().acked.len() > KILLS * SPANS_PER_REQUEST, "too little was acknowledged to mean anything");
    for wrong in ["missing", "doubled", "unknown"] {
        assert_eq!(found[wrong], 0, "{wrong} items after {KILLS} kills: {found}");
    }
    let sql = "SELECT (SELECT count(DISTINCT trace_id || span_id) FROM spans) + (SELECT count(*) FROM logs) AS rows";
    assert_eq!(query_with(LAKE, sql, &environment)?[0]["rows"], found["rows"]);
    Ok(())
}
