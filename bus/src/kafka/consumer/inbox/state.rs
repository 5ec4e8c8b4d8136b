//! What a member owns and has fetched, and what it must be told.

use std::collections::{BTreeMap, VecDeque};

use crate::contract::{Assignment, Event};
use crate::error::BusError;
use crate::record::{Generation, PartitionId, Received};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) generation: u64,
    pub(super) owned: BTreeMap<PartitionId, Owned>,
    pub(super) ready: VecDeque<Received>,
    pub(super) ready_bytes: usize,
    pub(super) held_bytes: usize,
    pub(super) events: VecDeque<Queued>,
    pub(super) giving_up: GivingUp,
    pub(super) restart: Option<Vec<PartitionId>>,
    pub(super) closed: bool,
}

/// Where an assignment begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kafka::consumer) struct Start {
    pub(in crate::kafka::consumer) partition: PartitionId,
    /// The committed offset, or where the group starts.
    pub(in crate::kafka::consumer) position: u64,
    /// Where reading begins: the position, or below it.
    pub(in crate::kafka::consumer) from: u64,
}

/// A partition that this member owns.
#[derive(Debug)]
pub(super) struct Owned {
    pub(super) generation: Generation,
    /// The lowest offset that may come next.
    pub(super) next: u64,
    /// What lies below was read before.
    pub(super) position: u64,
    pub(super) paused: bool,
    /// Whether librdkafka has been told to pause.
    pub(super) stopped: bool,
    /// Fetched before or while the caller paused.
    pub(super) held: VecDeque<Received>,
    /// Held records were dropped for want of room: fetch again from here.
    pub(super) rewind: Option<u64>,
}

#[derive(Debug)]
pub(super) enum Queued {
    Event(Event),
    /// A revocation that librdkafka waits for: the poll after it gives the partitions up.
    Revoked(Vec<PartitionId>),
    Failed(BusError),
}

/// How far the revocation that librdkafka waits for has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum GivingUp {
    /// There is none.
    #[default]
    No,
    /// The caller has not been told.
    Queued(Vec<PartitionId>),
    /// The caller has been told and may commit until it polls again.
    Told(Vec<PartitionId>),
    /// The caller polled, or took too long.
    Released,
}

impl State {
    pub(super) fn assign(&mut self, starts: Vec<Start>) {
        if starts.is_empty() {
            return;
        }
        self.generation += 1;
        let generation = Generation(self.generation);
        let mut assignments = Vec::with_capacity(starts.len());
        for Start { partition, position, from } in starts {
            let owned = Owned {
                generation,
                next: from,
                position,
                paused: false,
                // librdkafka may remember a pause of an earlier assignment; telling it to resume settles that.
                stopped: true,
                held: VecDeque::new(),
                rewind: None,
            };
            self.owned.insert(partition.clone(), owned);
            assignments.push(Assignment { partition, generation, position });
        }
        self.events.push_back(Queued::Event(Event::Assigned(assignments)));
    }

    pub(super) fn push(&mut self, mut record: Received) {
        let Some(owned) = self.owned.get_mut(&record.from) else { return };
        if owned.rewind.is_some() {
            return;
        }
        if record.offset < owned.next {
            // Kafka goes back by itself only where the topic was made anew: what was known of it is void.
            tracing::warn!(partition = %record.from, offset = record.offset, expected = owned.next, "partition went back");
            let partition = record.from.clone();
            self.disown(std::slice::from_ref(&partition));
            self.events.push_back(Queued::Event(Event::Revoked(vec![partition.clone()])));
            self.assign(vec![Start { partition, position: record.offset, from: record.offset }]);
            return self.push(record);
        }
        owned.next = record.offset + 1;
        record.generation = owned.generation;
        let bytes = held_size(&record);
        if owned.paused {
            owned.held.push_back(record);
            self.held_bytes += bytes;
        } else {
            self.ready.push_back(record);
            self.ready_bytes += bytes;
        }
    }

    /// The oldest records of up to that many bytes, at least one.
    pub(super) fn take_ready(&mut self, limit: usize) -> Vec<Received> {
        let (mut taken, mut count) = (0, 0);
        for record in &self.ready {
            let bytes = held_size(record);
            if count > 0 && taken + bytes > limit {
                break;
            }
            taken += bytes;
            count += 1;
        }
        self.ready_bytes -= taken;
        self.ready.drain(..count).collect()
    }

    pub(super) fn pause(&mut self, partition: &PartitionId, limit: usize) -> Option<()> {
        let owned = self.owned.get_mut(partition)?;
        if !owned.paused {
            owned.paused = true;
            let (held, ready) = std::mem::take(&mut self.ready).into_iter().partition(|r| r.from == *partition);
            owned.held = held;
            self.ready = ready;
            let bytes = owned.held.iter().map(held_size).sum::<usize>();
            self.ready_bytes -= bytes;
            self.held_bytes += bytes;
            self.bound_held(limit);
        }
        Some(())
    }

    pub(super) fn resume(&mut self, partition: &PartitionId) -> Option<()> {
        let owned = self.owned.get_mut(partition)?;
        if owned.paused {
            owned.paused = false;
            let held = std::mem::take(&mut owned.held);
            let bytes = held.iter().map(held_size).sum::<usize>();
            self.held_bytes -= bytes;
            self.ready_bytes += bytes;
            self.ready.extend(held);
        }
        Some(())
    }

    /// Keeps what paused partitions hold within the limit: whoever holds most fetches again later.
    pub(super) fn bound_held(&mut self, limit: usize) {
        while self.held_bytes > limit {
            let size = |owned: &Owned| owned.held.iter().map(held_size).sum::<usize>();
            let Some(owned) = self.owned.values_mut().max_by_key(|owned| size(owned)) else { return };
            let Some(first) = owned.held.front().map(|record| record.offset) else { return };
            owned.rewind = Some(first);
            self.held_bytes -= size(owned);
            owned.held.clear();
        }
    }

    pub(super) fn disown(&mut self, partitions: &[PartitionId]) {
        self.forget_fetched(partitions);
        self.owned.retain(|partition, _| !partitions.contains(partition));
    }

    pub(super) fn forget_fetched(&mut self, partitions: &[PartitionId]) {
        self.ready.retain(|record| !partitions.contains(&record.from));
        self.ready_bytes = self.ready.iter().map(held_size).sum();
        for partition in partitions {
            if let Some(owned) = self.owned.get_mut(partition) {
                self.held_bytes -= owned.held.iter().map(held_size).sum::<usize>();
                owned.held.clear();
            }
        }
    }
}

/// Bytes that a record occupies, so that many empty ones are not free.
fn held_size(record: &Received) -> usize {
    record.size() + std::mem::size_of::<Received>()
}
