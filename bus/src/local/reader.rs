//! Readers without a group, and transactions without one.

use std::collections::VecDeque;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::Inner;
use super::frame::{Part, Stored};
use super::log::Batch;
use super::read::Allowance;
use super::state::State;
use crate::contract::{Reader, ReaderConfig, ReaderEvent, Start, Transactional};
use crate::error::{BusError, ErrorClass};
use crate::record::{Generation, PartitionId, Received, Record};

/// See [`Reader`].
pub(super) struct LocalReader {
    inner: Arc<Inner>,
    durable: watch::Receiver<u64>,
    fetch_bytes: usize,
    partitions: Vec<Position>,
    /// Partitions that have not caught up.
    waiting: usize,
    events: VecDeque<ReaderEvent>,
    fetching: Option<Fetching>,
    /// Partition to look at first.
    turn: usize,
}

/// A fetch under way: which partition, its end when the fetch was planned, and the records.
type Fetching = (usize, u64, JoinHandle<Result<Vec<Stored>, BusError>>);

/// Where reading of a partition stands.
struct Position {
    partition: PartitionId,
    part: Part,
    next: u64,
    /// Its end when the reader was opened.
    target: u64,
    caught_up: bool,
    /// Records of earlier times are passed over, up to the first that is not.
    since: Option<i64>,
}

impl LocalReader {
    pub(super) fn open(inner: Arc<Inner>, config: &ReaderConfig) -> Result<Self, BusError> {
        let mut partitions = Vec::new();
        for topic in &config.topics {
            let count = inner.partitions(topic)?;
            partitions.extend((0..count).map(|number| PartitionId::new(Arc::clone(topic), number)));
        }
        if let Start::Offsets(offsets) = &config.from {
            if let Some(unknown) = offsets.keys().find(|partition| !partitions.contains(partition)) {
                return Err(BusError::UnknownPartition(unknown.clone()));
            }
            partitions.retain(|partition| offsets.contains_key(partition));
        }
        let durable = inner.committer.durable();
        let state = inner.store.state();
        let position = |partition: PartitionId| {
            let part = state.part(&partition.topic, partition.partition)?;
            let (start, target) = state.range(part);
            let (next, since) = match &config.from {
                Start::Earliest => (start, None),
                Start::Timestamp(time) => (first_piece(&state, part, *time).unwrap_or(target), Some(*time)),
                Start::Offsets(offsets) => (offsets.get(&partition).map_or(start, |offset| start.max(*offset)), None),
            };
            Some(Position { partition, part, next, target, caught_up: false, since })
        };
        let partitions: Vec<_> = partitions.into_iter().filter_map(position).collect();
        drop(state);
        let mut reader = Self {
            inner,
            durable,
            fetch_bytes: config.fetch_bytes,
            waiting: partitions.len(),
            partitions,
            events: VecDeque::new(),
            fetching: None,
            turn: 0,
        };
        if reader.waiting == 0 {
            reader.events.push_back(ReaderEvent::Complete);
        }
        (0..reader.partitions.len()).for_each(|index| reader.look(index));
        Ok(reader)
    }

    /// Says so where a partition has caught up.
    fn look(&mut self, index: usize) {
        let position = &mut self.partitions[index];
        if position.caught_up || position.next < position.target {
            return;
        }
        position.caught_up = true;
        self.waiting -= 1;
        self.events.push_back(ReaderEvent::CaughtUp(position.partition.clone()));
        if self.waiting == 0 {
            self.events.push_back(ReaderEvent::Complete);
        }
    }

    /// Begins to read from the next partition that has something; `false` where none has.
    fn plan(&mut self) -> bool {
        let state = self.inner.store.state();
        let count = self.partitions.len();
        let end = |position: &Position| state.partitions.get(&position.part).map_or(0, |partition| partition.next);
        let turns = (0..count).map(|by| (self.turn + by) % count);
        let ready = turns.map(|index| (index, end(&self.partitions[index])));
        let Some((index, end)) = ready.into_iter().find(|(index, end)| self.partitions[*index].next < *end) else {
            return false;
        };
        drop(state);
        self.turn = index + 1;
        let Position { part, next, .. } = self.partitions[index];
        let (inner, allowed) = (Arc::clone(&self.inner), Allowance { soft: self.fetch_bytes, first: usize::MAX });
        let read = tokio::task::spawn_blocking(move || inner.store.read(part, next, allowed));
        self.fetching = Some((index, end, read));
        true
    }

