//! `jaeger.api_v2.Span` as `jsonpb` writes it: ids and bytes in base64, times as text, enums by name or number.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use super::{model, time};
use crate::encoding::Undecodable;
use crate::lenient::{Bounded, Number, base64, nullable};
use crate::otlp::build::{MOST, Value};

pub(super) fn span(record: &[u8]) -> Result<model::Span<'static>, Undecodable> {
    let span: Span = serde_json::from_slice(record)?;
    let fields: usize = span.logs.0.iter().map(|log| log.fields.0.len() + 1).sum();
    if fields + span.tags.0.len() + span.references.0.len() > MOST {
        return Err(Undecodable::TooMany { most: MOST });
    }
    Ok(model::Span {
        trace_id: span.trace_id.0,
        span_id: span.span_id.0,
        operation: span.operation_name.into(),
        references: span.references.0.into_iter().map(Into::into).collect(),
        flags: span.flags.whole().unwrap_or_default(),
        start: span.start_time.0,
        duration: span.duration.0,
        tags: tags(span.tags),
        logs: span
            .logs
            .0
            .into_iter()
            .map(|log| model::Log { time: log.timestamp.0, fields: tags(log.fields) })
            .collect(),
        process: span
            .process
            .map(|process| model::Process { service: process.service_name.into(), tags: tags(process.tags) }),
    })
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    #[serde(default, alias = "trace_id")]
    trace_id: TraceId,
    #[serde(default, alias = "span_id")]
    span_id: SpanId,
    #[serde(default, alias = "operation_name", deserialize_with = "nullable")]
    operation_name: String,
    #[serde(default)]
    references: Bounded<Reference>,
    #[serde(default)]
    flags: Number,
    #[serde(default, alias = "start_time")]
    start_time: Timestamp,
    #[serde(default)]
    duration: Duration,
    #[serde(default)]
    tags: Bounded<Tag>,
    #[serde(default)]
    logs: Bounded<Log>,
    process: Option<Process>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Process {
    #[serde(default, alias = "service_name", deserialize_with = "nullable")]
    service_name: String,
    #[serde(default)]
    tags: Bounded<Tag>,
}

#[derive(serde::Deserialize)]
struct Log {
    #[serde(default)]
    timestamp: Timestamp,
    #[serde(default)]
    fields: Bounded<Tag>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    #[serde(default, alias = "trace_id")]
    trace_id: TraceId,
    #[serde(default, alias = "span_id")]
    span_id: SpanId,
    #[serde(default, alias = "ref_type")]
    ref_type: Enum,
}

impl From<Reference> for model::Reference {
    fn from(reference: Reference) -> Self {
        let follows = reference.ref_type.0 == Ok(1);
        Self { trace_id: reference.trace_id.0, span_id: reference.span_id.0, follows }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tag {
    #[serde(default, deserialize_with = "nullable")]
    key: String,
    #[serde(default, alias = "v_type")]
    v_type: Enum,
    #[serde(default, alias = "v_str", deserialize_with = "nullable")]
    v_str: String,
    #[serde(default, alias = "v_bool", deserialize_with = "nullable")]
    v_bool: bool,
    #[serde(default, alias = "v_int64")]
    v_int64: Number,
    #[serde(default, alias = "v_float64")]
    v_float64: Number,
    #[serde(default, alias = "v_binary")]
    v_binary: Binary,
}

fn tags(tags: Bounded<Tag>) -> Vec<model::Tag<'static>> {
    let value = |tag: Tag| match tag.v_type.0 {
        Ok(0) => Value::Str(tag.v_str.into()),
        Ok(1) => Value::Bool(tag.v_bool),
        Ok(2) => tag.v_int64.whole().map_or(Value::Double(tag.v_int64.real()), Value::Int),
        Ok(3) => Value::Double(tag.v_float64.real()),
        Ok(4) => Value::Bytes(tag.v_binary.0.into()),
        Ok(other) => model::unknown(other),
        Err(()) => model::unknown(-1),
    };
    tags.0
        .into_iter()
        .map(|mut tag| model::Tag { key: std::mem::take(&mut tag.key).into(), value: value(tag) })
        .collect()
}

/// The number of an enum's value; an error for a name that is not known.
struct Enum(Result<i64, ()>);

impl Default for Enum {
    fn default() -> Self {
        Self(Ok(0))
    }
}

#[derive(Default)]
struct TraceId([u8; 16]);

#[derive(Default)]
struct SpanId([u8; 8]);

#[derive(Default)]
struct Timestamp(i128);

#[derive(Default)]
struct Duration(i128);

#[derive(Default)]
struct Binary(Vec<u8>);

/// Reads a text, or a number of an enum, by a function; `null` is the default.
struct Text<T>(&'static str, fn(&str) -> Option<T>);

impl<T: Default> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_unit<E: Error>(self) -> Result<T, E> {
        Ok(T::default())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let shown = &text[..text.floor_char_boundary(64)];
        (self.1)(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(shown), &self.0))
    }
}

/// Implements reading of a type by [`Text`].
macro_rules! of_text {
    ($type:ty, $expected:literal, $read:expr) => {
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_any(Text($expected, $read))
            }
        }
    };
}

of_text!(TraceId, "16 or 8 bytes in base64", |text| model::trace_id(&base64(text)?).ok().map(TraceId));
of_text!(SpanId, "8 bytes in base64", |text| model::span_id(&base64(text)?).ok().map(SpanId));
of_text!(Binary, "base64", |text| base64(text).map(Binary));
of_text!(Timestamp, "a time such as 2026-01-02T03:04:05.678Z", |text| time::timestamp(text).map(Timestamp));
of_text!(Duration, "a duration such as 0.001s", |text| time::duration(text).map(Duration));
of_text!(Enum, "a name or number", |text| Some(Enum(match text {
    "STRING" | "CHILD_OF" => Ok(0),
    "BOOL" | "FOLLOWS_FROM" => Ok(1),
    "INT64" => Ok(2),
    "FLOAT64" => Ok(3),
    "BINARY" => Ok(4),
    other => other.parse().map_err(|_| ()),
})));
