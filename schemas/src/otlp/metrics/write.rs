//! Writing metrics requests.

use std::convert::Infallible;

use super::{Exemplar, Kind, Labels, Point, Temporality, Value};
use crate::wire::{
    len_field_size, put_fixed64_field, put_len_field, put_len_header, put_message_field, put_varint, put_varint_field,
    varint_len,
};

/// `DataPointFlags`: there is no value.
pub(super) const NO_RECORDED_VALUE: u64 = 1;

/// A metric in the making.
#[derive(Clone, Debug)]
pub struct Draft {
    name: Box<str>,
    unit: &'static str,
    kind: Kind,
    points: Vec<u8>,
    count: u64,
    /// The point at hand: its length is written before it.
    point: Vec<u8>,
}

impl Draft {
    /// A metric without points. An empty unit is none.
    pub fn new(name: &str, unit: &'static str, kind: Kind) -> Self {
        Self::within(name, unit, kind, Vec::new())
    }

    /// The same, with a buffer for the points, whose content is lost.
    pub fn within(name: &str, unit: &'static str, kind: Kind, mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { name: name.into(), unit, kind, points: buffer, count: 0, point: Vec::new() }
    }

    /// The buffer of the points, for another draft.
    pub fn into_buffer(self) -> Vec<u8> {
        self.points
    }

    /// Points so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of the points so far.
    pub fn bytes(&self) -> usize {
        self.points.len()
    }

    /// Adds a point. Its value must be one of the metric's kind; another one is left out as if it were none.
    pub fn add(&mut self, labels: &Labels, point: &Point<'_>) {
        self.count += 1;
        let out = &mut self.point;
        out.clear();
        match self.kind {
            Kind::Gauge | Kind::Sum(_) => put_number_point(out, labels, point),
            Kind::Histogram(_) => put_histogram_point(out, labels, point),
            Kind::Exponential(_) => put_exponential_point(out, labels, point),
        }
        put_len_field(&mut self.points, 1, &self.point);
    }

    /// Bytes that [`Draft::put`] appends.
    fn len(&self) -> usize {
        let unit = if self.unit.is_empty() { 0 } else { len_field_size(3, self.unit.len()) };
        len_field_size(1, self.name.len()) + unit + len_field_size(self.data().0, self.data_len())
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_len_field(out, 1, self.name.as_bytes());
        if !self.unit.is_empty() {
            put_len_field(out, 3, self.unit.as_bytes());
        }
        let (field, temporality) = self.data();
        put_len_header(out, field, self.data_len());
        out.extend_from_slice(&self.points);
        if let Some(temporality) = temporality {
            put_varint_field(out, 2, Temporality::number(temporality));
        }
        if matches!(self.kind, Kind::Sum(_)) {
            put_varint_field(out, 3, 1);
        }
    }

    /// Field of the points, and the temporality that stands with them.
    const fn data(&self) -> (u32, Option<Temporality>) {
        match self.kind {
            Kind::Gauge => (5, None),
            Kind::Sum(temporality) => (7, Some(temporality)),
            Kind::Histogram(temporality) => (9, Some(temporality)),
            Kind::Exponential(temporality) => (10, Some(temporality)),
        }
    }

    /// Bytes of the points and of what stands behind them: two for each of temporality and monotony.
    fn data_len(&self) -> usize {
        let behind = match self.kind {
            Kind::Gauge => 0,
            Kind::Sum(_) => 4,
            Kind::Histogram(_) | Kind::Exponential(_) => 2,
        };
        self.points.len() + behind
    }
}

/// The request of one resource and scope that holds the metrics; those without points are left out.
pub fn request<'d, M>(resource: &[u8], scope: &str, metrics: M) -> Vec<u8>
where
    M: IntoIterator<Item = &'d Draft> + Clone,
{
    let metrics = || metrics.clone().into_iter().filter(|metric| metric.count > 0);
    // All lengths are known beforehand, so that points are copied but once.
    let scope_len = len_field_size(1, scope.len());
    let metrics_len: usize = metrics().map(|metric| len_field_size(2, metric.len())).sum();
    let scope_metrics_len = len_field_size(1, scope_len) + metrics_len;
    let resource_metrics_len = len_field_size(1, resource.len()) + len_field_size(2, scope_metrics_len);
    let mut out = Vec::with_capacity(len_field_size(1, resource_metrics_len));
    put_len_header(&mut out, 1, resource_metrics_len);
    put_len_field(&mut out, 1, resource);
    put_len_header(&mut out, 2, scope_metrics_len);
    put_len_header(&mut out, 1, scope_len);
    put_len_field(&mut out, 1, scope.as_bytes());
    for metric in metrics() {
        put_len_header(&mut out, 2, metric.len());
        metric.put(&mut out);
    }
    out
}

