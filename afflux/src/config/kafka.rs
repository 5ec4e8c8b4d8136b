//! The bus on a Kafka cluster: how to reach it, and how both sides prove who they are.

use std::collections::BTreeMap;
use std::path::PathBuf;

use afflux_bus::kafka::{self, KafkaConfig, KafkaConnection, KafkaSasl, KafkaTls, Secret};
use afflux_runtime::config::{ByteSize, Period, Section};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Brokers, KafkaSourceConfig};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct KafkaBusConfig {
    /// Addresses to start from, such as `kafka-0:9092, kafka-1:9092`: a list, or a text with commas.
    pub(crate) brokers: Brokers,
    /// The name under which brokers log this client and apply quotas.
    pub(crate) client_id: String,
    /// How long one operation waits for a broker.
    pub(crate) timeout: Period,
    /// How long a transaction may stay open before the broker aborts it.
    pub(crate) transaction_timeout: Period,
    /// Bytes of one record at most, before compression.
    pub(crate) max_record_bytes: ByteSize,
    /// Bytes that wait for acknowledgement at most, per producer.
    pub(crate) in_flight: ByteSize,
    /// Compression of what is written.
    pub(crate) compression: Compression,
    /// Encryption. `true` trusts the authorities that the system trusts; keys are `ca`, `certificate`, `key`,
    /// `key_password`, `key_password_file`, `verify_hostname`.
    pub(crate) tls: Section<TlsConfig>,
    /// Authentication; keys are `mechanism`, `username`, `password`, `password_file`, `token_file`.
    pub(crate) sasl: Section<SaslConfig>,
    /// Further settings of librdkafka as they are, such as `linger.ms`. What `tls` and `sasl` decide is refused here
    /// where they are set.
    pub(crate) options: BTreeMap<String, String>,
    /// Other Kafka clusters, whose ingest topics are copied to those of the bus. Each has `name` and `brokers`, and may have
    /// `client_id`, `timeout`, `tls`, `sasl`, `options` as above, `group`, `prefix` and `in_flight`.
    pub(crate) sources: Vec<KafkaSourceConfig>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    None,
    Lz4,
    Zstd,
}

/// Encryption, and certificates of both sides. All files are PEM.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TlsConfig {
    /// File (or directory) of the authorities that may have signed a broker's certificate. Empty: the system's.
    pub(crate) ca: Option<PathBuf>,
    /// File of this client's certificate, followed by those between it and its authority.
    pub(crate) certificate: Option<PathBuf>,
    /// File of the key to it.
    pub(crate) key: Option<PathBuf>,
    /// What the key is encrypted with.
    #[schemars(with = "Option<String>")]
    pub(crate) key_password: Option<Secret>,
    /// File that holds it; read at the start.
    pub(crate) key_password_file: Option<PathBuf>,
    /// Whether a broker's certificate must name the host that was asked for.
    pub(crate) verify_hostname: bool,
}

/// Authentication by name and password, or by a token.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SaslConfig {
    /// How. PLAIN sends the password as it is, so use it over TLS.
    pub(crate) mechanism: Option<Mechanism>,
    /// The name, for all mechanisms with a password.
    pub(crate) username: Option<String>,
    /// The password.
    #[schemars(with = "Option<String>")]
    pub(crate) password: Option<Secret>,
    /// File that holds it; read at the start.
    pub(crate) password_file: Option<PathBuf>,
    /// File of the token for OAUTHBEARER, a JWT with `exp`. Read again whenever the token in use is about to expire.
    pub(crate) token_file: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) enum Mechanism {
    #[serde(rename = "PLAIN")]
    Plain,
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
    #[serde(rename = "OAUTHBEARER")]
    OauthBearer,
}

impl Default for KafkaBusConfig {
    fn default() -> Self {
        Self {
            brokers: Brokers(vec!["127.0.0.1:9092".into()]),
            client_id: "afflux".into(),
            timeout: Period(KafkaConnection::DEFAULT_TIMEOUT),
            transaction_timeout: Period(KafkaConfig::DEFAULT_TRANSACTION_TIMEOUT),
            max_record_bytes: ByteSize(KafkaConfig::DEFAULT_MAX_RECORD_BYTES as u64),
            in_flight: ByteSize(KafkaConfig::DEFAULT_QUEUE_BYTES as u64),
            compression: Compression::Lz4,
            tls: Section::Off,
            sasl: Section::Off,
            options: BTreeMap::new(),
            sources: Vec::new(),
        }
    }
}

impl Default for TlsConfig {
    fn default() -> Self {
        let KafkaTls { ca, certificate, key, key_password, key_password_file, verify_hostname } = KafkaTls::default();
        Self { ca, certificate, key, key_password, key_password_file, verify_hostname }
    }
}

impl KafkaBusConfig {
    /// How to reach the cluster.
    fn connection(&self) -> KafkaConnection {
        KafkaConnection {
            client_id: self.client_id.clone(),
            timeout: self.timeout.0,
            tls: self.tls.on().map(TlsConfig::settings),
            sasl: self.sasl.on().map(SaslConfig::settings),
            options: self.options.clone(),
            ..KafkaConnection::new(self.brokers.joined())
        }
    }

    /// The bus; topics that it creates have that many replicas.
    pub(crate) fn settings(&self, replication: Option<u16>) -> KafkaConfig {
        KafkaConfig {
            connection: self.connection(),
            compression: match self.compression {
                Compression::None => kafka::Compression::None,
                Compression::Lz4 => kafka::Compression::Lz4,
                Compression::Zstd => kafka::Compression::Zstd,
            },
            transaction_timeout: self.transaction_timeout.0,
            max_record_bytes: self.max_record_bytes.as_usize(),
            queue_bytes: self.in_flight.as_usize(),
            replication,
        }
    }
}

impl TlsConfig {
    /// The section as the bus takes it.
    pub(crate) fn settings(&self) -> KafkaTls {
        let Self { ca, certificate, key, key_password, key_password_file, verify_hostname } = self.clone();
        KafkaTls { ca, certificate, key, key_password, key_password_file, verify_hostname }
    }
}

impl SaslConfig {
    /// The section as the bus takes it.
    pub(crate) fn settings(&self) -> KafkaSasl {
        let Self { mechanism, username, password, password_file, token_file } = self.clone();
        KafkaSasl { mechanism: mechanism.map(Mechanism::settings), username, password, password_file, token_file }
    }
}

impl Mechanism {
    const fn settings(self) -> kafka::SaslMechanism {
        match self {
            Self::Plain => kafka::SaslMechanism::Plain,
            Self::ScramSha256 => kafka::SaslMechanism::ScramSha256,
            Self::ScramSha512 => kafka::SaslMechanism::ScramSha512,
            Self::OauthBearer => kafka::SaslMechanism::OauthBearer,
        }
    }
}
