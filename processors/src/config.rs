//! Configuration of the processor stage.

mod ingest;

use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use ingest::{EncodingName, IngestTopic, InvalidIngest, SignalName};

/// `processors`: the stage between the ingest topics and the topics that sinks read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProcessorsConfig {
    /// Consumer group of the stage.
    pub group: String,
    /// Name of this instance's transactions; must be unique per instance and stay the same when it restarts.
    /// By default the group and the host name.
    pub transactional_id: Option<String>,
    /// Name of this instance within the group; must be unique and stay the same when it restarts. On Kafka, its
    /// partitions then wait for a restart instead of going to others and back. Empty: they do not.
    pub instance_id: Option<String>,
    /// Whether topics named `SOURCE.` and the name of an ingest topic are read too, as MirrorMaker 2 names what it mirrors
    /// from other Kafka clusters. `SOURCE` is the cluster of what names none.
    pub mirrors: bool,
    /// When a transaction is committed.
    pub commit: CommitConfig,
    /// Topics of others that are read besides our own ingest topics. They must exist: afflux does not create them.
    pub ingest: Vec<IngestTopic>,
}

/// `processors.commit`: a transaction ends at whichever limit is reached first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CommitConfig {
    /// Age of the oldest record read since the last commit.
    pub age: Period,
    /// Bytes read since the last commit.
    pub bytes: ByteSize,
}

impl Default for ProcessorsConfig {
    fn default() -> Self {
        Self {
            group: "afflux-processors".into(),
            transactional_id: None,
            instance_id: None,
            mirrors: false,
            commit: CommitConfig::default(),
            ingest: Vec::new(),
        }
    }
}

impl Default for CommitConfig {
    fn default() -> Self {
        Self { age: Period(Duration::from_millis(200)), bytes: ByteSize::mib(8) }
    }
}
