//! The messages of OTLP traces and logs as tables, after `opentelemetry-proto` 1.9.

use std::fmt;

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;

/// A message and its fields.
pub(super) struct Message {
    /// Its name in the `.proto`.
    pub(super) name: &'static str,
    /// Whether its fields are the members of one oneof.
    pub(super) oneof: bool,
    /// The fields known.
    pub(super) fields: &'static [Field],
}

/// A field of a message.
pub(super) struct Field {
    /// Its name in JSON.
    pub(super) json: &'static str,
    /// Its name in the `.proto`.
    pub(super) proto: &'static str,
    /// Its number.
    pub(super) number: u32,
    /// What it holds.
    pub(super) kind: Kind,
}

/// What a field holds, and so how JSON writes it.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    String,
    Hex,
    Base64,
    Bool,
    Double,
    Int64,
    Uint32,
    Fixed32,
    Fixed64,
    /// An enum, with the numbers of its names.
    Enum(fn(&str) -> Option<i32>),
    Message(&'static Message),
    Repeated(&'static Message),
    Strings,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::String => "a string",
            Self::Hex => "hex digits, two for each byte",
            Self::Base64 => "base64",
            Self::Bool => "true or false",
            Self::Double => "a number",
            Self::Int64 => "a 64-bit integer, as number or string",
            Self::Uint32 | Self::Fixed32 => "an unsigned 32-bit integer",
            Self::Fixed64 => "an unsigned 64-bit integer, as number or string",
            Self::Enum(_) => "the number of an enum",
            Self::Message(_) => "an object",
            Self::Repeated(_) => "an array of objects",
            Self::Strings => "an array of strings",
        })
    }
}

const fn field(json: &'static str, proto: &'static str, number: u32, kind: Kind) -> Field {
    Field { json, proto, number, kind }
}

const fn message(name: &'static str, fields: &'static [Field]) -> Message {
    Message { name, oneof: false, fields }
}

pub(super) static EXPORT_TRACES: Message = message(
    "ExportTraceServiceRequest",
    &[field("resourceSpans", "resource_spans", 1, Kind::Repeated(&RESOURCE_SPANS))],
);

static RESOURCE_SPANS: Message = message(
    "ResourceSpans",
    &[
        field("resource", "resource", 1, Kind::Message(&RESOURCE)),
        field("scopeSpans", "scope_spans", 2, Kind::Repeated(&SCOPE_SPANS)),
        field("schemaUrl", "schema_url", 3, Kind::String),
    ],
);

static SCOPE_SPANS: Message = message(
    "ScopeSpans",
    &[
        field("scope", "scope", 1, Kind::Message(&SCOPE)),
        field("spans", "spans", 2, Kind::Repeated(&SPAN)),
        field("schemaUrl", "schema_url", 3, Kind::String),
    ],
);

static SPAN: Message = message(
    "Span",
    &[
        field("traceId", "trace_id", 1, Kind::Hex),
        field("spanId", "span_id", 2, Kind::Hex),
        field("traceState", "trace_state", 3, Kind::String),
        field("parentSpanId", "parent_span_id", 4, Kind::Hex),
        field("name", "name", 5, Kind::String),
        field("kind", "kind", 6, Kind::Enum(|name| SpanKind::from_str_name(name).map(i32::from))),
        field("startTimeUnixNano", "start_time_unix_nano", 7, Kind::Fixed64),
        field("endTimeUnixNano", "end_time_unix_nano", 8, Kind::Fixed64),
        field("attributes", "attributes", 9, Kind::Repeated(&KEY_VALUE)),
        field("droppedAttributesCount", "dropped_attributes_count", 10, Kind::Uint32),
        field("events", "events", 11, Kind::Repeated(&EVENT)),
        field("droppedEventsCount", "dropped_events_count", 12, Kind::Uint32),
        field("links", "links", 13, Kind::Repeated(&LINK)),
        field("droppedLinksCount", "dropped_links_count", 14, Kind::Uint32),
        field("status", "status", 15, Kind::Message(&STATUS)),
        field("flags", "flags", 16, Kind::Fixed32),
    ],
);

static EVENT: Message = message(
    "Span.Event",
    &[
        field("timeUnixNano", "time_unix_nano", 1, Kind::Fixed64),
        field("name", "name", 2, Kind::String),
        field("attributes", "attributes", 3, Kind::Repeated(&KEY_VALUE)),
        field("droppedAttributesCount", "dropped_attributes_count", 4, Kind::Uint32),
    ],
);

