//! A consumer whose every event is checked against the contract.

use std::collections::BTreeMap;
use std::time::Duration;

use super::DEADLINE;
use crate::contract::{Bus, Consumer, ConsumerConfig, Event, Offset};
use crate::error::BusError;
use crate::record::{Generation, PartitionId, Received, Record};

/// A consumer whose every event is checked against the contract.
pub struct Reader {
    consumer: Box<dyn Consumer>,
    fetch_bytes: usize,
    newest: Option<Generation>,
    owned: BTreeMap<PartitionId, Owned>,
    leaving: Vec<PartitionId>,
    /// Records that retention took before they were read.
    pub expired: u64,
}

#[derive(Clone, Copy, Debug)]
struct Owned {
    generation: Generation,
    /// No lower offset may come.
    next: u64,
}

impl Reader {
    /// Joins a group.
    pub async fn join(bus: &dyn Bus, config: ConsumerConfig) -> Self {
        let fetch_bytes = config.fetch_bytes;
        let consumer = bus.consumer(config).await.expect("a consumer");
        Self { consumer, fetch_bytes, newest: None, owned: BTreeMap::new(), leaving: Vec::new(), expired: 0 }
    }

    /// The next event, checked.
    pub async fn next(&mut self) -> Event {
        self.next_within(DEADLINE).await.expect("an event before the deadline")
    }

    /// The next event, checked; `None` when none comes within that time.
    pub async fn next_within(&mut self, patience: Duration) -> Option<Event> {
        for partition in self.leaving.drain(..) {
            self.owned.remove(&partition);
        }
        let event = tokio::time::timeout(patience, self.consumer.poll()).await.ok()?.expect("an event");
        self.check(&event);
        Some(event)
    }

    /// Polls until that many partitions are owned, besides those on their way out, and answers which.
    pub async fn assigned(&mut self, count: usize) -> Vec<PartitionId> {
        while self.owned.len() - self.leaving.len() < count {
            let event = self.next().await;
            assert!(!matches!(event, Event::Records(_)), "records while waiting for partitions: {event:?}");
        }
        self.owned.keys().filter(|p| !self.leaving.contains(p)).cloned().collect()
    }

    /// Reads that many records, or more where the last poll brings more.
    pub async fn read(&mut self, count: usize) -> Vec<Received> {
        let mut all = Vec::new();
        while all.len() < count {
            if let Event::Records(records) = self.next().await {
                all.extend(records);
            }
        }
        all
    }

    /// Reads until a record of the topic's partition with that offset, or a later one, has come.
    pub async fn read_past(&mut self, partition: &PartitionId, offset: u64) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            if let Event::Records(records) = self.next().await {
                all.extend(records);
            }
            if all.iter().any(|r| r.from == *partition && r.offset >= offset) {
                return all;
            }
        }
    }

    /// The generation under which a partition is owned.
    pub fn generation(&self, partition: &PartitionId) -> Generation {
        self.owned.get(partition).expect("an owned partition").generation
    }

    /// Where reading of a partition stands: the next record has this offset or a higher one.
    pub fn position(&self, partition: &PartitionId) -> u64 {
        self.owned.get(partition).expect("an owned partition").next
    }

    /// Lets records below the position come.
    pub fn goes_back(&mut self, partition: &PartitionId) {
        self.owned.get_mut(partition).expect("an owned partition").next = 0;
    }

    /// Commits what was read of some partitions.
    pub async fn commit_read(&mut self, partitions: &[PartitionId]) {
        let offsets: Vec<_> = partitions.iter().map(|p| self.read_offset(p)).collect();
        self.commit(&offsets).await.expect("a commit");
    }

    /// The offset that settles what was read of a partition.
    pub fn read_offset(&self, partition: &PartitionId) -> Offset {
        let owned = self.owned.get(partition).expect("an owned partition");
        Offset { partition: partition.clone(), generation: owned.generation, next: owned.next }
    }

    /// See [`Consumer::commit`].
    pub async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError> {
        within(self.consumer.commit(offsets)).await
    }

    /// See [`Consumer::transact`].
    pub async fn transact(&mut self, outputs: Vec<Record>, offsets: &[Offset]) -> Result<(), BusError> {
        within(self.consumer.transact(outputs, offsets)).await
    }

    /// See [`Consumer::committed`].
    pub async fn committed(&mut self, partition: &PartitionId) -> Option<u64> {
        within(self.consumer.committed(partition)).await.expect("a committed offset")
    }

    /// See [`Consumer::pause`].
    pub fn pause(&mut self, partition: &PartitionId) {
        self.consumer.pause(partition).expect("a pause");
    }

    /// See [`Consumer::resume`].
    pub fn resume(&mut self, partition: &PartitionId) {
        self.consumer.resume(partition).expect("a resume");
    }

    /// Leaves the group.
    pub async fn close(self) {
        within(self.consumer.close()).await;
    }

    /// The consumer itself, for what must not be checked.
    pub fn raw(&mut self) -> &mut dyn Consumer {
        &mut *self.consumer
    }

    fn check(&mut self, event: &Event) {
        match event {
            Event::Assigned(assignments) => {
                assert!(!assignments.is_empty(), "an assignment of nothing");
                let before = self.newest;
                for a in assignments {
                    assert!(before < Some(a.generation), "{}: {:?} after {before:?}", a.partition, a.generation);
                    self.newest = self.newest.max(Some(a.generation));
                    let owned = Owned { generation: a.generation, next: a.position };
                    let replaced = self.owned.insert(a.partition.clone(), owned);
                    assert!(replaced.is_none(), "{} assigned twice", a.partition);
                }
            }
            Event::Revoked(partitions) => {
                assert!(!partitions.is_empty(), "a revocation of nothing");
                for p in partitions {
                    assert!(self.owned.contains_key(p), "{p} revoked without having been assigned");
                }
                self.leaving.clone_from(partitions);
            }
            Event::Expired { partition, records } => {
                assert!(*records > 0, "a loss of nothing");
                assert!(self.owned.contains_key(partition), "{partition} is not owned");
                self.expired += records;
            }
            Event::Records(records) => {
                assert!(!records.is_empty(), "a poll without records");
                let bytes: usize = records.iter().map(Received::size).sum();
                assert!(records.len() == 1 || bytes <= self.fetch_bytes, "{bytes} bytes in one poll");
                records.iter().for_each(|record| self.check_record(record));
            }
        }
    }

    fn check_record(&mut self, record: &Received) {
        let owned = self.owned.get_mut(&record.from);
        let owned = owned.unwrap_or_else(|| panic!("record of {} which is not owned", record.from));
        assert_eq!(record.generation, owned.generation, "generation of a record of {}", record.from);
        assert!(record.offset >= owned.next, "{}: offset {} after {}", record.from, record.offset, owned.next);
        owned.next = record.offset + 1;
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, future).await.expect("an answer before the deadline")
}
