//! Other Kafka clusters, whose ingest topics are copied to those of the bus.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_bus::kafka::{KafkaBus, KafkaConfig, KafkaConnection};
use afflux_bus::{Bus, BusError, ConsumerConfig};
use afflux_producers::kafka::config::{DEFAULT_GROUP, SourceConfig};
use afflux_producers::kafka::{Connect, Reachable};
use afflux_runtime::config::{ByteSize, Period, Section};
use afflux_schemas::topics::Topics;
use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kafka::{SaslConfig, TlsConfig};
use super::{Brokers, Config};
use crate::output::Misuse;

/// A Kafka cluster whose ingest topics are copied to those of the bus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KafkaSourceConfig {
    /// Names it: the cluster of records that name none. Unique, and part of every copy's origin, so never change it.
    pub(crate) name: String,
    /// Addresses to start from: a list, or a text with commas.
    pub(crate) brokers: Brokers,
    /// The name under which its brokers log this client and apply quotas.
    #[serde(default = "client_id")]
    pub(crate) client_id: String,
    /// How long one operation waits for a broker.
    #[serde(default = "default_timeout")]
    pub(crate) timeout: Period,
    /// Consumer group there. Instances of one group share the partitions.
    #[serde(default = "group")]
    pub(crate) group: String,
    /// What stands before the first dot of its topics. Empty: as `topics.prefix`.
    #[serde(default)]
    pub(crate) prefix: Option<String>,
    /// Bytes of its records that are held at most, and about as much again that is fetched ahead.
    #[serde(default = "in_flight")]
    pub(crate) in_flight: ByteSize,
    /// Encryption, as in `bus.kafka.tls`.
    #[serde(default = "no_tls")]
    pub(crate) tls: Section<TlsConfig>,
    /// Authentication, as in `bus.kafka.sasl`.
    #[serde(default = "no_sasl")]
    pub(crate) sasl: Section<SaslConfig>,
    /// Further settings of librdkafka as they are.
    #[serde(default)]
    pub(crate) options: BTreeMap<String, String>,
}

fn client_id() -> String {
    "afflux".into()
}

fn default_timeout() -> Period {
    Period(KafkaConnection::DEFAULT_TIMEOUT)
}

fn group() -> String {
    DEFAULT_GROUP.into()
}

fn no_tls() -> Section<TlsConfig> {
    Section::Off
}

fn no_sasl() -> Section<SaslConfig> {
    Section::Off
}

fn in_flight() -> ByteSize {
    ByteSize(ConsumerConfig::DEFAULT_FETCH_BYTES as u64)
}

impl KafkaSourceConfig {
    /// How to reach it; errors name keys of the entry at that position.
    fn settings(&self, at: usize, config: &Config) -> KafkaConfig {
        KafkaConfig {
            connection: KafkaConnection {
                section: format!("bus.kafka.sources.{at}"),
                client_id: self.client_id.clone(),
                timeout: self.timeout.0,
                tls: self.tls.on().map(TlsConfig::settings),
                sasl: self.sasl.on().map(SaslConfig::settings),
                options: self.options.clone(),
                ..KafkaConnection::new(self.brokers.joined())
            },
            // Nothing is written there, and an answer holds what the bus may hold.
            transaction_timeout: self.timeout.0.max(KafkaConfig::DEFAULT_TRANSACTION_TIMEOUT),
            max_record_bytes: config.bus.kafka.max_record_bytes.as_usize(),
            ..KafkaConfig::new(self.brokers.joined())
        }
    }

    /// What to read there.
    fn source(&self, config: &Config) -> SourceConfig {
        SourceConfig {
            name: self.name.clone(),
            group: self.group.clone(),
            topics: self.prefix.clone().map_or_else(|| config.topic_names(), Topics::new),
            fetch_bytes: self.in_flight.as_usize(),
        }
    }
}

/// Every source, with the way to reach it, checked without I/O.
pub(crate) fn sources(config: &Config) -> Result<Vec<Reachable>, Misuse> {
    let source = |(at, source): (usize, &KafkaSourceConfig)| {
        let settings = source.settings(at, config);
        settings.validate().map_err(|error| Misuse(error.to_string()))?;
        Ok((source.source(config), Arc::new(Region(settings)) as Arc<dyn Connect>))
    };
    config.bus.kafka.sources.iter().enumerate().map(source).collect()
}

/// A Kafka cluster to connect to.
struct Region(KafkaConfig);

#[async_trait]
impl Connect for Region {
    async fn connect(&self) -> Result<Arc<dyn Bus>, BusError> {
        Ok(KafkaBus::connect(self.0.clone()).await?)
    }
}
