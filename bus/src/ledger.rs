//! The ledger: which records were delivered, which are settled, and what may therefore be committed.

use std::collections::{HashMap, VecDeque};
use std::time::Instant;

use crate::contract::{Assignment, Offset};
use crate::record::{Generation, PartitionId, Received};

/// Low watermark of settled offsets, per partition and generation.
///
/// Only what lies below the oldest unsettled record may be committed: silence is never success, so an offset that
/// nobody settled holds the watermark, however much after it is settled. Settles of an older generation are ignored
/// and counted. Pure: it neither reads a clock nor talks to a bus.
#[derive(Debug, Default)]
pub struct Ledger {
    partitions: HashMap<PartitionId, Partition>,
    stale: u64,
}

/// What a settle did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settle {
    /// The watermark rose.
    Advanced,
    /// Noted; an older record still holds the watermark.
    Held,
    /// Ignored and counted: the partition is not owned under this generation.
    Stale,
    /// Ignored: the record was never delivered, or is settled already.
    Unknown,
}

#[derive(Debug)]
struct Partition {
    generation: Generation,
    /// Everything below is settled.
    watermark: u64,
    /// Up to where the group has committed.
    committed: u64,
    /// Delivered from the watermark on, rising by offset.
    open: VecDeque<Delivered>,
}

#[derive(Debug)]
struct Delivered {
    offset: u64,
    timestamp_ms: i64,
    at: Instant,
    settled: bool,
}

impl Partition {
    fn delivered(&mut self, offset: u64, (timestamp_ms, at): (i64, Instant)) {
        let next = self.open.back().map_or(self.watermark, |last| last.offset + 1);
        if offset >= next {
            self.open.push_back(Delivered { offset, timestamp_ms, at, settled: false });
        }
    }

    fn settle(&mut self, offset: u64) -> Settle {
        let Ok(at) = self.open.binary_search_by_key(&offset, |delivered| delivered.offset) else {
            return Settle::Unknown;
        };
        if std::mem::replace(&mut self.open[at].settled, true) {
            return Settle::Unknown;
        }
        if at > 0 {
            return Settle::Held;
        }
        while let Some(settled) = self.open.pop_front_if(|delivered| delivered.settled) {
            self.watermark = settled.offset + 1;
        }
        Settle::Advanced
    }
}

impl Ledger {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts a partition at its assignment; what was known of it under an older generation is forgotten.
    pub fn assign(&mut self, assignment: &Assignment) {
        let Assignment { partition, generation, position } = assignment;
        let fresh =
            Partition { generation: *generation, watermark: *position, committed: *position, open: VecDeque::new() };
        self.partitions.insert(partition.clone(), fresh);
    }

    /// Forgets a partition. Whoever wants to commit for it calls [`Ledger::committable`] before.
    pub fn revoke(&mut self, partition: &PartitionId) {
        self.partitions.remove(partition);
    }

    /// Notes that a record was delivered: its own time in milliseconds since the Unix epoch, and when that was. Offsets of
    /// a partition come rising; others, and those of another generation, are ignored.
    pub fn delivered(&mut self, partition: &PartitionId, generation: Generation, offset: u64, time: (i64, Instant)) {
        if let Some(known) = self.partitions.get_mut(partition).filter(|known| known.generation == generation) {
            known.delivered(offset, time);
        }
    }

    /// Notes that these records were delivered, as [`Ledger::delivered`] does one by one.
    pub fn delivered_all(&mut self, records: &[Received], at: Instant) {
        for run in records.chunk_by(|a, b| a.generation == b.generation && a.from == b.from) {
            let Some(Received { from, generation, .. }) = run.first() else { continue };
            let Some(known) = self.partitions.get_mut(from).filter(|known| known.generation == *generation) else {
                continue;
            };
            run.iter().for_each(|record| known.delivered(record.offset, (record.timestamp_ms, at)));
        }
    }

