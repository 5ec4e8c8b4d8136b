//! Columns of lists: the events and links of spans.

use std::sync::Arc;

use afflux_schemas::columns::{LIST_ELEMENT, event_fields, link_fields};
use afflux_schemas::otlp::trace::{EventView, LinkView};
use arrow_array::{ArrayRef, ListArray, StructArray, UInt32Array};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, Field, Fields};

use super::attributes::AttributesColumn;
use super::text::TextColumn;
use super::times;
use crate::parquet::times::nanos;

/// Events of one span after the other.
#[derive(Debug)]
pub(super) struct EventsColumn {
    offsets: Vec<i32>,
    time: Vec<i64>,
    name: TextColumn,
    attributes: AttributesColumn,
    dropped_attributes_count: Vec<u32>,
}

impl EventsColumn {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            offsets: started(rows),
            time: Vec::new(),
            name: TextColumn::new(0, 0),
            attributes: AttributesColumn::new(0, 0),
            dropped_attributes_count: Vec::new(),
        }
    }

    /// Appends the events of a span.
    pub(super) fn push<'a>(&mut self, events: impl Iterator<Item = EventView<'a>>) {
        for event in events {
            self.time.push(nanos(event.time_unix_nano()));
            self.name.push(event.name().as_bytes());
            self.attributes.push(event.attributes());
            self.dropped_attributes_count.push(event.dropped_attributes_count());
        }
        self.offsets.push(i32::try_from(self.time.len()).unwrap_or(i32::MAX));
    }

    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let columns = vec![
            times(self.time),
            self.name.finish()?,
            self.attributes.finish()?,
            Arc::new(UInt32Array::from(self.dropped_attributes_count)),
        ];
        list(self.offsets, event_fields(), columns)
    }
}

/// Links of one span after the other.
#[derive(Debug)]
pub(super) struct LinksColumn {
    offsets: Vec<i32>,
    trace_id: TextColumn,
    span_id: TextColumn,
    trace_state: TextColumn,
    flags: Vec<u32>,
    attributes: AttributesColumn,
    dropped_attributes_count: Vec<u32>,
}

impl LinksColumn {
    pub(super) fn new(rows: usize) -> Self {
        Self {
            offsets: started(rows),
            trace_id: TextColumn::new(0, 0),
            span_id: TextColumn::new(0, 0),
            trace_state: TextColumn::new(0, 0),
            flags: Vec::new(),
            attributes: AttributesColumn::new(0, 0),
            dropped_attributes_count: Vec::new(),
        }
    }

    /// Appends the links of a span.
    pub(super) fn push<'a>(&mut self, links: impl Iterator<Item = LinkView<'a>>) {
        for link in links {
            self.trace_id.push_hex(link.trace_id());
            self.span_id.push_hex(link.span_id());
            self.trace_state.push_optional(link.trace_state().as_bytes());
            self.flags.push(link.flags());
            self.attributes.push(link.attributes());
            self.dropped_attributes_count.push(link.dropped_attributes_count());
        }
        self.offsets.push(i32::try_from(self.flags.len()).unwrap_or(i32::MAX));
    }

    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        let columns = vec![
            self.trace_id.finish()?,
            self.span_id.finish()?,
            self.trace_state.finish()?,
            Arc::new(UInt32Array::from(self.flags)),
            self.attributes.finish()?,
            Arc::new(UInt32Array::from(self.dropped_attributes_count)),
        ];
        list(self.offsets, link_fields(), columns)
    }
}

fn started(rows: usize) -> Vec<i32> {
    let mut offsets = Vec::with_capacity(rows + 1);
    offsets.push(0);
    offsets
}

fn list(offsets: Vec<i32>, fields: Fields, columns: Vec<ArrayRef>) -> Result<ArrayRef, ArrowError> {
    let elements = StructArray::try_new(fields.clone(), columns, None)?;
    let field = Arc::new(Field::new(LIST_ELEMENT, DataType::Struct(fields), false));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(ListArray::try_new(field, offsets, Arc::new(elements), None)?))
}
