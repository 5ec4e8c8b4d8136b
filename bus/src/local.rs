//! The embedded bus: one segmented log in a directory, owned by one process.
//!
//! Every batch — records of any partitions, and the offsets they settle — is one frame of the log, so it is there as
//! a whole or not at all. One thread gathers the batches that wait, writes and syncs them at once, and only then
//! answers and lets consumers see them. Offsets are dense from 0. Consumer groups live within the process.
//!
//! The layers, from the disk up: [`files`] is the file system, [`frame`] the bytes, [`scan`] finding them, [`index`]
//! where records lie, [`state`] what is known in memory, [`log`] writing, [`recover`] opening, [`retain`] forgetting,
//! [`read`] reading, [`committer`] the thread, [`group`] and [`consumer`] the groups, [`reader`] who reads without one.
//!
//! It relies on the disk for two things: what was synced stays, and a write that a power loss cuts short leaves each
//! sector (512 bytes) as it was or as it should be.

mod committer;
mod consumer;
mod files;
mod frame;
mod group;
mod index;
mod log;
mod read;
mod reader;
mod recover;
mod retain;
mod scan;
mod state;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use afflux_schemas::topics::{mirror_source, mirrored};
use async_trait::async_trait;

use self::committer::Committer;
use self::consumer::{Groups, LocalConsumer};
use self::files::{Dir, OsDir};
use self::log::{Batch, Limits, Log};
use self::read::Store;
use self::reader::{LocalReader, LocalTransactional};
use crate::contract::{Bus, Consumer, ConsumerConfig, PartitionLag, Producer, Reader, ReaderConfig, Transactional};
use crate::error::BusError;
use crate::record::{PartitionId, Record, TopicSpec};

/// How to open a local bus.
#[derive(Clone, Debug)]
pub struct LocalConfig {
    /// The directory; created where it is missing.
    pub dir: PathBuf,
    /// Bytes after which the log goes on in a new segment. Retention frees whole segments. From 4 KiB to 1 GiB;
    /// at most an eighth of `max_bytes`.
    pub segment_bytes: u64,
    /// Bytes of one record at most (key, value and headers).
    pub max_record_bytes: usize,
    /// Bytes of the log on disk; beyond them, sending answers [`BusError::Full`] until retention has freed some.
    pub max_bytes: Option<u64>,
    /// Bytes waiting to be written; beyond them, sending answers [`BusError::Full`]. A larger batch goes alone.
    pub in_flight_bytes: usize,
}

impl LocalConfig {
    /// Size of a segment, unless configured.
    pub const DEFAULT_SEGMENT_BYTES: u64 = 64 << 20;
    /// Size of a record at most, unless configured.
    pub const DEFAULT_MAX_RECORD_BYTES: usize = 16 << 20;
    /// Bytes waiting to be written, unless configured.
    pub const DEFAULT_IN_FLIGHT_BYTES: usize = 64 << 20;

    /// A bus in a directory, with the defaults and no limit on disk.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: Self::DEFAULT_SEGMENT_BYTES,
            max_record_bytes: Self::DEFAULT_MAX_RECORD_BYTES,
            max_bytes: None,
            in_flight_bytes: Self::DEFAULT_IN_FLIGHT_BYTES,
        }
    }

    fn limits(&self) -> Limits {
        let most = self.max_bytes.map_or(1 << 30, |max| (max / 8).min(1 << 30));
        Limits {
            segment_bytes: self.segment_bytes.min(most).max(4096),
            max_record_bytes: self.max_record_bytes.min(256 << 20),
            max_bytes: self.max_bytes,
        }
    }
}

/// The embedded bus.
pub struct LocalBus {
    inner: Arc<Inner>,
}

/// What bus, producers and consumers share.
struct Inner {
    store: Arc<Store>,
    committer: Committer,
    groups: Groups,
    limits: Limits,
}

impl LocalBus {
    /// Opens the bus in a directory, or starts one there. Blocks while the last segment is checked.
    ///
    /// [`BusError::Locked`] where another process, or another bus of this one, has it open;
    /// [`BusError::Damaged`] where stored bytes are not what was written.
    pub fn open(config: LocalConfig) -> Result<Arc<Self>, BusError> {
        let (dir, lock) = OsDir::open(&config.dir)?;
        let limits = config.limits();
        let dir: Arc<dyn Dir> = Arc::new(dir);
        let log = Log::open(Arc::clone(&dir), limits)?;
        let store = Arc::clone(&log.store);
        let committer = Committer::start(log, lock, config.in_flight_bytes)
            .map_err(|source| BusError::Io { path: config.dir.clone(), source })?;
        Ok(Arc::new(Self { inner: Arc::new(Inner { store, committer, groups: Groups::default(), limits }) }))
    }
}

