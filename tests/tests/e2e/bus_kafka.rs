//! The bus on a real Apache Kafka passes the suite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::conformance::Subject;
use afflux_bus::kafka::{Compression, KafkaBus, KafkaConfig};
use afflux_bus::{
    Bus, BusError, Cleanup, Consumer, ConsumerConfig, ErrorClass, Event, Headers, Offset, PartitionId, ReaderConfig,
    ReaderEvent, Received, Record, TopicSpec,
};
use afflux_runtime::dead_letter::now_ms;
use afflux_tests::kafka::KafkaServer;
use afflux_tests::python;
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

/// Small, so that topics limited by size have segments of a megabyte.
const MAX_RECORD_BYTES: usize = 512 * 1024;

const PATIENCE: Duration = Duration::from_secs(30);

struct Kafka {
    brokers: String,
}

async fn kafka() -> Option<Kafka> {
    let server = tokio::task::spawn_blocking(KafkaServer::shared).await.expect("a broker");
    server.map(|server| Kafka { brokers: server.brokers() })
}

fn config(brokers: &str) -> KafkaConfig {
    // New topics are found soon.
    let options = [("topic.metadata.refresh.interval.ms".into(), "500".into())];
    let mut config = KafkaConfig { max_record_bytes: MAX_RECORD_BYTES, ..KafkaConfig::new(brokers) };
    config.connection.options = options.into();
    config
}

#[async_trait]
impl Subject for Kafka {
    async fn open(&self) -> Arc<dyn Bus> {
        KafkaBus::connect(config(&self.brokers)).await.expect("a connection")
    }

    async fn reopen(&self, bus: Arc<dyn Bus>) -> Arc<dyn Bus> {
        bus.close().await;
        self.open().await
    }

    async fn open_unreachable(&self) -> Option<Result<Arc<dyn Bus>, BusError>> {
        let mut config = config("127.0.0.1:1");
        config.connection.timeout = Duration::from_secs(2);
        Some(KafkaBus::connect(config).await.map(|bus| bus as Arc<dyn Bus>))
    }

    fn max_record_bytes(&self) -> usize {
        MAX_RECORD_BYTES
    }

    fn compacts_soon(&self) -> bool {
        false
    }

    /// The broker looks every half second.
    async fn tidy(&self, _: &dyn Bus) {}
}

afflux_bus::conformance_suite!(kafka);

/// librdkafka refuses a record for a partition that it knows to be gone before anything is sent, and would commit
/// the transaction without it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_output_is_refused_by_the_client_commits_nothing() {
    let Some(Kafka { brokers }) = kafka().await else { return };
    let options = [("topic.metadata.refresh.interval.ms", "200")].map(|(key, value)| (key.into(), value.into()));
    let mut config = config(&brokers);
    config.connection.options = options.into();
    let bus = KafkaBus::connect(config).await.expect("a bus");
    let spec = |name: &str, partitions| TopicSpec {
        name: name.into(),
        partitions,
        cleanup: Cleanup::Delete { max_age: None, max_bytes: None },
    };
    let (input, output) = ("refused-by-client.in", "refused-by-client.out");
    bus.create_topics(&[spec(input, 1), spec(output, 4)]).await.expect("topics");
    let record = |topic: &str, partition| Record {
        to: PartitionId::new(topic, partition),
        key: None,
        value: Some("value".into()),
        timestamp_ms: 1,
        headers: Headers::new(),
    };
    bus.producer().await.expect("a producer").send(vec![record(input, 0), record(input, 0)]).await.expect("an ack");
    let mut group = ConsumerConfig::new("refused-by-client", [input.into()]);
    group.transactional_id = Some("refused-by-client".into());
    let mut stage = bus.consumer(group).await.expect("a member");
    let last = loop {
        if let Event::Records(records) = stage.poll().await.expect("an event") {
            break records.last().cloned().expect("a record");
        }
    };
    let offset = |next| Offset { partition: last.from.clone(), generation: last.generation, next };
    stage.transact(vec![record(output, 3)], &[offset(1)]).await.expect("a transaction");

    // The living producer learns that the topic has fewer partitions now.
    let admin: AdminClient<_> =
        ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("an admin client");
    admin.delete_topics(&[output], &AdminOptions::new()).await.expect("an answer")[0].as_ref().expect("deleted");
    // Behind the bus's back, which remembers four partitions for a minute.
    let again = [NewTopic::new(output, 1, TopicReplication::Fixed(1))];
    let deadline = Instant::now() + Duration::from_secs(20);
    while admin.create_topics(&again, &AdminOptions::new()).await.expect("an answer")[0].is_err() {
        assert!(Instant::now() < deadline, "the topic cannot be made anew");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    let refused = stage.transact(vec![record(output, 3)], &[offset(2)]).await;
    let is_refused = matches!(refused, Err(BusError::UnknownPartition(_) | BusError::UnknownTopic { .. }));
    assert!(is_refused, "{refused:?}");
    assert_eq!(stage.committed(&last.from).await.expect("an offset"), Some(1));
    stage.close().await;
    bus.close().await;
}

