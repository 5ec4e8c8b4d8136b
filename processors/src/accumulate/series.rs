//! One cumulative series: what tells it from others, and what it has come to.

use std::sync::Arc;

use afflux_schemas::otlp::metrics::{Draft, Exemplar, Kind, Labels, Point, Temporality, Value, request};
use afflux_schemas::wire::as_text;

use crate::derive::{SCOPE, resource};
use crate::native::Exponential;

/// Ends the parts of a key; none of them has it, since names are text.
const END: u8 = 0;

/// What tells a series from all others, as the key of its records: cluster, tenant, metric, unit and kind, each behind
/// the other with a zero byte between, then the encoded labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity<'k> {
    pub(super) cluster: &'k str,
    pub(super) tenant: &'k str,
    pub(super) metric: &'k str,
    pub(super) unit: &'k str,
    pub(super) kind: Kind,
    /// See [`Labels::as_bytes`].
    pub(super) labels: &'k [u8],
}

impl<'k> Identity<'k> {
    pub(super) fn write(&self, key: &mut Vec<u8>) {
        let kind = match self.kind {
            Kind::Gauge => b'g',
            Kind::Sum(_) => b's',
            Kind::Histogram(_) => b'h',
            Kind::Exponential(_) => b'e',
        };
        key.clear();
        for part in [self.cluster, self.tenant, self.metric, self.unit] {
            key.extend(part.bytes().filter(|byte| *byte != END));
            key.push(END);
        }
        key.push(kind);
        key.extend_from_slice(self.labels);
    }

    /// `None` for a key that is none.
    pub(super) fn read(key: &'k [u8]) -> Option<Self> {
        let mut parts = key.splitn(5, |byte| *byte == END);
        let mut text = || parts.next().map(as_text);
        let (cluster, tenant, metric, unit) = (text()?, text()?, text()?, text()?);
        let (kind, labels) = parts.next()?.split_first()?;
        let kind = match kind {
            b'g' => Kind::Gauge,
            b's' => Kind::Sum(Temporality::Cumulative),
            b'h' => Kind::Histogram(Temporality::Cumulative),
            b'e' => Kind::Exponential(Temporality::Cumulative),
            _ => return None,
        };
        Some(Self { cluster, tenant, metric, unit, kind, labels })
    }
}

/// What a series has come to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Total {
    Count(u64),
    Number(f64),
    Histogram { sum: f64, bounds: Arc<[f64]>, counts: Box<[u64]> },
    Exponential { sum: f64, buckets: Box<Exponential> },
}

impl Total {
    pub(super) fn of(value: &Value<'_>, bounds_of: impl FnOnce(&[f64]) -> Arc<[f64]>) -> Self {
        match *value {
            Value::Count(count) => Self::Count(count),
            Value::Number(number) => Self::Number(number),
            Value::Histogram { sum, bounds, counts } => {
                Self::Histogram { sum, bounds: bounds_of(bounds), counts: counts.into() }
            }
            Value::Exponential { sum, scale, zero_count, offset, counts } => {
                Self::Exponential { sum, buckets: Box::new(Exponential::of(scale, zero_count, offset, counts)) }
            }
        }
    }

    /// Adds a delta; a number takes the place of the one before. False where the two do not add up: bounds have changed.
    pub(super) fn add(&mut self, delta: &Value<'_>) -> bool {
        match (self, delta) {
            (Self::Count(total), Value::Count(count)) => *total = total.saturating_add(*count),
            (Self::Number(total), Value::Number(number)) => *total = *number,
            (
                Self::Histogram { sum, bounds, counts },
                Value::Histogram { sum: more, bounds: theirs, counts: delta },
            ) if **bounds == **theirs && counts.len() == delta.len() => {
                *sum += more;
                counts.iter_mut().zip(*delta).for_each(|(total, count)| *total = total.saturating_add(*count));
            }
            (
                Self::Exponential { sum, buckets },
                Value::Exponential { sum: more, scale, zero_count, offset, counts },
            ) => {
                *sum += more;
                buckets.merge(&Exponential::of(*scale, *zero_count, *offset, counts));
            }
            _ => return false,
        }
        true
    }

    /// The same with nothing counted; `None` for a number, which counts nothing.
    pub(super) fn zero(&self) -> Option<Self> {
        Some(match self {
            Self::Count(_) => Self::Count(0),
            Self::Number(_) => return None,
            Self::Histogram { bounds, counts, .. } => {
                Self::Histogram { sum: 0.0, bounds: Arc::clone(bounds), counts: vec![0; counts.len()].into() }
            }
            Self::Exponential { .. } => Self::Exponential { sum: 0.0, buckets: Box::default() },
        })
    }
}

/// What a series has come to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reading<'t> {
    /// This.
    Total(&'t Total),
    /// Its end, after this.
    End(&'t Total),
}

/// A sample: when, and what the series had come to then.
pub(super) type Sample<'t> = (i64, Reading<'t>, &'t [Exemplar]);

/// The value of a series' record: its samples, oldest first. `start_ms` is since when it counts.
pub(super) fn record_value(identity: &Identity<'_>, start_ms: i64, samples: &[Sample<'_>]) -> Vec<u8> {
    let unit = known_unit(identity.unit);
    let mut draft = Draft::new(identity.metric, unit, identity.kind);
    let labels = Labels::from_bytes(identity.labels);
    for &(time_ms, reading, exemplars) in samples {
        let (dense, mut ended_bounds);
        ended_bounds = &[][..];
        let value = match reading {
            Reading::End(Total::Histogram { bounds, .. }) => {
                ended_bounds = bounds;
                None
            }
            Reading::End(_) => None,
            Reading::Total(Total::Count(count)) => Some(Value::Count(*count)),
            Reading::Total(Total::Number(number)) => Some(Value::Number(*number)),
            Reading::Total(Total::Histogram { sum, bounds, counts }) => {
                Some(Value::Histogram { sum: *sum, bounds, counts })
            }
            Reading::Total(Total::Exponential { sum, buckets }) => {
                dense = buckets.dense();
                let (scale, zero_count) = (buckets.scale, buckets.zero_count);
                Some(Value::Exponential { sum: *sum, scale, zero_count, offset: dense.0, counts: &dense.1 })
            }
        };
        let (start_time_unix_nano, time_unix_nano) = (nanos(start_ms), nanos(time_ms));
        draft.add(&labels, &Point { start_time_unix_nano, time_unix_nano, value, exemplars, ended_bounds });
    }
    request(&resource(identity.cluster), SCOPE, &[draft])
}

/// Units that derived metrics have.
fn known_unit(unit: &str) -> &'static str {
    ["s", "ms", "By"].into_iter().find(|known| *known == unit).unwrap_or_default()
}

fn nanos(millis: i64) -> u64 {
    u64::try_from(millis).unwrap_or_default().saturating_mul(1_000_000)
}
