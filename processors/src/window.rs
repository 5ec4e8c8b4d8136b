//! Windowed processors that store no state: it is a pure function of the log's recent past, and is built up again from
//! there.
//!
//! The clock of a partition is its *stream time*, the greatest timestamp seen, so that the same log gives the same
//! outputs whenever it is read. At each assignment the bus goes back by the processor's horizon
//! ([`ConsumerConfig::rewind`](afflux_bus::ConsumerConfig::rewind)); [`Replay`] feeds the repeats to a fresh state and
//! suppresses what they emit, up to the committed offset, and goes on from there. Outputs and offsets are committed in
//! one transaction, so each output is written once, and nothing but the log is ever stored.
//!
//! # Why the outputs are the same
//! Let *S* be the stream time at the committed offset. Repeats begin at the first record with a timestamp of at least
//! *T*, where *T* is the timestamp of the last record before the offset, less the horizon; so *T* ≤ *S* − horizon.
//! Whatever comes before that record is older than *T*. Therefore (1) stream time is the same as in the first reading
//! from the first repeat on, and with it every decision that depends on it; (2) every record younger than
//! *S* − horizon is among the repeats. Since stream time never falls, an output that depends on stream time and on
//! records within the horizon, and on nothing else, comes out the same.

use std::collections::BTreeMap;
use std::time::Duration;

use afflux_bus::PartitionId;

use crate::chain::At;

/// The state of a windowed processor in one partition.
///
/// What is emitted at a record must be a function of stream time before and at the record, and of the records whose
/// timestamps are greater than stream time before it less the horizon. In particular there are no chains: whether two
/// records match must not depend on whether an older one, beyond the horizon, has matched one of them before. A state
/// that keeps records until they leave the horizon, rather than consuming them at their first match, has none. Where an
/// output is due when a record has waited for some time, and records that were there when it came count, the horizon is
/// twice that time.
pub trait Windowed: Send {
    /// What is taken in.
    type Item: ?Sized;
    /// What is emitted.
    type Output;

    /// Stream time has risen from `before_ms` to `now_ms`, milliseconds since the Unix epoch: emits what is due, in an
    /// order that depends on the state alone. At the first record of a partition both are the same.
    fn advance(&mut self, before_ms: i64, now_ms: i64, emit: &mut dyn FnMut(Self::Output));

    /// Takes in a record's part, younger than `now_ms` less the horizon.
    fn item(&mut self, item: &Self::Item, at: &At<'_>, now_ms: i64, emit: &mut dyn FnMut(Self::Output));
}

/// One state per partition, built up again at each assignment.
pub struct Replay<W> {
    horizon_ms: i64,
    fresh: Box<dyn Fn() -> W + Send>,
    partitions: BTreeMap<PartitionId, Partition<W>>,
    /// Records read again so far.
    pub repeated: u64,
    /// Records that were beyond the horizon when they came, repeats left out.
    pub late: u64,
}

struct Partition<W> {
    stream_time_ms: Option<i64>,
    state: W,
}

impl<W: Windowed> Replay<W> {
    /// No partitions yet. `horizon` is how far back an output may depend on records; `fresh` makes an empty state.
    pub fn new(horizon: Duration, fresh: impl Fn() -> W + Send + 'static) -> Self {
        let horizon_ms = i64::try_from(horizon.as_millis()).unwrap_or(i64::MAX);
        Self { horizon_ms, fresh: Box::new(fresh), partitions: BTreeMap::new(), repeated: 0, late: 0 }
    }

    /// What the consumer's configuration must say.
    pub fn rewind(&self) -> Duration {
        Duration::from_millis(self.horizon_ms.unsigned_abs())
    }

    /// A partition has come, again perhaps: its state begins empty.
    pub fn assigned(&mut self, partition: &PartitionId) {
        self.partitions.insert(partition.clone(), Partition { stream_time_ms: None, state: (self.fresh)() });
    }

    /// A partition has gone, and its state with it.
    pub fn revoked(&mut self, partition: &PartitionId) {
        self.partitions.remove(partition);
    }

    /// Takes in the next record of a partition, or the next part of one. What `emit` gets belongs into the transaction
    /// that settles the record.
    ///
    /// Records of partitions that are not assigned are ignored.
    pub fn item(&mut self, at: &At<'_>, item: &W::Item, emit: &mut dyn FnMut(W::Output)) {
        let Some(partition) = self.partitions.get_mut(at.from) else { return };
        self.repeated += u64::from(at.repeat);
        let mut emit = |output| {
            if !at.repeat {
                emit(output);
            }
        };
        let before_ms = partition.stream_time_ms.unwrap_or(at.stream_time_ms);
        let now_ms = before_ms.max(at.stream_time_ms);
        partition.stream_time_ms = Some(now_ms);
        partition.state.advance(before_ms, now_ms, &mut emit);
        if at.timestamp_ms > now_ms.saturating_sub(self.horizon_ms) {
            partition.state.item(item, at, now_ms, &mut emit);
        } else {
            self.late += u64::from(!at.repeat);
        }
    }
}

#[cfg(test)]
mod tests;
