//! What waits before a chain whose steps look ahead.
//!
//! A record is shown to the steps when it comes. It goes through the chain when stream time is `wait` past its own, just
//! before the record that makes it so is shown; or earlier, as soon as there are more than `max_bytes` from it on. So which
//! record lets it go depends on what lies from it on in its partition, and on nothing else: it is the same one whenever they
//! are read. Repeats wait like all others, since what they let go, and what lets them go, is part of what steps know.
//!
//! No position is settled before its record has gone through: what waits is lag, and is read again after a restart. Where a
//! partition falls silent, its last records wait until another one comes.

use std::collections::{BTreeMap, VecDeque};

use afflux_bus::PartitionId;

use super::Opened;
use crate::chain::Ahead;

/// What records go to.
pub(crate) trait Through {
    /// Shows a record that has come.
    fn foresee(&mut self, opened: &Opened);

    /// Takes a record, perhaps early.
    fn process(&mut self, opened: Opened, early: bool);
}

/// The queues before one chain, one for each partition.
pub(crate) struct Waiting {
    wait_ms: i64,
    max_bytes: u64,
    queues: BTreeMap<PartitionId, Queue>,
}

#[derive(Default)]
struct Queue {
    /// By rising offset and stream time.
    records: VecDeque<Opened>,
    bytes: u64,
}

impl Queue {
    fn pop_if(&mut self, goes: impl FnOnce(&Opened) -> bool) -> Option<Opened> {
        let first = self.records.pop_front_if(|first| goes(first))?;
        self.bytes -= first.held();
        Some(first)
    }
}

impl Waiting {
    /// Empty queues.
    pub(crate) fn new(ahead: Ahead) -> Self {
        let wait_ms = i64::try_from(ahead.wait.as_millis()).unwrap_or(i64::MAX);
        Self { wait_ms, max_bytes: ahead.max_bytes, queues: BTreeMap::new() }
    }

    /// Takes in the next record of its partition, and lets go what it makes due and what there is no room for with it.
    pub(crate) fn arrive(&mut self, opened: Opened, through: &mut impl Through) {
        let queue = self.queues.entry(opened.from.clone()).or_default();
        let (now_ms, wait_ms, max_bytes) = (opened.stream_time_ms, self.wait_ms, self.max_bytes);
        while let Some(due) = queue.pop_if(|first| first.stream_time_ms.saturating_add(wait_ms) <= now_ms) {
            through.process(due, false);
        }
        through.foresee(&opened);
        queue.bytes += opened.held();
        queue.records.push_back(opened);
        while queue.bytes > max_bytes
            && let Some(first) = queue.pop_if(|_| true)
        {
            through.process(first, true);
        }
    }

    /// Forgets what waits in a partition that has gone, or begins anew.
    pub(crate) fn forget(&mut self, partition: &PartitionId) {
        self.queues.remove(partition);
    }
}
