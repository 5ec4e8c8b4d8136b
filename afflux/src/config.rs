//! The root of the configuration: one key per part of the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use afflux_bus::local::LocalConfig;
use afflux_processors::ProcessorsConfig;
use afflux_producers::files::FilesConfig;
use afflux_producers::generate::GenerateConfig;
use afflux_producers::kubernetes::config::KubernetesConfig;
use afflux_producers::otlp::OtlpConfig;
use afflux_runtime::admin::AdminConfig;
use afflux_runtime::config::{ByteSize, Loader, Period, Section};
use afflux_runtime::logging::LogConfig;
use afflux_schemas::topics::{DEFAULT_PREFIX, Topics};
use afflux_sinks::loki::LokiConfig;
use afflux_sinks::parquet::ParquetConfig;
use afflux_sinks::prometheus::PrometheusConfig;
use afflux_sinks::prometheus::scrape::ScrapeConfig;
use afflux_sinks::tempo::TempoConfig;
use anyhow::Context as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

mod brokers;
mod kafka;
mod sources;

pub(crate) use brokers::Brokers;
pub(crate) use kafka::KafkaBusConfig;
pub(crate) use sources::{KafkaSourceConfig, sources};

/// Cluster of records that name none, unless configured.
const DEFAULT_CLUSTER: &str = "default";
/// How long a drain may take, unless configured.
const DEFAULT_SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(30);
/// Age of the oldest record kept in a topic, unless configured.
const DEFAULT_RETENTION_AGE: Duration = Duration::from_secs(72 * 3600);
/// Partitions of a topic, unless configured.
const DEFAULT_PARTITIONS: u32 = 4;

/// The configuration of a process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Cluster of records that name none.
    pub(crate) cluster: String,
    /// How long a stop may drain before it is cut off. Nothing acknowledged is lost by a cut: it stays on the bus.
    pub(crate) shutdown_timeout: Period,
    /// Logs, on standard error.
    pub(crate) log: LogConfig,
    /// Where the process tells how it is.
    pub(crate) admin: AdminConfig,
    /// What carries data from stage to stage.
    pub(crate) bus: BusConfig,
    /// Topics on the bus.
    pub(crate) topics: TopicsConfig,
    /// What writes to the bus. `false` switches a component off.
    pub(crate) producers: ProducersConfig,
    /// The stage between the ingest topics and the topics that sinks read; `false` switches it off.
    pub(crate) processors: Section<ProcessorsConfig>,
    /// What reads the bus and writes elsewhere. `false` switches a component off.
    pub(crate) sinks: SinksConfig,
}

/// Which bus, and how to reach it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BusConfig {
    /// `local` is a log in a directory, for one process; `kafka` is for any number of them.
    pub(crate) kind: BusKind,
    /// Whether missing topics are created at the start; otherwise `afflux topics` does it.
    pub(crate) create_topics: bool,
    /// The bus in a directory.
    pub(crate) local: LocalBusConfig,
    /// The bus on a Kafka cluster.
    pub(crate) kafka: KafkaBusConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BusKind {
    Local,
    Kafka,
}

impl BusKind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Kafka => "kafka",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LocalBusConfig {
    /// The directory; created where it is missing, and owned by one process at a time.
    pub(crate) dir: PathBuf,
    /// Bytes after which the log goes on in a new file. Retention frees whole files.
    pub(crate) segment_bytes: ByteSize,
    /// Bytes of one record at most.
    pub(crate) max_record_bytes: ByteSize,
    /// Bytes of the log on disk; beyond them producers are refused until retention has freed some. Empty: no limit.
    pub(crate) max_bytes: Option<ByteSize>,
    /// Bytes waiting to be written; beyond them producers are refused.
    pub(crate) in_flight: ByteSize,
}

