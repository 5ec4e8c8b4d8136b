//! The pipeline on a real Apache Kafka, its roles as processes of their own.

use afflux_tests::afflux::{Afflux, Options, query};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::load::Load;
use afflux_tests::python;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_processes_on_kafka_store_everything_and_speak_otlp_on_the_topics() -> anyhow::Result<()> {
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
    let acked = load.snapshot().acked;
    let logs = acked.iter().filter(|id| id.contains('@')).count();
    let spans = acked.len() - logs;
    assert!(spans > 1000 && logs > 100, "{spans} spans and {logs} log records are too few to mean anything");
    for (signal, count) in [("spans", spans), ("logs", logs)] {
        sinks.settles("sinks.parquet", signal, count).await?;
    }
    for process in [producers, processors, sinks] {
        process.stop().await?;
    }

    load.snapshot().write(dir.path())?;
    let arguments = [lake.display().to_string(), dir.path().display().to_string()];
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let found: serde_json::Value = serde_json::from_str(&python::run(python, "exactly_once.py", &arguments)?)?;
    assert_eq!(found["rows"], acked.len());
    for wrong in ["missing", "doubled", "unknown"] {
        assert_eq!(found[wrong], 0, "{found}");
    }
    let clusters = query(&lake, "SELECT DISTINCT cluster FROM spans UNION SELECT DISTINCT cluster FROM logs")?;
    // As the corpus names them, which outranks the configured one.
    assert_eq!(clusters.len(), 2, "{clusters:?}");
    assert!(clusters.iter().all(|row| row["cluster"].as_str().is_some_and(|name| name.starts_with("shop-"))));
    for (topic, count) in [("ingest.spans", spans), ("spans", spans), ("ingest.logs", logs), ("logs", logs)] {
        let topic = format!("{prefix}.{topic}");
        let decoded: serde_json::Value =
            serde_json::from_str(&python::run(python, "decode_topic.py", &[&brokers, &topic])?)?;
        assert_eq!(decoded["items"], count, "items that Python's protobuf classes find on {topic}: {decoded}");
        assert_eq!(decoded["items_header"], count, "sum of the items headers on {topic}: {decoded}");
    }
    Ok(())
}