/// A topic with a hundred records, and its one partition.
async fn hundred(bus: &KafkaBus, topic: &str) -> PartitionId {
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    bus.create_topics(&[TopicSpec { name: topic.into(), partitions: 1, cleanup }]).await.expect("a topic");
    let to = PartitionId::new(topic, 0);
    let record =
        Record { to: to.clone(), key: None, value: Some("v".into()), timestamp_ms: 1, headers: Headers::new() };
    bus.producer().await.expect("a producer").send(vec![record; 100]).await.expect("an ack");
    to
}

/// Joins, commits that offset, and leaves.
async fn stand_at(bus: &KafkaBus, config: &ConsumerConfig, partition: &PartitionId, next: u64) {
    let mut consumer = bus.consumer(config.clone()).await.expect("a member");
    let generation = loop {
        if let Event::Assigned(assignments) = consumer.poll().await.expect("an event") {
            break assignments[0].generation;
        }
    };
    consumer.commit(&[Offset { partition: partition.clone(), generation, next }]).await.expect("a commit");
    consumer.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_retention_has_overtaken_goes_on_at_the_oldest_record() {
    let Some(Kafka { brokers }) = kafka().await else { return };
    let bus = KafkaBus::connect(config(&brokers)).await.expect("a bus");
    let partition = hundred(&bus, "overtaken").await;
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("an admin");
    for (group, id, oldest) in [("overtaken-a", None, 50), ("overtaken-b", Some("overtaken-b".into()), 60)] {
        let mut config = ConsumerConfig::new(group, ["overtaken".into()]);
        config.transactional_id = id;
        stand_at(&bus, &config, &partition, 5).await;
        let mut below = rdkafka::TopicPartitionList::new();
        below.add_partition_offset("overtaken", 0, rdkafka::Offset::Offset(oldest)).expect("an offset");
        admin.delete_records(&below, &AdminOptions::new()).await.expect("records are deleted");

        let mut consumer = bus.consumer(config).await.expect("a member");
        let mut offsets = Vec::new();
        while offsets.last() != Some(&99) {
            if let Event::Records(records) = consumer.poll().await.expect("an event") {
                offsets.extend(records.iter().map(|record| record.offset));
            }
        }
        assert_eq!(offsets, (oldest.cast_unsigned()..100).collect::<Vec<_>>(), "{group}");
        consumer.close().await;
    }
    bus.close().await;
}

/// Reading all of it again would double it, and going on at its end may lose something.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_stands_behind_the_end_of_the_log_is_told_so() {
    let Some(Kafka { brokers }) = kafka().await else { return };
    let bus = KafkaBus::connect(config(&brokers)).await.expect("a bus");
    let partition = hundred(&bus, "truncated").await;
    let config = ConsumerConfig::new("truncated", ["truncated".into()]);
    stand_at(&bus, &config, &partition, 1000).await;
    let mut consumer = bus.consumer(config).await.expect("a member");
    let told = loop {
        match consumer.poll().await {
            Ok(Event::Records(records)) => panic!("records from {}", records[0].offset),
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(told.class(), ErrorClass::Permanent);
    let told = told.to_string();
    assert!(told.contains("truncated/0 ends at offset 100") && told.contains("stands at 1000"), "{told}");
    consumer.close().await;
    bus.close().await;
}

/// The others keep what they have while a member of that name is away for a moment, whoever of them leads the group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_named_member_that_restarts_disturbs_nobody_and_its_double_ends_it() {
    let Some(Kafka { brokers }) = kafka().await else { return };
    let bus = KafkaBus::connect(config(&brokers)).await.expect("a bus");
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    bus.create_topics(&[TopicSpec { name: "named".into(), partitions: 2, cleanup }]).await.expect("a topic");
    let member = async |name: &str| {
        let mut config = ConsumerConfig::new("named", ["named".into()]);
        config.instance = Some(name.into());
        bus.consumer(config).await.expect("a member")
    };
    let assigned = async |member: &mut Box<dyn Consumer>| loop {
        if let Event::Assigned(assignments) = member.poll().await.expect("an event") {
            break assignments.iter().map(|a| a.partition.partition).collect::<Vec<_>>();
        }
    };
    let mut one = member("one").await;
    assert_eq!(assigned(&mut one).await, [0, 1]);
    let mut two = member("two").await;
    let (mut one, of_two) = {
        let moving = tokio::spawn(async move {
            // Revoked, then given up by the next poll.
            loop {
                if tokio::time::timeout(Duration::from_secs(3), one.poll()).await.is_err() {
                    return one;
                }
            }
        });
        let of_two = assigned(&mut two).await;
        (moving.await.expect("the other"), of_two)
    };
    assert_eq!(of_two.len(), 1);

    two.close().await;
    let mut two = member("two").await;
    assert_eq!(assigned(&mut two).await, of_two, "what it had");
    let disturbed = tokio::time::timeout(Duration::from_secs(2), one.poll()).await;
    assert!(disturbed.is_err(), "{disturbed:?}");

    let mut double = member("two").await;
    assert_eq!(assigned(&mut double).await, of_two);
    let told = loop {
        match tokio::time::timeout(Duration::from_secs(20), two.poll()).await.expect("an end") {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert_eq!(told.class(), ErrorClass::Fatal);
    eprintln!("{told}");
    for member in [one, two, double] {
        member.close().await;
    }
    bus.close().await;
}

/// What was committed behind a transaction that is still open is not visible yet, but was committed: a reader waits for
/// it, or an operator who has just taken an id over would miss what the former owner wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_is_complete_only_behind_what_was_open_when_it_began() {
    let Some(Kafka { brokers }) = kafka().await else { return };
    let bus = KafkaBus::connect(config(&brokers)).await.expect("a bus");
    let cleanup = Cleanup::Delete { max_age: None, max_bytes: None };
    let name: Arc<str> = "open-transaction".into();
    bus.create_topics(&[TopicSpec { name: Arc::clone(&name), partitions: 1, cleanup }]).await.expect("a topic");
    let raw: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", &brokers)
        .set("transactional.id", "open-transaction-raw")
        .create()
        .expect("a producer");
    raw.init_transactions(PATIENCE).expect("an id");
    raw.begin_transaction().expect("a transaction");
    raw.send(BaseRecord::<(), str>::to(&name).payload("open").partition(0)).expect("queued");
    raw.flush(PATIENCE).expect("written");
    let committed = Record {
        to: PartitionId::new(Arc::clone(&name), 0),
        key: None,
        value: Some("committed".into()),
        timestamp_ms: now_ms(),
        headers: Headers::new(),
    };
    let mut writer = bus.transactional("open-transaction-writer".into()).await.expect("an id");
    writer.transact(vec![committed]).await.expect("a commit");

    let mut reader = bus.reader(ReaderConfig::new([name])).await.expect("a reader");
    let early = tokio::time::timeout(Duration::from_secs(2), reader.next()).await;
    assert!(early.is_err(), "it cannot know yet: {early:?}");
    raw.abort_transaction(PATIENCE).expect("an abort");
    let ReaderEvent::Records(records) = reader.next().await.expect("an event") else { panic!("no record") };
    assert_eq!(records.iter().map(|r| r.value.as_deref()).collect::<Vec<_>>(), [Some(&b"committed"[..])]);
    assert!(matches!(reader.next().await, Ok(ReaderEvent::CaughtUp(_))));
    assert_eq!(reader.next().await.expect("an event"), ReaderEvent::Complete);
    bus.close().await;
}

/// Only the broker knows the limit of a topic that somebody else has configured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_whose_records_are_over_a_topics_own_limit_is_told_and_writes_nothing() {
    let Some(Kafka { brokers }) = kafka().await else { return };
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &brokers).create().expect("an admin");
    let narrow = NewTopic::new("narrow", 1, TopicReplication::Fixed(1)).set("max.message.bytes", "10000");
    admin.create_topics(&[narrow], &AdminOptions::new()).await.expect("an answer")[0].as_ref().expect("a topic");
    let bus =
        KafkaBus::connect(KafkaConfig { compression: Compression::None, ..config(&brokers) }).await.expect("a bus");
    let record = |bytes: usize| Record {
        to: PartitionId::new("narrow", 0),
        key: None,
        value: Some(vec![b'x'; bytes].into()),
        timestamp_ms: now_ms(),
        headers: Headers::new(),
    };
    for _ in 0..2 {
        let mut writer = bus.transactional("narrow".into()).await.expect("an id");
        writer.transact(vec![record(2)]).await.expect("a transaction");
        let refused = writer.transact(vec![record(1), record(20_000)]).await;
        assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
        // What librdkafka then makes of the next transaction is nothing to rely on.
        let over = writer.transact(vec![record(3)]).await;
        assert!(matches!(over, Err(BusError::Fenced { .. })), "{over:?}");
    }
    let mut reader = bus.reader(ReaderConfig::new(["narrow".into()])).await.expect("a reader");
    let mut sizes = Vec::new();
    loop {
        match reader.next().await.expect("an event") {
            ReaderEvent::Records(records) => sizes.extend(records.iter().map(Received::size)),
            ReaderEvent::CaughtUp(_) => {}
            ReaderEvent::Complete => break,
        }
    }
    assert_eq!(sizes, [2, 2]);
    bus.close().await;
}

