//! The settings of a bus on Kafka, and the librdkafka settings that follow from them.

use std::ops::Deref;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use super::connection::{KafkaConnection, millis};
use crate::contract::ConsumerConfig;
use crate::error::BusError;

/// Room for keys, headers and framing that Kafka counts and [`crate::Record::size`] does not.
const FRAMING_BYTES: usize = 64 * 1024;

/// Group name of readers that have no group.
pub(super) const READERS: &str = "afflux-readers";

/// librdkafka settings that this bus decides, so that its promises hold. Others are passed through.
const OWNED: &[&str] = &[
    "acks",
    "allow.auto.create.topics",
    "auto.commit.enable",
    "auto.offset.reset",
    "bootstrap.servers",
    "client.id",
    "compression.codec",
    "compression.type",
    "delivery.timeout.ms",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "enable.gapless.guarantee",
    "enable.idempotence",
    "enable.partition.eof",
    "fetch.max.bytes",
    "fetch.message.max.bytes",
    "group.id",
    "group.instance.id",
    "group.protocol",
    "isolation.level",
    "log.queue",
    "max.partition.fetch.bytes",
    "message.max.bytes",
    "message.timeout.ms",
    "metadata.broker.list",
    "partition.assignment.strategy",
    "queue.buffering.max.kbytes",
    "queue.buffering.max.messages",
    "queued.max.messages.kbytes",
    "request.required.acks",
    "transaction.timeout.ms",
    "transactional.id",
];

/// A Kafka cluster as a bus: how to reach it, and how to write to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KafkaConfig {
    /// How to reach the cluster.
    pub connection: KafkaConnection,
    /// Compression of the batches that are written.
    pub compression: Compression,
    /// How long a transaction may stay open before the broker aborts it.
    pub transaction_timeout: Duration,
    /// Bytes of one record at most, before compression. Topics that this bus creates accept as much.
    pub max_record_bytes: usize,
    /// Bytes that wait for acknowledgement at most, per producer.
    pub queue_bytes: usize,
    /// Replicas of topics that this bus creates; `None` leaves the choice to the broker.
    pub replication: Option<u16>,
}

/// The connection's settings are settings of the bus.
impl Deref for KafkaConfig {
    type Target = KafkaConnection;

    fn deref(&self) -> &KafkaConnection {
        &self.connection
    }
}