    /// Notes that a record is dealt with for good: stored, dropped on purpose, or on the dead-letter topic.
    pub fn settle(&mut self, partition: &PartitionId, generation: Generation, offset: u64) -> Settle {
        let Some(known) = self.partitions.get_mut(partition).filter(|known| known.generation == generation) else {
            self.stale += 1;
            return Settle::Stale;
        };
        known.settle(offset)
    }

    /// Notes that these records of a partition are dealt with for good, as [`Ledger::settle`] does one by one.
    pub fn settle_all(&mut self, partition: &PartitionId, generation: Generation, offsets: &[u64]) {
        let Some(known) = self.partitions.get_mut(partition).filter(|known| known.generation == generation) else {
            self.stale += offsets.len() as u64;
            return;
        };
        for &offset in offsets {
            known.settle(offset);
        }
    }

    /// Settles everything below these offsets, as a commit of them does; those of an older generation are ignored.
    /// Gives the timestamp of the last record of each partition that this settles.
    pub fn settle_below(&mut self, offsets: &[Offset]) -> Vec<(PartitionId, i64)> {
        let mut last = Vec::new();
        for Offset { partition, generation, next } in offsets {
            let Some(known) = self.partitions.get_mut(partition).filter(|known| known.generation == *generation) else {
                self.stale += 1;
                continue;
            };
            known.watermark = known.watermark.max(*next);
            let mut time = None;
            while let Some(gone) = known.open.pop_front_if(|delivered| delivered.offset < *next || delivered.settled) {
                known.watermark = known.watermark.max(gone.offset + 1);
                time = Some(gone.timestamp_ms);
            }
            last.extend(time.map(|time| (partition.clone(), time)));
        }
        last
    }

    /// Below this everything of a partition is settled; 0 where the partition is not known.
    pub fn watermark(&self, partition: &PartitionId) -> u64 {
        self.partitions.get(partition).map_or(0, |known| known.watermark)
    }

    /// Of the oldest unsettled record of a partition: its timestamp, and when it was delivered.
    pub fn oldest_of(&self, partition: &PartitionId) -> Option<(i64, Instant)> {
        self.partitions.get(partition)?.open.front().map(|first| (first.timestamp_ms, first.at))
    }

    /// The watermarks that rose since the last [`Ledger::committed`], in the order of their partitions.
    pub fn committable(&self) -> Vec<Offset> {
        let risen = self.partitions.iter().filter(|(_, known)| known.watermark > known.committed);
        let offset = |(partition, known): (&PartitionId, &Partition)| Offset {
            partition: partition.clone(),
            generation: known.generation,
            next: known.watermark,
        };
        let mut offsets: Vec<_> = risen.map(offset).collect();
        offsets.sort_unstable_by(|a, b| a.partition.cmp(&b.partition));
        offsets
    }

    /// Notes that these offsets are committed; those of an older generation are ignored.
    pub fn committed(&mut self, offsets: &[Offset]) {
        for Offset { partition, generation, next } in offsets {
            if let Some(known) = self.partitions.get_mut(partition).filter(|known| known.generation == *generation) {
                known.committed = known.committed.max(*next);
            }
        }
    }

    /// The record that has waited longest for its settlement, with the time of its delivery.
    pub fn oldest_unsettled(&self) -> Option<(PartitionId, u64, Instant)> {
        // The first of each partition is unsettled, and was delivered before the others.
        let first = |(partition, known): (&'_ PartitionId, &Partition)| {
            known.open.front().map(|first| (first.at, partition.clone(), first.offset))
        };
        self.partitions.iter().filter_map(first).min().map(|(at, partition, offset)| (partition, offset, at))
    }

    /// Records delivered and not settled, in all partitions.
    pub fn unsettled(&self) -> usize {
        self.partitions.values().flat_map(|known| &known.open).filter(|delivered| !delivered.settled).count()
    }

    /// Settles ignored so far because their generation was over.
    pub fn stale(&self) -> u64 {
        self.stale
    }
}

#[cfg(test)]
mod tests;
