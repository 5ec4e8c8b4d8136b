//! Who waits and who flushes when memory runs short (D8): one pure decision, and the numbers that it is made of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Bytes that may wait for one partition before it alone is paused.
const QUEUE_LIMIT: usize = 8 << 20;
/// Held bytes below which cutting a row group early would gain nothing.
const SPILL_MIN: usize = 64 << 10;

/// What a partition's writer is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Taking records into a range that may end anywhere.
    Filling,
    /// Taking records into a range whose end an intent fixes.
    Replaying,
    /// Writing a range out; it needs no more records to go on.
    Flushing,
}

/// Memory of one partition, as its writer counts it and the sink reads it.
#[derive(Debug)]
pub(crate) struct Usage {
    queued: AtomicUsize,
    held: AtomicUsize,
    encoded: AtomicUsize,
    phase: AtomicU8,
    relief: Arc<Notify>,
}

impl Usage {
    /// Nothing in use. `relief` is notified whenever memory is freed or the phase changes.
    pub(crate) fn new(relief: Arc<Notify>) -> Arc<Self> {
        let zero = AtomicUsize::default;
        Arc::new(Self {
            queued: zero(),
            held: zero(),
            encoded: zero(),
            phase: AtomicU8::new(Phase::Filling as u8),
            relief,
        })
    }

    /// Counts a record that waits for the writer.
    pub(crate) fn queue(&self, bytes: usize) {
        self.queued.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a record that the writer took.
    pub(crate) fn dequeue(&self, bytes: usize) {
        let before = self.queued.fetch_sub(bytes, Ordering::Relaxed);
        // Once on the way down, not for every record.
        if before >= QUEUE_LIMIT / 2 && before - bytes < QUEUE_LIMIT / 2 {
            self.relief.notify_one();
        }
    }

    /// Counts rows that wait for their row group, until the charge is dropped.
    pub(crate) fn hold(self: &Arc<Self>, bytes: usize) -> Charge {
        self.held.fetch_add(bytes, Ordering::Relaxed);
        Charge { usage: Arc::clone(self), bytes }
    }

    /// Counts bytes that are encoded and wait to be uploaded.
    pub(crate) fn encode(&self, bytes: usize) {
        self.encoded.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts bytes that were uploaded.
    pub(crate) fn upload(&self, bytes: usize) {
        let before = self.encoded.fetch_sub(bytes, Ordering::Relaxed);
        debug_assert!(before >= bytes, "{bytes} bytes uploaded of {before} encoded");
        self.relief.notify_one();
    }

    /// Forgets what was encoded, where a range is given up.
    pub(crate) fn forget_encoded(&self) {
        self.encoded.store(0, Ordering::Relaxed);
        self.relief.notify_one();
    }

    /// Tells what the writer does from now on.
    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
        self.relief.notify_one();
    }

    /// The numbers at this moment.
    pub(crate) fn load(&self) -> Load {
        let phase = match self.phase.load(Ordering::Relaxed) {
            0 => Phase::Filling,
            1 => Phase::Replaying,
            _ => Phase::Flushing,
        };
        Load {
            queued: self.queued.load(Ordering::Relaxed),
            held: self.held.load(Ordering::Relaxed),
            encoded: self.encoded.load(Ordering::Relaxed),
            phase,
        }
    }
}

/// Bytes counted as held, given back when dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    usage: Arc<Usage>,
    bytes: usize,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.usage.held.fetch_sub(self.bytes, Ordering::Relaxed);
        self.usage.relief.notify_one();
    }
}

/// Memory of one partition at a moment, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    /// Records that wait for the writer.
    pub(crate) queued: usize,
    /// Rows that wait for their row group.
    pub(crate) held: usize,
    /// Encoded and not uploaded.
    pub(crate) encoded: usize,
    /// What its writer does.
    pub(crate) phase: Phase,
}

impl Load {
    /// All of it.
    pub(crate) fn total(&self) -> usize {
        self.queued + self.held + self.encoded
    }
}

/// What the sink does about the loads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// For every partition, whether the bus is to deliver nothing of it for now.
    pub(crate) pause: Vec<bool>,
    /// The partition that is told to write out what it holds.
    pub(crate) relieve: Option<usize>,
    /// Whether memory is short; to be passed to the next decision.
    pub(crate) short: bool,
}

