//! Jaeger's spans as trace requests.
//!
//! Read as the OpenTelemetry Collector's translator does: tags become attributes with their types, `span.kind`, `error`
//! and `otel.status_code` kind and status, logs events, references parent and links, the process the resource.
//! Differently from it, the tags of a process without a service name are kept, and `otel.library.*` is understood
//! beside `otel.scope.*`.

mod json;
mod model;
mod proto;
mod time;
mod translate;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::encoding::Undecodable;
use crate::otlp::build::Gather;

/// The request of one `jaeger.api_v2.Span` in protobuf.
pub fn from_proto(record: &[u8]) -> Result<Bytes, Undecodable> {
    Ok(request(proto::span(record)?))
}

/// The request of one `jaeger.api_v2.Span` as `jsonpb` writes it.
pub fn from_json(record: &[u8]) -> Result<Bytes, Undecodable> {
    Ok(request(json::span(record)?))
}

fn request(mut span: model::Span<'_>) -> Bytes {
    let mut gather = Gather::default();
    let process = span.process.take().unwrap_or_default();
    translate::span(span, translate::resource(process), &mut gather);
    gather.finish()
}
