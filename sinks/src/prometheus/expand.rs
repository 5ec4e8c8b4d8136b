//! From the points of a series to the series of Prometheus, written into one request.

use std::sync::Arc;

use afflux_schemas::hex;
use afflux_schemas::otlp::metrics::{Exemplar, Kind, Point, Series, Temporality, Value};
use afflux_schemas::wire::{put_fixed64_field, put_len_header, put_varint_field, varint_len};
use bytes::Bytes;

use super::encode::Settings;
use super::histogram::{Buckets, Native, put_stale};
use super::labels::{BOUND, NAME, Set, Sets};
use super::names::{Family, bound};
use super::request::Counts;
use super::version::Version;
use crate::buffers;

/// The value of a sample that ends a series.
pub(super) const STALE: u64 = 0x7ff0_0000_0000_0002;
/// Label of exemplars with the span's id.
const SPAN_ID: &str = "span_id";

/// Why a point cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    #[error("its points are deltas, of which Prometheus has none")]
    Delta,
    #[error("its buckets grow by more than 65536, which no native histogram has")]
    TooCoarse,
}

impl Unfit {
    /// One word.
    pub(super) const fn reason(self) -> &'static str {
        match self {
            Self::Delta => "not_cumulative",
            Self::TooCoarse => "too_coarse",
        }
    }
}

/// A request in the making.
#[derive(Debug, Default)]
pub(super) struct Builder<V> {
    version: V,
    series: Vec<u8>,
    counts: Counts,
    records: Vec<Bytes>,
    sets: Sets,
    families: Vec<Known>,
    bounds: Vec<Bounds>,
    scratch: Scratch,
}

/// A family of metrics as the request names it.
#[derive(Debug)]
struct Known {
    metric: Box<str>,
    unit: Box<str>,
    kind: Kind,
    /// The label of the name: alone, or of buckets, sum and count.
    names: [Vec<u8>; 3],
    metadata: Vec<u8>,
}

/// Bounds of histograms, with their labels.
#[derive(Debug)]
struct Bounds {
    list: Arc<[f64]>,
    /// One more, for what is above.
    labels: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct Scratch {
    /// Samples and exemplars of a series.
    body: Vec<u8>,
    labels: Vec<u8>,
    buckets: Buckets,
    /// Exemplars by bucket and time.
    order: Vec<(usize, u64, usize)>,
}

/// How far a request had come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark(usize, Counts);

/// When: milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Times {
    at: u64,
    /// Since when it counts, where that is to be said.
    start: Option<u64>,
}

impl<V: Version> Builder<V> {
    /// One without series.
    pub(super) fn new() -> Self {
        Self { series: buffers::take(), ..Self::default() }
    }

    pub(super) fn mark(&self) -> Mark {
        Mark(self.series.len(), self.counts)
    }

    /// Takes back what has come since.
    pub(super) fn back_to(&mut self, mark: Mark) {
        self.series.truncate(mark.0);
        self.counts = mark.1;
    }

    /// Notes that a record's samples have come, where any have since the mark.
    pub(super) fn keep(&mut self, mark: Mark, record: &Bytes) {
        if self.series.len() > mark.0 {
            self.records.push(record.clone());
        }
    }

    pub(super) const fn counts(&self) -> Counts {
        self.counts
    }

    /// The message, and the records that it is made of.
    pub(super) fn finish(self) -> (Vec<u8>, Vec<Bytes>) {
        (self.version.finish(self.series), self.records)
    }

