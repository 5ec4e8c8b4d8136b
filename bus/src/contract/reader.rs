//! Reading whole topics without a group, and writing transactions without one.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use super::ConsumerConfig;
use crate::error::BusError;
use crate::record::{PartitionId, Received, Record};

/// Reads topics as they are, for operators and for tables: it owns nothing, commits nothing and disturbs no group.
///
/// Records of a partition come in offset order, each once, those of committed transactions only. What retention has
/// taken before it was read is passed over in silence. Partitions that are added later are not read.
#[async_trait]
pub trait Reader: Send {
    /// Waits for the next event; after [`ReaderEvent::Complete`] for what is written from then on.
    ///
    /// Cancel safe: a dropped future loses nothing. After a transient error reading goes on where it was.
    async fn next(&mut self) -> Result<ReaderEvent, BusError>;
}

/// What a reader brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReaderEvent {
    /// At least one record, of any of the partitions. The generation says nothing.
    Records(Vec<Received>),
    /// Everything that was committed in this partition when the reader was opened has been delivered: what had an
    /// acknowledgement before the call, and what is of a transaction whose commit was answered before it. A
    /// transaction that was open then is waited for, since what lies behind it may be committed. Once per partition.
    CaughtUp(PartitionId),
    /// Every partition has caught up. Once.
    Complete,
}

/// What to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReaderConfig {
    /// Full names of the topics.
    pub topics: Vec<Arc<str>>,
    /// Where to begin.
    pub from: Start,
    /// Bytes that one event brings at most (a single larger record comes alone), and about what is fetched ahead.
    pub fetch_bytes: usize,
}

/// Where a reader begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest record kept.
    Earliest,
    /// At the first record of each partition whose timestamp is this or later, in milliseconds since the Unix epoch.
    /// Later records come whatever their timestamps are.
    Timestamp(i64),
    /// At these offsets, or the oldest record kept where that is later; only these partitions are read.
    Offsets(BTreeMap<PartitionId, u64>),
}

impl ReaderConfig {
    /// Topics from their beginning.
    pub fn new(topics: impl IntoIterator<Item = Arc<str>>) -> Self {
        let topics = topics.into_iter().collect();
        Self { topics, from: Start::Earliest, fetch_bytes: ConsumerConfig::DEFAULT_FETCH_BYTES }
    }

    /// One partition from an offset on.
    pub fn at(partition: PartitionId, offset: u64) -> Self {
        let topics = [Arc::clone(&partition.topic)];
        Self { from: Start::Offsets(BTreeMap::from([(partition, offset)])), ..Self::new(topics) }
    }
}

/// Writes transactions that settle no offsets, under an id that has one owner at a time.
///
/// Whoever opens the id last owns it. When that call has been answered, every transaction of former owners is
/// decided, and none of them can write any more. So an owner who reads after opening, and writes what follows from
/// what it read, never does so twice.
#[async_trait]
pub trait Transactional: Send {
    /// Publishes the records, all or none.
    ///
    /// [`BusError::Fenced`]: the id has a newer owner, and nothing was written. A permanent error such as
    /// [`BusError::TooLarge`]: nothing was written. After any other error, and when the future is dropped, the outcome
    /// is unknown. After every error, later calls may answer [`BusError::Fenced`]: open the id anew, and read what has
    /// become of it.
    async fn transact(&mut self, records: Vec<Record>) -> Result<(), BusError>;
}
