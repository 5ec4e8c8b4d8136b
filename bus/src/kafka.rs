//! The bus on Apache Kafka.
//!
//! Writes wait for all in-sync replicas and are idempotent; reads see committed transactions only. Groups
//! rebalance cooperatively, except members that write transactions: those give everything up at each rebalance,
//! so that none of their transactions spans two generations.

mod admin;
mod cause;
mod certificate;
mod client;
mod config;
mod connection;
mod consumer;
mod error;
mod message;
mod oauth;
mod producer;
mod reader;
mod security;
mod transaction;

use std::sync::{Arc, Mutex};

use afflux_schemas::topics::mirrored;
use async_trait::async_trait;
use rdkafka::producer::Producer as _;
use tokio::sync::mpsc;

use self::admin::Admin;
pub use self::admin::{TopicChange, TopicPlan};
use self::client::{Shared, blocking, lock};
pub use self::config::{Compression, KafkaConfig};
pub use self::connection::KafkaConnection;
use self::consumer::KafkaConsumer;
use self::producer::KafkaProducer;
use self::reader::KafkaReader;
pub use self::security::{KafkaSasl, KafkaTls, SaslMechanism, Secret};
use self::transaction::KafkaTransactional;
use crate::contract::{
    Bus, Consumer, ConsumerConfig, PartitionLag, Producer, Reader, ReaderConfig, Start, Transactional,
};
use crate::error::BusError;
use crate::record::{PartitionId, TopicSpec};

/// A Kafka cluster as a bus.
///
/// All senders share one producer, so that their records share batches.
pub struct KafkaBus {
    shared: Arc<Shared>,
    producer: Arc<KafkaProducer>,
    admin: Arc<Admin>,
    /// Every member holds a clone until it has left its group.
    members: Mutex<Option<mpsc::Sender<()>>>,
    members_left: tokio::sync::Mutex<mpsc::Receiver<()>>,
}

impl KafkaBus {
    /// Connects to a cluster.
    ///
    /// Answers [`BusError::Config`] for settings that cannot work, as soon as a broker has refused them, and
    /// [`BusError::Unreachable`] where no broker answers within the configured timeout.
    pub async fn connect(mut config: KafkaConfig) -> Result<Arc<Self>, BusError> {
        config.validate()?;
        if config.sasl.is_some() && config.tls.is_none() {
            tracing::warn!(
                brokers = config.brokers,
                "credentials go over the network without TLS; see `bus.kafka.tls`"
            );
        }
        config.connection.read_files()?;
        let shared = Arc::new(Shared::new(config));
        let admin = Arc::new(Admin::new(Arc::clone(&shared))?);
        let producer = Arc::new(KafkaProducer::new(Arc::clone(&shared), Arc::clone(&admin))?);
        let (asked, native) = (Arc::clone(&shared), producer.native()?);
        blocking(move || match asked.await_broker(native.client()) {
            Err(refused) if asked.is_untrusted() => Err(certificate::refusal(&asked, refused)),
            answer => answer,
        })
        .await??;
        let (members, members_left) = mpsc::channel(1);
        Ok(Arc::new(Self {
            shared,
            producer,
            admin,
            members: Mutex::new(Some(members)),
            members_left: tokio::sync::Mutex::new(members_left),
        }))
    }

    /// Compares topics with what is configured; changes nothing.
    pub async fn plan_topics(&self, topics: &[TopicSpec]) -> Result<Vec<TopicPlan>, BusError> {
        self.shared.check_open()?;
        self.admin.plan(topics).await
    }

    /// Creates topics, adds partitions and alters settings as planned, and leaves alone what else was set for a topic.
    ///
    /// Kafka replaces all settings of a topic at once: what someone else changes between its reading and its writing
    /// here is lost. Nothing is ever deleted.
    pub async fn apply_topics(&self, plans: &[TopicPlan]) -> Result<(), BusError> {
        self.shared.check_open()?;
        self.admin.apply(plans).await
    }
}

#[async_trait]
impl Bus for KafkaBus {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        self.shared.check_open()?;
        self.admin.create(topics).await?;
        for topic in topics {
            self.producer.await_topic(&topic.name).await?;
        }
        Ok(())
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        self.shared.check_open()?;
        Ok(Arc::clone(&self.producer) as Arc<dyn Producer>)
    }

    async fn consumer(&self, config: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError> {
        let alive = lock(&self.members).clone().ok_or(BusError::Closed)?;
        if config.topics.is_empty() {
            return Err(BusError::Config(format!("group {} reads no topics; name at least one", config.group)));
        }
        for topic in config.topics.iter().filter(|topic| mirrored(topic).is_none()) {
            self.producer.fetch_partitions(topic).await?;
        }
        let (shared, producer) = (Arc::clone(&self.shared), Arc::clone(&self.producer));
        Ok(Box::new(KafkaConsumer::join(shared, producer, config, alive).await?))
    }

    async fn reader(&self, config: ReaderConfig) -> Result<Box<dyn Reader>, BusError> {
        let alive = lock(&self.members).clone().ok_or(BusError::Closed)?;
        let mut partitions = Vec::new();
        for topic in &config.topics {
            let count = self.producer.fetch_partitions(topic).await?;
            partitions.extend((0..count).map(|number| PartitionId::new(Arc::clone(topic), number)));
        }
        if let Start::Offsets(offsets) = &config.from {
            if let Some(unknown) = offsets.keys().find(|partition| !partitions.contains(partition)) {
                return Err(BusError::UnknownPartition(unknown.clone()));
            }
            partitions.retain(|partition| offsets.contains_key(partition));
        }
        let ranges = self.admin.ranges(partitions, config.from).await?;
        Ok(Box::new(KafkaReader::open(&self.shared, ranges, config.fetch_bytes, &alive).await?))
    }

    async fn transactional(&self, id: Arc<str>) -> Result<Box<dyn Transactional>, BusError> {
        self.shared.check_open()?;
        let (shared, producer) = (Arc::clone(&self.shared), Arc::clone(&self.producer));
        Ok(Box::new(KafkaTransactional::open(shared, producer, id).await?))
    }

    async fn lag(&self, group: &str, topics: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        self.shared.check_open()?;
        let mut partitions = Vec::new();
        for topic in self.producer.matching(topics).await? {
            let count = self.producer.partitions(&topic).await?;
            partitions.extend((0..count).map(|partition| PartitionId::new(Arc::clone(&topic), partition)));
        }
        self.admin.lag(group, partitions).await
    }

    async fn close(&self) {
        self.shared.close();
        drop(lock(&self.members).take());
        let _ = self.members_left.lock().await.recv().await;
        self.producer.close().await;
        self.admin.close().await;
    }
}
