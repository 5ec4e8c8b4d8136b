//! What comes before its pod waits at the gate for it, and everything behind it in its partition with it.
//!
//! Order is kept and no offset is settled before its record has gone through, so that waiting needs no state: after a
//! restart the records are read again. A record waits until its pods are known, until `grace` has gone by, by the times of
//! records behind it or by the clock, or until too much waits. A resource whose pod has not come in time is not waited
//! for again for a while: it may have none.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use afflux_bus::PartitionId;
use hashbrown::HashMap;
use tokio::time::Instant;

use super::{EnrichConfig, Shared};
use crate::chain::Envelope;

/// For how long a resource whose pod did not come in time is not waited for.
const FORGIVEN_FOR: Duration = Duration::from_secs(60);
/// How many of those are remembered.
const MOST_FORGIVEN: usize = 1 << 16;

/// What waits: anything that holds envelopes.
pub(crate) trait Waits {
    /// Its parts.
    fn envelopes(&self) -> &[Envelope];
    /// Bytes that it takes.
    fn bytes(&self) -> usize;
}

/// The queues before the chain, one for each partition.
pub(crate) struct Gate<T> {
    shared: Shared,
    grace: Duration,
    max_bytes: usize,
    bytes: usize,
    queues: BTreeMap<PartitionId, VecDeque<Waiting<T>>>,
    /// Resources that are not waited for, by a hash of cluster and resource, and until when.
    forgiven: HashMap<u64, Instant>,
    hasher: RandomState,
}

struct Waiting<T> {
    what: T,
    /// Stream time when it came, and when that was.
    stream_time_ms: i64,
    since: Instant,
}

impl<T: Waits> Gate<T> {
    pub(crate) fn new(config: &EnrichConfig, shared: Shared) -> Self {
        Self {
            shared,
            grace: config.grace.0,
            max_bytes: config.max_waiting.as_usize(),
            bytes: 0,
            queues: BTreeMap::new(),
            forgiven: HashMap::new(),
            hasher: RandomState::new(),
        }
    }

    /// Puts something at the end of its partition's queue.
    pub(crate) fn push(&mut self, partition: &PartitionId, what: T, stream_time_ms: i64) {
        self.bytes += what.bytes();
        let waiting = Waiting { what, stream_time_ms, since: Instant::now() };
        match self.queues.get_mut(partition) {
            Some(queue) => queue.push_back(waiting),
            None => drop(self.queues.insert(partition.clone(), VecDeque::from([waiting]))),
        }
    }

    /// What may go through next from a partition whose stream time is this.
    pub(crate) fn pop(&mut self, partition: &PartitionId, stream_time_ms: i64) -> Option<T> {
        let queue = self.queues.get_mut(partition)?;
        let first = queue.front()?;
        let grace_ms = i64::try_from(self.grace.as_millis()).unwrap_or(i64::MAX);
        let over = stream_time_ms.saturating_sub(first.stream_time_ms) >= grace_ms
            || first.since.elapsed() >= self.grace
            || self.bytes > self.max_bytes;
        let forgiven = Forgiven { known: &mut self.forgiven, hasher: &self.hasher, over };
        if forgiven.waits(&self.shared, first.what.envelopes()) && !over {
            return None;
        }
        let what = queue.pop_front()?.what;
        if queue.is_empty() {
            self.queues.remove(partition);
        }
        self.bytes -= what.bytes();
        Some(what)
    }

    /// Partitions in which something waits.
    pub(crate) fn partitions(&self) -> Vec<PartitionId> {
        self.queues.keys().cloned().collect()
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Forgets what waits in a partition that has gone.
    pub(crate) fn revoked(&mut self, partition: &PartitionId) {
        let gone = self.queues.remove(partition).unwrap_or_default();
        self.bytes -= gone.iter().map(|waiting| waiting.what.bytes()).sum::<usize>();
    }
}

/// The resources that are not waited for.
struct Forgiven<'g> {
    known: &'g mut HashMap<u64, Instant>,
    hasher: &'g RandomState,
    /// Whether those that are waited for now belong to them from now on.
    over: bool,
}

impl Forgiven<'_> {
    /// Whether a pod of the envelopes is waited for.
    fn waits(self, shared: &Shared, envelopes: &[Envelope]) -> bool {
        let (enricher, now, mut waits) = (shared.read(), Instant::now(), false);
        for envelope in envelopes {
            enricher.missing((&envelope.cluster, envelope.timestamp_ms), &envelope.value, |resource| {
                let hash = self.hasher.hash_one((&*envelope.cluster, resource));
                if self.known.get(&hash).is_some_and(|until| *until > now) {
                    return;
                }
                waits = true;
                if self.over {
                    if self.known.len() >= MOST_FORGIVEN {
                        self.known.clear();
                    }
                    self.known.insert(hash, now + FORGIVEN_FOR);
                }
            });
        }
        waits
    }
}

#[cfg(test)]
mod tests;
