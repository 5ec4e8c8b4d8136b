//! The records of one partition on their way: gathered into batches, then waiting for their turn. Pure.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use afflux_bus::Received;
use afflux_schemas::topics::{HEADER_REPLAY_TO, HEADER_TENANT};
use bytes::Bytes;
use hashbrown::HashSet;

use super::backend::{Batch, Kind, Order};
use super::config::BatchConfig;
use crate::dead_letter;

/// Batches of different tenants that are handed over at the same time.
pub(super) type Round = Vec<Batch>;

/// What waits of a partition.
#[derive(Debug)]
pub(super) struct Queue {
    kind: Kind,
    order: Order,
    limits: (usize, u64, Duration),
    /// Batches in the making, one for each tenant, and one more where dead letters come again.
    open: Vec<Open>,
    closed: VecDeque<Round>,
    /// Keys of the records in the making, where no key may come twice.
    keys: HashSet<Bytes>,
}

#[derive(Debug)]
struct Open {
    batch: Batch,
    bytes: usize,
    items: u64,
    since: Instant,
}

impl Queue {
    pub(super) fn new(kind: Kind, order: Order, limits: &BatchConfig) -> Self {
        let limits = (limits.bytes.as_usize(), limits.items, limits.age.0);
        Self { kind, order, limits, open: Vec::new(), closed: VecDeque::new(), keys: HashSet::new() }
    }

    /// Takes a record in, behind those that came before it.
    pub(super) fn push(&mut self, record: Received, now: Instant) {
        let (max_bytes, max_items, _) = self.limits;
        // What ends a key has nothing to send.
        let keyed = self.order == Order::ByKey && record.value.is_some();
        let key = record.key.clone().filter(|_| keyed);
        if key.as_ref().is_some_and(|key| self.keys.contains(key)) {
            self.close_all();
        }
        let (bytes, items) = (record.size(), dead_letter::items(&record.headers));
        let tenant = record.headers.get(HEADER_TENANT).and_then(|tenant| std::str::from_utf8(tenant).ok());
        // A dead letter that comes again may be old.
        let replay = record.headers.get(HEADER_REPLAY_TO).is_some();
        let same = |open: &Open| open.batch.tenant.as_deref() == tenant && open.batch.replay == replay;
        let at = match self.open.iter().position(same) {
            Some(at) if self.open[at].bytes + bytes > max_bytes => {
                self.close(at);
                self.begin(tenant.map(Arc::from), replay, now)
            }
            Some(at) => at,
            None => self.begin(tenant.map(Arc::from), replay, now),
        };
        self.keys.extend(key);
        let open = &mut self.open[at];
        open.bytes += bytes;
        open.items += items;
        open.batch.records.push(record);
        if open.bytes >= max_bytes || open.items >= max_items {
            self.close(at);
        }
    }

    fn begin(&mut self, tenant: Option<Arc<str>>, replay: bool, now: Instant) -> usize {
        let batch = Batch { kind: self.kind, tenant, replay, records: Vec::new() };
        self.open.push(Open { batch, bytes: 0, items: 0, since: now });
        self.open.len() - 1
    }

    /// Closes a batch; where an order must be kept, all of them.
    fn close(&mut self, at: usize) {
        match self.order {
            Order::ByKey => self.close_all(),
            Order::Any => {
                let open = self.open.swap_remove(at);
                self.closed.push_back(vec![open.batch]);
            }
        }
    }

    /// Closes whatever is in the making.
    pub(super) fn close_all(&mut self) {
        self.keys.clear();
        let batches = self.open.drain(..).map(|open| open.batch);
        match self.order {
            Order::ByKey => {
                let round: Round = batches.collect();
                self.closed.extend((!round.is_empty()).then_some(round));
            }
            Order::Any => self.closed.extend(batches.map(|batch| vec![batch])),
        }
    }

    /// Closes what has waited long enough.
    pub(super) fn close_due(&mut self, now: Instant) {
        while let Some(at) = self.open.iter().position(|open| open.since + self.limits.2 <= now) {
            self.close(at);
        }
    }

    /// When the first batch in the making has waited long enough.
    pub(super) fn due(&self) -> Option<Instant> {
        self.open.iter().map(|open| open.since + self.limits.2).min()
    }

    /// The next ones to hand over.
    pub(super) fn pop(&mut self) -> Option<Round> {
        self.closed.pop_front()
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.closed.is_empty()
    }
}
