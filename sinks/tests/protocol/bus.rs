//! A bus in memory whose every turn a test controls: members come, go, are robbed of partitions and die.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use afflux_bus::{
    Assignment, Bus, BusError, Consumer, ConsumerConfig, Event, Generation, Headers, Offset, PartitionId, PartitionLag,
    Producer, Reader, ReaderConfig, Received, Record, TopicSpec, Transactional,
};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use self::member::SimConsumer;

mod member;

/// Records that one poll brings at most.
const POLL_RECORDS: usize = 3;

/// The bus; clones share it.
#[derive(Clone, Default)]
pub struct SimBus {
    state: Arc<Mutex<State>>,
    changed: Arc<Notify>,
}

#[derive(Default)]
struct State {
    logs: BTreeMap<PartitionId, Vec<Received>>,
    committed: BTreeMap<PartitionId, u64>,
    owners: BTreeMap<PartitionId, (u64, Generation)>,
    members: BTreeMap<u64, Member>,
    last_member: u64,
    last_generation: u64,
    published: Vec<Record>,
    commits: u64,
    commit_failures: u32,
    publish_failures: u32,
    fences: u32,
    down: bool,
}

#[derive(Default)]
struct Member {
    owned: BTreeMap<PartitionId, Owned>,
    events: VecDeque<Event>,
    revoking: Vec<PartitionId>,
    frozen: bool,
}

struct Owned {
    generation: Generation,
    next: u64,
    paused: bool,
}

impl SimBus {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.state());
        self.changed.notify_waiters();
        result
    }

    /// Creates a partition, if it does not exist.
    pub fn create(&self, partition: &PartitionId) {
        self.change(|state| {
            state.logs.entry(partition.clone()).or_default();
            state.rebalance();
        });
    }

    /// Appends a record at an offset, which may leave a hole.
    pub fn append(
        &self,
        partition: &PartitionId,
        offset: u64,
        timestamp_ms: i64,
        value: Option<Bytes>,
        headers: Headers,
    ) {
        self.change(|state| {
            let log = state.logs.entry(partition.clone()).or_default();
            assert!(log.last().is_none_or(|last| last.offset < offset), "offsets rise");
            let (from, generation) = (partition.clone(), Generation(0));
            log.push(Received { from, generation, offset, timestamp_ms, key: None, value, headers });
            state.rebalance();
        });
    }

    /// Forgets the records below an offset, as retention does.
    pub fn expire(&self, partition: &PartitionId, below: u64) {
        self.change(|state| state.logs.get_mut(partition).unwrap().retain(|record| record.offset >= below));
    }

    /// Deletes a partition's records and makes it anew.
    pub fn recreate(&self, partition: &PartitionId) {
        self.change(|state| state.logs.insert(partition.clone(), Vec::new()));
    }

    /// Sets or loses the group's offset.
    pub fn set_committed(&self, partition: &PartitionId, offset: Option<u64>) {
        self.change(|state| match offset {
            Some(offset) => state.committed.insert(partition.clone(), offset),
            None => state.committed.remove(partition),
        });
    }

    /// The group's offset.
    pub fn committed(&self, partition: &PartitionId) -> Option<u64> {
        self.state().committed.get(partition).copied()
    }

    /// Whether everything is committed.
    pub fn is_drained(&self) -> bool {
        let state = self.state();
        let end = |log: &Vec<Received>| log.last().map_or(0, |last| last.offset + 1);
        state.logs.iter().all(|(partition, log)| state.committed.get(partition).copied().unwrap_or(0) >= end(log))
    }

    /// Commits that were tried, with or without success.
    pub fn commits(&self) -> u64 {
        self.state().commits
    }

    /// Records that were published.
    pub fn published(&self) -> Vec<Record> {
        self.state().published.clone()
    }

    /// Lets the next commits fail. Every other one happens all the same: its answer is lost.
    pub fn fail_commits(&self, count: u32) {
        self.state().commit_failures = count;
    }

    /// Lets the next publications fail.
    pub fn fail_publications(&self, count: u32) {
        self.state().publish_failures = count;
    }

    /// Refuses the next commits as those of an older generation, without a word about the partitions.
    pub fn fence_commits(&self, count: u32) {
        self.state().fences = count;
    }

    /// Lets nothing through, or everything again.
    pub fn set_down(&self, down: bool) {
        self.change(|state| state.down = down);
    }

    /// Number of members.
    pub fn members(&self) -> usize {
        self.state().members.len()
    }

    /// The member that owns a partition.
    pub fn owner(&self, partition: &PartitionId) -> Option<u64> {
        self.state().owners.get(partition).map(|owner| owner.0)
    }

    /// Takes a partition away behind its owner's back, which goes on as a zombie, and gives it to another member.
    pub fn rob(&self, partition: &PartitionId) {
        self.change(|state| {
            let robbed = state.owners.remove(partition).map(|owner| owner.0);
            let heir = state.members.keys().copied().find(|member| Some(*member) != robbed);
            if let Some(heir) = heir {
                state.assign(partition, heir);
            }
        });
    }

    /// Lets a member's polls bring nothing, or things again.
    pub fn freeze(&self, member: u64, frozen: bool) {
        self.change(|state| {
            if let Some(member) = state.members.get_mut(&member) {
                member.frozen = frozen;
            }
        });
    }

    /// Partitions that a member has paused.
    pub fn paused(&self) -> Vec<PartitionId> {
        let state = self.state();
        let paused = |member: &Member| -> Vec<_> {
            member.owned.iter().filter(|(_, owned)| owned.paused).map(|(partition, _)| partition.clone()).collect()
        };
        state.members.values().flat_map(paused).collect()
    }

    /// Bytes of records that were delivered and are not committed.
    pub fn outstanding_bytes(&self) -> usize {
        let state = self.state();
        let of_member = |member: &Member| -> usize {
            let of_partition = |(partition, owned): (&PartitionId, &Owned)| -> usize {
                let committed = state.committed.get(partition).copied().unwrap_or(0);
                let between = |record: &&Received| (committed..owned.next).contains(&record.offset);
                state.logs[partition].iter().filter(between).map(Received::size).sum()
            };
            member.owned.iter().map(of_partition).sum()
        };
        state.members.values().map(of_member).sum()
    }
}

