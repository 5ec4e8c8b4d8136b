//! Exponential histograms, which Prometheus calls native.

use std::collections::BTreeMap;

/// Resolution to begin with: buckets grow by 2^(1/8), some 9 %.
const SCALE: i32 = 3;
/// Buckets at most; beyond them neighbours are joined.
pub(crate) const MAX_BUCKETS: i64 = 100;

/// Counts in exponential buckets. Bucket `i` holds what is above base^i, up to base^(i+1), where base is 2^(2^-scale).
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Exponential {
    pub(crate) scale: i32,
    pub(crate) zero_count: u64,
    counts: BTreeMap<i32, u64>,
}

impl Default for Exponential {
    fn default() -> Self {
        Self { scale: SCALE, zero_count: 0, counts: BTreeMap::new() }
    }
}

impl Exponential {
    /// From counts from an index on.
    pub(crate) fn of(scale: i32, zero_count: u64, offset: i32, counts: &[u64]) -> Self {
        let indexed = (i64::from(offset)..).zip(counts).filter(|(_, count)| **count > 0);
        let counts = indexed.filter_map(|(index, &count)| Some((i32::try_from(index).ok()?, count))).collect();
        // What nobody measures with would only overflow.
        let mut read = Self { scale: scale.clamp(-20, 20), zero_count, counts };
        read.fit();
        read
    }

    /// Counts a value, not negative, so many times.
    pub(crate) fn observe(&mut self, value: f64, times: u64) {
        if value <= 0.0 {
            add(&mut self.zero_count, times);
            return;
        }
        let index = (value.log2() * f64::from(self.scale).exp2()).ceil() as i32 - 1;
        add(self.counts.entry(index).or_default(), times);
        self.fit();
    }

    /// Adds another one, at the coarser resolution of both.
    pub(crate) fn merge(&mut self, other: &Self) {
        let scale = self.scale.min(other.scale);
        self.coarsen(scale);
        let shift = (other.scale - scale).min(31);
        for (index, &count) in &other.counts {
            add(self.counts.entry(index >> shift).or_default(), count);
        }
        add(&mut self.zero_count, other.zero_count);
        self.fit();
    }

    /// Index of the first bucket, and the counts from there on.
    pub(crate) fn dense(&self) -> (i32, Vec<u64>) {
        let Some((&first, _)) = self.counts.first_key_value() else { return (0, Vec::new()) };
        let last = self.counts.last_key_value().map_or(first, |(&last, _)| last);
        (first, (first..=last).map(|index| self.counts.get(&index).copied().unwrap_or_default()).collect())
    }

    fn fit(&mut self) {
        let width = |counts: &BTreeMap<i32, u64>| {
            let ends = counts.first_key_value().zip(counts.last_key_value());
            ends.map_or(0, |((&first, _), (&last, _))| i64::from(last) - i64::from(first) + 1)
        };
        while width(&self.counts) > MAX_BUCKETS {
            self.coarsen(self.scale - 1);
        }
    }

    fn coarsen(&mut self, scale: i32) {
        let shift = (self.scale - scale).clamp(0, 31);
        if shift > 0 {
            let mut coarser = BTreeMap::new();
            for (index, &count) in &self.counts {
                add(coarser.entry(index >> shift).or_default(), count);
            }
            self.counts = coarser;
            self.scale = scale;
        }
    }
}

/// What others wrote may be any number.
fn add(sum: &mut u64, count: u64) {
    *sum = sum.saturating_add(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_lie_in_their_buckets_at_any_resolution() {
        let values: Vec<f64> = (0..4000).map(|n| 1e-9 * 1.01_f64.powi(n)).collect();
        let mut one = Exponential::default();
        values.iter().for_each(|&value| one.observe(value, 1));
        one.observe(0.0, 5);
        let (offset, counts) = one.dense();
        assert!(counts.len() as i64 <= MAX_BUCKETS && one.scale < SCALE, "{one:?}");
        let base = f64::from(-one.scale).exp2().exp2();
        for (index, &count) in (offset..).zip(&counts) {
            let within = |value: &&f64| **value > base.powi(index) && **value <= base.powi(index + 1);
            assert_eq!(values.iter().filter(within).count() as u64, count, "bucket {index}");
        }
        assert_eq!((counts.iter().sum::<u64>(), one.zero_count), (4000, 5));
    }

    #[test]
    fn parts_add_up_to_the_whole_whatever_their_resolutions() {
        let (mut whole, mut parts) = (Exponential::default(), [Exponential::default(), Exponential::default()]);
        for n in 0..300_i32 {
            let value = if n % 2 == 0 { f64::from(n) * 1e-6 } else { f64::from(n) * 1e3 };
            whole.observe(value, 2);
            parts[n as usize % 2].observe(value, 2);
        }
        let (offset, counts) = parts[1].dense();
        let read = Exponential::of(parts[1].scale, parts[1].zero_count, offset, &counts);
        assert_eq!(read, parts[1]);
        let [mut sum, _] = parts;
        sum.merge(&read);
        assert_eq!(sum, whole);
    }
}
