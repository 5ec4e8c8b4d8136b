//! The bus on a real Apache Kafka passes the suite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::conformance::Subject;
use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{
    Bus, BusError, Cleanup, ConsumerConfig, ErrorClass, Event, Headers, Offset, PartitionId, Record, TopicSpec,
};
use afflux_tests::kafka::KafkaServer;
use async_trait::async_trait;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};

/// Small, so that topics limited by size have segments of a megabyte.
const MAX_RECORD_BYTES: usize = 512 * 1024;

struct Kafka {
    brokers: String,
}

async fn kafka() -> Option<Kafka> {
    let server = tokio::task::spawn_blocking(KafkaServer::shared).await.expect("a broker");
    server.map(|server| Kafka { brokers: server.brokers() })
}

fn config(brokers: &str) -> KafkaConfig {
    KafkaConfig { max_record_bytes: MAX_RECORD_BYTES, ..KafkaConfig::new(brokers) }
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
