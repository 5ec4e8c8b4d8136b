//! Where a member that goes back first begins.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::LocalConsumer;
use crate::error::{BusError, ErrorClass};
use crate::local::frame::{Part, Stored};
use crate::local::read::{Allowance, Store};
use crate::record::PartitionId;

/// Bytes read at once in search of a timestamp.
const STEP: usize = 1024 * 1024;

impl LocalConsumer {
    /// Where reading begins in the partitions that this member has gained, as far as it is below the committed offset.
    pub(super) async fn starts(&self) -> Result<BTreeMap<PartitionId, u64>, BusError> {
        let Some(rewind) = self.config.rewind else { return Ok(BTreeMap::new()) };
        let gained: Vec<_> = {
            let (held, state) = (self.shared.lock().held(self.id), self.inner.store.state());
            let gained = held.into_keys().filter(|partition| !self.owned.contains_key(partition));
            let known = gained.filter_map(|partition| {
                let part = state.part(&partition.topic, partition.partition)?;
                Some((partition, part, state.committed(&self.config.group, part)?))
            });
            known.collect()
        };
        let (store, rewind) = (Arc::clone(&self.inner.store), i64::try_from(rewind.as_millis()).unwrap_or(i64::MAX));
        let find = move || {
            let start = |(partition, part, position)| Ok((partition, start(&store, part, position, rewind)?));
            gained.into_iter().map(start).collect()
        };
        let fail = |error: tokio::task::JoinError| BusError::Other {
            what: "search of a timestamp",
            reason: error.to_string(),
            class: ErrorClass::Fatal,
        };
        tokio::task::spawn_blocking(find).await.map_err(fail)?
    }
}

fn start(store: &Store, part: Part, position: u64, rewind_ms: i64) -> Result<u64, BusError> {
    let Some(last) = last_before(store, part, position)? else { return Ok(position) };
    let wanted = last.timestamp_ms.saturating_sub(rewind_ms);
    let mut from = 0;
    // Pieces without a timestamp as high as that need not be read; the others may overlap.
    let mut bounds: Vec<_> = {
        let state = store.state();
        let pieces = state.partitions.get(&part).into_iter().flat_map(|partition| &partition.pieces);
        pieces.filter(|piece| piece.max_timestamp_ms >= wanted).map(|piece| (piece.min, piece.max)).collect()
    };
    bounds.sort_unstable();
    for (min, max) in bounds {
        from = from.max(min);
        while from <= max && from < position {
            let records = store.read(part, from, Allowance { soft: STEP, first: usize::MAX })?;
            if let Some(found) = records.iter().find(|record| record.timestamp_ms >= wanted) {
                return Ok(found.offset.min(position));
            }
            from = records.last().map_or(u64::MAX, |record| record.offset + 1);
        }
    }
    Ok(position)
}

/// The last record below an offset.
fn last_before(store: &Store, part: Part, position: u64) -> Result<Option<Stored>, BusError> {
    let pieces: Vec<_> = {
        let state = store.state();
        let pieces = state.partitions.get(&part).into_iter().flat_map(|partition| &partition.pieces);
        let below = pieces.filter(|piece| piece.min < position);
        below.map(|piece| (piece.segment, piece.places.clone())).collect()
    };
    let mut last = None;
    for (segment, places) in pieces {
        let places = store.places(part, segment, &places)?;
        let at = places.partition_point(|place| place.offset < position);
        last = last.max(at.checked_sub(1).map(|at| places[at].offset));
    }
    last.map_or(Ok(None), |offset| store.at(part, offset))
}
