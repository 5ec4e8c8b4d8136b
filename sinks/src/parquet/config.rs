//! Configuration of the Parquet sink.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use object_store::path::Path;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ParquetError;

/// Highest level that zstd knows.
const MAX_COMPRESSION_LEVEL: i32 = 22;

/// Where and how the lake is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ParquetConfig {
    /// A directory, `file:///DIRECTORY` or `s3://BUCKET/PREFIX`. Tables lie directly below.
    pub url: String,
    /// When files are completed: whichever comes first.
    pub flush: FlushConfig,
    /// Memory for records that wait and rows that are not uploaded yet, over all partitions. When it is full the
    /// largest ranges are flushed early and files get smaller; what encodes and uploads at the moment comes on top.
    pub in_flight: ByteSize,
    /// Rows per row group, within which rows are sorted by time.
    pub row_group_rows: u32,
    /// Level of zstd, 1 to 22.
    pub compression_level: i32,
    /// Cluster of records that name none.
    pub default_cluster: String,
    /// Name of the consumer group.
    pub group: String,
    /// Name of this instance within the group; must be unique and stay the same when it restarts. On Kafka, its
    /// partitions then wait for a restart instead of going to others and back. Empty: they do not.
    pub instance_id: Option<String>,
    /// Part of all names if not 0. Raise it after recreating a topic of the same name, whose offsets begin anew.
    pub epoch: u32,
    /// Settings for `s3://` URLs. What is left out is taken from the `AWS_…` environment variables.
    pub s3: S3Config,
}

/// When files are completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FlushConfig {
    /// Bytes of bus records (keys, values and headers) that one flush of one partition covers, about. Files are
    /// several times smaller.
    pub bytes: ByteSize,
    /// Age of the oldest record of a partition that is not in a completed file.
    pub age: Period,
}

/// How to reach an S3-compatible store.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// URL of the store, for other stores than AWS, such as `http://minio:9000`.
    pub endpoint: Option<String>,
    /// Region of the bucket.
    pub region: Option<String>,
    /// Whether an endpoint may begin with `http://`.
    pub allow_http: bool,
    /// Whether the bucket stands in the host name rather than in the path.
    pub virtual_host: Option<bool>,
    /// Access key; with `secret_access_key`.
    pub access_key_id: Option<String>,
    /// Secret key.
    pub secret_access_key: Option<String>,
    /// Token of temporary credentials.
    pub session_token: Option<String>,
}

impl Default for ParquetConfig {
    fn default() -> Self {
        Self {
            url: "./afflux-data/lake".into(),
            flush: FlushConfig::default(),
            in_flight: ByteSize::mib(256),
            row_group_rows: 65_536,
            compression_level: 1,
            default_cluster: "default".into(),
            group: "afflux-parquet".into(),
            instance_id: None,
            epoch: 0,
            s3: S3Config::default(),
        }
    }
}

impl Default for FlushConfig {
    fn default() -> Self {
        Self { bytes: ByteSize::mib(128), age: Period(Duration::from_secs(60)) }
    }
}

impl fmt::Debug for S3Config {
    /// Leaves the credentials out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Config")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("allow_http", &self.allow_http)
            .field("virtual_host", &self.virtual_host)
            .finish_non_exhaustive()
    }
}

/// What a URL names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Directory(PathBuf),
    S3 { bucket: String, prefix: Path },
}

impl ParquetConfig {
    /// Checks every value, without I/O.
    pub fn validate(&self) -> Result<(), ParquetError> {
        self.target()?;
        let wrong = |field, value: String, problem| Err(ParquetError::Value { field, value, problem });
        if self.flush.bytes.0 == 0 {
            return wrong("flush.bytes", self.flush.bytes.to_string(), "too little; write at least 1MiB or so");
        }
        if self.flush.age.0.is_zero() {
            return wrong("flush.age", self.flush.age.to_string(), "too short; write at least 1s or so");
        }
        if self.in_flight.0 < ByteSize::mib(16).0 {
            return wrong("in_flight", self.in_flight.to_string(), "too little; write at least 16MiB");
        }
        if self.row_group_rows == 0 {
            return wrong("row_group_rows", "0".into(), "too few; write 65536 or so");
        }
        if !(1..=MAX_COMPRESSION_LEVEL).contains(&self.compression_level) {
            return wrong("compression_level", self.compression_level.to_string(), "not between 1 and 22");
        }
        if self.default_cluster.is_empty() {
            return wrong("default_cluster", "``".into(), "empty; name the cluster of records that name none");
        }
        if self.group.is_empty() {
            return wrong("group", "``".into(), "empty; name a consumer group");
        }
        Ok(())
    }

