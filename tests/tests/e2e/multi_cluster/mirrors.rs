//! Topics that are named after the cluster they are mirrored from.

use std::path::Path;
use std::time::{Duration, Instant};

use afflux_bus::Bus as _;
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::mirror_maker::MirrorMaker;
use afflux_tests::numbered::Numbered;
use afflux_tests::topic;
use anyhow::ensure;

use super::{producer, send_logs, stored};

/// Records that are sent to each topic of spans, of ten spans each.
const RECORDS: usize = 12;
/// How long MirrorMaker may take to start and to find its topics.
const MIRRORED: Duration = Duration::from_secs(150);

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

/// Sends to a region, under the names that topics have there.
async fn fill(brokers: &str) -> anyhow::Result<()> {
    let [spans, logs] = ["mm2.ingest.spans", "mm2.ingest.logs"];
    topic::create(brokers, &[(spans, 2), (logs, 2)]).await?;
    let (bus, producer) = producer(brokers).await?;
    let sent = Numbered::default();
    sent.send_records(&*producer, spans, RECORDS).await;
    ensure!(sent.acked() == 10 * RECORDS, "the region refuses spans");
    send_logs(&*producer, logs, 6).await?;
    bus.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_mirror_maker_2_copies_from_two_regions_carries_their_names() -> anyhow::Result<()> {
    let start = || tokio::task::spawn_blocking(KafkaServer::start);
    let (east, west) = tokio::try_join!(start(), start())?;
    let (Some(east), Some(west)) = (east?, west?) else { return Ok(()) };
    let Some(central) = tokio::task::block_in_place(KafkaServer::shared) else { return Ok(()) };
    let (dir, brokers) = (tempfile::tempdir()?, central.brokers());
    let lake = dir.path().join("lake");
    fill(&east.brokers()).await?;
    fill(&west.brokers()).await?;
    let stage = Afflux::start(dir.path(), &stage(&brokers, "mm2", &lake)).await?;
    let sources = [("east", &*east.brokers()), ("west", &*west.brokers())];
    let Some(mut mirror) = MirrorMaker::start(&sources, &brokers, r"mm2\\.ingest\\..*")? else { return Ok(()) };

    let (bus, producer) = producer(&brokers).await?;
    let started = Instant::now();
    for source in ["east", "west"] {
        while producer.partitions(&format!("{source}.mm2.ingest.spans")).await.is_err() {
            mirror.check()?;
            ensure!(started.elapsed() < MIRRORED, "nothing of {source} is mirrored:\n{}", mirror.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    bus.close().await;
    stage.settles("sinks.parquet", "spans", 2 * 10 * RECORDS).await?;
    stage.settles("sinks.parquet", "logs", 12).await?;
    stage.stop().await?;
    let each = |n: u64| ["east", "west"].map(|name| (name.to_owned(), n));
    assert_eq!(stored(&lake, "spans", "span_id")?, each(10 * RECORDS as u64));
    assert_eq!(stored(&lake, "logs", "time")?, each(6));
    Ok(())
}
