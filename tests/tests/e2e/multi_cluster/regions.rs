//! Two regional Kafka clusters, copied to a central one.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus, Headers, PartitionId, PartitionLag, Received, Record};
use afflux_runtime::dead_letter::now_ms;
use afflux_schemas::topics::{HEADER_CLUSTER, HEADER_SOURCE_CLUSTER};
use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::kafka::KafkaServer;
use afflux_tests::numbered::{Numbered, count};
use afflux_tests::topic;
use anyhow::{Context as _, ensure};
use rand::Rng as _;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::topic_partition_list::Offset;
use rdkafka::{ClientConfig, TopicPartitionList};

use super::origins::{Origins, text};
use super::{producer, send_logs, stored};

const SPANS: &str = "regions.ingest.spans";
const LOGS: &str = "regions.ingest.logs";
const EVENTS: &str = "regions.ingest.events";
const OBJECTS: &str = "regions.objects";
/// Consumer group at the regions.
const GROUP: &str = "afflux-sources";
/// Records that are read again for certain.
const AGAIN: u64 = 20;
/// Log records of each region.
const LOG_RECORDS: u64 = 12;
const KILLS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(90);

/// A region and what is sent to it.
struct Region {
    name: &'static str,
    kafka: KafkaServer,
    numbered: Numbered,
}

impl Region {
    async fn open(name: &'static str, kafka: KafkaServer, partitions: u32) -> anyhow::Result<Self> {
        let topics = [SPANS, LOGS, EVENTS, OBJECTS].map(|topic| (topic, partitions));
        topic::create(&kafka.brokers(), &topics).await?;
        Ok(Self { name, kafka, numbered: Numbered::default() })
    }

    /// Log records, and spans until told to stop.
    async fn load(&self, stop: &Arc<AtomicBool>) -> anyhow::Result<tokio::task::JoinHandle<()>> {
        let (bus, producer) = producer(&self.kafka.brokers()).await?;
        send_logs(&*producer, LOGS, LOG_RECORDS).await?;
        send_logs(&*producer, EVENTS, 1).await?;
        producer.send(self.objects().to_vec()).await?;
        let (numbered, stop) = (self.numbered.clone(), Arc::clone(stop));
        Ok(tokio::spawn(async move {
            numbered.send(producer, SPANS, 2, stop).await;
            bus.close().await;
        }))
    }

    /// An object, and that it went.
    fn objects(&self) -> [Record; 2] {
        [Some("{}".into()), None].map(|value| Record {
            to: PartitionId::new(OBJECTS, 1),
            key: Some(format!("{}/Pod/1", self.name).into()),
            value,
            timestamp_ms: now_ms(),
            headers: Headers::new(),
        })
    }

    async fn lag(&self) -> anyhow::Result<Vec<PartitionLag>> {
        let bus = KafkaBus::connect(KafkaConfig::new(self.kafka.brokers())).await?;
        let lag = bus.lag(GROUP, &[SPANS, LOGS, EVENTS, OBJECTS].map(Arc::from)).await;
        bus.close().await;
        Ok(lag?)
    }
}

/// Three brokers of their own.
async fn brokers() -> anyhow::Result<Option<[KafkaServer; 3]>> {
    let start = || tokio::task::spawn_blocking(KafkaServer::start);
    let (a, b, c) = tokio::try_join!(start(), start(), start())?;
    Ok(match (a?, b?, c?) {
        (Some(a), Some(b), Some(c)) => Some([a, b, c]),
        _ => None,
    })
}

/// The process that reads the regions.
fn reader(regions: &[Region], central: &str) -> Options {
    let source = |region: &Region| {
        format!(
            "{{name: {}, brokers: '{}', timeout: 3s, \
             options: {{session.timeout.ms: '2000', heartbeat.interval.ms: '300'}}}}",
            region.name,
            region.kafka.brokers()
        )
    };
    let sources = regions.iter().map(source).collect::<Vec<_>>().join(", ");
    let yaml = format!(
        "bus: {{kind: kafka, kafka: {{brokers: '{central}', timeout: 5s, sources: [{sources}]}}}}\n\
         topics: {{prefix: regions, partitions: 4}}"
    );
    Options::run("producers.kafka").config(&yaml)
}

/// Processors and the sink, with a configured cluster that no row may get.
fn stage(central: &str, lake: &Path) -> Options {
    let yaml = format!(
        "cluster: central\nbus: {{kind: kafka, kafka: {{brokers: '{central}'}}}}\n\
         topics: {{prefix: regions, partitions: 4}}\n\
         sinks: {{parquet: {{url: '{}', flush: {{age: 500ms}}}}}}",
        lake.display()
    );
    Options::run("processors,sinks").config(&yaml)
}

