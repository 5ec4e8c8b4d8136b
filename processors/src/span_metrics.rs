//! Span metrics: how many spans there were of each service, name, kind and status, and how long they took.
//!
//! Counts are *deltas*: what was seen since the last commit, in buckets of the spans' own time. Nothing is kept between
//! transactions but caches, so that counts are right through any kill; [`crate::accumulate`] adds them up to the series
//! that Prometheus knows.
//!
//! Names, labels and meaning are those of Tempo's metrics generator, or of the Collector's span metrics connector.
//! Where Tempo leaves late spans out, they are counted in the time bucket that they belong to; where it counts a sampled
//! span as a fraction of its reciprocal ratio, it is counted as a whole number of spans that is right on the average.

pub mod cardinality;
pub mod config;
pub mod error;
pub mod filter;
mod plan;
mod resources;
mod series;
mod slots;
pub mod template;
#[cfg(test)]
mod tests;
pub mod weight;

use afflux_schemas::otlp::common::{Attributes, ValueView};
use afflux_schemas::otlp::metrics::{Exemplar, Point, Value};
use afflux_schemas::otlp::trace::{SpanView, TracesView};

pub use config::SpanMetricsConfig;
pub use error::InvalidSpanMetrics;

use crate::chain::{At, Envelope, Next, Step, Tally};
use crate::derive::{Derived, Owner};
use crate::intern::Texts;
pub(crate) use plan::sanitized;
use plan::{Plan, Source};
use resources::Resources;
use series::AllSeries;
use slots::{Observed, Slots};

/// The step's name.
pub const NAME: &str = "span_metrics";
/// Name of its report, which is a [`cardinality::Report`].
pub const REPORT: &str = "cardinality";

/// Kinds of spans by number.
const KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
/// Codes of a span's status by number.
const CODES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];
/// Spans that are looked at together.
const BATCH: usize = 16;

/// The step that counts spans.
pub struct SpanMetrics {
    plan: Plan,
    series: AllSeries,
    resources: Resources,
    slots: Slots,
    /// Values of the wanted attributes of the span at hand.
    values: Vec<u32>,
    batch: Vec<Read>,
    /// Of each span of the batch its key: owner, then the values of the labels.
    keys: Vec<u32>,
}

/// What is read of a span that counts.
#[derive(Clone, Copy, Debug)]
struct Read {
    /// Position of its resource, and then of its series.
    at: u32,
    weight: u64,
    end: u64,
    nanos: u64,
    bytes: u64,
    /// Trace id and span id, for exemplars.
    ids: Option<([u8; 16], [u8; 8])>,
}

impl SpanMetrics {
    /// A step so configured.
    ///
    /// # Errors
    /// [`InvalidSpanMetrics`] names the key at fault.
    pub fn new(config: SpanMetricsConfig) -> Result<Self, InvalidSpanMetrics> {
        let plan = Plan::new(config)?;
        let buckets = plan.classic.as_ref().map_or(0, |_| plan.bounds.len() + 1);
        let slots = Slots::new(buckets, plan.native.is_some());
        let series = AllSeries::new(&plan);
        let (resources, values, batch, keys) = (Resources::default(), Vec::new(), Vec::new(), Vec::new());
        Ok(Self { plan, series, resources, slots, values, batch, keys })
    }

    fn count(&mut self, envelope: &Envelope, next: &mut Next<'_>) {
        let owner = self.series.owner(Owner::of(envelope));
        self.series.tell_time(envelope.timestamp_ms);
        let mut names = Vec::with_capacity(BATCH);
        for block in TracesView::new(&envelope.value).resource_spans() {
            let resource = self.resources.of(owner, block.resource(), &self.plan, &mut self.series.texts);
            if self.plan.config.naming == config::Naming::Connector && self.resources.all[resource].service == 0 {
                let items = block.scope_spans().map(|scope| scope.spans().count() as u64).sum();
                next.note("no_service", items);
                continue;
            }
            for span in block.scope_spans().flat_map(|scope| scope.spans()) {
                if !self.plan.filter.keeps(block.resource(), &span) {
                    next.note("filtered", 1);
                } else if !self.is_in_time(&span, envelope.timestamp_ms) {
                    next.note("out_of_slack", 1);
                } else {
                    self.read(&span, resource, envelope.timestamp_ms);
                    names.push(span.name_bytes());
                    if names.len() == BATCH {
                        self.count_batch(&names);
                        names.clear();
                    }
                }
            }
        }
        self.count_batch(&names);
    }

