//! Zipkin's v2 spans as trace requests.
//!
//! Read as the OpenTelemetry Collector's translator does: tags become attributes (all text), annotations events, the
//! local endpoint's service the resource, together with the tags that resources are described by; what exporters of
//! OTLP wrote into tags and annotations is taken out again. Differently from it: resources that differ in any of
//! these tags stay apart; an annotation or tag that only looks like such a one is kept as it is; a shared span, the
//! server's half of a client's, becomes its own parent, so that it is found by (trace, parent) as others are; and
//! `debug` sets the flag of a sampled span.

mod json;
mod model;
mod proto;
mod translate;

#[cfg(test)]
mod tests;

use bytes::Bytes;

use crate::encoding::Undecodable;

/// The request of a list of v2 spans in JSON, or of one span.
pub fn from_json(record: &[u8]) -> Result<Bytes, Undecodable> {
    json::request(record)
}

/// The request of a `ListOfSpans` in protobuf.
pub fn from_proto(record: &[u8]) -> Result<Bytes, Undecodable> {
    proto::request(record)
}