/// Decides who waits and who writes.
///
/// A partition whose queue is long waits alone, so that a slow one holds up no other. When the budget is used up
/// all wait and the largest range is cut short, one at a time. Ranges whose end is fixed cannot be cut: they cut
/// their row group short instead, and if that is not enough, the first of them goes on regardless so that it ends.
/// `before` is the decision in force: whoever waits goes on only with some slack, lest every record switch it over.
pub(crate) fn plan(loads: &[Load], before: &Plan, budget: usize) -> Plan {
    let total: usize = loads.iter().map(Load::total).sum();
    let short = total >= if before.short { budget / 4 * 3 } else { budget };
    let crowded = |i: usize| {
        let waits = before.pause.get(i).copied().unwrap_or(false);
        loads[i].queued >= if waits { QUEUE_LIMIT / 2 } else { QUEUE_LIMIT }
    };
    let pause = (0..loads.len()).map(|i| short || crowded(i)).collect();
    let mut plan = Plan { pause, relieve: None, short };
    if total < budget || loads.iter().any(|load| load.phase == Phase::Flushing) {
        return plan;
    }
    let largest = |phase: Phase, min: usize| {
        let candidates = loads.iter().enumerate().filter(|(_, load)| load.phase == phase && load.held >= min);
        candidates.max_by_key(|(i, load)| (load.held, usize::MAX - i)).map(|(i, _)| i)
    };
    plan.relieve = largest(Phase::Filling, 1).or_else(|| largest(Phase::Replaying, SPILL_MIN));
    if plan.relieve.is_none()
        && let Some(first) = loads.iter().position(|load| load.phase == Phase::Replaying)
    {
        plan.pause[first] = false;
    }
    plan
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn load(phase: Phase, queued: usize, held: usize) -> Load {
        Load { queued, held, encoded: 0, phase }
    }

    fn decide(loads: &[Load], budget: usize) -> Plan {
        plan(loads, &Plan::default(), budget)
    }

    fn expect(plan: &Plan, pause: &[bool], relieve: Option<usize>) {
        assert_eq!((&plan.pause[..], plan.relieve), (pause, relieve));
    }

    #[test]
    fn a_long_queue_pauses_its_own_partition_only() {
        let loads = [load(Phase::Flushing, 8 * MIB, 0), load(Phase::Filling, 7 * MIB, 0)];
        expect(&decide(&loads, 100 * MIB), &[true, false], None);
    }

    #[test]
    fn a_paused_partition_goes_on_once_half_its_queue_is_gone() {
        let before = Plan { pause: vec![true], ..Plan::default() };
        let at = |queued| plan(&[load(Phase::Filling, queued, 0)], &before, 100 * MIB).pause;
        assert_eq!(at(5 * MIB), [true]);
        assert_eq!(at(4 * MIB - 1), [false]);
    }

    #[test]
    fn a_used_up_budget_pauses_all_and_flushes_the_largest_range() {
        let held = [(Phase::Filling, 6), (Phase::Replaying, 9), (Phase::Filling, 7)];
        let loads = held.map(|(phase, mib)| load(phase, 0, mib * MIB));
        expect(&decide(&loads, 20 * MIB), &[true; 3], Some(2));
    }

    #[test]
    fn while_one_range_is_written_no_other_is_cut() {
        let loads = [load(Phase::Flushing, 0, 9 * MIB), load(Phase::Filling, 0, 9 * MIB)];
        expect(&decide(&loads, 16 * MIB), &[true; 2], None);
    }

    #[test]
    fn replays_alone_spill_and_the_first_goes_on_when_nothing_is_left_to_spill() {
        let spilling = [load(Phase::Replaying, MIB, 9 * MIB), load(Phase::Replaying, 0, 9 * MIB)];
        expect(&decide(&spilling, 16 * MIB), &[true; 2], Some(0));
        let encoded = Load { encoded: 9 * MIB, ..load(Phase::Replaying, 0, 0) };
        expect(&decide(&[encoded, encoded], 16 * MIB), &[false, true], None);
    }

    #[test]
    fn after_a_shortage_all_go_on_together_below_three_quarters() {
        let before = Plan { pause: vec![true; 2], relieve: None, short: true };
        let at = |mib| plan(&[load(Phase::Filling, 0, mib * MIB), load(Phase::Filling, 0, 0)], &before, 16 * MIB);
        assert_eq!(at(13).pause, [true, true]);
        assert_eq!(at(11).pause, [false, false]);
    }

    #[test]
    fn charges_are_counted_until_they_are_dropped() {
        let usage = Usage::new(Arc::default());
        let charge = usage.hold(10);
        usage.queue(5);
        assert_eq!(usage.load().total(), 15);
        drop(charge);
        usage.dequeue(5);
        assert_eq!(usage.load().total(), 0);
    }
}
