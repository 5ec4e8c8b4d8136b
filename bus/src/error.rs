//! What can go wrong on a bus, classified where it is born.

use std::path::PathBuf;
use std::time::Duration;

use crate::record::PartitionId;

/// What a caller does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The same call may succeed later; after this long, where the bus knows.
    Transient(Option<Duration>),
    /// The same call will never succeed: the input is at fault.
    Permanent,
    /// This bus, producer or consumer is unusable from now on.
    Fatal,
}

/// An error of either bus.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// No broker answers. Transient.
    #[error("no broker reachable at {brokers}: {reason}")]
    Unreachable {
        /// The addresses tried.
        brokers: String,
        /// What the client said.
        reason: String,
    },
    /// The bus takes no more for now: a queue, a budget or the disk is full. Transient.
    #[error("bus is full: {reason}")]
    Full {
        /// What is full.
        reason: String,
    },
    /// An operation took too long; its outcome is unknown. Transient.
    #[error("timed out after {after:?} waiting for {what}")]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        after: Duration,
    },
    /// The topic does not exist. Permanent.
    #[error("unknown topic {topic}; create it with `afflux topics` or set `bus.create_topics: true`")]
    UnknownTopic {
        /// Its full name.
        topic: String,
    },
    /// The topic has fewer partitions. Permanent.
    #[error("topic {} has no partition {}", .0.topic, .0.partition)]
    UnknownPartition(PartitionId),
    /// A record over the limit of the bus. Permanent.
    #[error("record of {size} bytes for {to} is over the limit of {limit} bytes")]
    TooLarge {
        /// Where it was to go.
        to: PartitionId,
        /// Bytes of the record.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// Another owner has taken over (a rebalance, a newer transaction); nothing was written. The consumer
    /// delivers fresh assignments from the committed offsets at its next poll. Transient.
    #[error("fenced: {reason}")]
    Fenced {
        /// What the bus said.
        reason: String,
    },
    /// The transaction's outcome was unknown and has been settled by starting over: it either happened as a
    /// whole or not at all. The consumer delivers fresh assignments from the committed offsets at its next
    /// poll. Transient.
    #[error("transaction restarted: {reason}")]
    Restarted {
        /// What the bus said.
        reason: String,
        /// The one partition that took no record while others do, as far as the bus can tell.
        partition: Option<PartitionId>,
    },
    /// Another process owns the data directory. Fatal.
    #[error("data directory {} is in use by process {pid}; stop it or choose another --data-dir", dir.display())]
    Locked {
        /// The directory.
        dir: PathBuf,
        /// The owner.
        pid: String,
    },
    /// Stored bytes are not what was written. Fatal: never skipped.
    #[error("{}: damaged at offset {position}: {reason}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Byte position in it.
        position: u64,
        /// What does not fit.
        reason: String,
    },
    /// An earlier write or sync failed, so nothing more is accepted until the bus is reopened. Fatal.
    #[error("local bus stopped after a failed write: {reason}")]
    Poisoned {
        /// The first failure.
        reason: String,
    },
    /// The operating system refused. Fatal.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The client or broker refuses this configuration. Fatal.
    #[error("bus configuration: {0}")]
    Config(String),
    /// The bus has been closed. Fatal.
    #[error("bus is closed")]
    Closed,
    /// Anything else that a broker or client library reports. Transient unless it says otherwise.
    #[error("{what}: {reason}")]
    Other {
        /// The operation.
        what: &'static str,
        /// What the library said.
        reason: String,
        /// What to do about it.
        class: ErrorClass,
    },
}

impl BusError {
    /// What the caller does about it.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => ErrorClass::Transient(None),
            Self::Full { .. } => ErrorClass::Transient(Some(Duration::from_secs(1))),
            Self::Fenced { .. } | Self::Restarted { .. } => ErrorClass::Transient(None),
            Self::UnknownTopic { .. } | Self::UnknownPartition(_) | Self::TooLarge { .. } => ErrorClass::Permanent,
            Self::Locked { .. }
            | Self::Damaged { .. }
            | Self::Poisoned { .. }
            | Self::Io { .. }
            | Self::Config(_)
            | Self::Closed => ErrorClass::Fatal,
            Self::Other { class, .. } => *class,
        }
    }
}
