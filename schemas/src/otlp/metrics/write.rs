//! Writing metrics requests.

use std::convert::Infallible;

use super::{Exemplar, Kind, Labels, Point, Temporality, Value};
use crate::wire::{
    put_fixed64_field, put_len_field, put_len_header, put_message_field, put_varint, put_varint_field, varint_len,
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
}

impl Draft {
    /// A metric without points. An empty unit is none.
    pub fn new(name: &str, unit: &'static str, kind: Kind) -> Self {
        Self { name: name.into(), unit, kind, points: Vec::new(), count: 0 }
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
        let kind = self.kind;
        nested(&mut self.points, 1, |out| match kind {
            Kind::Gauge | Kind::Sum(_) => put_number_point(out, labels, point),
            Kind::Histogram(_) => put_histogram_point(out, labels, point),
            Kind::Exponential(_) => put_exponential_point(out, labels, point),
        });
    }

    fn put(&self, out: &mut Vec<u8>) {
        put_len_field(out, 1, self.name.as_bytes());
        if !self.unit.is_empty() {
            put_len_field(out, 3, self.unit.as_bytes());
        }
        let (field, temporality) = match self.kind {
            Kind::Gauge => (5, None),
            Kind::Sum(temporality) => (7, Some(temporality)),
            Kind::Histogram(temporality) => (9, Some(temporality)),
            Kind::Exponential(temporality) => (10, Some(temporality)),
        };
        // Known beforehand: the points need not be moved.
        let mut tail = Vec::with_capacity(4);
        if let Some(temporality) = temporality {
            put_varint_field(&mut tail, 2, Temporality::number(temporality));
        }
        if matches!(self.kind, Kind::Sum(_)) {
            put_varint_field(&mut tail, 3, 1);
        }
        put_len_header(out, field, self.points.len() + tail.len());
        out.extend_from_slice(&self.points);
        out.extend_from_slice(&tail);
    }
}

/// The request of one resource and scope that holds the metrics; those without points are left out.
pub fn request(resource: &[u8], scope: &str, metrics: &[Draft]) -> Vec<u8> {
    let mut scope_metrics = Vec::new();
    nested(&mut scope_metrics, 1, |out| put_len_field(out, 1, scope.as_bytes()));
    for metric in metrics.iter().filter(|metric| metric.count > 0) {
        nested(&mut scope_metrics, 2, |out| metric.put(out));
    }
    let mut out = Vec::with_capacity(scope_metrics.len() + resource.len() + 32);
    nested(&mut out, 1, |out| {
        put_len_field(out, 1, resource);
        put_len_field(out, 2, &scope_metrics);
    });
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
        labels.put(out, 9);
        put_flags(out, 10, false);
        return;
    };
    put_fixed64_field(out, 4, counts.iter().sum());
    put_fixed64_field(out, 5, sum.to_bits());
    put_len_header(out, 6, counts.len() * 8);
    counts.iter().for_each(|count| out.extend_from_slice(&count.to_le_bytes()));
    put_len_header(out, 7, bounds.len() * 8);
    bounds.iter().for_each(|bound| out.extend_from_slice(&bound.to_bits().to_le_bytes()));
    put_exemplars(out, 8, point.exemplars);
    labels.put(out, 9);
}

fn put_exponential_point(out: &mut Vec<u8>, labels: &Labels, point: &Point<'_>) {
    labels.put(out, 1);
    put_times(out, point);
    let Some(Value::Exponential { sum, scale, zero_count, offset, counts }) = point.value else {
        put_flags(out, 10, false);
        return;
    };
    put_fixed64_field(out, 4, counts.iter().sum::<u64>() + zero_count);
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
