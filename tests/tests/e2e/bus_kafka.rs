//! The bus on a real Apache Kafka passes the suite.

use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::conformance::Subject;
use afflux_bus::kafka::{KafkaBus, KafkaConfig};
use afflux_bus::{Bus, BusError, Cleanup, ConsumerConfig, Event, Headers, Offset, PartitionId, Record, TopicSpec};
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
        let config = KafkaConfig { timeout: Duration::from_secs(2), ..config("127.0.0.1:1") };
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
    let bus = KafkaBus::connect(KafkaConfig { options: options.into(), ..config(&brokers) }).await.expect("a bus");
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