    /// Adds a point: one series, or those that a classic histogram is.
    pub(super) fn point(
        &mut self,
        settings: &Settings,
        tenant: &str,
        series: &Series<'_>,
        point: &Point<'_>,
    ) -> Result<(), Unfit> {
        if let Kind::Sum(Temporality::Delta)
        | Kind::Histogram(Temporality::Delta)
        | Kind::Exponential(Temporality::Delta) = series.kind
        {
            return Err(Unfit::Delta);
        }
        let set = self.sets.of(&mut self.version, &settings.labels, (series.resource, series.labels, tenant));
        let family = self.family(series);
        let at = point.time_unix_nano / 1_000_000;
        let start = point.start_time_unix_nano / 1_000_000;
        let start = (V::STARTS && start > 0 && start < at && series.kind != Kind::Gauge).then_some(start);
        let (place, times) = ((set, family), Times { at, start });
        let exemplars = point.exemplars;
        match (&point.value, series.kind) {
            (Some(Value::Count(count)), _) => self.number(settings, place, times, *count as f64, exemplars),
            (Some(Value::Number(number)), _) => self.number(settings, place, times, *number, exemplars),
            (Some(Value::Histogram { sum, bounds, counts }), _) => {
                let bounds = self.bounds_of(bounds);
                self.histogram(settings, place, times, (*sum, bounds, counts), exemplars);
            }
            (Some(Value::Exponential { sum, scale, zero_count, offset, counts }), _) => {
                let (time_ms, start_ms) = (times.at, times.start);
                let (sum, scale, zero_count, offset) = (*sum, *scale, *zero_count, *offset);
                self.native(
                    settings,
                    place,
                    Native { sum, scale, zero_count, offset, counts, time_ms, start_ms },
                    exemplars,
                )?;
            }
            (None, Kind::Histogram(_)) => self.end_histogram(place, at, point.ended_bounds),
            (None, kind) => self.end(place, at, matches!(kind, Kind::Exponential(_))),
        }
        Ok(())
    }

    fn family(&mut self, series: &Series<'_>) -> usize {
        let Series { metric, unit, kind, .. } = *series;
        let same = |known: &Known| *known.metric == *metric && *known.unit == *unit && known.kind == kind;
        if let Some(at) = self.families.iter().position(same) {
            return at;
        }
        let family = Family::new(metric, unit, kind);
        let suffixes = if let Kind::Histogram(_) = kind { ["_bucket", "_sum", "_count"] } else { [""; 3] };
        let names = suffixes.map(|suffix| {
            let mut label = Vec::new();
            self.version.label(&mut label, NAME, &[&family.name, suffix].concat());
            label
        });
        let metadata = self.version.metadata(&family);
        self.families.push(Known { metric: metric.into(), unit: unit.into(), kind, names, metadata });
        self.families.len() - 1
    }

    fn bounds_of(&mut self, list: &[f64]) -> usize {
        if let Some(at) = self.bounds.iter().position(|known| *known.list == *list) {
            return at;
        }
        let version = &mut self.version;
        let labels = list.iter().copied().chain([f64::INFINITY]).map(|value| {
            let mut label = Vec::new();
            version.label(&mut label, BOUND, &bound(value));
            label
        });
        self.bounds.push(Bounds { labels: labels.collect(), list: list.into() });
        self.bounds.len() - 1
    }

    /// Appends a series whose samples and exemplars are in `scratch`.
    fn put(&mut self, (set, family): (usize, usize), name: usize, bound: &[u8]) {
        let (known, body) = (&self.families[family], &self.scratch.body);
        put_series::<V>(&mut self.series, self.sets.get(set), (&known.names[name], bound), (body, &known.metadata));
    }

    fn number(&mut self, settings: &Settings, place: (usize, usize), times: Times, value: f64, exemplars: &[Exemplar]) {
        self.scratch.body.clear();
        self.sample(value.to_bits(), times);
        self.order(exemplars, |_| 0);
        self.exemplars(settings, exemplars, 0, times.at);
        self.put(place, 0, &[]);
    }

    fn histogram(
        &mut self,
        settings: &Settings,
        place: (usize, usize),
        times: Times,
        (sum, bounds, counts): (f64, usize, &[u64]),
        exemplars: &[Exemplar],
    ) {
        let list = Arc::clone(&self.bounds[bounds].list);
        self.order(exemplars, |value| list.partition_point(|bound| *bound < value));
        let mut total = 0_u64;
        for (bucket, count) in counts.iter().enumerate() {
            total = total.saturating_add(*count);
            self.scratch.body.clear();
            self.sample((total as f64).to_bits(), times);
            self.exemplars(settings, exemplars, bucket, times.at);
            let (known, body) = (&self.families[place.1], &self.scratch.body);
            let labels = (&known.names[0][..], &self.bounds[bounds].labels[bucket][..]);
            put_series::<V>(&mut self.series, self.sets.get(place.0), labels, (body, &known.metadata));
        }
        for (name, value) in [(1, sum), (2, total as f64)] {
            self.scratch.body.clear();
            self.sample(value.to_bits(), times);
            self.put(place, name, &[]);
        }
    }

