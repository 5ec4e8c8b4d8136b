//! Columns of the lake's tables, as Arrow schemas.
//!
//! What people filter on is a typed, flat column; the other attributes are maps from name to text. A table's
//! columns are only ever added to: each change raises the table's version and adds a golden file to its tests.
//!
//! Names within maps and lists are those of the Parquet specification (`key_value`, `key`, `value`, `element`),
//! not Arrow's customary ones, so that files and in-memory batches agree: build maps with
//! [`MAP_ENTRIES`], [`MAP_KEY`] and [`MAP_VALUE`].

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

#[cfg(test)]
mod tests;

/// Version of the columns of `spans`.
pub const SPANS_VERSION: u32 = 1;
/// Version of the columns of `logs`.
pub const LOGS_VERSION: u32 = 1;

/// Name of the entries of a map.
pub const MAP_ENTRIES: &str = "key_value";
/// Name of the keys in [`MAP_ENTRIES`].
pub const MAP_KEY: &str = "key";
/// Name of the values in [`MAP_ENTRIES`].
pub const MAP_VALUE: &str = "value";
/// Name of the elements of a list.
pub const LIST_ELEMENT: &str = "element";

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether rows may lack it.
    pub nullable: bool,
    /// What it holds, in a line.
    pub doc: &'static str,
}

/// The type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A signed 32-bit integer.
    Int32,
    /// A signed 64-bit integer.
    Int64,
    /// An unsigned 32-bit integer.
    UInt32,
    /// Nanoseconds since the Unix epoch, UTC.
    Time,
    /// A map from attribute name to its value as text, null where it has none.
    Attributes,
    /// A list of span events.
    Events,
    /// A list of links to other spans.
    Links,
}

const fn required(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, nullable: false, doc }
}

const fn optional(name: &'static str, kind: Kind, doc: &'static str) -> Column {
    Column { name, kind, nullable: true, doc }
}

use Kind::{Attributes, Events, Int32, Int64, Links, Text, Time, UInt32};

/// The columns of `spans`: one row for each span.
pub const SPANS: &[Column] = &[
    required("trace_id", Text, "32 lower-case hex digits"),
    required("span_id", Text, "16 lower-case hex digits"),
    optional("parent_span_id", Text, "16 lower-case hex digits; null for a root span"),
    optional("trace_state", Text, "W3C trace state"),
    required("flags", UInt32, "W3C trace flags in the low 8 bits, then OTLP's SpanFlags"),
    required("name", Text, "what the span does"),
    required("kind", Text, "unspecified, internal, server, client, producer or consumer"),
    required("start_time", Time, "start of the span"),
    required("end_time", Time, "end of the span"),
    required("duration_ns", Int64, "nanoseconds from start to end"),
    required("status", Text, "unset, ok or error"),
    optional("status_message", Text, "what the sender says about an error"),
    optional("service", Text, "service.name of the resource"),
    required("cluster", Text, "Kubernetes cluster that the span comes from"),
    optional("namespace", Text, "k8s.namespace.name of the resource"),
    optional("pod", Text, "k8s.pod.name of the resource"),
    optional("node", Text, "k8s.node.name of the resource"),
    optional("scope_name", Text, "name of the instrumentation library"),
    optional("scope_version", Text, "version of the instrumentation library"),
    required("resource_attributes", Attributes, "all attributes of the resource"),
    required("scope_attributes", Attributes, "all attributes of the scope"),
    required("attributes", Attributes, "all attributes of the span"),
    required("events", Events, "what happened during the span"),
    required("links", Links, "other spans that it refers to"),
    required("dropped_attributes_count", UInt32, "attributes that the sender left out"),
    required("dropped_events_count", UInt32, "events that the sender left out"),
    required("dropped_links_count", UInt32, "links that the sender left out"),
    optional("tenant", Text, "tenant that the span belongs to"),
    optional("resource_schema_url", Text, "schema of the resource"),
    optional("scope_schema_url", Text, "schema of the span"),
];

