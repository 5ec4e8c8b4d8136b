//! What was counted since the last commit: one slot for each series and time bucket.

use afflux_schemas::otlp::metrics::Exemplar;
use hashbrown::HashMap;

use crate::native::Exponential;

/// No exemplar.
const NONE: u32 = u32::MAX;

/// The slot that a series used last, in the transaction of that number; none where that is another one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) slot: u32,
    transaction: u64,
}

/// What is counted of one span.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    /// As how many spans it counts.
    pub(super) weight: u64,
    pub(super) nanos: u64,
    /// The duration in the metric's unit.
    pub(super) value: f64,
    pub(super) bytes: u64,
    /// Position among the bounds.
    pub(super) bucket: u32,
}

/// The counts of one series in one time bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) series: u32,
    pub(super) time: u64,
    pub(super) calls: u64,
    pub(super) bytes: u64,
    /// Sum of durations in nanoseconds; beyond 64 bits in tests of patience only.
    pub(super) nanos: u128,
    first_exemplar: u32,
}

/// An exemplar of a bucket of a slot, in a list.
#[derive(Clone, Copy, Debug)]
struct Node {
    next: u32,
    bucket: u32,
    /// Spans that might have been taken.
    seen: u64,
    exemplar: Exemplar,
}

/// All slots of a transaction.
#[derive(Debug)]
pub(super) struct Slots {
    /// Buckets of a classic histogram; 0 where there is none.
    buckets: usize,
    slots: Vec<Slot>,
    counts: Vec<u64>,
    /// Exponential histograms, where there are any.
    natives: Option<Vec<Exponential>>,
    exemplars: Vec<Node>,
    /// Slots of series that have several.
    others: HashMap<(u32, u64), u32>,
    /// Number of the transaction, from 1.
    transaction: u64,
}

impl Slots {
    /// No slots yet, each with so many buckets, and with an exponential histogram or without.
    pub(super) fn new(buckets: usize, native: bool) -> Self {
        let (slots, counts, exemplars, others) = (Vec::new(), Vec::new(), Vec::new(), HashMap::new());
        Self { buckets, slots, counts, natives: native.then(Vec::new), exemplars, others, transaction: 1 }
    }

    /// The slot of a series in a time bucket, which is its last one then.
    #[inline]
    pub(super) fn of(&mut self, series: u32, time: u64, last: &mut Last) -> u32 {
        if last.transaction != self.transaction {
            *last = Last { slot: self.add(series, time), transaction: self.transaction };
        } else if self.slots[last.slot as usize].time != time {
            last.slot = self.other(series, time, last.slot);
        }
        last.slot
    }

    #[cold]
    fn other(&mut self, series: u32, time: u64, last: u32) -> u32 {
        // The first one of a series is known by the series alone.
        self.others.insert((series, self.slots[last as usize].time), last);
        if let Some(&known) = self.others.get(&(series, time)) {
            return known;
        }
        let slot = self.add(series, time);
        self.others.insert((series, time), slot);
        slot
    }

    fn add(&mut self, series: u32, time: u64) -> u32 {
        self.slots.push(Slot { series, time, calls: 0, bytes: 0, nanos: 0, first_exemplar: NONE });
        self.counts.resize(self.counts.len() + self.buckets, 0);
        self.natives.iter_mut().for_each(|natives| natives.push(Exponential::default()));
        (self.slots.len() - 1) as u32
    }

    /// Counts a span.
    #[inline]
    pub(super) fn count(&mut self, slot: u32, observed: &Observed) {
        let at = slot as usize;
        let slot = &mut self.slots[at];
        slot.calls += observed.weight;
        slot.bytes += observed.weight * observed.bytes;
        slot.nanos += u128::from(observed.nanos) * u128::from(observed.weight);
        if self.buckets > 0 {
            self.counts[at * self.buckets + observed.bucket as usize] += observed.weight;
        }
        if let Some(natives) = &mut self.natives {
            natives[at].observe(observed.value, observed.weight);
        }
    }

