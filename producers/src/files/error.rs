//! Why files cannot be read.

use std::path::PathBuf;

use afflux_bus::BusError;
use afflux_runtime::config::ByteSize;

/// Why the component cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A setting of zero would stop everything.
    #[error("`producers.files.{key}` must not be 0; leave it out for the default")]
    Zero {
        /// The key below `producers.files`.
        key: &'static str,
    },
    /// A line would not fit into a record.
    #[error("`producers.files.limits.line_bytes` {line} is over `record_bytes` {record}; lower it or raise the other")]
    LineOverRecord {
        /// Limit of a line.
        line: ByteSize,
        /// Limit of a record on the bus.
        record: ByteSize,
    },
    /// Without positions everything would be read again after each start.
    #[error("`producers.files.positions` is empty; name a file, or leave it out")]
    NoPositions,
    /// A pattern that cannot be read.
    #[error("`producers.files.paths` or `exclude` has `{pattern}`, which is no pattern: {source}")]
    Pattern {
        /// As configured.
        pattern: String,
        /// What is wrong with it.
        source: glob::PatternError,
    },
    /// A regular expression that cannot be read.
    #[error("`producers.files.multiline.{key}` is no regular expression: {source}")]
    Multiline {
        /// The key below `multiline`.
        key: &'static str,
        /// What is wrong with it.
        source: Box<regex::Error>,
    },
    /// They could contradict each other.
    #[error("`producers.files.multiline.start` and `continuation` are both set; leave one of them out")]
    TwoRules,
    /// The file of positions, or its directory, cannot be used.
    #[error("cannot keep positions in {} (`producers.files.positions`): {source}", path.display())]
    Positions {
        /// As configured.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The bus is unusable from now on.
    #[error("bus: {0}")]
    Bus(#[from] BusError),
}
