//! What a member owns, what it has fetched and what it must be told: the meeting point of the caller's task and
//! the thread that drives librdkafka.
//!
//! All rules of the contract that need no broker live here, as one state machine without I/O; [`state`] is what it
//! is about.

mod state;

use std::sync::{Condvar, Mutex};
use std::time::Duration;

use tokio::sync::Notify;

pub(super) use self::state::Start;
use self::state::{GivingUp, Queued, State};
use crate::contract::{Event, Offset};
use crate::error::BusError;
use crate::kafka::client::lock;
use crate::record::{PartitionId, Received};

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
        if let GivingUp::Queued(leaving) | GivingUp::Told(leaving) = &state.giving_up {
            let leaving = leaving.clone();
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

    /// Where fetching of every owned partition stands, and what it has read before.
    pub(super) fn positions(&self) -> Vec<Start> {
        let start = |(partition, owned): (&PartitionId, &state::Owned)| Start {
            partition: partition.clone(),
            position: owned.position,
            from: owned.next,
        };
        lock(&self.state).owned.iter().map(start).collect()
    }

    /// Skips to higher offsets, where records are gone. Everything is to be fetched anew from [`Inbox::positions`].
    pub(super) fn jump(&self, positions: &[(PartitionId, u64)]) {
        let state = &mut *lock(&self.state);
        for (partition, next) in positions {
            if let Some(owned) = state.owned.get_mut(partition) {
                owned.next = owned.next.max(*next);
            }
        }
        // librdkafka forgets a pause with the assignment, or it does not; telling it anew settles that.
        state.owned.values_mut().for_each(|owned| owned.stopped = true);
    }

    /// Reports a loss to the caller.
    pub(super) fn expire(&self, partition: PartitionId, records: u64) {
        lock(&self.state).events.push_back(Queued::Event(Event::Expired { partition, records }));
        self.news.notify_one();
    }

    /// Waits until the caller did something that may concern the driver.
    pub(super) fn wait_for_work(&self, at_most: Duration) {
        let state = lock(&self.state);
        // Poisoning is impossible, an early wake-up harmless.
        drop(self.work.wait_timeout(state, at_most));
    }

    /// Hands partitions over, under a generation of their own.
    pub(super) fn assign(&self, starts: Vec<Start>) {
        let state = &mut *lock(&self.state);
        state.assign(starts);
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

    /// Ends a restart: those still wanted are assigned.
    pub(super) fn finish_restart(&self, starts: Vec<Start>) {
        let state = &mut *lock(&self.state);
        let wanted = state.restart.take().unwrap_or_default();
        state.assign(starts.into_iter().filter(|start| wanted.contains(&start.partition)).collect());
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

#[cfg(test)]
mod tests;