impl State {
    /// Gives every partition to the member whose turn it is, cooperatively.
    fn rebalance(&mut self) {
        let members: Vec<u64> = self.members.keys().copied().collect();
        if members.is_empty() {
            return;
        }
        for (i, partition) in self.logs.keys().cloned().collect::<Vec<_>>().into_iter().enumerate() {
            let due = members[i % members.len()];
            match self.owners.get(&partition).map(|owner| owner.0) {
                None => self.assign(&partition, due),
                Some(owner) if owner == due => {}
                Some(owner) => self.revoke(&partition, owner),
            }
        }
    }

    fn assign(&mut self, partition: &PartitionId, member: u64) {
        self.last_generation += 1;
        let generation = Generation(self.last_generation);
        let oldest = self.logs[partition].first().map_or(0, |record| record.offset);
        let position = self.committed.get(partition).copied().unwrap_or(oldest);
        self.owners.insert(partition.clone(), (member, generation));
        let member = self.members.get_mut(&member).unwrap();
        member.owned.insert(partition.clone(), Owned { generation, next: position, paused: false });
        let assignment = Assignment { partition: partition.clone(), generation, position };
        member.events.push_back(Event::Assigned(vec![assignment]));
    }

    fn revoke(&mut self, partition: &PartitionId, member: u64) {
        let member = self.members.get_mut(&member).unwrap();
        let pending = member.events.iter().any(|event| matches!(event, Event::Revoked(all) if all.contains(partition)));
        if !pending && !member.revoking.contains(partition) {
            member.events.push_back(Event::Revoked(vec![partition.clone()]));
        }
    }