    /// Counts the batch, whose spans have these names. Within each loop no look-up waits for the one before, so that the many
    /// that miss the processor's cache do so together.
    fn count_batch(&mut self, names: &[&[u8]]) {
        let width = self.plan.labels.len() + 1;
        if let Some(label) = self.plan.name_label {
            for (name, key) in names.iter().zip(self.keys.chunks_exact_mut(width)) {
                key[label + 1] = self.series.names.of(self.series.texts.intern(name));
            }
        }
        for (read, key) in self.batch.iter_mut().zip(self.keys.chunks_exact(width)) {
            let facts = &mut self.resources.all[read.at as usize];
            facts.seen = facts.seen.max((read.end - read.end % self.plan.interval_nanos).max(1));
            read.at = match self.series.keys.get(key) {
                Some(series) => series,
                None => self.series.add(key, &self.plan),
            };
        }
        for read in &self.batch {
            let Read { at, weight, end, nanos, bytes, ids } = *read;
            let time = end - end % self.plan.interval_nanos;
            let slot = self.slots.of(at, time, &mut self.series.all[at as usize].slot);
            let value = nanos as f64 / self.plan.unit_nanos;
            let bucket = self.plan.bounds_nanos.partition_point(|&bound| bound < nanos) as u32;
            self.slots.count(slot, &Observed { weight, nanos, value, bytes, bucket });
            if let (Some((trace_id, span_id)), true) = (ids, self.plan.config.exemplars) {
                // Ids are random; their last bytes are in every id format.
                let random = u64::from_le_bytes(span_id);
                self.slots.offer(slot, bucket, random, || Exemplar { time_unix_nano: end, value, trace_id, span_id });
            }
        }
        self.batch.clear();
        self.keys.clear();
    }

    fn is_in_time(&self, span: &SpanView<'_>, timestamp_ms: i64) -> bool {
        let Some(slack) = self.plan.slack_nanos else { return true };
        let written = u64::try_from(timestamp_ms).unwrap_or_default().saturating_mul(1_000_000);
        span.end_time_unix_nano().abs_diff(written) <= slack
    }

    /// Reads what counts of a span, into the batch.
    #[inline]
    fn read(&mut self, span: &SpanView<'_>, resource: usize, timestamp_ms: i64) {
        self.push_key(span, resource);
        let end = match span.end_time_unix_nano() {
            0 => u64::try_from(timestamp_ms).unwrap_or_default().saturating_mul(1_000_000),
            end => end,
        };
        let ids = <[u8; 16]>::try_from(span.trace_id()).ok().zip(<[u8; 8]>::try_from(span.span_id()).ok());
        let nanos = span.end_time_unix_nano().saturating_sub(span.start_time_unix_nano());
        let (at, weight, bytes) = (resource as u32, self.weight(span), span.raw().len() as u64);
        self.batch.push(Read { at, weight, end, nanos, bytes, ids });
    }

    fn weight(&self, span: &SpanView<'_>) -> u64 {
        let key = self.plan.config.span_multiplier_key.as_deref();
        match key.and_then(|key| ratio(span, key)) {
            None if !self.plan.config.weight_by_trace_state => 1,
            ratio => weight::weight(span, ratio),
        }
    }

    /// Puts together what tells the span's series from others, but for its name, which the batch looks up.
    #[inline]
    fn push_key(&mut self, span: &SpanView<'_>, resource: usize) {
        let facts = &self.resources.all[resource];
        let texts = &mut self.series.texts;
        self.values.clear();
        self.values.extend_from_slice(&facts.values);
        if facts.incomplete {
            fill(&mut self.values, &self.plan.wanted, span.attributes(), texts);
        }
        self.keys.push(facts.owner);
        for (_, source) in &self.plan.labels {
            let value = match *source {
                Source::Service => facts.service,
                Source::Name => 0,
                Source::Kind => self.series.kinds[usize::try_from(span.kind()).unwrap_or(0).min(5)],
                Source::Status => self.series.codes[usize::try_from(span.status().code()).unwrap_or(0).min(2)],
                Source::StatusMessage => texts.intern(span.status().message().as_bytes()),
                Source::Attribute(at) => self.values[at],
                Source::Mapping(at) => joined(&self.plan.mappings[at], &self.values, texts),
                Source::Job => facts.job,
                Source::Instance => facts.instance,
            };
            self.keys.push(value);
        }
    }
}

