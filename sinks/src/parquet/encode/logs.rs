//! The columns of `logs`.

use std::sync::Arc;

use afflux_schemas::otlp::common::ValueView;
use afflux_schemas::otlp::logs::LogRecordView;
use arrow_array::{ArrayRef, Int32Array, StringArray, TimestampNanosecondArray, UInt32Array};
use arrow_schema::ArrowError;

use super::attributes::{AttributesColumn, push_value};
use super::context::Contexts;
use super::text::{TextColumn, keyed};
use super::times;
use crate::parquet::rows::Item;
use crate::parquet::times::log_times;

/// Names of severities, each for four numbers from 1.
const SEVERITIES: [&str; 6] = ["trace", "debug", "info", "warn", "error", "fatal"];

/// Log records being gathered.
#[derive(Debug)]
pub(super) struct LogColumns {
    contexts: Vec<usize>,
    time: Vec<i64>,
    observed_time: Vec<Option<i64>>,
    severity_number: Vec<i32>,
    severity_text: TextColumn,
    body: TextColumn,
    event_name: TextColumn,
    trace_id: TextColumn,
    span_id: TextColumn,
    flags: Vec<u32>,
    attributes: AttributesColumn,
    dropped_attributes_count: Vec<u32>,
    scratch: String,
}

impl LogColumns {
    /// Room for that many log records.
    pub(super) fn new(rows: usize) -> Self {
        Self {
            contexts: Vec::with_capacity(rows),
            time: Vec::with_capacity(rows),
            observed_time: Vec::with_capacity(rows),
            severity_number: Vec::with_capacity(rows),
            severity_text: TextColumn::new(rows, 4),
            body: TextColumn::new(rows, 64),
            event_name: TextColumn::new(rows, 0),
            trace_id: TextColumn::new(rows, 32),
            span_id: TextColumn::new(rows, 16),
            flags: Vec::with_capacity(rows),
            attributes: AttributesColumn::new(rows, 4),
            dropped_attributes_count: Vec::with_capacity(rows),
            scratch: String::new(),
        }
    }

    /// Appends a log record.
    pub(super) fn push(mut self, item: Item<'_>) -> Self {
        let log = LogRecordView::new(item.raw);
        self.contexts.push(item.context);
        let (time, observed) = log_times(&log);
        self.time.push(time);
        self.observed_time.push((observed != 0).then_some(observed));
        self.severity_number.push(log.severity_number());
        self.severity_text.push_optional(log.severity_text().as_bytes());
        self.push_body(&log.body());
        self.event_name.push_optional(log.event_name().as_bytes());
        self.trace_id.push_optional_id(log.trace_id());
        self.span_id.push_optional_id(log.span_id());
        self.flags.push(log.flags());
        self.attributes.push(log.attributes());
        self.dropped_attributes_count.push(log.dropped_attributes_count());
        self
    }

    fn push_body(&mut self, body: &ValueView<'_>) {
        push_value(&mut self.body, body, &mut self.scratch);
    }

    /// The columns in the order of the table.
    pub(super) fn finish(self, contexts: &Contexts) -> Result<Vec<ArrayRef>, ArrowError> {
        let shared = contexts.columns(&self.contexts)?;
        let severity = severities(&self.severity_number)?;
        Ok(vec![
            times(self.time),
            Arc::new(TimestampNanosecondArray::from(self.observed_time).with_timezone("UTC")),
            Arc::new(Int32Array::from(self.severity_number)),
            self.severity_text.finish()?,
            severity,
            self.body.finish()?,
            self.event_name.finish()?,
            self.trace_id.finish()?,
            self.span_id.finish()?,
            Arc::new(UInt32Array::from(self.flags)),
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
            Arc::new(UInt32Array::from(self.dropped_attributes_count)),
            shared.tenant,
            shared.resource_schema_url,
            shared.scope_schema_url,
        ])
    }
}

/// The severities' names by number; none for a number outside 1 to 24.
fn severities(numbers: &[i32]) -> Result<ArrayRef, ArrowError> {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(SEVERITIES));
    let keys = numbers.iter().map(|number| (1..=24).contains(number).then(|| (number - 1) / 4));
    keyed(Int32Array::from_iter(keys), &names)
}
