//! From Jaeger's model to OTLP.

use std::borrow::Cow;

use super::model::{Process, Reference, SAMPLED, Span, Tag};
use crate::otlp::build::{self, AttributeMap, Code, Gather, Kind, SpanDraft, Value, put_event, put_link};

/// What exporters of OTLP write for want of a service name.
const NO_SERVICE: &str = "OTLPResourceNoServiceName";

const HTTP_STATUS: &str = "http.response.status_code";
const HTTP_MESSAGE: &str = "http.status_message";
const DESCRIPTION: &str = "otel.status_description";

/// The bytes of a `Resource` message.
pub(super) fn resource(process: Process<'_>) -> Vec<u8> {
    let mut attributes = AttributeMap::default();
    if !process.service.is_empty() && process.service != NO_SERVICE {
        attributes.set_text("service.name", process.service);
    }
    set_all(&mut attributes, process.tags);
    attributes.rename("hostname", "host.name");
    if attributes.get("opencensus.exporterversion").is_none()
        && let Some(version) = attributes.take_text("jaeger.version")
    {
        attributes.set_text("opencensus.exporterversion", format!("Jaeger-{version}"));
    }
    build::resource(&attributes)
}

/// Adds a span; its own process counts for nothing here.
pub(super) fn span(span: Span<'_>, resource: Vec<u8>, gather: &mut Gather) {
    let parent = parent(&span);
    let mut draft = SpanDraft {
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: parent,
        name: span.operation,
        start: unsigned(span.start),
        end: unsigned(span.start.saturating_add(span.duration)),
        flags: span.flags & SAMPLED,
        ..SpanDraft::default()
    };
    set_all(&mut draft.attributes, span.tags);
    let scope = scope(&mut draft.attributes);
    if let Some(kind) = draft.attributes.take_text("span.kind") {
        draft.kind = kind_of(&kind);
    }
    set_status(&mut draft);
    draft.trace_state = draft.attributes.take_text("w3c.tracestate").unwrap_or_default();
    for log in span.logs {
        let mut fields = AttributeMap::default();
        set_all(&mut fields, log.fields);
        let name = fields.take_text("event").unwrap_or_default();
        put_event(&mut draft.events, unsigned(log.time), &name, &fields, 0);
    }
    for reference in span.references.into_iter().filter(|reference| reference.follows || reference.span_id != parent) {
        link(reference, &mut draft.links);
    }
    gather.add(resource, scope, &draft.encode());
}

fn link(Reference { trace_id, span_id, follows }: Reference, links: &mut Vec<u8>) {
    let mut attributes = AttributeMap::default();
    attributes.set_text("opentracing.ref_type", if follows { "follows_from" } else { "child_of" });
    put_link(links, (trace_id, span_id), "", &attributes, 0);
}

/// The first parent within the trace, else the first span there that this one follows; zeros for none.
fn parent(span: &Span<'_>) -> [u8; 8] {
    let mut local = span.references.iter().filter(|reference| reference.trace_id == span.trace_id);
    let parent = local.clone().find(|reference| !reference.follows).or_else(|| local.next());
    parent.map(|reference| reference.span_id).unwrap_or_default()
}

fn set_all<'a>(attributes: &mut AttributeMap<'a>, tags: Vec<Tag<'a>>) {
    for Tag { key, value } in tags {
        // The name that semantic conventions have given it since.
        let key = if key == "http.status_code" { Cow::Borrowed(HTTP_STATUS) } else { key };
        attributes.set(key, value);
    }
}

fn scope(attributes: &mut AttributeMap<'_>) -> Vec<u8> {
    for (name, version) in [("otel.scope.name", "otel.scope.version"), ("otel.library.name", "otel.library.version")] {
        if let Some(name) = attributes.take_text(name) {
            return build::scope(&name, &attributes.take_text(version).unwrap_or_default());
        }
    }
    Vec::new()
}

fn kind_of(kind: &str) -> Kind {
    match kind {
        "client" => Kind::Client,
        "server" => Kind::Server,
        "producer" => Kind::Producer,
        "consumer" => Kind::Consumer,
        "internal" => Kind::Internal,
        _ => Kind::Unspecified,
    }
}

/// The tag `error` outranks `otel.status_code`, which outranks the status of HTTP.
fn set_status(draft: &mut SpanDraft<'_>) {
    let attributes = &mut draft.attributes;
    let failed = attributes.get("error") == Some(&Value::Bool(true));
    if failed {
        attributes.take("error");
        draft.code = Code::Error;
        draft.message = match attributes.take_text(DESCRIPTION) {
            Some(description) => description,
            None => text(attributes, HTTP_MESSAGE),
        };
    }
    if let Some(code) = attributes.take_text("otel.status_code") {
        if !failed {
            draft.code = match code.to_ascii_uppercase().as_str() {
                "OK" => Code::Ok,
                "ERROR" => Code::Error,
                _ => Code::Unset,
            };
            draft.message = attributes.take_text(DESCRIPTION).unwrap_or_default();
        }
        return;
    }
    if !failed && attributes.get(HTTP_STATUS).and_then(number).is_some_and(|status| is_failure(status, draft.kind)) {
        draft.code = Code::Error;
        draft.message = text(attributes, HTTP_MESSAGE);
    }
}

fn text<'a>(attributes: &AttributeMap<'a>, key: &str) -> Cow<'a, str> {
    attributes.get(key).cloned().map(Value::into_text).unwrap_or_default()
}

fn number(value: &Value<'_>) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Str(text) => text.parse().ok(),
        _ => None,
    }
}

/// Whether a status of HTTP means that the span failed: one of 400 to 499 is the client's fault, not the server's.
fn is_failure(status: i64, kind: Kind) -> bool {
    match status {
        100..=399 => false,
        400..500 => kind != Kind::Server,
        _ => true,
    }
}

/// Nanoseconds since the epoch; times before it count as the epoch.
fn unsigned(nanos: i128) -> u64 {
    u64::try_from(nanos.max(0)).unwrap_or(u64::MAX)
}
