//! A partition that is owned, and what is on its way of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use afflux_bus::{BusError, Generation, PartitionId, Received};
use tokio::task::AbortHandle;

use crate::delivery::backend::{Backend, Batch};
use crate::delivery::deliver::Deliverer;
use crate::delivery::queue::{Queue, Round};

/// A partition that is owned.
pub(super) struct Owned {
    pub(super) generation: Generation,
    pub(super) queue: Queue,
    pub(super) on_their_way: usize,
    /// Bytes of records that wait or are on their way.
    pub(super) bytes: usize,
    /// Whether positions have risen that must be committed before the next round, where an order is kept.
    pub(super) uncommitted: bool,
    pub(super) paused: bool,
    pub(super) tasks: Vec<AbortHandle>,
    /// Bytes of rounds that have arrived before one that lies before them, by the last offset of each.
    early: BTreeMap<u64, usize>,
}

impl Owned {
    /// Nothing has been read of it yet.
    pub(super) fn new(generation: Generation, queue: Queue) -> Self {
        let (on_their_way, bytes, uncommitted, paused, tasks) = (0, 0, false, false, Vec::new());
        Self { generation, queue, on_their_way, bytes, uncommitted, paused, tasks, early: BTreeMap::new() }
    }

    /// A round has arrived; everything below the watermark has.
    pub(super) fn arrived(&mut self, offsets: &[u64], bytes: usize, watermark: u64) {
        self.early.extend(offsets.iter().max().map(|last| (*last, bytes)));
        self.early = self.early.split_off(&watermark);
    }

    /// Whether another round may go on its way.
    ///
    /// Behind one that does not arrive, no more goes than memory could hold: it would come again after a restart. Where
    /// nothing is on its way, what has been overtaken waits itself to be sent, and must not wait for the others.
    pub(super) fn may_send(&self, at_once: usize, most_ahead: usize) -> bool {
        let ahead = || self.early.values().sum::<usize>();
        self.on_their_way < at_once && !self.uncommitted && (self.on_their_way == 0 || ahead() < most_ahead)
    }
}

/// A round that has come to its end.
pub(super) struct Delivered {
    pub(super) partition: PartitionId,
    pub(super) generation: Generation,
    pub(super) offsets: Vec<u64>,
    pub(super) items: u64,
    pub(super) bytes: usize,
    pub(super) signal: &'static str,
    pub(super) result: Result<(), BusError>,
}

/// Delivers a round, for as long as it takes.
pub(super) async fn deliver<B: Backend>(
    deliverer: Arc<Deliverer<B>>,
    partition: PartitionId,
    generation: Generation,
    round: Round,
) -> Delivered {
    let records = round.iter().flat_map(|batch| &batch.records);
    let offsets = records.clone().map(|record| record.offset).collect();
    let bytes = records.map(Received::size).sum();
    let items = round.iter().map(Batch::items).sum();
    let signal = round.first().map_or("", |batch| batch.kind.as_str());
    let result = deliverer.deliver_all(round).await;
    Delivered { partition, generation, offsets, items, bytes, signal, result }
}
