//! Zipkin's v2 JSON: a list of spans, translated one by one as they are read.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use bytes::Bytes;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::model::{self, address};
use super::translate;
use crate::encoding::Undecodable;
use crate::lenient::{Bounded, Number, Texts, nullable};
use crate::otlp::build::{Gather, Kind};

pub(super) fn request(record: &[u8]) -> Result<Bytes, Undecodable> {
    let mut gather = Gather::default();
    let mut reader = serde_json::Deserializer::from_slice(record);
    reader.deserialize_any(Spans(&mut gather))?;
    reader.end()?;
    Ok(gather.finish())
}

/// A list of spans, or one.
struct Spans<'g>(&'g mut Gather);

impl<'de> Visitor<'de> for Spans<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of spans")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(One(self.0))?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        One(self.0).deserialize(MapAccessDeserializer::new(map))
    }
}

struct One<'g>(&'g mut Gather);

impl<'de> DeserializeSeed<'de> for One<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        let span = Span::deserialize(from)?.into_model()?;
        translate::span(span, self.0);
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Span {
    trace_id: Id<16>,
    id: Id<8>,
    parent_id: Option<Id<8>>,
    #[serde(default, deserialize_with = "nullable")]
    kind: String,
    #[serde(default, deserialize_with = "nullable")]
    name: String,
    #[serde(default)]
    timestamp: Number,
    #[serde(default)]
    duration: Number,
    local_endpoint: Option<Endpoint>,
    remote_endpoint: Option<Endpoint>,
    #[serde(default)]
    annotations: Bounded<Annotation>,
    #[serde(default)]
    tags: Texts,
    #[serde(default, deserialize_with = "nullable")]
    debug: bool,
    #[serde(default, deserialize_with = "nullable")]
    shared: bool,
}

#[derive(Default, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    #[serde(default, deserialize_with = "nullable")]
    service_name: String,
    #[serde(default, deserialize_with = "nullable")]
    ipv4: String,
    #[serde(default, deserialize_with = "nullable")]
    ipv6: String,
    #[serde(default)]
    port: Number,
}

#[derive(serde::Deserialize)]
struct Annotation {
    #[serde(default)]
    timestamp: Number,
    #[serde(default, deserialize_with = "nullable")]
    value: String,
}

impl Span {
    fn into_model<E: Error>(self) -> Result<model::Span<'static>, E> {
        let annotation = |one: Annotation| Ok((micros(one.timestamp, "annotations.timestamp")?, Cow::Owned(one.value)));
        Ok(model::Span {
            trace_id: self.trace_id.0,
            id: self.id.0,
            parent: self.parent_id.map(|id| id.0).unwrap_or_default(),
            kind: match self.kind.as_str() {
                "CLIENT" => Kind::Client,
                "SERVER" => Kind::Server,
                "PRODUCER" => Kind::Producer,
                "CONSUMER" => Kind::Consumer,
                _ => Kind::Unspecified,
            },
            name: self.name.into(),
            timestamp: micros(self.timestamp, "timestamp")?,
            duration: micros(self.duration, "duration")?,
            local: self.local_endpoint.unwrap_or_default().into(),
            remote: self.remote_endpoint.unwrap_or_default().into(),
            annotations: self.annotations.0.into_iter().map(annotation).collect::<Result<_, E>>()?,
            tags: self.tags.0.into_iter().map(|(key, value)| (key.into(), value.into())).collect(),
            debug: self.debug,
            shared: self.shared,
        })
    }
}

fn micros<E: Error>(number: Number, field: &str) -> Result<u64, E> {
    number.whole().ok_or_else(|| E::custom(format_args!("{field} is no number of microseconds since the epoch")))
}

impl From<Endpoint> for model::Endpoint<'static> {
    fn from(endpoint: Endpoint) -> Self {
        let text = if endpoint.ipv6.is_empty() { endpoint.ipv4 } else { endpoint.ipv6 };
        // What is no address stays as it is: nothing is computed from it.
        let address = text.parse::<IpAddr>().map_or(text, address);
        let port = endpoint.port.whole().unwrap_or_default();
        Self { service: endpoint.service_name.into(), address: address.into(), port }
    }
}

/// An id of up to `N` bytes in hex, filled up with zeros on the left.
struct Id<const N: usize>([u8; N]);

impl<'de, const N: usize> Deserialize<'de> for Id<N> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(IdVisitor)
    }
}

struct IdVisitor<const N: usize>;

impl<const N: usize> Visitor<'_> for IdVisitor<N> {
    type Value = Id<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "up to {} hex digits", 2 * N)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Id<N>, E> {
        let wrong = || E::invalid_value(Unexpected::Str(&text[..text.floor_char_boundary(64)]), &self);
        if text.is_empty() || text.len() > 2 * N {
            return Err(wrong());
        }
        let mut id = [0; N];
        for (at, digit) in text.bytes().rev().enumerate() {
            let value = char::from(digit).to_digit(16).ok_or_else(wrong)?;
            id[N - 1 - at / 2] |= (value as u8) << (4 * (at % 2));
        }
        Ok(Id(id))
    }
}