    /// Takes what a member has been told to give up.
    fn collect(&mut self, id: u64) {
        let revoking = std::mem::take(&mut self.members.get_mut(&id).unwrap().revoking);
        for partition in &revoking {
            self.members.get_mut(&id).unwrap().owned.remove(partition);
            if self.owners.get(partition).is_some_and(|owner| owner.0 == id) {
                self.owners.remove(partition);
            }
        }
        if !revoking.is_empty() {
            self.rebalance();
        }
    }

    fn next_event(&mut self, id: u64) -> Option<Event> {
        self.collect(id);
        let member = self.members.get_mut(&id).unwrap();
        if member.frozen {
            return None;
        }
        if let Some(event) = member.events.pop_front() {
            if let Event::Revoked(partitions) = &event {
                member.revoking.clone_from(partitions);
            }
            return Some(event);
        }
        let mut records = Vec::new();
        for (partition, owned) in member.owned.iter_mut().filter(|(_, owned)| !owned.paused) {
            let due = self.logs[partition].iter().filter(|record| record.offset >= owned.next);
            let due: Vec<_> = due.take(POLL_RECORDS).cloned().collect();
            if let Some(last) = due.last() {
                owned.next = last.offset + 1;
            }
            records.extend(due.into_iter().map(|record| Received { generation: owned.generation, ..record }));
        }
        (!records.is_empty()).then_some(Event::Records(records))
    }

    fn commit(&mut self, id: u64, offset: &Offset) -> Result<(), BusError> {
        if self.owners.get(&offset.partition) != Some(&(id, offset.generation)) {
            let member = self.members.get_mut(&id).unwrap();
            if member.owned.get(&offset.partition).is_some_and(|owned| owned.generation == offset.generation) {
                member.owned.remove(&offset.partition);
                member.events.push_back(Event::Revoked(vec![offset.partition.clone()]));
            }
            return Err(BusError::Fenced { reason: "another member owns the partition".into() });
        }
        self.committed.insert(offset.partition.clone(), offset.next);
        Ok(())
    }

    fn answer<T>(&self, answer: T) -> Result<T, BusError> {
        if self.down { Err(BusError::Full { reason: "down by a test".into() }) } else { Ok(answer) }
    }

    fn remove_member(&mut self, id: u64) {
        self.members.remove(&id);
        self.owners.retain(|_, owner| owner.0 != id);
        self.rebalance();
    }
}

#[async_trait]
impl Bus for SimBus {
    async fn create_topics(&self, _: &[TopicSpec]) -> Result<(), BusError> {
        Ok(())
    }

    async fn producer(&self) -> Result<Arc<dyn Producer>, BusError> {
        Ok(Arc::new(self.clone()))
    }

    async fn consumer(&self, _: ConsumerConfig) -> Result<Box<dyn Consumer>, BusError> {
        let id = self.change(|state| {
            state.last_member += 1;
            state.members.insert(state.last_member, Member::default());
            state.rebalance();
            state.last_member
        });
        Ok(Box::new(SimConsumer { bus: self.clone(), id }))
    }

    async fn reader(&self, _: ReaderConfig) -> Result<Box<dyn Reader>, BusError> {
        Err(BusError::Closed)
    }

    async fn transactional(&self, _: Arc<str>) -> Result<Box<dyn Transactional>, BusError> {
        Err(BusError::Closed)
    }

    async fn lag(&self, _: &str, _: &[Arc<str>]) -> Result<Vec<PartitionLag>, BusError> {
        self.state().answer(Vec::new())
    }

    async fn close(&self) {}
}

#[async_trait]
impl Producer for SimBus {
    fn max_record_bytes(&self) -> usize {
        usize::MAX
    }

    async fn partitions(&self, _: &str) -> Result<u32, BusError> {
        Ok(4)
    }

    async fn send(&self, records: Vec<Record>) -> Result<(), BusError> {
        let mut state = self.state();
        if state.publish_failures > 0 {
            state.publish_failures -= 1;
            return Err(BusError::Full { reason: "a test".into() });
        }
        state.published.extend(records);
        Ok(())
    }
}
