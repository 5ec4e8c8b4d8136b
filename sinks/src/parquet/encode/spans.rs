//! The columns of `spans`.

use std::sync::Arc;

use afflux_schemas::otlp::trace::SpanView;
use arrow_array::{ArrayRef, Int32Array, Int64Array, StringArray, UInt32Array};
use arrow_schema::ArrowError;

use super::attributes::AttributesColumn;
use super::context::Contexts;
use super::nested::{EventsColumn, LinksColumn};
use super::text::{TextColumn, keyed};
use super::times;
use crate::parquet::rows::Item;
use crate::parquet::times::span_times;

/// Names of `SpanKind`, by number.
const KINDS: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];
/// Names of `StatusCode`, by number.
const STATUSES: [&str; 3] = ["unset", "ok", "error"];

/// Spans being gathered.
#[derive(Debug)]
pub(super) struct SpanColumns {
    contexts: Vec<usize>,
    trace_id: TextColumn,
    span_id: TextColumn,
    parent_span_id: TextColumn,
    trace_state: TextColumn,
    flags: Vec<u32>,
    name: TextColumn,
    kind: Vec<i32>,
    start_time: Vec<i64>,
    end_time: Vec<i64>,
    duration: Vec<i64>,
    status: Vec<i32>,
    status_message: TextColumn,
    attributes: AttributesColumn,
    events: EventsColumn,
    links: LinksColumn,
    dropped_attributes_count: Vec<u32>,
    dropped_events_count: Vec<u32>,
    dropped_links_count: Vec<u32>,
}

impl SpanColumns {
    /// Room for that many spans.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            contexts: Vec::with_capacity(rows),
            trace_id: TextColumn::new(rows, 32),
            span_id: TextColumn::new(rows, 16),
            parent_span_id: TextColumn::new(rows, 16),
            trace_state: TextColumn::new(rows, 0),
            flags: Vec::with_capacity(rows),
            name: TextColumn::new(rows, 24),
            kind: Vec::with_capacity(rows),
            start_time: Vec::with_capacity(rows),
            end_time: Vec::with_capacity(rows),
            duration: Vec::with_capacity(rows),
            status: Vec::with_capacity(rows),
            status_message: TextColumn::new(rows, 0),
            attributes: AttributesColumn::new(rows, 8),
            events: EventsColumn::new(rows),
            links: LinksColumn::new(rows),
            dropped_attributes_count: Vec::with_capacity(rows),
            dropped_events_count: Vec::with_capacity(rows),
            dropped_links_count: Vec::with_capacity(rows),
        }
    }

    /// Appends a span.
    pub(super) fn push(mut self, item: Item<'_>) -> Self {
        let span = SpanView::new(item.raw);
        self.contexts.push(item.context);
        self.trace_id.push_hex(span.trace_id());
        self.span_id.push_hex(span.span_id());
        self.parent_span_id.push_optional_id(span.parent_span_id());
        self.trace_state.push_optional(span.trace_state().as_bytes());
        self.flags.push(span.flags());
        self.name.push(span.name_bytes());
        self.kind.push(known(span.kind(), KINDS.len()));
        let (start, end) = span_times(&span);
        self.start_time.push(start);
        self.end_time.push(end);
        // Both lie between 0 and i64::MAX.
        self.duration.push(end - start);
        let status = span.status();
        self.status.push(known(status.code(), STATUSES.len()));
        self.status_message.push_optional(status.message().as_bytes());
        self.attributes.push(span.attributes());
        self.events.push(span.events());
        self.links.push(span.links());
        self.dropped_attributes_count.push(span.dropped_attributes_count());
        self.dropped_events_count.push(span.dropped_events_count());
        self.dropped_links_count.push(span.dropped_links_count());
        self
    }

    /// The columns in the order of the table.
    pub(super) fn finish(self, contexts: &Contexts) -> Result<Vec<ArrayRef>, ArrowError> {
        let shared = contexts.columns(&self.contexts)?;
        Ok(vec![
            self.trace_id.finish()?,
            self.span_id.finish()?,
            self.parent_span_id.finish()?,
            self.trace_state.finish()?,
            Arc::new(UInt32Array::from(self.flags)),
            self.name.finish()?,
            named(self.kind, &KINDS)?,
            times(self.start_time),
            times(self.end_time),
            Arc::new(Int64Array::from(self.duration)),
            named(self.status, &STATUSES)?,
            self.status_message.finish()?,
            shared.service,
            shared.cluster,
            shared.namespace,
            shared.pod,
            shared.node,
            shared.scope_name,
            shared.scope_version,
            shared.resource_attributes,
            shared.scope_attributes,
            self.attributes.finish()?,
            self.events.finish()?,
            self.links.finish()?,
            Arc::new(UInt32Array::from(self.dropped_attributes_count)),
            Arc::new(UInt32Array::from(self.dropped_events_count)),
            Arc::new(UInt32Array::from(self.dropped_links_count)),
            shared.tenant,
            shared.resource_schema_url,
            shared.scope_schema_url,
        ])
    }
}

/// The number of an enumeration, 0 for one that this version does not know.
fn known(number: i32, names: usize) -> i32 {
    if (0..names as i32).contains(&number) { number } else { 0 }
}

/// A column of names by number.
fn named(numbers: Vec<i32>, names: &'static [&'static str]) -> Result<ArrayRef, ArrowError> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(names));
    keyed(Int32Array::from(numbers), &names)
}
