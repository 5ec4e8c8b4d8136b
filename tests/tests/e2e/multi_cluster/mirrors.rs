//! Topics that are named after the cluster they are mirrored from.

use std::path::Path;

use afflux_bus::Bus as _;
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::numbered::Numbered;
use afflux_tests::topic;

use super::{producer, send_logs, stored};

/// Records that are sent to each topic of spans, of ten spans each.
const RECORDS: usize = 12;

/// Processors that read mirrors, and the sink.
fn stage(brokers: &str, prefix: &str, lake: &Path) -> Options {
    let yaml = format!(
        "cluster: central\nprocessors: {{mirrors: true, group: {prefix}}}\n\
         bus: {{kind: kafka, kafka: {{brokers: '{brokers}', options: {{topic.metadata.refresh.interval.ms: '500'}}}}}}\n\
         topics: {{prefix: {prefix}, partitions: 2}}\n\
         sinks: {{parquet: {{url: '{}', group: {prefix}-sink, flush: {{age: 500ms}}}}}}",
        lake.display()
    );
    Options::run("processors,sinks").config(&yaml)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrored_topics_are_read_as_they_appear_and_name_their_cluster() -> anyhow::Result<()> {
    let Some(kafka) = tokio::task::block_in_place(KafkaServer::shared) else { return Ok(()) };
    let (dir, brokers) = (tempfile::tempdir()?, kafka.brokers());
    let lake = dir.path().join("lake");
    let topics = |source: &str| ["spans", "logs"].map(|signal| format!("{source}mirrored.ingest.{signal}"));
    let [east_spans, east_logs] = topics("east.");
    topic::create(&brokers, &[(&east_spans, 2), (&east_logs, 2)]).await?;
    let stage = Afflux::start(dir.path(), &stage(&brokers, "mirrored", &lake)).await?;
    let (bus, producer) = producer(&brokers).await?;
    let sent = Numbered::default();
    let mut spans = 0;
    // The central one's own topics are read beside them.
    for source in ["", "east.", "west."] {
        let [of_spans, of_logs] = topics(source);
        if source == "west." {
            stage.settles("sinks.parquet", "spans", spans).await?;
            topic::create(&brokers, &[(&of_spans, 2), (&of_logs, 2)]).await?;
        }
        sent.send_records(&*producer, &of_spans, RECORDS).await;
        send_logs(&*producer, &of_logs, 6).await?;
        spans += 10 * RECORDS;
    }
    assert_eq!(sent.acked(), spans);
    stage.settles("sinks.parquet", "spans", spans).await?;
    stage.settles("sinks.parquet", "logs", 18).await?;
    stage.stop().await?;
    bus.close().await;
    let each = |n: u64| ["central", "east", "west"].map(|name| (name.to_owned(), n));
    assert_eq!(stored(&lake, "spans", "span_id")?, each(10 * RECORDS as u64));
    assert_eq!(stored(&lake, "logs", "time")?, each(6));
    Ok(())
}