/// The columns of `logs`: one row for each log record.
pub const LOGS: &[Column] = &[
    required("time", Time, "when it happened, else when it was observed"),
    optional("observed_time", Time, "when it was collected"),
    required("severity_number", Int32, "0 unspecified, 1 to 24 from trace to fatal in steps of four"),
    optional("severity_text", Text, "the severity as the source spells it"),
    optional("severity", Text, "trace, debug, info, warn, error or fatal, by the number"),
    optional("body", Text, "text as it stands, other values as JSON"),
    optional("event_name", Text, "name of the event that the record is"),
    optional("trace_id", Text, "32 lower-case hex digits"),
    optional("span_id", Text, "16 lower-case hex digits"),
    required("flags", UInt32, "W3C trace flags in the low 8 bits"),
    optional("service", Text, "service.name of the resource"),
    required("cluster", Text, "Kubernetes cluster that the record comes from"),
    optional("namespace", Text, "k8s.namespace.name of the resource"),
    optional("pod", Text, "k8s.pod.name of the resource"),
    optional("node", Text, "k8s.node.name of the resource"),
    optional("scope_name", Text, "name of the instrumentation library or logger"),
    optional("scope_version", Text, "version of the instrumentation library"),
    required("resource_attributes", Attributes, "all attributes of the resource"),
    required("scope_attributes", Attributes, "all attributes of the scope"),
    required("attributes", Attributes, "all attributes of the record"),
    required("dropped_attributes_count", UInt32, "attributes that the sender left out"),
    optional("tenant", Text, "tenant that the record belongs to"),
    optional("resource_schema_url", Text, "schema of the resource"),
    optional("scope_schema_url", Text, "schema of the record"),
];

/// The schema of `spans`, in the order of [`SPANS`].
pub fn spans() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(SPANS));
    SCHEMA.clone()
}

/// The schema of `logs`, in the order of [`LOGS`].
pub fn logs() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| schema(LOGS));
    SCHEMA.clone()
}

fn schema(columns: &[Column]) -> SchemaRef {
    let field = |column: &Column| Field::new(column.name, column.kind.data_type(), column.nullable);
    Arc::new(Schema::new(columns.iter().map(field).collect::<Vec<_>>()))
}

impl Kind {
    /// The Arrow type.
    pub fn data_type(self) -> DataType {
        match self {
            Text => DataType::Utf8,
            Int32 => DataType::Int32,
            Int64 => DataType::Int64,
            UInt32 => DataType::UInt32,
            Time => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
            Attributes => map(),
            Events => list(event_fields()),
            Links => list(link_fields()),
        }
    }
}

/// The fields of an element of `spans.events`.
pub fn event_fields() -> Fields {
    Fields::from(vec![
        Field::new("time", Time.data_type(), false),
        Field::new("name", DataType::Utf8, false),
        Field::new("attributes", map(), false),
        Field::new("dropped_attributes_count", DataType::UInt32, false),
    ])
}

/// The fields of an element of `spans.links`.
pub fn link_fields() -> Fields {
    Fields::from(vec![
        Field::new("trace_id", DataType::Utf8, false),
        Field::new("span_id", DataType::Utf8, false),
        Field::new("trace_state", DataType::Utf8, true),
        Field::new("flags", DataType::UInt32, false),
        Field::new("attributes", map(), false),
        Field::new("dropped_attributes_count", DataType::UInt32, false),
    ])
}

fn list(fields: Fields) -> DataType {
    DataType::List(Arc::new(Field::new(LIST_ELEMENT, DataType::Struct(fields), false)))
}

fn map() -> DataType {
    let key = Field::new(MAP_KEY, DataType::Utf8, false);
    let value = Field::new(MAP_VALUE, DataType::Utf8, true);
    let entries = Field::new(MAP_ENTRIES, DataType::Struct(Fields::from(vec![key, value])), false);
    DataType::Map(Arc::new(entries), false)
}
