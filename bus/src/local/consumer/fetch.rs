//! Reading what a member owns, off the runtime's threads.

use std::sync::Arc;

use tokio::task::JoinHandle;

use super::{LocalConsumer, Owned};
use crate::contract::Event;
use crate::error::{BusError, ErrorClass};
use crate::local::frame::{Part, Stored};
use crate::local::read::{Allowance, Store};
use crate::record::{Generation, PartitionId, Received};

/// A fetch under way.
pub(super) type Fetching = JoinHandle<Result<Vec<Fetched>, BusError>>;

/// One partition's part of a fetch.
pub(super) struct Fetched {
    partition: PartitionId,
    part: Part,
    generation: Generation,
    from: u64,
    /// Whether every offset has a record until retention takes it, unlike in a compacted topic.
    dense: bool,
    /// The partition's end when the fetch was planned.
    end: u64,
    records: Vec<Stored>,
    /// Whether `records` is what there is, rather than what there was room for.
    complete: bool,
}

impl LocalConsumer {
    /// Reads from the partitions that have something, a fair share of each. `None` where none has.
    pub(super) async fn fetch(&mut self) -> Result<Option<Vec<Received>>, BusError> {
        if self.fetching.is_none() {
            let mut wants = self.wants();
            if wants.is_empty() {
                return Ok(None);
            }
            let by = self.turn % wants.len();
            wants.rotate_left(by);
            self.turn = self.turn.wrapping_add(1);
            let (store, limit) = (Arc::clone(&self.inner.store), self.config.fetch_bytes);
            self.fetching = Some(tokio::task::spawn_blocking(move || read(&store, wants, limit)));
        }
        // Kept until it is done, so that a poll that is dropped loses nothing.
        let Some(fetching) = &mut self.fetching else { return Ok(None) };
        let fetched = fetching.await;
        self.fetching = None;
        let fetched = fetched.map_err(|error| BusError::Other {
            what: "read",
            reason: error.to_string(),
            class: ErrorClass::Fatal,
        })??;
        let mut out = Vec::new();
        for Fetched { partition, generation, from, end, dense, records, .. } in fetched {
            // Read for an ownership that has ended, or that was paused meanwhile: read again when it goes on.
            let current =
                |owned: &&mut Owned| owned.generation == generation && owned.position == from && !owned.paused;
            let Some(owned) = self.owned.get_mut(&partition).filter(current) else { continue };
            let reached = records.first().map_or(end, |record| record.offset);
            // What is gone of the repeats was read once.
            let from = from.max(owned.fresh);
            if dense && reached > from {
                let records = reached - from;
                tracing::warn!(group = &*self.config.group, %partition, from, records, "retention was faster than the group");
                self.expired.push_back(Event::Expired { partition: partition.clone(), records });
            }
            owned.position = records.last().map_or(end, |record| record.offset + 1);
            out.extend(records.into_iter().map(|stored| Received {
                from: partition.clone(),
                generation,
                offset: stored.offset,
                timestamp_ms: stored.timestamp_ms,
                key: stored.key,
                value: stored.value,
                headers: stored.headers,
            }));
        }
        Ok(Some(out))
    }

    /// The partitions that have something to read.
    fn wants(&self) -> Vec<Fetched> {
        let state = self.inner.store.state();
        let ready = self.owned.iter().filter(|(_, owned)| !owned.paused).map(|(partition, owned)| Fetched {
            partition: partition.clone(),
            part: owned.part,
            generation: owned.generation,
            from: owned.position,
            dense: state.is_dense(owned.part),
            end: state.partitions.get(&owned.part).map_or(0, |partition| partition.next),
            records: Vec::new(),
            complete: false,
        });
        ready.filter(|want| want.from < want.end).collect()
    }
}

/// Reads at most `limit` bytes, the same share of each partition.
fn read(store: &Store, mut wants: Vec<Fetched>, limit: usize) -> Result<Vec<Fetched>, BusError> {
    let share = limit / wants.len().max(1);
    let mut taken = 0;
    for want in &mut wants {
        let room = limit.saturating_sub(taken);
        let first = if taken == 0 { usize::MAX } else { room };
        want.records = store.read(want.part, want.from, Allowance { soft: share.min(room), first })?;
        // Nothing for want of room says nothing about the partition.
        want.complete = taken == 0 || !want.records.is_empty();
        taken += want.records.iter().map(Stored::size).sum::<usize>();
    }
    wants.retain(|want| want.complete);
    Ok(wants)
}