    /// Takes what was read.
    fn take(&mut self, index: usize, end: u64, stored: Vec<Stored>) {
        let position = &mut self.partitions[index];
        position.next = stored.last().map_or(end, |last| last.offset + 1);
        let mut records = Vec::with_capacity(stored.len());
        for stored in stored {
            if position.since.is_some_and(|since| stored.timestamp_ms < since) {
                continue;
            }
            position.since = None;
            records.push(Received {
                from: position.partition.clone(),
                generation: Generation(0),
                offset: stored.offset,
                timestamp_ms: stored.timestamp_ms,
                key: stored.key,
                value: stored.value,
                headers: stored.headers,
            });
        }
        if !records.is_empty() {
            self.events.push_back(ReaderEvent::Records(records));
        }
        self.look(index);
    }
}

/// Where the first segment with a record of that time or later begins.
fn first_piece(state: &State, part: Part, time: i64) -> Option<u64> {
    let pieces = &state.partitions.get(&part)?.pieces;
    pieces.iter().filter(|piece| piece.max_timestamp_ms >= time).map(|piece| piece.min).min()
}

#[async_trait]
impl Reader for LocalReader {
    async fn next(&mut self) -> Result<ReaderEvent, BusError> {
        loop {
            self.durable.mark_unchanged();
            if self.inner.committer.is_closed() {
                return Err(BusError::Closed);
            }
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.fetching.is_none() && !self.plan() {
                // An error means that the bus is going; the next look finds it closed.
                let _ = self.durable.changed().await;
                continue;
            }
            // Kept until it is done, so that a future that is dropped loses nothing.
            let Some((index, end, fetching)) = &mut self.fetching else { continue };
            let (index, end, fetched) = (*index, *end, fetching.await);
            self.fetching = None;
            let fatal = |error: tokio::task::JoinError| BusError::Other {
                what: "read",
                reason: error.to_string(),
                class: ErrorClass::Fatal,
            };
            self.take(index, end, fetched.map_err(fatal)??);
        }
    }
}

/// See [`Transactional`].
pub(super) struct LocalTransactional {
    inner: Arc<Inner>,
    name: Arc<str>,
    owner: u64,
}

impl LocalTransactional {
    pub(super) async fn open(inner: Arc<Inner>, name: Arc<str>) -> Result<Self, BusError> {
        let owner = inner.groups.own(&name);
        let opened = Self { inner, name, owner };
        // Whatever former owners queued is written before this is answered.
        opened.inner.committer.commit(Batch::default()).await?;
        Ok(opened)
    }
}

#[async_trait]
impl Transactional for LocalTransactional {
    async fn transact(&mut self, records: Vec<Record>) -> Result<(), BusError> {
        let limit = self.inner.limits.max_record_bytes;
        if let Some(record) = records.iter().find(|record| record.size() > limit) {
            return Err(BusError::TooLarge { to: record.to.clone(), size: record.size(), limit });
        }
        let submit = || self.inner.committer.submit(Batch { records, ..Batch::default() });
        let queued = self.inner.groups.while_owned(&self.name, self.owner, submit)??;
        // Whoever drops this future does not learn the outcome.
        let mut abandoned = Abandon(Some(self));
        let result = queued.await.unwrap_or(Err(BusError::Closed));
        if result.as_ref().map_or_else(|error| error.class() == ErrorClass::Permanent, |()| true) {
            abandoned.0 = None;
        }
        result
    }
}

/// Gives the id up unless disarmed, so that no later transaction of this owner is written.
struct Abandon<'a>(Option<&'a LocalTransactional>);

impl Drop for Abandon<'_> {
    fn drop(&mut self) {
        if let Some(owner) = self.0 {
            owner.inner.groups.disown(owner.owner);
        }
    }
}

impl Drop for LocalTransactional {
    fn drop(&mut self) {
        self.inner.groups.disown(self.owner);
    }
}