    pub(super) fn target(&self) -> Result<Target, ParquetError> {
        let wrong = || ParquetError::Url { url: self.url.clone() };
        if let Some(directory) = self.url.strip_prefix("file://") {
            return if directory.starts_with('/') { Ok(Target::Directory(directory.into())) } else { Err(wrong()) };
        }
        if let Some(rest) = self.url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = Path::parse(prefix).ok().filter(|_| !prefix.starts_with('/')).ok_or_else(wrong)?;
            return if bucket.is_empty() { Err(wrong()) } else { Ok(Target::S3 { bucket: bucket.into(), prefix }) };
        }
        let is_directory = !self.url.is_empty() && !self.url.contains("://");
        if is_directory { Ok(Target::Directory(self.url.clone().into())) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Option<Target> {
        ParquetConfig { url: url.into(), ..ParquetConfig::default() }.target().ok()
    }

    #[test]
    fn urls_name_directories_and_buckets() {
        let directory = |path: &str| Some(Target::Directory(path.into()));
        let s3 = |prefix: &str| Some(Target::S3 { bucket: "b".into(), prefix: Path::from(prefix) });
        assert_eq!(target("./lake"), directory("./lake"));
        assert_eq!(target("/var/lake"), directory("/var/lake"));
        assert_eq!(target("file:///var/lake"), directory("/var/lake"));
        assert_eq!(target("s3://b"), s3(""));
        assert_eq!(target("s3://b/"), s3(""));
        assert_eq!(target("s3://b/deep/lake/"), s3("deep/lake"));
        for wrong in ["", "s3://", "s3:///x", "s3://b//x", "s3://b/../x", "file://lake", "gs://b/x", "http://x"] {
            assert_eq!(target(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_defaults_are_valid_and_every_wrong_value_is_named() {
        let valid = ParquetConfig::default();
        valid.validate().unwrap();
        let wrong = |change: fn(&mut ParquetConfig)| {
            let mut config = valid.clone();
            change(&mut config);
            config.validate().unwrap_err().to_string()
        };
        for (error, name) in [
            (wrong(|c| c.url = "gs://b".into()), "sinks.parquet.url"),
            (wrong(|c| c.flush.bytes = ByteSize(0)), "sinks.parquet.flush.bytes"),
            (wrong(|c| c.flush.age = Period(Duration::ZERO)), "sinks.parquet.flush.age"),
            (wrong(|c| c.in_flight = ByteSize(1)), "sinks.parquet.in_flight"),
            (wrong(|c| c.row_group_rows = 0), "sinks.parquet.row_group_rows"),
            (wrong(|c| c.compression_level = 23), "sinks.parquet.compression_level"),
            (wrong(|c| c.default_cluster = String::new()), "sinks.parquet.default_cluster"),
            (wrong(|c| c.group = String::new()), "sinks.parquet.group"),
        ] {
            assert!(error.starts_with(name), "{error}");
        }
    }

    #[test]
    fn unknown_keys_are_refused_and_credentials_are_not_shown() {
        assert!(serde_json::from_str::<ParquetConfig>(r#"{"flush": {"byte": 1}}"#).is_err());
        let config: ParquetConfig =
            serde_json::from_str(r#"{"s3": {"access_key_id": "AKIA", "secret_access_key": "hunter2"}}"#).unwrap();
        let shown = format!("{config:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("AKIA"), "{shown}");
    }
}