/// Compression of the batches that are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// None.
    None,
    /// Cheap for both sides.
    #[default]
    Lz4,
    /// A third smaller than LZ4, at several times its cost.
    Zstd,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl KafkaConfig {
    /// How long a transaction may stay open, unless configured.
    pub const DEFAULT_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
    /// Bytes of one record at most, unless configured.
    pub const DEFAULT_MAX_RECORD_BYTES: usize = 16 * 1024 * 1024;
    /// Bytes that wait for acknowledgement at most, unless configured.
    pub const DEFAULT_QUEUE_BYTES: usize = 32 * 1024 * 1024;

    /// A cluster without encryption and authentication, everything else by default.
    pub fn new(brokers: impl Into<String>) -> Self {
        Self {
            connection: KafkaConnection::new(brokers),
            compression: Compression::default(),
            transaction_timeout: Self::DEFAULT_TRANSACTION_TIMEOUT,
            max_record_bytes: Self::DEFAULT_MAX_RECORD_BYTES,
            queue_bytes: Self::DEFAULT_QUEUE_BYTES,
            replication: None,
        }
    }

    /// Refuses what cannot work, without I/O.
    pub fn validate(&self) -> Result<(), BusError> {
        self.connection.validate()?;
        if let Some(key) = self.options.keys().find(|key| OWNED.contains(&key.as_str())) {
            return Err(self.wrong(&format!("options.{key}"), "is decided by afflux; remove it"));
        }
        if self.transaction_timeout < self.timeout {
            let reason = format!("is {:?}, below `timeout` {:?}", self.transaction_timeout, self.timeout);
            return Err(self.wrong("transaction_timeout", &reason));
        }
        if self.max_record_bytes == 0 || self.max_record_bytes > 900_000_000 {
            let reason = format!("is {}; it must be from 1 to 900000000", self.max_record_bytes);
            return Err(self.wrong("max_record_bytes", &reason));
        }
        // librdkafka judges names and values of the options when it makes a client, without connecting.
        match self.producer().create_native_config() {
            Ok(_) => Ok(()),
            // Without the value: it may be a secret. What librdkafka says of numbers and choices quotes it.
            Err(KafkaError::ClientConfig(_, reason, key, _)) => {
                Err(self.wrong(&format!("options.{key}"), &format!("is refused by librdkafka: {reason}")))
            }
            Err(error) => Err(BusError::Config(error.to_string())),
        }
    }

    /// The limit that topics must have to accept the largest record.
    pub(super) fn max_message_bytes(&self) -> usize {
        self.max_record_bytes + FRAMING_BYTES
    }

    /// Settings of every client.
    fn client(&self) -> ClientConfig {
        // An answer that holds the largest batch, and never less than librdkafka's own default.
        let answer = (self.max_message_bytes() + FRAMING_BYTES).max(100_000_000);
        let mut config = self.connection.client();
        config.set("receive.message.max.bytes", answer.to_string());
        config
    }

    /// Settings of the producer that all senders share.
    pub(super) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("compression.type", self.compression.name())
            .set("message.timeout.ms", millis(self.timeout))
            .set("message.max.bytes", self.max_message_bytes().to_string())
            // This bus bounds the queue itself, in bytes and for a whole call at once.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", i32::MAX.to_string())
            // Every request to a broker costs more than a record's bytes do: waiting for others halves the cost of
            // what is acknowledged, for a delay that senders of batches do not notice. A commit does not wait.
            .set("linger.ms", "15")
            // Larger values are sent from where they lie.
            .set("message.copy.max.bytes", "4096");
        self.with_options(config)
    }

    /// Settings of a producer of transactions.
    pub(super) fn transactional_producer(&self, id: &str) -> ClientConfig {
        let mut config = self.producer();
        config.set("transactional.id", id).set("transaction.timeout.ms", millis(self.transaction_timeout));
        config
    }

    /// Settings of a member of a group.
    pub(super) fn consumer(&self, consumer: &ConsumerConfig) -> ClientConfig {
        // The broker sends compressed bytes, several times smaller than what they become here, so that what is
        // asked for at once is a fraction of what may be held.
        let fetch = (consumer.fetch_bytes / 8).clamp(64 * 1024, 64 * 1024 * 1024).to_string();
        let queued_kib = (consumer.fetch_bytes / 4 / 1024).clamp(1, 1 << 20).to_string();
        // Eager rebalances give a transactional member the moment to finish its transaction in its generation.
        let strategy = if consumer.transactional_id.is_some() { "range,roundrobin" } else { "cooperative-sticky" };
        let mut config = self.client();
        config
            .set("group.id", &*consumer.group)
            .set("isolation.level", "read_committed")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            // A position that is no offset any more is the driver's to judge.
            .set("auto.offset.reset", "error")
            .set("partition.assignment.strategy", strategy)
            // How soon a new topic that matches a pattern is found.
            .set("topic.metadata.refresh.interval.ms", "30000")
            // How soon a lost member's partitions go to others, and how soon the others learn of a rebalance.
            .set("session.timeout.ms", "10000")
            .set("heartbeat.interval.ms", "1000")
            .set("message.max.bytes", "1000")
            .set("fetch.max.bytes", &fetch)
            .set("fetch.message.max.bytes", &fetch)
            .set("queued.max.messages.kbytes", &queued_kib)
            // A full queue is looked at again this soon; librdkafka's own second would leave it empty for most of it.
            .set("fetch.queue.backoff.ms", "5");
        if let Some(instance) = &consumer.instance {
            config.set("group.instance.id", &**instance);
        }
        self.with_options(config)
    }

    /// Settings of a reader without a group. The client needs the name of one all the same; nothing is kept under it.
    pub(super) fn reader(&self, fetch_bytes: usize) -> ClientConfig {
        let mut config = self.consumer(&ConsumerConfig { fetch_bytes, ..ConsumerConfig::new(READERS, []) });
        // The end is told even where aborted transactions or compaction have left nothing before it.
        config.set("enable.partition.eof", "true");
        // A broker holds an empty answer, and so the news of an end, back for this long.
        config.set("fetch.wait.max.ms", "100");
        config
    }

    /// Settings of a client that only asks for the offsets of a group, without joining it.
    pub(super) fn observer(&self, group: &str) -> ClientConfig {
        let mut config = self.client();
        config.set("group.id", group).set("enable.auto.commit", "false").set("isolation.level", "read_uncommitted");
        self.with_options(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(key: &str, value: &str) -> KafkaConfig {
        let mut config = KafkaConfig::new("localhost:9092");
        config.connection.options.insert(key.to_owned(), value.to_owned());
        config
    }

    fn refusal(config: &KafkaConfig) -> String {
        config.validate().expect_err("must be refused").to_string()
    }

    #[test]
    fn an_option_that_the_bus_decides_is_refused_by_name() {
        for key in OWNED {
            assert!(refusal(&with(key, "1")).contains(key), "{key}");
        }
    }

    #[test]
    fn an_option_that_librdkafka_does_not_know_is_refused_by_name() {
        assert!(refusal(&with("no.such.option", "1")).contains("no.such.option"));
        assert!(refusal(&with("linger.ms", "soon")).contains("linger.ms"));
    }

    #[test]
    fn a_tuning_option_of_either_side_is_accepted() {
        with("linger.ms", "20").validate().unwrap();
        with("session.timeout.ms", "45000").validate().unwrap();
    }

    #[test]
    fn empty_brokers_and_impossible_limits_are_refused() {
        assert!(refusal(&KafkaConfig::new(" ")).contains("`bus.kafka.brokers` is empty"));
        let zero = KafkaConfig { max_record_bytes: 0, ..KafkaConfig::new("localhost:9092") };
        assert!(refusal(&zero).contains("`bus.kafka.max_record_bytes` is 0"));
        let short = KafkaConfig { transaction_timeout: Duration::from_secs(1), ..KafkaConfig::new("localhost:9092") };
        assert!(refusal(&short).contains("`bus.kafka.transaction_timeout` is 1s"));
    }

    #[test]
    fn option_values_are_not_shown() {
        assert!(!format!("{:?}", with("sasl.password", "hunter2")).contains("hunter2"));
    }
}
