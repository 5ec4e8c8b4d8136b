//! The naive model of the log.

use std::collections::{BTreeMap, BTreeSet};

use crate::local::frame::{Stored, record_len};
use crate::local::log::{Batch, Log};
use crate::record::{Cleanup, PartitionId, Record, TopicSpec};

const DAY_MS: i64 = 24 * 3600 * 1000;

/// What the log should hold: everything ever acknowledged.
#[derive(Clone, Default)]
pub(super) struct Model {
    pub(super) topics: Vec<TopicSpec>,
    /// By offset.
    records: BTreeMap<PartitionId, Vec<Record>>,
    committed: BTreeMap<(String, PartitionId), u64>,
}

impl Model {
    pub(super) fn apply(&mut self, batch: &Batch) {
        for topic in &batch.topics {
            if !self.topics.iter().any(|known| known.name == topic.name) {
                self.topics.push(topic.clone());
            }
        }
        for record in &batch.records {
            self.records.entry(record.to.clone()).or_default().push(record.clone());
        }
        for (group, partition, next) in &batch.offsets {
            self.committed.insert((group.to_string(), partition.clone()), *next);
        }
    }

    /// Whether the log's topics, next and committed offsets are these.
    pub(super) fn agrees(&self, log: &Log) -> bool {
        let state = log.store.state();
        let committed: BTreeMap<_, _> = state
            .committed
            .iter()
            .flat_map(|(group, offsets)| offsets.iter().map(move |(part, next)| (group, part, next)))
            .map(|(group, part, next)| {
                let topic = &state.topics[part.topic as usize].name;
                ((group.to_string(), PartitionId::new(topic.clone(), part.partition)), *next)
            })
            .collect();
        state.topics == self.topics
            && committed == self.committed
            && self.partitions().all(|partition| {
                let part = state.part(&partition.topic, partition.partition).expect("a known partition");
                state.range(part).1 as usize == self.records.get(&partition).map_or(0, Vec::len)
            })
    }

    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.topics.iter().flat_map(|topic| (0..topic.partitions).map(|n| PartitionId::new(topic.name.clone(), n)))
    }

    pub(super) fn records(&self, partition: &PartitionId) -> &[Record] {
        self.records.get(partition).map_or(&[], Vec::as_slice)
    }

    /// Offsets that retention must keep.
    pub(super) fn wanted(&self, partition: &PartitionId, now_ms: i64) -> BTreeSet<u64> {
        let cleanup = self.topics.iter().find(|topic| topic.name == partition.topic).map(|topic| topic.cleanup);
        let records = self.records(partition);
        let mut after = 0;
        let mut keys = BTreeSet::new();
        let mut wanted = BTreeSet::new();
        for (offset, record) in records.iter().enumerate().rev() {
            let keep = match cleanup.expect("a known topic") {
                Cleanup::Delete { max_age, max_bytes } => {
                    max_age.is_none_or(|age| record.timestamp_ms >= now_ms - age.as_millis() as i64)
                        && max_bytes.is_none_or(|max| after < max)
                }
                Cleanup::Compact => {
                    keys.insert(record.key.clone())
                        && (record.value.is_some() || record.timestamp_ms >= now_ms - DAY_MS)
                }
            };
            if keep {
                wanted.insert(offset as u64);
            }
            after += record_len(record) as u64;
        }
        wanted
    }

    /// Checks what a read from an offset brought; `whole` where nothing limited it.
    pub(super) fn check_read(&self, partition: &PartitionId, from: u64, got: &[Stored], whole: bool, now_ms: i64) {
        let records = self.records(partition);
        let mut next = from;
        for stored in got {
            assert!(stored.offset >= next, "{partition}: offset {} came twice or out of order", stored.offset);
            next = stored.offset + 1;
            let Some(record) = records.get(stored.offset as usize) else {
                panic!("{partition}: offset {} was never acknowledged", stored.offset)
            };
            let same = stored.key == record.key
                && stored.value == record.value
                && stored.headers == record.headers
                && stored.timestamp_ms == record.timestamp_ms;
            assert!(same, "{partition}: record {} is not what was sent: {stored:?}", stored.offset);
        }
        let seen: BTreeSet<u64> = got.iter().map(|stored| stored.offset).collect();
        let to = if whole { u64::MAX } else { next };
        for offset in self.wanted(partition, now_ms).range(from.min(to)..to) {
            assert!(seen.contains(offset), "{partition}: record {offset} is wanted and gone (read from {from})");
        }
    }

    /// Checks that the last value of each key is the right one, and that no deleted key came back.
    pub(super) fn check_compacted(&self, partition: &PartitionId, got: &[Stored]) {
        let records = self.records(partition);
        let mut last = BTreeMap::new();
        for stored in got {
            last.insert(stored.key.clone(), stored.offset);
        }
        for (key, offset) in last {
            let newest = records.iter().rposition(|record| record.key == key);
            assert_eq!(Some(offset as usize), newest, "{partition}: an old value of {key:?} came back");
        }
    }
}
