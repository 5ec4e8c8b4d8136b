//! Configuration of the files that are read.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use regex::bytes::Regex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::discover::Patterns;
use super::error::FilesError;
use super::join::{Multiline, Rules};
use super::rate::{Excess, Rates};

/// Where positions are kept, unless configured.
pub const DEFAULT_POSITIONS: &str = "./afflux-data/positions";

/// `producers.files`: reads log files, those of pods and any others. On where `paths` are set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesConfig {
    /// Files to read: patterns with `*`, `?`, `[…]` and `**`, such as `/var/log/pods/*/*/*.log`.
    pub paths: Vec<String>,
    /// Those of them that are left out, as patterns of whole paths.
    pub exclude: Vec<String>,
    /// File that holds how far each file has been acknowledged; its directory is created where it is missing.
    pub positions: PathBuf,
    /// How often that is written.
    pub positions_interval: Period,
    /// Where files are read from that are there at the very first start. Those that come later are read whole.
    pub start_at: FilesStart,
    /// Resource attributes that everything read here gets.
    pub attributes: BTreeMap<String, String>,
    /// Which lines make one record together. Empty: each is one.
    pub multiline: MultilineConfig,
    /// How long the rest of a line or of a record of several lines is waited for.
    pub flush_after: Period,
    /// How files are watched.
    pub watch: FilesWatch,
    /// How often files are looked at that no event tells of.
    pub poll_interval: Period,
    /// How often patterns are looked up anew, whether or not an event tells of new files.
    pub scan_interval: Period,
    /// What is held and sent at a time.
    pub limits: FilesLimits,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FilesStart {
    /// At the first line.
    #[default]
    Beginning,
    /// Behind the last line.
    End,
}

/// How to learn of changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FilesWatch {
    /// By inotify where the system has it, otherwise by polling.
    #[default]
    Auto,
    /// By looking at every file again and again, as file systems of a network need.
    Poll,
}

/// Which lines make one record. One of the two at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MultilineConfig {
    /// A regular expression of lines that begin a record, such as `^\d{4}-`.
    pub start: Option<String>,
    /// A regular expression of lines that go on with the record before, such as `^(\s|Caused by:)`.
    pub continuation: Option<String>,
}

/// What is held and sent at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FilesLimits {
    /// Bytes of one line, or of one record of several lines; what is longer becomes several records.
    pub line_bytes: ByteSize,
    /// Bytes of one record on the bus, about. Stay below what the bus allows (Kafka's topics, unless configured: 1 MB).
    pub record_bytes: ByteSize,
    /// Bytes that were read and that the bus has not acknowledged. Beyond them reading waits.
    pub in_flight_bytes: ByteSize,
    /// Records of one path per second; a second's worth may come at once. Empty: no limit.
    pub file_rate: Option<u64>,
    /// Records of all paths per second. Empty: no limit.
    pub total_rate: Option<u64>,
    /// What is done with what comes faster.
    pub over_rate: FilesExcess,
}

/// What is done with what comes faster than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FilesExcess {
    /// It stays in its file until its time comes; rotation may be faster.
    #[default]
    Wait,
    /// It is left out, and counted as dropped.
    Drop,
}

impl Default for FilesConfig {
    fn default() -> Self {
        Self {
            paths: Vec::new(),
            exclude: Vec::new(),
            positions: DEFAULT_POSITIONS.into(),
            positions_interval: Period(Duration::from_secs(1)),
            start_at: FilesStart::Beginning,
            attributes: BTreeMap::new(),
            multiline: MultilineConfig::default(),
            flush_after: Period(Duration::from_secs(2)),
            watch: FilesWatch::Auto,
            poll_interval: Period(Duration::from_secs(1)),
            scan_interval: Period(Duration::from_secs(10)),
            limits: FilesLimits::default(),
        }
    }
}

impl Default for FilesLimits {
    fn default() -> Self {
        Self {
            line_bytes: ByteSize(256 << 10),
            record_bytes: ByteSize(900_000),
            in_flight_bytes: ByteSize::mib(32),
            file_rate: None,
            total_rate: None,
            over_rate: FilesExcess::Wait,
        }
    }
}