async fn status(process: &Afflux) -> anyhow::Result<String> {
    Ok(reqwest::get(format!("http://127.0.0.1:{}/status", process.admin)).await?.text().await?)
}

async fn until<F: Future<Output = anyhow::Result<bool>>>(what: &str, reached: impl Fn() -> F) -> anyhow::Result<()> {
    let started = Instant::now();
    while !matches!(reached().await, Ok(true)) {
        ensure!(started.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Records of a region that this process has copied.
async fn copied(process: &Afflux, source: &str) -> anyhow::Result<f64> {
    let series = format!("afflux_copied_records_total{{component=\"producers.kafka\",source=\"{source}\"}}");
    Ok(process.metric(&series).await?.unwrap_or_default())
}

async fn copies_more(process: &Afflux, source: &str) -> anyhow::Result<()> {
    let before = copied(process, source).await?;
    until("copies", || async { Ok(copied(process, source).await? > before + 20.0) })
        .await
        .with_context(|| format!("{source}:\n{}", process.log()))
}

/// Takes the group's offset in one partition back, as if the reader had been killed after the central broker had
/// acknowledged and before it could commit. The dead member's session must be over for that.
async fn forget_commits(region: &Region) -> anyhow::Result<()> {
    let lag = region.lag().await?;
    let fullest = lag.iter().filter(|lag| *lag.partition.topic == *SPANS).max_by_key(|lag| lag.committed);
    let (partition, committed) =
        fullest.and_then(|lag| Some((lag.partition.clone(), lag.committed?))).context("no commit")?;
    ensure!(committed >= AGAIN, "only {committed} records of a partition are committed");
    let brokers = region.kafka.brokers();
    tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", brokers).set("group.id", GROUP).create()?;
        let mut list = TopicPartitionList::new();
        let to = Offset::Offset(i64::try_from(committed - AGAIN)?);
        list.add_partition_offset(&partition.topic, i32::try_from(partition.partition)?, to)?;
        let started = Instant::now();
        while let Err(error) = consumer.commit(&list, CommitMode::Sync) {
            ensure!(started.elapsed() < PATIENCE, "the dead member's session does not end: {error}");
            std::thread::sleep(Duration::from_millis(200));
        }
        Ok(())
    })
    .await?
}

/// Waits until both regions and the central ingest topics are worked off.
async fn worked_off(regions: &[Region], central: &str) -> anyhow::Result<()> {
    for region in regions {
        until("the region", || async { Ok(region.lag().await?.iter().all(|lag| lag.records() == 0)) }).await?;
    }
    let bus = KafkaBus::connect(KafkaConfig::new(central)).await?;
    let ingest = [Arc::from(SPANS), Arc::from(LOGS)];
    let idle = || async { Ok(bus.lag("afflux-processors", &ingest).await?.iter().all(|lag| lag.records() == 0)) };
    until("the processors", idle).await?;
    bus.close().await;
    Ok(())
}

/// Numbers found in the records of each cluster, with how often.
fn found(records: &[Received]) -> anyhow::Result<HashMap<String, HashMap<u64, usize>>> {
    let mut found: HashMap<String, HashMap<u64, usize>> = HashMap::new();
    for record in records {
        let value = record.value.as_ref().context("no value")?;
        count(value, found.entry(text(record, HEADER_CLUSTER)?).or_default())?;
    }
    Ok(found)
}

/// Nothing is missing, every record is accounted for, and what is there twice is known by its origin.
async fn judge(regions: &[Region], records: &[Received]) -> anyhow::Result<usize> {
    let (found, origins) = (found(records)?, Origins::find(records)?);
    let clusters: HashSet<_> = found.keys().map(String::as_str).collect();
    ensure!(clusters == regions.iter().map(|region| region.name).collect(), "clusters {clusters:?}");
    let mut known = HashMap::new();
    for record in records {
        if origins.has_second_copy(record)? {
            count(record.value.as_ref().context("no value")?, known.entry(text(record, HEADER_CLUSTER)?).or_default())?;
        }
    }
    let mut excess = 0;
    for region in regions {
        let numbers = &found[region.name];
        let verdict = region.numbered.judge(numbers);
        ensure!(verdict.missing.is_empty() && verdict.unknown.is_empty(), "{}: {verdict:?}", region.name);
        let known = known.remove(region.name).unwrap_or_default();
        let stray: Vec<_> = verdict.doubled.iter().filter(|number| !known.contains_key(number)).collect();
        ensure!(stray.is_empty(), "{}: doubled, and no origin tells: {stray:?}", region.name);
        let lag = region.lag().await?;
        let held: u64 = lag.iter().filter(|lag| *lag.partition.topic == *SPANS).map(|lag| lag.end).sum();
        ensure!(origins.of_region(region.name) as u64 == held, "{} holds {held} records", region.name);
        excess += numbers.values().map(|times| times - 1).sum::<usize>();
    }
    // Ten spans each.
    ensure!(excess == 10 * origins.second_copies(), "{excess} spans too many, {} copies", origins.second_copies());
    Ok(origins.second_copies())
}

/// Events and objects of both regions are there as well, of each object its end last.
async fn beside(regions: &[Region], central: &str) -> anyhow::Result<()> {
    let events = topic::read(central, &[EVENTS], |records| records.len() >= regions.len()).await?;
    let sources: HashSet<_> =
        events.iter().map(|record| text(record, HEADER_SOURCE_CLUSTER)).collect::<Result<_, _>>()?;
    ensure!(sources == regions.iter().map(|region| region.name.to_owned()).collect(), "events of {sources:?}");
    let objects = topic::read(central, &[OBJECTS], |records| records.len() >= 2 * regions.len()).await?;
    for region in regions {
        let [put, gone] = region.objects();
        let of_region: Vec<_> = objects.iter().filter(|record| record.key == put.key).collect();
        ensure!(of_region.first().is_some_and(|record| record.value == put.value), "{of_region:?}");
        ensure!(of_region.last().is_some_and(|record| record.value == gone.value), "{of_region:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_regions_arrive_centrally_through_outages_and_kills_and_second_copies_are_known() -> anyhow::Result<()> {
    let Some([east, west, central]) = brokers().await? else { return Ok(()) };
    let regions = [Region::open("east", east, 4).await?, Region::open("west", west, 6).await?];
    let [east, west] = &regions;
    let (dir, central) = (tempfile::tempdir()?, central);
    let lake = dir.path().join("lake");
    let stage = Afflux::start(dir.path(), &stage(&central.brokers(), &lake)).await?;
    let stop = Arc::new(AtomicBool::new(false));

    // One region is away when the reader starts.
    west.kafka.kill()?;
    let options = reader(&regions, &central.brokers());
    let mut reader = Afflux::start(dir.path(), &options).await?;
    let mut senders = vec![east.load(&stop).await?];
    copies_more(&reader, "east").await?;
    until("the absent region's name", || async { Ok(status(&reader).await?.contains("source west: ")) }).await?;
    tokio::task::block_in_place(|| west.kafka.restart())?;
    senders.push(west.load(&stop).await?);
    copies_more(&reader, "west").await?;
    until("health", || async { Ok(!status(&reader).await?.contains("source west: ")) }).await?;

    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(300..1500))).await;
        copies_more(&reader, "east").await?;
        reader.kill()?;
        if kill == 0 {
            forget_commits(east).await?;
        }
        reader = Afflux::start(dir.path(), &options).await?;
    }

    // One is away for a while, which the other does not notice.
    copies_more(&reader, "west").await?;
    west.kafka.kill()?;
    copies_more(&reader, "east").await?;
    until("the absent region's name", || async { Ok(status(&reader).await?.contains("source west: ")) }).await?;
    copies_more(&reader, "east").await?;
    tokio::task::block_in_place(|| west.kafka.restart())?;
    copies_more(&reader, "west").await?;

    stop.store(true, Ordering::Release);
    for sender in senders {
        sender.await?;
    }
    worked_off(&regions, &central.brokers()).await?;
    let records = topic::read(&central.brokers(), &["regions.spans"], |records| !records.is_empty()).await?;
    let again = judge(&regions, &records).await?;
    beside(&regions, &central.brokers()).await?;
    eprintln!("{} outputs, {again} records were copied again", records.len());
    assert!(again as u64 >= AGAIN, "only {again} records were copied again");
    let joined = records.iter().filter(|record| super::origins::of(record).is_ok_and(|origins| origins.len() > 1));
    assert!(joined.count() > 0, "neighbours share outputs in spite of their origins");

    let found = found(&records)?;
    let total: usize = found.values().flat_map(HashMap::values).sum();
    stage.settles("sinks.parquet", "spans", total).await?;
    stage.settles("sinks.parquet", "logs", 2 * usize::try_from(LOG_RECORDS)?).await?;
    let spans = ["east", "west"].map(|name| (name.to_owned(), found[name].len() as u64));
    assert_eq!(stored(&lake, "spans", "span_id")?, spans);
    let logs = ["east", "west"].map(|name| (name.to_owned(), LOG_RECORDS));
    assert_eq!(stored(&lake, "logs", "time")?, logs);
    reader.stop().await?;
    stage.stop().await
}