static LINK: Message = message(
    "Span.Link",
    &[
        field("traceId", "trace_id", 1, Kind::Hex),
        field("spanId", "span_id", 2, Kind::Hex),
        field("traceState", "trace_state", 3, Kind::String),
        field("attributes", "attributes", 4, Kind::Repeated(&KEY_VALUE)),
        field("droppedAttributesCount", "dropped_attributes_count", 5, Kind::Uint32),
        field("flags", "flags", 6, Kind::Fixed32),
    ],
);

static STATUS: Message = message(
    "Status",
    &[
        field("message", "message", 2, Kind::String),
        field("code", "code", 3, Kind::Enum(|name| StatusCode::from_str_name(name).map(i32::from))),
    ],
);

pub(super) static EXPORT_LOGS: Message =
    message("ExportLogsServiceRequest", &[field("resourceLogs", "resource_logs", 1, Kind::Repeated(&RESOURCE_LOGS))]);

static RESOURCE_LOGS: Message = message(
    "ResourceLogs",
    &[
        field("resource", "resource", 1, Kind::Message(&RESOURCE)),
        field("scopeLogs", "scope_logs", 2, Kind::Repeated(&SCOPE_LOGS)),
        field("schemaUrl", "schema_url", 3, Kind::String),
    ],
);

static SCOPE_LOGS: Message = message(
    "ScopeLogs",
    &[
        field("scope", "scope", 1, Kind::Message(&SCOPE)),
        field("logRecords", "log_records", 2, Kind::Repeated(&LOG_RECORD)),
        field("schemaUrl", "schema_url", 3, Kind::String),
    ],
);

static LOG_RECORD: Message = message(
    "LogRecord",
    &[
        field("timeUnixNano", "time_unix_nano", 1, Kind::Fixed64),
        field(
            "severityNumber",
            "severity_number",
            2,
            Kind::Enum(|name| SeverityNumber::from_str_name(name).map(i32::from)),
        ),
        field("severityText", "severity_text", 3, Kind::String),
        field("body", "body", 5, Kind::Message(&ANY_VALUE)),
        field("attributes", "attributes", 6, Kind::Repeated(&KEY_VALUE)),
        field("droppedAttributesCount", "dropped_attributes_count", 7, Kind::Uint32),
        field("flags", "flags", 8, Kind::Fixed32),
        field("traceId", "trace_id", 9, Kind::Hex),
        field("spanId", "span_id", 10, Kind::Hex),
        field("observedTimeUnixNano", "observed_time_unix_nano", 11, Kind::Fixed64),
        field("eventName", "event_name", 12, Kind::String),
    ],
);

static RESOURCE: Message = message(
    "Resource",
    &[
        field("attributes", "attributes", 1, Kind::Repeated(&KEY_VALUE)),
        field("droppedAttributesCount", "dropped_attributes_count", 2, Kind::Uint32),
        field("entityRefs", "entity_refs", 3, Kind::Repeated(&ENTITY_REF)),
    ],
);

static ENTITY_REF: Message = message(
    "EntityRef",
    &[
        field("schemaUrl", "schema_url", 1, Kind::String),
        field("type", "type", 2, Kind::String),
        field("idKeys", "id_keys", 3, Kind::Strings),
        field("descriptionKeys", "description_keys", 4, Kind::Strings),
    ],
);

static SCOPE: Message = message(
    "InstrumentationScope",
    &[
        field("name", "name", 1, Kind::String),
        field("version", "version", 2, Kind::String),
        field("attributes", "attributes", 3, Kind::Repeated(&KEY_VALUE)),
        field("droppedAttributesCount", "dropped_attributes_count", 4, Kind::Uint32),
    ],
);

static KEY_VALUE: Message =
    message("KeyValue", &[field("key", "key", 1, Kind::String), field("value", "value", 2, Kind::Message(&ANY_VALUE))]);

static KEY_VALUE_LIST: Message = message("KeyValueList", &[field("values", "values", 1, Kind::Repeated(&KEY_VALUE))]);

static ARRAY_VALUE: Message = message("ArrayValue", &[field("values", "values", 1, Kind::Repeated(&ANY_VALUE))]);

static ANY_VALUE: Message = Message {
    name: "AnyValue",
    oneof: true,
    fields: &[
        field("stringValue", "string_value", 1, Kind::String),
        field("boolValue", "bool_value", 2, Kind::Bool),
        field("intValue", "int_value", 3, Kind::Int64),
        field("doubleValue", "double_value", 4, Kind::Double),
        field("arrayValue", "array_value", 5, Kind::Message(&ARRAY_VALUE)),
        field("kvlistValue", "kvlist_value", 6, Kind::Message(&KEY_VALUE_LIST)),
        field("bytesValue", "bytes_value", 7, Kind::Base64),
    ],
};
