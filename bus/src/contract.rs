//! The contract that both buses keep and the conformance suite checks.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::BusError;
use crate::record::{Generation, PartitionId, Received, Record, TopicSpec};

mod reader;

pub use reader::{Reader, ReaderConfig, ReaderEvent, Start, Transactional};

/// A message bus.
///
/// Cheap to share; every method may be called from any task at any time.
#[async_trait]
pub trait Bus: Send + Sync {
    /// Creates the topics that do not exist; leaves the others as they are.
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError>;

    /// A producer with durable acknowledgements.
    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError>;

    /// Joins a consumer group.
    ///
    /// Unknown topics are an error here where the bus can tell at once, otherwise at the first poll.
    async fn consumer(&self, config: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError>;

    /// Reads whole topics without a group. Unknown topics and partitions are an error here.
    async fn reader(&self, config: ReaderConfig) -> Result<Box<dyn Reader>, BusError>;

    /// Becomes the owner of a transactional id that settles no offsets; answered once its former owners can write no
    /// more.
    async fn transactional(&self, id: Arc<str>) -> Result<Box<dyn Transactional>, BusError>;

    /// Lag of a group in every partition of the topics, whether or not a member is alive. Patterns are as in
    /// [`ConsumerConfig::topics`].
    async fn lag(&self, group: &str, topics: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError>;

    /// Waits for what was sent to be acknowledged and releases files and connections. Later calls answer
    /// [`BusError::Closed`].
    async fn close(&self);
}

/// Publishes records.
#[async_trait]
pub trait Producer: Send + Sync {
    /// Number of partitions of a topic, at least 1; answered from memory after the first call.
    async fn partitions(&self, topic: &str) -> Result<u32, BusError>;

    /// Bytes of one record at most, as [`Record::size`] counts them. A topic of others may allow less.
    fn max_record_bytes(&self) -> usize;

    /// Publishes the records and returns once **all** are durable (D1): synced to disk on the local bus,
    /// acknowledged by all in-sync replicas on Kafka.
    ///
    /// Records of one partition keep their order, within a call and from one awaited call to the next.
    /// After an error any of them may have been written, on the local bus none; the caller may send all
    /// again. Dropping the future abandons the wait, not the writing.
    async fn send(&self, records: Vec<Record>) -> Result<(), BusError>;
}

/// A member of a consumer group.
///
/// One task owns a consumer. [`Consumer::poll`] delivers assignments, records and revocations in one
/// sequence. Records of a partition come in offset order, each once per generation, starting at
/// [`Assignment::position`], or below it with [`ConsumerConfig::rewind`]. Only records of committed transactions are
/// delivered.
#[async_trait]
pub trait Consumer: Send {
    /// Waits for the next event.
    ///
    /// Cancel safe: a dropped future loses nothing. After [`Event::Revoked`], the next call gives the
    /// partitions up, so whoever wants to commit for them does so before polling again, within the
    /// configuration's `revoke_timeout`.
    async fn poll(&mut self) -> Result<Event, BusError>;

    /// Makes offsets durable for the group: reading resumes there after a restart.
    ///
    /// Offsets of an older generation are refused with [`BusError::Fenced`] and nothing is committed.
    async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError>;

    /// Publishes the outputs and commits the offsets in one transaction: both or neither, whatever happens
    /// (D4).
    ///
    /// After [`BusError::Fenced`] or [`BusError::Restarted`] the caller forgets what it has in hand and polls:
    /// every partition that it still owns is revoked and assigned anew at the committed offset, under a new
    /// generation. The same follows when the future is dropped, whose outcome nobody learns. Needs
    /// [`ConsumerConfig::transactional_id`].
    async fn transact(&mut self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError>;

    /// The group's committed offset in a partition, read anew; `None` where it never committed.
    async fn committed(&mut self, partition: &PartitionId) -> Result<Option<u64>, BusError>;

    /// Stops delivery from one partition until [`Consumer::resume`]; the others go on. Records of it that
    /// were already fetched are kept back, not lost. A new assignment starts unpaused.
    fn pause(&mut self, partition: &PartitionId) -> Result<(), BusError>;

    /// Takes [`Consumer::pause`] back.
    fn resume(&mut self, partition: &PartitionId) -> Result<(), BusError>;

    /// Leaves the group, so that other members take over at once. Commits nothing by itself.
    async fn close(self: Box<Self>);
}

/// How to join a group.
#[derive(Clone, Debug)]
pub struct ConsumerConfig {
    /// The group's name.
    pub group: Arc<str>,
    /// Full names of the topics to read. `*.NAME` is every topic called `SOURCE.NAME`, as MirrorMaker 2 names the
    /// mirrors of `NAME`: those that there are, perhaps none, and those that appear while the group reads.
    pub topics: Vec<Arc<str>>,
    /// Where to start in a partition for which the group never committed.
    pub start_at: StartAt,
    /// Names this member's transactions; the same after a restart. `None`: [`Consumer::transact`] is refused.
    pub transactional_id: Option<Arc<str>>,
    /// Bytes that one poll returns at most (a single larger record is returned alone), and about what is
    /// fetched ahead.
    pub fetch_bytes: usize,
    /// How long a revocation waits for the next poll.
    pub revoke_timeout: Duration,
    /// How far each assignment goes back first, so that a reader can build up again what it knows of the recent past.
    ///
    /// Records then come from the first one whose timestamp is at least that of the last record before
    /// [`Assignment::position`] less this, or from the oldest kept. Those with offsets below the position are repeats.
    /// Every record before the first that comes is older than every moment within this time of the position, and so
    /// the greatest timestamp seen is, from that record on, the same as if all had been read.
    pub rewind: Option<Duration>,
    /// Names this member within its group; unique, and the same after a restart. Its partitions then wait for it for as
    /// long as a session lasts, on Kafka, and others are not rebalanced; a second member of that name ends the first.
    /// The local bus, whose groups live within one process, has no use for it.
    pub instance: Option<Arc<str>>,
}

impl ConsumerConfig {
    /// Bytes that a poll returns at most, unless configured.
    pub const DEFAULT_FETCH_BYTES: usize = 8 * 1024 * 1024;
    /// How long a revocation waits, unless configured.
    pub const DEFAULT_REVOKE_TIMEOUT: Duration = Duration::from_secs(10);

    /// A group that reads the topics from their beginning, without transactions.
    pub fn new(group: impl Into<Arc<str>>, topics: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            group: group.into(),
            topics: topics.into_iter().collect(),
            start_at: StartAt::Earliest,
            transactional_id: None,
            fetch_bytes: Self::DEFAULT_FETCH_BYTES,
            revoke_timeout: Self::DEFAULT_REVOKE_TIMEOUT,
            rewind: None,
            instance: None,
        }
    }
}

/// Where a group starts in a partition for which it never committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// At the oldest record kept.
    Earliest,
    /// At the first record written from now on.
    Latest,
}

/// What a poll brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Partitions that this member owns from now on, in addition to those that it has.
    Assigned(Vec<Assignment>),
    /// Partitions that this member owns until its next poll.
    Revoked(Vec<PartitionId>),
    /// At least one record, of any assigned partitions.
    Records(Vec<Received>),
    /// Retention has taken records before this member could read them; it goes on behind them. Also of a group that
    /// reads from the beginning and has never committed, at each assignment until it has.
    Expired {
        /// Where they were.
        partition: PartitionId,
        /// How many offsets are lost.
        records: u64,
    },
}

/// A partition handed to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    /// The partition.
    pub partition: PartitionId,
    /// Higher than every earlier generation of this consumer.
    pub generation: Generation,
    /// The committed offset, or where the group starts for want of one. The first record delivered that is no repeat
    /// has this offset or a higher one.
    pub position: u64,
}

/// "Everything of this partition below `next` is settled."
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The partition.
    pub partition: PartitionId,
    /// The assignment under which its records were read.
    pub generation: Generation,
    /// One past the last settled offset.
    pub next: u64,
}

/// How far a group is behind in one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: PartitionId,
    /// The committed offset; `None` where the group never committed.
    pub committed: Option<u64>,
    /// Offset of the oldest record kept.
    pub start: u64,
    /// Offset behind the last record; that of the group where nothing but marks of transactions follows it.
    pub end: u64,
}

impl PartitionLag {
    /// Records not yet settled. Marks of transactions between them count.
    pub fn records(&self) -> u64 {
        self.end.saturating_sub(self.committed.unwrap_or(self.start).max(self.start))
    }
}
