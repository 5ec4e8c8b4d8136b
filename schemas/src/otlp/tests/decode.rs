//! Everything that views show, gathered into `prost` messages.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use crate::otlp::common::{Attributes, ResourceView, ScopeView, ValueView};
use crate::otlp::logs::{LogRecordView, LogsView};
use crate::otlp::trace::{SpanView, TracesView};

/// A trace request as the views show it.
pub(super) fn traces(bytes: &[u8]) -> ExportTraceServiceRequest {
    let resource_spans = TracesView::new(bytes).resource_spans().map(|block| ResourceSpans {
        resource: block.resource_raw().map(|_| resource(block.resource())),
        scope_spans: block
            .scope_spans()
            .map(|block| ScopeSpans {
                scope: block.scope_raw().map(|_| scope(block.scope())),
                spans: block.spans().map(span).collect(),
                schema_url: block.schema_url().into(),
            })
            .collect(),
        schema_url: block.schema_url().into(),
    });
    ExportTraceServiceRequest { resource_spans: resource_spans.collect() }
}

/// A log request as the views show it.
pub(super) fn logs(bytes: &[u8]) -> ExportLogsServiceRequest {
    let resource_logs = LogsView::new(bytes).resource_logs().map(|block| ResourceLogs {
        resource: block.resource_raw().map(|_| resource(block.resource())),
        scope_logs: block
            .scope_logs()
            .map(|block| ScopeLogs {
                scope: block.scope_raw().map(|_| scope(block.scope())),
                log_records: block.log_records().map(log_record).collect(),
                schema_url: block.schema_url().into(),
            })
            .collect(),
        schema_url: block.schema_url().into(),
    });
    ExportLogsServiceRequest { resource_logs: resource_logs.collect() }
}

fn resource(view: ResourceView<'_>) -> Resource {
    Resource {
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
        entity_refs: view
            .entity_refs()
            .map(|entity| EntityRef {
                schema_url: entity.schema_url().into(),
                r#type: entity.kind().into(),
                id_keys: entity.id_keys().map(String::from).collect(),
                description_keys: entity.description_keys().map(String::from).collect(),
            })
            .collect(),
    }
}

fn scope(view: ScopeView<'_>) -> InstrumentationScope {
    InstrumentationScope {
        name: view.name().into(),
        version: view.version().into(),
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
    }
}

fn attributes(views: Attributes<'_>) -> Vec<KeyValue> {
    views
        .map(|view| KeyValue {
            key: view.key().into(),
            value: view.value_raw().map(|_| value(view.value())),
            key_strindex: view.key_strindex(),
        })
        .collect()
}

fn value(view: ValueView<'_>) -> AnyValue {
    let value = match view {
        ValueView::Empty => None,
        ValueView::Str(text) => Some(Value::StringValue(text.into())),
        ValueView::Bool(truth) => Some(Value::BoolValue(truth)),
        ValueView::Int(number) => Some(Value::IntValue(number)),
        ValueView::Double(number) => Some(Value::DoubleValue(number)),
        ValueView::Bytes(bytes) => Some(Value::BytesValue(bytes.into())),
        ValueView::Array(values) => Some(Value::ArrayValue(ArrayValue { values: values.map(value).collect() })),
        ValueView::KvList(list) => Some(Value::KvlistValue(KeyValueList { values: attributes(list) })),
        ValueView::StrIndex(index) => Some(Value::StringValueStrindex(index)),
    };
    AnyValue { value }
}

fn span(view: SpanView<'_>) -> Span {
    Span {
        trace_id: view.trace_id().into(),
        span_id: view.span_id().into(),
        trace_state: view.trace_state().into(),
        parent_span_id: view.parent_span_id().into(),
        flags: view.flags(),
        name: view.name().into(),
        kind: view.kind(),
        start_time_unix_nano: view.start_time_unix_nano(),
        end_time_unix_nano: view.end_time_unix_nano(),
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
        events: view
            .events()
            .map(|event| Event {
                time_unix_nano: event.time_unix_nano(),
                name: event.name().into(),
                attributes: attributes(event.attributes()),
                dropped_attributes_count: event.dropped_attributes_count(),
            })
            .collect(),
        dropped_events_count: view.dropped_events_count(),
        links: view
            .links()
            .map(|link| Link {
                trace_id: link.trace_id().into(),
                span_id: link.span_id().into(),
                trace_state: link.trace_state().into(),
                attributes: attributes(link.attributes()),
                dropped_attributes_count: link.dropped_attributes_count(),
                flags: link.flags(),
            })
            .collect(),
        dropped_links_count: view.dropped_links_count(),
        status: view
            .has_status()
            .then(|| Status { message: view.status().message().into(), code: view.status().code() }),
    }
}

fn log_record(view: LogRecordView<'_>) -> LogRecord {
    LogRecord {
        time_unix_nano: view.time_unix_nano(),
        observed_time_unix_nano: view.observed_time_unix_nano(),
        severity_number: view.severity_number(),
        severity_text: view.severity_text().into(),
        body: view.body_raw().map(|_| value(view.body())),
        attributes: attributes(view.attributes()),
        dropped_attributes_count: view.dropped_attributes_count(),
        flags: view.flags(),
        trace_id: view.trace_id().into(),
        span_id: view.span_id().into(),
        event_name: view.event_name().into(),
    }
}