    /// Offers an exemplar of a bucket: each of those offered is kept with the same probability. `random` is a number
    /// that belongs to the span.
    #[inline]
    pub(super) fn offer(&mut self, slot: u32, bucket: u32, random: u64, exemplar: impl FnOnce() -> Exemplar) {
        let mut at = self.slots[slot as usize].first_exemplar;
        while let Some(node) = self.exemplars.get_mut(at as usize) {
            if node.bucket == bucket {
                node.seen += 1;
                if random.is_multiple_of(node.seen) {
                    node.exemplar = exemplar();
                }
                return;
            }
            at = node.next;
        }
        let next = self.slots[slot as usize].first_exemplar;
        self.slots[slot as usize].first_exemplar = self.exemplars.len() as u32;
        self.exemplars.push(Node { next, bucket, seen: 1, exemplar: exemplar() });
    }

    /// All slots, in the order in which they came.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter()
    }

    /// Hands over every slot with its counts and exemplars, in the order in which they came, and forgets them.
    pub(super) fn take(&mut self, mut take: impl FnMut(&Slot, &[u64], Option<&Exponential>, &[Exemplar])) {
        let mut exemplars = Vec::new();
        for (at, slot) in self.slots.iter().enumerate() {
            exemplars.clear();
            let mut next = slot.first_exemplar;
            while let Some(node) = self.exemplars.get(next as usize) {
                exemplars.push(node.exemplar);
                next = node.next;
            }
            let native = self.natives.as_ref().map(|natives| &natives[at]);
            take(slot, &self.counts[at * self.buckets..(at + 1) * self.buckets], native, &exemplars);
        }
        self.slots.clear();
        self.counts.clear();
        self.natives.iter_mut().for_each(Vec::clear);
        self.exemplars.clear();
        self.others.clear();
        self.transaction += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(value: f64) -> Exemplar {
        Exemplar { value, ..Exemplar::default() }
    }

    #[test]
    fn spans_are_counted_in_the_bucket_of_their_time_and_duration() {
        let mut slots = Slots::new(3, false);
        let mut last = Last::default();
        let first = slots.of(7, 30, &mut last);
        let late = slots.of(7, 15, &mut last);
        assert_ne!(first, late);
        let again = [30, 30, 15, 30].map(|time| slots.of(7, time, &mut last));
        assert_eq!(again, [first, first, late, first]);
        let observed = Observed { weight: 3, nanos: 10, value: 0.0, bytes: 100, bucket: 2 };
        slots.count(first, &observed);
        slots.count(first, &Observed { weight: 1, bucket: 0, ..observed });
        slots.count(late, &observed);
        let mut seen = Vec::new();
        slots.take(|slot, counts, _, _| {
            seen.push((slot.series, slot.time, slot.calls, slot.bytes, slot.nanos, counts.to_vec()))
        });
        assert_eq!(seen, [(7, 30, 4, 400, 40, vec![1, 0, 3]), (7, 15, 3, 300, 30, vec![0, 0, 3])]);
        slots.take(|_, _, _, _| panic!("forgotten"));
        let other = slots.of(1, 15, &mut Last::default());
        assert_eq!((other, slots.of(7, 15, &mut last)), (0, 1), "what was used before belongs to another");
    }

    #[test]
    fn every_bucket_keeps_one_exemplar_of_those_offered() {
        let mut slots = Slots::new(2, false);
        let slot = slots.of(0, 0, &mut Last::default());
        // Taken: the first of each; then where the number is a multiple of how many there were.
        for (bucket, random, value) in [(0, 5, 1.0), (1, 5, 2.0), (0, 4, 3.0), (0, 4, 4.0), (1, 3, 5.0), (0, 8, 6.0)] {
            slots.offer(slot, bucket, random, || exemplar(value));
        }
        let mut kept = Vec::new();
        slots.take(|_, _, _, exemplars| kept.extend(exemplars.iter().map(|e| e.value)));
        kept.sort_by(f64::total_cmp);
        assert_eq!(kept, [2.0, 6.0]);
    }
}
