//! What a member owns, what it has fetched and what it must be told: the meeting point of the caller's task and
//! the thread that drives librdkafka.
//!
//! All rules of the contract that need no broker live here, as one state machine without I/O.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Condvar, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

use crate::contract::{Assignment, Event, Offset};
use crate::error::BusError;
use crate::kafka::client::lock;
use crate::record::{Generation, PartitionId, Received};

/// See the module.
#[derive(Debug)]
pub(super) struct Inbox {
    state: Mutex<State>,
    /// Told when [`Inbox::take`] may have something new to say.
    news: Notify,
    /// Told when the driver may have something new to do.
    work: Condvar,
    fetch_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    generation: u64,
    owned: BTreeMap<PartitionId, Owned>,
    ready: VecDeque<Received>,
    ready_bytes: usize,
    held_bytes: usize,
    events: VecDeque<Queued>,
    giving_up: GivingUp,
    restart: Option<Vec<PartitionId>>,
    closed: bool,
}

/// A partition that this member owns.
#[derive(Debug)]
struct Owned {
    generation: Generation,
    /// The lowest offset that may come next.
    next: u64,
    paused: bool,
    /// Whether librdkafka has been told to pause.
    stopped: bool,
    /// Fetched before or while the caller paused.
    held: VecDeque<Received>,
    /// Held records were dropped for want of room: fetch again from here.
    rewind: Option<u64>,
}

#[derive(Debug)]
enum Queued {
    Event(Event),
    /// A revocation that librdkafka waits for: the poll after it gives the partitions up.
    Revoked(Vec<PartitionId>),
    Failed(BusError),
}

/// How far the revocation that librdkafka waits for has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum GivingUp {
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

/// What the driver has to tell librdkafka about the flow of partitions.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Flow {
    pub(super) pause: Vec<PartitionId>,
    pub(super) resume: Vec<PartitionId>,
    /// Where to fetch again, before a resume.
    pub(super) rewind: Vec<(PartitionId, u64)>,
}

impl Inbox {
    pub(super) fn new(fetch_bytes: usize) -> Self {
        Self { state: Mutex::default(), news: Notify::new(), work: Condvar::new(), fetch_bytes }
    }

    // The caller's side.

    /// Resolves when there may be something to take.
    pub(super) async fn news(&self) {
        self.news.notified().await;
    }

    /// A call of poll begins: a revocation that the caller has been told of is over.
    pub(super) fn begin_poll(&self) {
        let state = &mut *lock(&self.state);
        if let GivingUp::Told(partitions) = &state.giving_up {
            let partitions = partitions.clone();
            state.disown(&partitions);
            state.giving_up = GivingUp::Released;
            self.work.notify_all();
        }
    }

    /// What poll returns, if anything.
    pub(super) fn take(&self) -> Option<Result<Event, BusError>> {
        let state = &mut *lock(&self.state);
        match state.events.pop_front() {
            Some(Queued::Event(event)) => return Some(Ok(event)),
            Some(Queued::Failed(error)) => return Some(Err(error)),
            Some(Queued::Revoked(partitions)) => {
                if matches!(state.giving_up, GivingUp::Queued(_)) {
                    state.giving_up = GivingUp::Told(partitions.clone());
                }
                return Some(Ok(Event::Revoked(partitions)));
            }
            None if state.closed => return Some(Err(BusError::Closed)),
            None => {}
        }
        let records = state.take_ready(self.fetch_bytes);
        if records.is_empty() {
            return None;
        }
        self.work.notify_all();
        Some(Ok(Event::Records(records)))
    }

    /// Refuses offsets of partitions that are no longer owned under their generation.
    pub(super) fn check(&self, offsets: &[Offset]) -> Result<(), BusError> {
        let state = lock(&self.state);
        if state.closed {
            return Err(BusError::Closed);
        }
        for offset in offsets {
            if state.owned.get(&offset.partition).is_none_or(|owned| owned.generation != offset.generation) {
                let reason = format!("generation {} of {} is over", offset.generation.0, offset.partition);
                return Err(BusError::Fenced { reason });
            }
        }
        Ok(())
    }

    /// Stops or continues delivery from a partition.
    pub(super) fn set_paused(&self, partition: &PartitionId, paused: bool) -> Result<(), BusError> {
        let state = &mut *lock(&self.state);
        if state.closed {
            return Err(BusError::Closed);
        }
        if paused { state.pause(partition, self.fetch_bytes) } else { state.resume(partition) }
            .ok_or_else(|| BusError::UnknownPartition(partition.clone()))?;
        self.work.notify_all();
        self.news.notify_one();
        Ok(())
    }

    /// Ends every generation at once: the partitions are assigned anew, at their committed offsets, when the
    /// driver has learnt those.
    pub(super) fn restart(&self) {
        let state = &mut *lock(&self.state);
        // Partitions on their way out are not assigned anew; the caller has nothing left to commit for them.
        if let GivingUp::Queued(leaving) | GivingUp::Told(leaving) = std::mem::take(&mut state.giving_up) {
            state.disown(&leaving);
            state.giving_up = GivingUp::Released;
        }
        let partitions: Vec<_> = state.owned.keys().cloned().collect();
        state.disown(&partitions);
        state.restart.get_or_insert_default().extend(partitions.iter().cloned());
        if !partitions.is_empty() {
            state.events.push_back(Queued::Event(Event::Revoked(partitions)));
        }
        self.work.notify_all();
        self.news.notify_one();
    }

    // The driver's side.