fn put_times(out: &mut Vec<u8>, point: &Point<'_>) {
    if point.start_time_unix_nano != 0 {
        put_fixed64_field(out, 2, point.start_time_unix_nano);
    }
    put_fixed64_field(out, 3, point.time_unix_nano);
}

fn put_flags(out: &mut Vec<u8>, field: u32, present: bool) {
    if !present {
        put_varint_field(out, field, NO_RECORDED_VALUE);
    }
}

fn put_number_point(out: &mut Vec<u8>, labels: &Labels, point: &Point<'_>) {
    put_times(out, point);
    let value = match point.value {
        Some(Value::Number(number)) => Some((4, number.to_bits())),
        Some(Value::Count(count)) => Some((6, count)),
        _ => None,
    };
    if let Some((field, bits)) = value {
        put_fixed64_field(out, field, bits);
    }
    put_exemplars(out, 5, point.exemplars);
    labels.put(out, 7);
    put_flags(out, 8, value.is_some());
}

fn put_histogram_point(out: &mut Vec<u8>, labels: &Labels, point: &Point<'_>) {
    put_times(out, point);
    let Some(Value::Histogram { sum, bounds, counts }) = point.value else {
        if !point.ended_bounds.is_empty() {
            put_fixed64s(out, 7, point.ended_bounds.iter().map(|bound| bound.to_bits()));
        }
        labels.put(out, 9);
        put_flags(out, 10, false);
        return;
    };
    put_fixed64_field(out, 4, total(0, counts));
    put_fixed64_field(out, 5, sum.to_bits());
    put_fixed64s(out, 6, counts.iter().copied());
    put_fixed64s(out, 7, bounds.iter().map(|bound| bound.to_bits()));
    put_exemplars(out, 8, point.exemplars);
    labels.put(out, 9);
}

fn put_fixed64s(out: &mut Vec<u8>, field: u32, values: impl ExactSizeIterator<Item = u64>) {
    let bytes = values.len() * 8;
    put_len_header(out, field, bytes);
    let start = out.len();
    out.resize(start + bytes, 0);
    let places = out[start..].as_chunks_mut::<8>().0;
    places.iter_mut().zip(values).for_each(|(place, value)| *place = value.to_le_bytes());
}

fn put_exponential_point(out: &mut Vec<u8>, labels: &Labels, point: &Point<'_>) {
    labels.put(out, 1);
    put_times(out, point);
    let Some(Value::Exponential { sum, scale, zero_count, offset, counts }) = point.value else {
        put_flags(out, 10, false);
        return;
    };
    put_fixed64_field(out, 4, total(zero_count, counts));
    put_fixed64_field(out, 5, sum.to_bits());
    put_varint_field(out, 6, zigzag(scale));
    put_fixed64_field(out, 7, zero_count);
    nested(out, 8, |out| {
        put_varint_field(out, 1, zigzag(offset));
        put_len_header(out, 2, counts.iter().map(|&count| varint_len(count)).sum());
        counts.iter().for_each(|&count| put_varint(out, count));
    });
    put_exemplars(out, 11, point.exemplars);
}

/// Counts of others may be any number.
fn total(zero_count: u64, counts: &[u64]) -> u64 {
    counts.iter().fold(zero_count, |sum, count| sum.saturating_add(*count))
}

fn put_exemplars(out: &mut Vec<u8>, field: u32, exemplars: &[Exemplar]) {
    for Exemplar { time_unix_nano, value, trace_id, span_id } in exemplars {
        nested(out, field, |out| {
            put_fixed64_field(out, 2, *time_unix_nano);
            put_fixed64_field(out, 3, value.to_bits());
            put_len_field(out, 4, span_id);
            put_len_field(out, 5, trace_id);
        });
    }
}

fn zigzag(number: i32) -> u64 {
    u64::from((number << 1 ^ number >> 31).cast_unsigned())
}

fn nested(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message_field(out, field, |out| {
        fill(out);
        Ok::<_, Infallible>(())
    });
}