    fn native(
        &mut self,
        settings: &Settings,
        place: (usize, usize),
        native: Native<'_>,
        exemplars: &[Exemplar],
    ) -> Result<(), Unfit> {
        let Scratch { body, buckets, .. } = &mut self.scratch;
        body.clear();
        native.put(body, V::HISTOGRAM, buckets).map_err(|_| Unfit::TooCoarse)?;
        self.counts.histograms += 1;
        self.order(exemplars, |_| 0);
        self.exemplars(settings, exemplars, 0, native.time_ms);
        self.put(place, 0, &[]);
        Ok(())
    }

    fn end(&mut self, place: (usize, usize), at: u64, native: bool) {
        self.scratch.body.clear();
        if native {
            put_stale(&mut self.scratch.body, V::HISTOGRAM, at, STALE);
            self.counts.histograms += 1;
        } else {
            self.sample(STALE, Times { at, start: None });
        }
        self.put(place, 0, &[]);
    }

    /// Ends all series of a classic histogram, which had these bounds.
    fn end_histogram(&mut self, place: (usize, usize), at: u64, bounds: &[f64]) {
        let bounds = self.bounds_of(bounds);
        self.scratch.body.clear();
        self.sample(STALE, Times { at, start: None });
        self.counts.samples += self.bounds[bounds].labels.len() as u64 + 1;
        for label in &self.bounds[bounds].labels {
            let (known, body) = (&self.families[place.1], &self.scratch.body);
            let labels = (&known.names[0][..], &label[..]);
            put_series::<V>(&mut self.series, self.sets.get(place.0), labels, (body, &known.metadata));
        }
        self.put(place, 1, &[]);
        self.put(place, 2, &[]);
    }

    /// Appends a sample to the series at hand.
    #[inline]
    fn sample(&mut self, bits: u64, Times { at, start }: Times) {
        self.counts.samples += 1;
        let out = &mut self.scratch.body;
        put_len_header(out, 2, 10 + varint_len(at) + start.map_or(0, |start| 1 + varint_len(start)));
        put_fixed64_field(out, 1, bits);
        put_varint_field(out, 2, at);
        if let Some(start) = start {
            put_varint_field(out, 3, start);
        }
    }

    /// Sorts exemplars by bucket, and in each by time, as Prometheus wants them.
    fn order(&mut self, exemplars: &[Exemplar], bucket: impl Fn(f64) -> usize) {
        self.scratch.order.clear();
        if exemplars.is_empty() {
            return;
        }
        let traced = exemplars.iter().enumerate().filter(|(_, exemplar)| exemplar.trace_id != [0; 16]);
        self.scratch.order.extend(traced.map(|(at, exemplar)| (bucket(exemplar.value), exemplar.time_unix_nano, at)));
        self.scratch.order.sort_unstable();
    }

    /// Appends the exemplars of a bucket to the series at hand.
    fn exemplars(&mut self, settings: &Settings, exemplars: &[Exemplar], bucket: usize, at: u64) {
        let Self { version, scratch: Scratch { body, labels, order, .. }, counts, .. } = self;
        for (_, nanos, place) in order.iter().filter(|(of, ..)| *of == bucket) {
            let Exemplar { trace_id, span_id, value, .. } = &exemplars[*place];
            labels.clear();
            let (trace, span) = (hex::trace_id(trace_id), hex::span_id(span_id));
            let mut pairs = [(&*settings.trace_id_label, &*trace), (SPAN_ID, &*span)];
            pairs.sort_unstable();
            pairs.iter().for_each(|(name, value)| version.label(labels, name, value));
            let time = if *nanos == 0 { at } else { nanos / 1_000_000 };
            put_len_header(body, V::EXEMPLAR, V::labels_len(labels.len()) + 10 + varint_len(time));
            V::put_labels_header(body, labels.len());
            body.extend_from_slice(labels);
            put_fixed64_field(body, 2, value.to_bits());
            put_varint_field(body, 3, time);
            counts.exemplars += 1;
        }
    }
}

/// Appends a series of those labels, samples and exemplars, and metadata.
#[inline]
fn put_series<V: Version>(
    out: &mut Vec<u8>,
    set: Set<'_>,
    (name, bound): (&[u8], &[u8]),
    (body, metadata): (&[u8], &[u8]),
) {
    let labels = set.len() + name.len() + bound.len();
    put_len_header(out, V::SERIES, V::labels_len(labels) + body.len() + metadata.len());
    V::put_labels_header(out, labels);
    for part in [set.first, name, set.middle, bound, set.last, body, metadata] {
        out.extend_from_slice(part);
    }
}