/// Looks up in a span what its resource does not have; the first of a repeated attribute counts.
#[inline]
fn fill(values: &mut [u32], wanted: &[Box<[u8]>], attributes: Attributes<'_>, texts: &mut Texts) {
    for attribute in attributes {
        let key = attribute.key_bytes();
        if let Some(at) = wanted.iter().position(|wanted| **wanted == *key)
            && values[at] == 0
        {
            values[at] = resources::value(&attribute.value(), texts);
        }
    }
}

/// The ratio by which a span was sampled, as its attribute of that name says.
pub(crate) fn ratio(span: &SpanView<'_>, key: &str) -> Option<f64> {
    let found = span.attributes().find(|attribute| attribute.key_bytes() == key.as_bytes());
    found.and_then(|attribute| number(&attribute.value()))
}

fn number(value: &ValueView<'_>) -> Option<f64> {
    match value {
        ValueView::Double(number) => Some(*number),
        ValueView::Int(number) => Some(*number as f64),
        ValueView::Str(text) => text.parse().ok(),
        _ => None,
    }
}

fn joined(mapping: &plan::Mapping, values: &[u32], texts: &mut Texts) -> u32 {
    let parts = mapping.sources.iter().map(|&at| values[at]).filter(|&value| value != 0);
    let parts: Vec<&str> = parts.map(|value| texts.text(value)).collect();
    let joined = parts.join(&mapping.join);
    texts.intern(joined.as_bytes())
}

impl Step for SpanMetrics {
    fn name(&self) -> &'static str {
        NAME
    }

    fn process(&mut self, envelope: Envelope, at: &At<'_>, next: &mut Next<'_>) {
        if !at.repeat && !at.counted {
            self.count(&envelope, next);
        }
        next.pass(envelope);
    }

    fn close(&mut self, derived: &mut Derived, tally: &mut Tally) {
        let Self { plan, series, slots, .. } = self;
        for slot in slots.iter() {
            series.touch(slot.series, slot.calls);
            if let Some(word) = series.all[slot.series as usize].limited {
                tally.note(word, slot.calls);
            }
        }
        slots.take(|slot, counts, native, exemplars| {
            let entry = &series.all[slot.series as usize];
            let owner = &series.owners[entry.owner as usize];
            let time_unix_nano = slot.time.saturating_add(plan.interval_nanos);
            let mut place = derived.of(owner, &entry.labels, entry.hash);
            let mut add = |metric: &Option<_>, value, exemplars| {
                if let Some(metric) = metric {
                    let point = Point {
                        start_time_unix_nano: slot.time,
                        time_unix_nano,
                        value: Some(value),
                        exemplars,
                        ended_bounds: &[],
                    };
                    place.add(metric, &point);
                }
            };
            let sum = slot.nanos as f64 / plan.unit_nanos;
            add(&plan.calls, Value::Count(slot.calls), &[]);
            add(&plan.size, Value::Count(slot.bytes), &[]);
            add(&plan.classic, Value::Histogram { sum, bounds: &plan.bounds, counts }, exemplars);
            if let Some(native) = native {
                let (offset, counts) = native.dense();
                let (scale, zero_count) = (native.scale, native.zero_count);
                let value = Value::Exponential { sum, scale, zero_count, offset, counts: &counts };
                add(&plan.native, value, exemplars);
            }
        });
        self.close_targets(derived);
        if self.series.settle(&self.plan, &self.resources) {
            self.resources = Resources::default();
        }
    }

    fn report(&self) -> Option<(&'static str, serde_json::Value)> {
        Some((REPORT, serde_json::to_value(self.series.report()).ok()?))
    }
}

impl SpanMetrics {
    /// Tells which resources there were.
    fn close_targets(&mut self, derived: &mut Derived) {
        let Some(metric) = &self.plan.target else { return };
        for facts in self.resources.all.iter_mut().filter(|facts| facts.seen > 0) {
            let time_unix_nano = std::mem::take(&mut facts.seen).saturating_add(self.plan.interval_nanos);
            let Some(labels) = &facts.target else { continue };
            let point = Point {
                start_time_unix_nano: 0,
                time_unix_nano,
                value: Some(Value::Number(1.0)),
                exemplars: &[],
                ended_bounds: &[],
            };
            derived.add(&self.series.owners[facts.owner as usize], metric, labels, &point);
        }
    }
}
