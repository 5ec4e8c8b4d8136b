//! What the value of a record on a topic of others is, and the OTLP request that it stands for.

use bytes::Bytes;
use serde_json::Error as JsonError;

use crate::otlp::{json, validate};
use crate::{jaeger, zipkin};

/// An encoding of records, named as the OpenTelemetry Collector's Kafka components name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// An OTLP export request in protobuf: what our own topics hold.
    #[default]
    OtlpProto,
    /// An OTLP export request in JSON.
    OtlpJson,
    /// One `jaeger.api_v2.Span` in protobuf.
    JaegerProto,
    /// One `jaeger.api_v2.Span` in JSON, ids in base64.
    JaegerJson,
    /// A list of Zipkin v2 spans in JSON.
    ZipkinJson,
    /// A Zipkin `ListOfSpans` in protobuf.
    ZipkinProto,
}

/// Why a value is not of its encoding.
#[derive(Debug, thiserror::Error)]
pub enum Undecodable {
    /// Not the protobuf message; says which and where.
    #[error(transparent)]
    Protobuf(#[from] validate::Malformed),
    /// Not the JSON; says line and column.
    #[error("malformed JSON: {0}")]
    Json(#[from] JsonError),
    /// More than any tracer makes, and more than is read.
    #[error("a span has over {most} tags, references and logs")]
    TooMany {
        /// The limit.
        most: usize,
    },
}

impl Encoding {
    /// Every encoding.
    pub const ALL: [Self; 6] =
        [Self::OtlpProto, Self::OtlpJson, Self::JaegerProto, Self::JaegerJson, Self::ZipkinJson, Self::ZipkinProto];

    /// Its name in configurations, also the Collector's.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OtlpProto => "otlp_proto",
            Self::OtlpJson => "otlp_json",
            Self::JaegerProto => "jaeger_proto",
            Self::JaegerJson => "jaeger_json",
            Self::ZipkinJson => "zipkin_json",
            Self::ZipkinProto => "zipkin_proto",
        }
    }

    /// Whether records of log records may be so encoded.
    pub const fn has_logs(self) -> bool {
        matches!(self, Self::OtlpProto | Self::OtlpJson)
    }

    /// The trace request that a value stands for. Of [`Encoding::OtlpProto`] the value itself, which is not looked
    /// at; every other result is valid and canonical but for text and ids, which a request in JSON may get wrong.
    ///
    /// # Errors
    /// Where the value is not of this encoding. The memory taken is within a small multiple of its length.
    pub fn traces(self, value: &Bytes) -> Result<Bytes, Undecodable> {
        match self {
            Self::OtlpProto => Ok(value.clone()),
            Self::OtlpJson => Ok(json::traces(value)?.into()),
            Self::JaegerProto => jaeger::from_proto(value),
            Self::JaegerJson => jaeger::from_json(value),
            Self::ZipkinJson => zipkin::from_json(value),
            Self::ZipkinProto => zipkin::from_proto(value),
        }
    }

    /// The log request that a value stands for, of an encoding that [has](Self::has_logs) logs; of any other the value
    /// itself, which is then no request. Otherwise as [`Encoding::traces`].
    pub fn logs(self, value: &Bytes) -> Result<Bytes, Undecodable> {
        match self {
            Self::OtlpJson => Ok(json::logs(value)?.into()),
            _ => Ok(value.clone()),
        }
    }
}

#[cfg(test)]
mod tests;
