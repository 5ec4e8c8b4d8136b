//! Native histograms out of exponential ones.
//!
//! A bucket has the same bounds in both, and an index that is higher by one in Prometheus. Prometheus has resolutions
//! from -4 to 8; finer ones are made coarser.

use afflux_schemas::wire::{put_fixed64_field, put_len_field, put_varint, put_varint_field};

use super::version::nested;

/// Resolutions that Prometheus has.
const COARSEST: i32 = -4;
const FINEST: i32 = 8;
/// What is not above this counts as zero: nothing else is, and Prometheus' own OTLP receiver says so too.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets between others that cost less than a new span of buckets.
const MOST_EMPTY: i64 = 2;

/// An exponential histogram at a time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Native<'a> {
    pub(super) sum: f64,
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) offset: i32,
    pub(super) counts: &'a [u64],
    pub(super) time_ms: u64,
    /// Since when it counts, where that is to be said.
    pub(super) start_ms: Option<u64>,
}

/// Its buckets are wider than Prometheus has any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooCoarse;

/// What spans and deltas are put together in.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    /// As fields of the histogram.
    spans: Vec<u8>,
    deltas: Vec<u8>,
    /// The span at hand: its offset from the one before, and its length.
    span: Option<(i64, u64)>,
    last_index: i64,
    last_count: u64,
}

impl Buckets {
    fn clear(&mut self) {
        (self.span, self.last_index, self.last_count) = (None, 0, 0);
        self.spans.clear();
        self.deltas.clear();
    }

    /// Adds a bucket behind all others.
    fn add(&mut self, index: i64, count: u64) {
        let gap = index - self.last_index - 1;
        match &mut self.span {
            Some(_) if gap <= MOST_EMPTY => (0..gap).for_each(|_| self.push(0)),
            Some(_) => {
                self.end_span();
                self.span = Some((gap, 0));
            }
            None => self.span = Some((index, 0)),
        }
        self.push(count);
        self.last_index = index;
    }

    fn push(&mut self, count: u64) {
        if let Some((_, length)) = &mut self.span {
            *length += 1;
        }
        put_varint(&mut self.deltas, zigzag(count.wrapping_sub(self.last_count).cast_signed()));
        self.last_count = count;
    }

    fn end_span(&mut self) {
        if let Some((offset, length)) = self.span.take() {
            nested(&mut self.spans, 11, |out| {
                put_varint_field(out, 1, zigzag(offset));
                put_varint_field(out, 2, length);
            });
        }
    }
}

impl Native<'_> {
    /// Appends it as a field of that number.
    pub(super) fn put(&self, out: &mut Vec<u8>, field: u32, buckets: &mut Buckets) -> Result<(), TooCoarse> {
        if self.scale < COARSEST {
            return Err(TooCoarse);
        }
        buckets.clear();
        let shift = (self.scale - FINEST).clamp(0, 31);
        let mut total = self.zero_count;
        let mut open: Option<(i64, u64)> = None;
        for (index, &count) in (i64::from(self.offset)..).zip(self.counts).filter(|(_, count)| **count > 0) {
            total = total.saturating_add(count);
            let index = (index >> shift) + 1;
            match &mut open {
                Some((same, sum)) if *same == index => *sum = sum.saturating_add(count),
                _ => {
                    if let Some((index, count)) = open.replace((index, count)) {
                        buckets.add(index, count);
                    }
                }
            }
        }
        if let Some((index, count)) = open {
            buckets.add(index, count);
        }
        buckets.end_span();
        nested(out, field, |out| {
            put_varint_field(out, 1, total);
            put_fixed64_field(out, 3, self.sum.to_bits());
            put_varint_field(out, 4, zigzag(self.scale.min(FINEST).into()));
            put_fixed64_field(out, 5, ZERO_THRESHOLD.to_bits());
            put_varint_field(out, 6, self.zero_count);
            out.extend_from_slice(&buckets.spans);
            if !buckets.deltas.is_empty() {
                put_len_field(out, 12, &buckets.deltas);
            }
            put_times(out, self.time_ms, self.start_ms);
        });
        Ok(())
    }
}

/// Appends the end of a series, as a field of that number.
pub(super) fn put_stale(out: &mut Vec<u8>, field: u32, time_ms: u64, stale: u64) {
    nested(out, field, |out| {
        put_fixed64_field(out, 3, stale);
        put_times(out, time_ms, None);
    });
}

fn put_times(out: &mut Vec<u8>, time_ms: u64, start_ms: Option<u64>) {
    put_varint_field(out, 15, time_ms);
    if let Some(start) = start_ms {
        put_varint_field(out, 17, start);
    }
}

fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63).cast_unsigned()
}