impl Drop for LocalBus {
    /// Whoever did not call [`Bus::close`] waits here for what was sent to be durable.
    fn drop(&mut self) {
        self.inner.committer.close();
    }
}

impl Inner {
    async fn send(&self, records: Vec<Record>) -> Result<(), BusError> {
        if records.is_empty() {
            return Ok(());
        }
        let limit = self.limits.max_record_bytes;
        // Before the budget, which such a record might exceed by itself.
        if let Some(record) = records.iter().find(|record| record.size() > limit) {
            return Err(BusError::TooLarge { to: record.to.clone(), size: record.size(), limit });
        }
        self.committer.commit(Batch { records, ..Batch::default() }).await
    }

    /// The topics, and those that match their patterns, each with its number of partitions.
    fn matching(&self, topics: &[Arc<str>]) -> Result<Vec<(Arc<str>, u32)>, BusError> {
        let mut matching = Vec::with_capacity(topics.len());
        for topic in topics {
            let Some(of) = mirrored(topic) else {
                matching.push((Arc::clone(topic), self.partitions(topic)?));
                continue;
            };
            let state = self.store.state();
            let mirrors = state.topics.iter().filter(|spec| mirror_source(&spec.name, of).is_some());
            matching.extend(mirrors.map(|spec| (Arc::clone(&spec.name), spec.partitions)));
        }
        Ok(matching)
    }

    fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        if self.committer.is_closed() {
            return Err(BusError::Closed);
        }
        let state = self.store.state();
        let spec = state.by_name.get(topic).and_then(|id| state.topics.get(*id as usize));
        spec.map(|spec| spec.partitions).ok_or_else(|| BusError::UnknownTopic { topic: topic.to_owned() })
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn create_topics(&self, topics: &[TopicSpec]) -> Result<(), BusError> {
        self.inner.committer.commit(Batch { topics: topics.to_vec(), ..Batch::default() }).await?;
        self.inner.groups.wake();
        Ok(())
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        if self.inner.committer.is_closed() {
            return Err(BusError::Closed);
        }
        Ok(Arc::new(LocalProducer { inner: Arc::clone(&self.inner) }))
    }

    async fn consumer(&self, config: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError> {
        Ok(Box::new(LocalConsumer::join(Arc::clone(&self.inner), config)?))
    }

    async fn reader(&self, config: ReaderConfig) -> Result<Box<dyn Reader>, BusError> {
        Ok(Box::new(LocalReader::open(Arc::clone(&self.inner), &config)?))
    }

    async fn transactional(&self, id: Arc<str>) -> Result<Box<dyn Transactional>, BusError> {
        Ok(Box::new(LocalTransactional::open(Arc::clone(&self.inner), id).await?))
    }

    async fn lag(&self, group: &str, topics: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        let mut lags = Vec::new();
        for (topic, partitions) in self.inner.matching(topics)? {
            let state = self.inner.store.state();
            for partition in 0..partitions {
                let Some(part) = state.part(&topic, partition) else { continue };
                let (start, end) = state.range(part);
                let partition = PartitionId::new(Arc::clone(&topic), partition);
                lags.push(PartitionLag { partition, committed: state.committed(group, part), start, end });
            }
        }
        Ok(lags)
    }

    async fn close(&self) {
        let inner = Arc::clone(&self.inner);
        if tokio::task::spawn_blocking(move || inner.committer.close()).await.is_err() {
            tracing::error!("closing the local bus was cut short");
        }
    }
}

struct LocalProducer {
    inner: Arc<Inner>,
}

#[async_trait]
impl Producer for LocalProducer {
    fn max_record_bytes(&self) -> usize {
        self.inner.limits.max_record_bytes
    }

    async fn partitions(&self, topic: &str) -> Result<u32, BusError> {
        self.inner.partitions(topic)
    }

    async fn send(&self, records: Vec<Record>) -> Result<(), BusError> {
        self.inner.send(records).await
    }
}