impl FilesConfig {
    /// Whether there is anything to read.
    pub fn is_on(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Checks what the types cannot, without I/O.
    ///
    /// # Errors
    /// Names the key at fault.
    pub fn validate(&self) -> Result<(), FilesError> {
        let limits = &self.limits;
        let positive = [
            ("positions_interval", !self.positions_interval.0.is_zero()),
            ("flush_after", !self.flush_after.0.is_zero()),
            ("poll_interval", !self.poll_interval.0.is_zero()),
            ("scan_interval", !self.scan_interval.0.is_zero()),
            ("limits.line_bytes", limits.line_bytes.0 > 0),
            ("limits.record_bytes", limits.record_bytes.0 > 0),
            ("limits.in_flight_bytes", limits.in_flight_bytes.0 > 0),
            ("limits.file_rate", limits.file_rate != Some(0)),
            ("limits.total_rate", limits.total_rate != Some(0)),
        ];
        if let Some((key, _)) = positive.into_iter().find(|(_, ok)| !ok) {
            return Err(FilesError::Zero { key });
        }
        if limits.line_bytes > limits.record_bytes {
            return Err(FilesError::LineOverRecord { line: limits.line_bytes, record: limits.record_bytes });
        }
        if self.positions.as_os_str().is_empty() {
            return Err(FilesError::NoPositions);
        }
        self.patterns()?;
        self.rules().map(drop)
    }

    pub(super) fn patterns(&self) -> Result<Patterns, FilesError> {
        Patterns::new(&self.paths, &self.exclude).map_err(|(pattern, source)| FilesError::Pattern { pattern, source })
    }

    pub(super) fn rates(&self) -> Rates {
        let excess = match self.limits.over_rate {
            FilesExcess::Wait => Excess::Wait,
            FilesExcess::Drop => Excess::Drop,
        };
        Rates { file: self.limits.file_rate, total: self.limits.total_rate, excess }
    }

    pub(super) fn rules(&self) -> Result<Rules, FilesError> {
        let regex = |key: &'static str, text: &String| {
            Regex::new(text).map_err(|source| FilesError::Multiline { key, source: Box::new(source) })
        };
        let multiline = match (&self.multiline.start, &self.multiline.continuation) {
            (Some(_), Some(_)) => return Err(FilesError::TwoRules),
            (Some(text), None) => Some(Multiline::Start(regex("start", text)?)),
            (None, Some(text)) => Some(Multiline::Continuation(regex("continuation", text)?)),
            (None, None) => None,
        };
        Ok(Rules { multiline, most: self.limits.line_bytes.as_usize(), patience: self.flush_after.0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(json: &str) -> String {
        match serde_json::from_str::<FilesConfig>(json) {
            Err(error) => error.to_string(),
            Ok(config) => config.validate().err().map(|error| error.to_string()).unwrap_or_default(),
        }
    }

    #[test]
    fn defaults_are_valid_and_read_nothing() {
        let config: FilesConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, FilesConfig::default());
        assert!(!config.is_on());
        config.validate().unwrap();
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_key_and_what_to_do() {
        for (json, expected) in [
            (r#"{"path": ["/a"]}"#, "unknown field `path`"),
            (r#"{"paths": ["/a/["]}"#, "`producers.files.paths` or `exclude` has `/a/[`, which is no pattern"),
            (r#"{"paths": ["/a"], "exclude": ["/b/***"]}"#, "has `/b/***`, which is no pattern"),
            (r#"{"multiline": {"start": "("}}"#, "`producers.files.multiline.start` is no regular expression"),
            (r#"{"multiline": {"start": "a", "continuation": "b"}}"#, "both set; leave one of them out"),
            (r#"{"flush_after": "0s"}"#, "`producers.files.flush_after` must not be 0"),
            (r#"{"positions": ""}"#, "`producers.files.positions` is empty"),
            (r#"{"limits": {"line_bytes": "1MiB"}}"#, "line_bytes` 1MiB is over `record_bytes` 900000"),
            (r#"{"limits": {"file_rate": 0}}"#, "`producers.files.limits.file_rate` must not be 0"),
            (r#"{"start_at": "middle"}"#, "unknown variant `middle`"),
        ] {
            let error = verdict(json);
            assert!(error.contains(expected), "{json}: {error}");
        }
        assert_eq!(verdict(r#"{"paths": ["/var/log/pods/*/*/*.log"], "multiline": {"start": "^\\d"}}"#), "");
    }
}
