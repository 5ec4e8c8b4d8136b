//! The pipeline on a real Apache Kafka, its roles as processes of their own.

use std::time::{Duration, Instant};

use afflux_tests::afflux::{Afflux, Options, query};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::load::Load;
use afflux_tests::python;

const CATCH_UP: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_on_kafka_store_every_span_and_speak_otlp_on_the_topics() -> anyhow::Result<()> {
    let (Some(kafka), Some(python)) = (KafkaServer::shared(), python::interpreter()?) else { return Ok(()) };
    let dir = tempfile::tempdir()?;
    let (brokers, lake) = (kafka.brokers(), dir.path().join("lake"));
    let prefix = "three-processes";
    let options = |role: &str| {
        Options::run(role)
            .config("bus: {kind: kafka}\ncluster: kafka-test")
            .env("AFFLUX__BUS__KAFKA__BROKERS", brokers.clone())
            .env("AFFLUX__TOPICS__PREFIX", prefix)
            .env("AFFLUX__SINKS__PARQUET__URL", lake.display().to_string())
            .env("AFFLUX__SINKS__PARQUET__FLUSH__AGE", "500ms")
    };
    let producers = Afflux::start(dir.path(), &options("producers")).await?;
    let processors = Afflux::start(dir.path(), &options("processors")).await?;
    let sinks = Afflux::start(dir.path(), &options("sinks")).await?;

    let load = Load::new(7);
    for _ in 0..40 {
        assert!(load.send_one(producers.http, 100).await, "a request was refused");
    }
    let acked = load.snapshot().acked.len();
    let series = "afflux_settled_items_total{component=\"sinks.parquet\",signal=\"spans\"}";
    let started = Instant::now();
    while sinks.metric(series).await?.unwrap_or_default() < acked as f64 {
        assert!(started.elapsed() < CATCH_UP, "the sink has not settled {acked} spans\n{}", sinks.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for process in [producers, processors, sinks] {
        process.stop().await?;
    }

    let rows =
        query(&lake, "SELECT count(*) AS n, count(DISTINCT span_id) AS ids, min(cluster) AS cluster FROM spans")?;
    assert_eq!(rows[0]["n"], acked);
    assert_eq!(rows[0]["ids"], acked);
    let topics = [format!("{prefix}.ingest.spans"), format!("{prefix}.spans")];
    for topic in &topics {
        let decoded: serde_json::Value =
            serde_json::from_str(&python::run(python, "decode_topic.py", &[&brokers, topic])?)?;
        assert_eq!(decoded["spans"], acked, "spans that Python's protobuf classes find on {topic}: {decoded}");
        assert_eq!(decoded["items_header"], acked, "sum of the items headers on {topic}: {decoded}");
    }
    Ok(())
}
