//! What can go wrong in the Parquet sink, and what to do about it.

use afflux_bus::{BusError, ErrorClass, PartitionId};
use object_store::path::Path;

/// Why the sink cannot be built or cannot go on at all.
#[derive(Debug, thiserror::Error)]
pub enum ParquetError {
    /// The URL names no kind of store that this build knows.
    #[error("sinks.parquet.url: `{url}` is neither a directory nor s3://BUCKET/PREFIX nor file:///DIRECTORY")]
    Url {
        /// The value.
        url: String,
    },
    /// A value is outside its range.
    #[error("sinks.parquet.{field}: {value} is {problem}")]
    Value {
        /// The key below `sinks.parquet`.
        field: &'static str,
        /// The value.
        value: String,
        /// What to write instead.
        problem: &'static str,
    },
    /// The store's client refuses its configuration.
    #[error("sinks.parquet.s3: {reason}")]
    Client {
        /// What it said.
        reason: String,
    },
    /// The base directory cannot be used.
    #[error("sinks.parquet.url: {path}: {source}; make the directory writable or choose another one")]
    Directory {
        /// The directory.
        path: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The bus is unusable.
    #[error(transparent)]
    Bus(#[from] BusError),
}

/// An error of a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or one that may be another next time.
    #[error("{operation} {path}: {reason}")]
    Unavailable {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: Path,
        /// What the store said.
        reason: String,
    },
    /// The store refuses for good: credentials, rights, or a bucket that does not exist.
    #[error("{operation} {path}: {reason}; check sinks.parquet.url, the credentials and their rights")]
    Refused {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: Path,
        /// What the store said.
        reason: String,
    },
    /// The store has no conditional put, without which ranges cannot be agreed on.
    #[error("{operation} {path}: {reason}; the store needs `If-None-Match: *` on PUT")]
    Unconditional {
        /// What was tried.
        operation: &'static str,
        /// On which object.
        path: Path,
        /// What the store said.
        reason: String,
    },
    /// Neither the upload nor the file that it was to become exists: the upload expired or was aborted.
    #[error("the upload of {path} is gone")]
    UploadGone {
        /// The file.
        path: Path,
    },
}

impl StoreError {
    /// What the caller does about it: nothing here is given up, but what is permanent is tried less often and
    /// shown as failing.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Unavailable { .. } | Self::UploadGone { .. } => ErrorClass::Transient(None),
            Self::Refused { .. } | Self::Unconditional { .. } => ErrorClass::Permanent,
        }
    }

    /// A fixed word for metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "store_unavailable",
            Self::Refused { .. } => "store_refused",
            Self::Unconditional { .. } => "store_unconditional",
            Self::UploadGone { .. } => "upload_gone",
        }
    }
}

/// Why one partition is not written any more, while the others go on. Only a person can resolve it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
    #[error(
        "the record at offset {offset} is not the one that was stored before (intent {first}): the topic was \
         recreated; add 1 to sinks.parquet.epoch to store it under new names"
    )]
    Recreated { first: u64, offset: u64 },
    #[error(
        "the record at offset {offset} is younger than the floor above it: the topic was recreated; add 1 to \
         sinks.parquet.epoch to store it under new names"
    )]
    BelowFloor { offset: u64 },
    #[error(
        "the range {first} to {last} was begun but the bus holds nothing below offset {oldest} any more; if its \
         files are complete, commit offset {} for the group, otherwise add 1 to sinks.parquet.epoch", last + 1
    )]
    Expired { first: u64, last: u64, oldest: u64 },
    #[error(
        "the group's offset {position} lies within the range {first} to {last}, which is or will be stored as a \
         whole; commit offset {first} to write the range again, or {} where its files are complete", last + 1
    )]
    Inside { first: u64, last: u64, position: u64 },
    #[error(
        "the range {first} to {last} was begun by a development version, whose layout {found} named folders otherwise; \
         if its files are complete, commit offset {} for the group, otherwise move the lake away", last + 1
    )]
    OlderLayout { first: u64, last: u64, found: u32 },
    #[error("the intent at offset {first} has layout {found}, this version knows {known}; upgrade afflux")]
    NewerLayout { first: u64, found: u32, known: u32 },
    #[error("rows cannot be encoded: {reason}; report this as a bug")]
    Encode { reason: String },
    #[error("the intent at offset {first} cannot be read: {reason}; restore or remove the object")]
    BadIntent { first: u64, reason: String },
}

/// A partition and why it is not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{partition} is stopped: {stop}")]
pub(crate) struct Stopped {
    pub(crate) partition: PartitionId,
    pub(crate) stop: Stop,
}