/// Names and shape of the topics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TopicsConfig {
    /// What stands before the first dot of every topic.
    pub(crate) prefix: String,
    /// Partitions of a topic that is created. How many instances of a stage can share the work.
    pub(crate) partitions: u32,
    /// Replicas of a topic that is created on Kafka. Empty: what the brokers are configured for.
    pub(crate) replication: Option<u16>,
    /// When records go, read or not.
    pub(crate) retention: RetentionConfig,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionConfig {
    /// Age of the oldest record kept. Empty: no limit.
    pub(crate) age: Option<Period>,
    /// Bytes kept per partition. Empty: no limit.
    pub(crate) bytes: Option<ByteSize>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ProducersConfig {
    /// Receives spans and logs from OpenTelemetry clients.
    pub(crate) otlp: Section<OtlpConfig>,
    /// Sends the telemetry of a plausible shop of services to `producers.otlp` of this process. `true` starts it.
    pub(crate) generate: Section<GenerateConfig>,
    /// Reads the events of a Kubernetes cluster, and the objects that `processors.enrich` joins with. `true` starts it.
    pub(crate) kubernetes: Section<KubernetesConfig>,
    /// Reads log files, those of pods and any others; on where `paths` are set.
    pub(crate) files: Section<FilesConfig>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SinksConfig {
    /// Writes Parquet files to a directory or an object store.
    pub(crate) parquet: Section<ParquetConfig>,
    /// Sends log records to Grafana Loki; on where `url` is set.
    pub(crate) loki: Section<LokiConfig>,
    /// Sends spans to Tempo or to another receiver of OTLP; on where `endpoint` is set.
    pub(crate) tempo: Section<TempoConfig>,
    /// Sends derived series to Prometheus or to what else takes its remote write; on where `url` is set.
    pub(crate) prometheus: Section<PrometheusConfig>,
    /// Shows derived series under `/metrics/derived` of the admin port.
    pub(crate) scrape: Section<ScrapeConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            cluster: DEFAULT_CLUSTER.into(),
            shutdown_timeout: Period(DEFAULT_SHUTDOWN_TIMEOUT),
            log: LogConfig::default(),
            admin: AdminConfig::default(),
            bus: BusConfig::default(),
            topics: TopicsConfig::default(),
            producers: ProducersConfig::default(),
            processors: Section::default(),
            sinks: SinksConfig::default(),
        }
    }
}

impl Default for ProducersConfig {
    fn default() -> Self {
        let kubernetes = Section::Off;
        Self { otlp: Section::default(), generate: Section::Off, kubernetes, files: Section::default() }
    }
}

impl Default for SinksConfig {
    fn default() -> Self {
        let (parquet, loki, tempo, prometheus) =
            (Section::default(), Section::default(), Section::default(), Section::default());
        Self { parquet, loki, tempo, prometheus, scrape: Section::Off }
    }
}

impl Default for BusConfig {
    fn default() -> Self {
        let (local, kafka) = (LocalBusConfig::default(), KafkaBusConfig::default());
        Self { kind: BusKind::Local, create_topics: true, local, kafka }
    }
}

impl Default for LocalBusConfig {
    fn default() -> Self {
        Self {
            dir: "./afflux-data/bus".into(),
            segment_bytes: ByteSize(LocalConfig::DEFAULT_SEGMENT_BYTES),
            max_record_bytes: ByteSize(LocalConfig::DEFAULT_MAX_RECORD_BYTES as u64),
            max_bytes: None,
            in_flight: ByteSize(LocalConfig::DEFAULT_IN_FLIGHT_BYTES as u64),
        }
    }
}

impl Default for TopicsConfig {
    fn default() -> Self {
        Self {
            prefix: DEFAULT_PREFIX.into(),
            partitions: DEFAULT_PARTITIONS,
            replication: None,
            retention: RetentionConfig { age: Some(Period(DEFAULT_RETENTION_AGE)), bytes: None },
        }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        TopicsConfig::default().retention
    }
}

impl Config {
    /// The topics' names.
    pub(crate) fn topic_names(&self) -> Topics {
        Topics::new(self.topics.prefix.clone())
    }

    /// Cluster of records that name none.
    pub(crate) fn cluster(&self) -> Arc<str> {
        self.cluster.as_str().into()
    }

    /// The same, where it is configured. What this process receives is then of that cluster for whoever processes it;
    /// the default is left to them.
    pub(crate) fn own_cluster(&self) -> Option<String> {
        Some(self.cluster.clone()).filter(|cluster| cluster != DEFAULT_CLUSTER && !cluster.is_empty())
    }
}

/// Reads a file and the environment.
pub(crate) fn load(file: &Path) -> anyhow::Result<Config> {
    let text = read(file)?;
    Ok(with_environment(&file.display().to_string(), &text).load()?)
}

/// The text of a configuration file.
pub(crate) fn read(file: &Path) -> anyhow::Result<String> {
    let wrong = || crate::output::Misuse(format!("cannot read configuration {}", file.display()));
    std::fs::read_to_string(file).with_context(wrong)
}

/// A loader of that text over the environment, with the keys that follow others.
pub(crate) fn with_environment<'a>(name: &'a str, text: &'a str) -> Loader<'a> {
    // A variable that is no UTF-8 cannot be meant for us.
    let env =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    Loader::new(name, text).env(env).same_as("sinks.parquet.default_cluster", "cluster")
}

#[cfg(test)]
mod tests;