    /// Bytes that may still be fetched ahead.
    pub(super) fn room(&self) -> usize {
        (self.fetch_bytes / 2).max(1).saturating_sub(lock(&self.state).ready_bytes)
    }

    /// Waits until the caller did something that may concern the driver.
    pub(super) fn wait_for_work(&self, at_most: Duration) {
        let state = lock(&self.state);
        // Poisoning is impossible, an early wake-up harmless.
        drop(self.work.wait_timeout(state, at_most));
    }

    /// Hands partitions over, under a generation of their own.
    pub(super) fn assign(&self, positions: Vec<(PartitionId, u64)>) {
        let state = &mut *lock(&self.state);
        state.assign(positions);
        self.news.notify_one();
    }

    /// Announces a revocation that librdkafka waits for. Nothing more of the partitions is delivered.
    pub(super) fn revoke(&self, partitions: Vec<PartitionId>) {
        let state = &mut *lock(&self.state);
        let known: Vec<_> = partitions.iter().filter(|p| state.owned.contains_key(*p)).cloned().collect();
        state.forget_fetched(&partitions);
        if let Some(restarting) = &mut state.restart {
            restarting.retain(|p| !partitions.contains(p));
        }
        if known.is_empty() {
            state.giving_up = GivingUp::Released;
            return;
        }
        state.events.push_back(Queued::Revoked(known.clone()));
        state.giving_up = GivingUp::Queued(known);
        self.news.notify_one();
    }

    /// Ends a revocation whose caller took too long, or whose partitions are already someone else's.
    pub(super) fn expire_revocation(&self) {
        let state = &mut *lock(&self.state);
        if let GivingUp::Queued(partitions) | GivingUp::Told(partitions) = std::mem::take(&mut state.giving_up) {
            state.disown(&partitions);
        }
        state.giving_up = GivingUp::Released;
    }

    /// Whether librdkafka may take the revoked partitions back.
    pub(super) fn is_released(&self) -> bool {
        lock(&self.state).giving_up == GivingUp::Released
    }

    /// Notes that librdkafka has them.
    pub(super) fn finish_revocation(&self) {
        lock(&self.state).giving_up = GivingUp::No;
    }

    /// Partitions to assign anew, after [`Inbox::restart`].
    pub(super) fn restarting(&self) -> Option<Vec<PartitionId>> {
        lock(&self.state).restart.clone()
    }

    /// Ends a restart: those still wanted are assigned at their positions.
    pub(super) fn finish_restart(&self, positions: Vec<(PartitionId, u64)>) {
        let state = &mut *lock(&self.state);
        let wanted = state.restart.take().unwrap_or_default();
        state.assign(positions.into_iter().filter(|(p, _)| wanted.contains(p)).collect());
        self.news.notify_one();
    }

    /// Takes fetched records in.
    pub(super) fn push(&self, records: Vec<Received>) {
        let state = &mut *lock(&self.state);
        for record in records {
            state.push(record);
        }
        state.bound_held(self.fetch_bytes);
        self.news.notify_one();
    }

    /// Reports an error to the next poll.
    pub(super) fn fail(&self, error: BusError) {
        lock(&self.state).events.push_back(Queued::Failed(error));
        self.news.notify_one();
    }

    /// What to tell librdkafka so that it fetches what is wanted; noted as told.
    pub(super) fn flow(&self, stalled: bool) -> Flow {
        let mut flow = Flow::default();
        for (partition, owned) in &mut lock(&self.state).owned {
            let stop = owned.paused || stalled;
            if !stop && let Some(offset) = owned.rewind.take() {
                owned.next = offset;
                flow.rewind.push((partition.clone(), offset));
            }
            if stop != owned.stopped {
                owned.stopped = stop;
                if stop { &mut flow.pause } else { &mut flow.resume }.push(partition.clone());
            }
        }
        flow
    }

    /// Ends the inbox: every later call is told so.
    pub(super) fn close(&self) {
        let state = &mut *lock(&self.state);
        state.owned.clear();
        state.ready.clear();
        state.events.clear();
        (state.ready_bytes, state.held_bytes) = (0, 0);
        state.closed = true;
        self.work.notify_all();
        self.news.notify_one();
    }
}

impl State {
    fn assign(&mut self, positions: Vec<(PartitionId, u64)>) {
        if positions.is_empty() {
            return;
        }
        self.generation += 1;
        let generation = Generation(self.generation);
        let mut assignments = Vec::with_capacity(positions.len());
        for (partition, position) in positions {
            let owned = Owned {
                generation,
                next: position,
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

    fn push(&mut self, mut record: Received) {
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
            self.assign(vec![(partition, record.offset)]);
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
    fn take_ready(&mut self, limit: usize) -> Vec<Received> {
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

    fn pause(&mut self, partition: &PartitionId, limit: usize) -> Option<()> {
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

    fn resume(&mut self, partition: &PartitionId) -> Option<()> {
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
    fn bound_held(&mut self, limit: usize) {
        while self.held_bytes > limit {
            let size = |owned: &Owned| owned.held.iter().map(held_size).sum::<usize>();
            let Some(owned) = self.owned.values_mut().max_by_key(|owned| size(owned)) else { return };
            let Some(first) = owned.held.front().map(|record| record.offset) else { return };
            owned.rewind = Some(first);
            self.held_bytes -= size(owned);
            owned.held.clear();
        }
    }

    fn disown(&mut self, partitions: &[PartitionId]) {
        self.forget_fetched(partitions);
        self.owned.retain(|partition, _| !partitions.contains(partition));
    }

    fn forget_fetched(&mut self, partitions: &[PartitionId]) {
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

#[cfg(test)]
mod tests;
