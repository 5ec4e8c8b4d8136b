//! An output partition whose broker is away holds up what is bound for it, and nothing else.

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus, Cleanup, ConsumerConfig, Event, TopicSpec};
use afflux_schemas::topics::Topics;
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::numbered::{Numbered, read_committed};
use anyhow::ensure;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;

const PREFIX: &str = "stuck";
const GROUP: &str = "stuck";
const PATIENCE: Duration = Duration::from_secs(90);

/// Records of each ingest partition that are not settled.
async fn left(bus: &KafkaBus) -> anyhow::Result<Vec<u64>> {
    let mut lag = bus.lag(GROUP, &[Arc::from(format!("{PREFIX}.ingest.spans"))]).await?;
    lag.sort_by(|a, b| a.partition.cmp(&b.partition));
    Ok(lag.iter().map(afflux_bus::PartitionLag::records).collect())
}

async fn until_left(bus: &KafkaBus, expected: [u64; 2], afflux: &Afflux) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let left = left(bus).await?;
        if left == expected {
            return Ok(());
        }
        ensure!(started.elapsed() < PATIENCE, "{left:?} records are left, not {expected:?}:\n{}", afflux.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Uses a group and a transaction, so that Kafka's own topics come to lie where a broker is now.
async fn warm_up(bus: &KafkaBus) -> anyhow::Result<()> {
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    bus.create_topics(&[TopicSpec { name: "warm".into(), partitions: 1, cleanup }]).await?;
    let mut config = ConsumerConfig::new("warm", ["warm".into()]);
    config.transactional_id = Some("warm".into());
    let mut member = bus.consumer(config).await?;
    while !matches!(member.poll().await?, Event::Assigned(_)) {}
    member.close().await;
    Ok(())
}

/// Everything on node 1, except the second partition of the spans.
async fn place_topics(admin: &AdminClient<DefaultClientContext>) -> anyhow::Result<()> {
    let (first, parted): ([&[i32]; 2], [&[i32]; 2]) = ([&[1], &[1]], [&[1], &[2]]);
    let names = Topics::new(PREFIX).all();
    let topics = names.iter().map(|name| {
        let place = if name.ends_with(".spans") && !name.contains("ingest") { &parted } else { &first };
        NewTopic::new(name, 2, TopicReplication::Variable(place))
    });
    let answers = admin.create_topics(&topics.collect::<Vec<_>>(), &AdminOptions::new()).await?;
    ensure!(answers.iter().all(Result::is_ok), "{answers:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_its_broker_waits_while_the_others_go_on() -> anyhow::Result<()> {
    let Some(kafka) = tokio::task::block_in_place(KafkaServer::start)? else { return Ok(()) };
    let bus = KafkaBus::connect(KafkaConfig::new(kafka.brokers())).await?;
    warm_up(&bus).await?;
    let second = tokio::task::block_in_place(|| kafka.second())?;
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create()?;
    place_topics(&admin).await?;
    let dir = tempfile::tempdir()?;
    let yaml = format!(
        "bus: {{kind: kafka, create_topics: false, kafka: {{brokers: '{}', timeout: 2s}}}}\n\
         topics: {{prefix: {PREFIX}}}\nprocessors: {{group: {GROUP}}}",
        kafka.brokers()
    );
    let afflux = Afflux::start(dir.path(), &Options::run("processors").config(&yaml)).await?;
    let (producer, source) = (bus.producer().await?, Numbered::that_keeps_partitions());
    let ingest = format!("{PREFIX}.ingest.spans");
    source.send_records(&*producer, &ingest, 10).await;
    until_left(&bus, [0, 0], &afflux).await?;

    tokio::task::block_in_place(|| second.kill())?;
    source.send_records(&*producer, &ingest, 10).await;
    until_left(&bus, [0, 5], &afflux).await?;
    afflux.says("the output takes nothing; the others go on", PATIENCE).await?;
    let ready = reqwest::get(format!("http://127.0.0.1:{}/readyz", afflux.admin)).await?;
    assert!(!ready.status().is_success(), "ready, although a partition is stuck");
    let suspended = afflux.metric("afflux_suspended_partitions{component=\"processors\",signal=\"\"}").await?;
    assert_eq!(suspended, Some(1.0));
    source.send_records(&*producer, &ingest, 10).await;
    until_left(&bus, [0, 10], &afflux).await?;

    tokio::task::block_in_place(|| second.restart())?;
    until_left(&bus, [0, 0], &afflux).await?;
    let (brokers, output) = (kafka.brokers(), format!("{PREFIX}.spans"));
    let found = tokio::task::spawn_blocking(move || read_committed(&brokers, &output)).await??;
    let verdict = source.judge(&found);
    assert_eq!(verdict.acked, 300);
    assert!(verdict.is_exact(), "{verdict:?}");
    afflux.stop().await?;
    bus.close().await;
    Ok(())
}