/// The name of a header is any bytes to a broker. One that is no text is left out; the record and its other headers
/// come, and so do the records behind it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_header_whose_name_is_no_text_stops_nothing() -> anyhow::Result<()> {
    let (Some(Kafka { brokers }), Some(python)) = (kafka().await, python::interpreter()?) else { return Ok(()) };
    let bus = KafkaBus::connect(config(&brokers)).await?;
    let partition = hundred(&bus, "odd-header").await;
    python::run(python, "odd_header.py", &[&brokers, "odd-header", "0a00"])?;
    let last =
        Record { to: partition, key: None, value: Some("last".into()), timestamp_ms: 1, headers: Headers::new() };
    bus.producer().await?.send(vec![last]).await?;
    let mut consumer = bus.consumer(ConsumerConfig::new("odd-header", ["odd-header".into()])).await?;
    let mut records = Vec::new();
    while records.len() < 102 {
        if let Event::Records(more) = tokio::time::timeout(PATIENCE, consumer.poll()).await?? {
            records.extend(more);
        }
    }
    assert_eq!(records[100].value.as_deref(), Some(&[0x0a, 0][..]));
    assert_eq!(records[100].headers.0, [("afflux-cluster".into(), "odd-header".into())]);
    assert_eq!(records[101].value.as_deref(), Some(&b"last"[..]));
    consumer.close().await;
    bus.close().await;
    Ok(())
}
