//! The consumer of the simulated bus.

use afflux_bus::{BusError, Consumer, Event, Offset, PartitionId, Record};
use async_trait::async_trait;

use super::SimBus;

/// A member; dropping it is its death.
pub(super) struct SimConsumer {
    pub(super) bus: SimBus,
    pub(super) id: u64,
}

impl Drop for SimConsumer {
    fn drop(&mut self) {
        self.bus.change(|state| state.remove_member(self.id));
    }
}

#[async_trait]
impl Consumer for SimConsumer {
    async fn poll(&mut self) -> Result<Event, BusError> {
        loop {
            let changed = self.bus.changed.notified();
            let event = {
                let mut state = self.bus.state();
                state.answer(())?;
                state.next_event(self.id)
            };
            match event {
                Some(event) => return Ok(event),
                None => changed.await,
            }
        }
    }

    async fn commit(&mut self, offsets: &[Offset]) -> Result<(), BusError> {
        self.bus.change(|state| {
            state.commits += 1;
            if state.fences > 0 {
                state.fences -= 1;
                return Err(BusError::Fenced { reason: "the group has been rebalancing for long".into() });
            }
            let fails = state.commit_failures > 0;
            state.commit_failures = state.commit_failures.saturating_sub(1);
            if !fails || state.commits.is_multiple_of(2) {
                offsets.iter().try_for_each(|offset| state.commit(self.id, offset))?;
            }
            if fails { Err(BusError::Full { reason: "a test".into() }) } else { Ok(()) }
        })
    }

    async fn transact(&mut self, _: Vec<Record>, _: &[Offset]) -> Result<(), BusError> {
        Err(BusError::Config("this bus has no transactions".into()))
    }

    async fn committed(&mut self, partition: &PartitionId) -> Result<Option<u64>, BusError> {
        Ok(self.bus.committed(partition))
    }

    fn pause(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.set_paused(partition, true)
    }

    fn resume(&mut self, partition: &PartitionId) -> Result<(), BusError> {
        self.set_paused(partition, false)
    }

    async fn close(self: Box<Self>) {}
}

impl SimConsumer {
    fn set_paused(&self, partition: &PartitionId, paused: bool) -> Result<(), BusError> {
        self.bus.change(|state| {
            let owned = state.members.get_mut(&self.id).unwrap().owned.get_mut(partition);
            owned.ok_or_else(|| BusError::UnknownPartition(partition.clone()))?.paused = paused;
            Ok(())
        })
    }
}
