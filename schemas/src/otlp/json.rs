//! OTLP/JSON to OTLP protobuf, in one pass and without a tree.
//!
//! The text drives a table of the messages ([`tables`]); every value is written as protobuf the moment it is
//! read. Memory is the output, which is hardly ever longer than the text: a tree of structs would let
//! `[{},{},…]` grow a hundredfold.
//!
//! Read as the OTLP specification and proto3's JSON mapping say: names in lowerCamelCase or as in the
//! `.proto`, unknown names ignored, `null` as absent, ids in hex of either case, other bytes in base64, 64-bit
//! integers as numbers or strings, enums as numbers or names. A lone surrogate in a string is read as U+FFFD, as by
//! the Collector: strings are read as bytes, where the parser lets them through.

mod tables;
mod wire;

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use crate::lenient::base64;
use crate::wire::{put_len_field, put_message_field};
use tables::{Field, Kind, Message};

/// The protobuf of a JSON `ExportTraceServiceRequest`.
///
/// Allocates [`room`] bytes at once; the error says line and column.
pub fn traces(text: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    transcode(text, &tables::EXPORT_TRACES)
}

/// The protobuf of a JSON `ExportLogsServiceRequest`; otherwise as [`traces`].
pub fn logs(text: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
    transcode(text, &tables::EXPORT_LOGS)
}

/// Bytes that the protobuf of a text of that length may take.
///
/// The one value that grows is a negative enum: `{"kind":-1},` is 12 bytes of text and 13 of protobuf.
pub const fn room(text: usize) -> usize {
    text + text / 8
}

fn transcode(text: &[u8], message: &'static Message) -> Result<Vec<u8>, serde_json::Error> {
    let mut out = Vec::with_capacity(room(text.len()));
    let mut json = serde_json::Deserializer::from_slice(text);
    Body { message, out: &mut out }.deserialize(&mut json)?;
    json.end()?;
    Ok(out)
}

/// The fields of one message, without tag and length.
struct Body<'o> {
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.message.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { message, out } = self;
        while let Some(field) = map.next_key_seed(Name(message))? {
            match field {
                Some(field) => map.next_value_seed(Value { field, keep_default: message.oneof, out })?,
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// Finds a message's field by its name.
struct Name(&'static Message);

impl<'de> DeserializeSeed<'de> for Name {
    type Value = Option<&'static Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Name {
    type Value = Option<&'static Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a field name")
    }

    fn visit_bytes<E: Error>(self, name: &[u8]) -> Result<Self::Value, E> {
        let is_named = |field: &&Field| field.json.as_bytes() == name || field.proto.as_bytes() == name;
        Ok(self.0.fields.iter().find(is_named))
    }
}

/// One field's value, of whatever kind the table says.
struct Value<'o> {
    field: &'static Field,
    /// Members of a oneof are written even where they are zero or empty.
    keep_default: bool,
    out: &'o mut Vec<u8>,
}

impl Value<'_> {
    fn integer<E: Error>(self, value: i128) -> Result<(), E> {
        let Self { field, keep_default, out } = self;
        let misfit = || E::custom(format_args!("{value} does not fit {}, {}", field.json, field.kind));
        let skip = value == 0 && !keep_default;
        match field.kind {
            Kind::Int64 => {
                let value = i64::try_from(value).map_err(|_| misfit())?;
                wire::varint_field(out, field.number, value.cast_unsigned(), skip);
            }
            Kind::Enum(_) => {
                let value = i32::try_from(value).map_err(|_| misfit())?;
                wire::varint_field(out, field.number, i64::from(value).cast_unsigned(), skip);
            }
            Kind::Uint32 => {
                wire::varint_field(out, field.number, u32::try_from(value).map_err(|_| misfit())?.into(), skip);
            }
            Kind::Fixed32 => wire::fixed32_field(out, field.number, u32::try_from(value).map_err(|_| misfit())?, skip),
            Kind::Fixed64 => wire::fixed64_field(out, field.number, u64::try_from(value).map_err(|_| misfit())?, skip),
            #[allow(clippy::cast_precision_loss, reason = "a JSON number is a double wherever a double is expected")]
            Kind::Double => wire::fixed64_field(out, field.number, (value as f64).to_bits(), skip),
            _ => return Err(E::invalid_type(Unexpected::Other("number"), &Expected(field))),
        }
        Ok(())
    }

    fn double<E: Error>(self, value: f64) -> Result<(), E> {
        if matches!(self.field.kind, Kind::Double) {
            let skip = value.to_bits() == 0 && !self.keep_default;
            wire::fixed64_field(self.out, self.field.number, value.to_bits(), skip);
            return Ok(());
        }
        // proto3 lets integers be written as 1.0 or 1e3; beyond 2^53 a double no longer says which integer.
        #[allow(clippy::cast_possible_truncation, reason = "integral and below 2^53")]
        if value.fract() == 0.0 && value.abs() <= 9_007_199_254_740_992.0 {
            return self.integer(value as i128);
        }
        Err(E::invalid_value(Unexpected::Float(value), &Expected(self.field)))
    }

    fn bytes(self, bytes: &[u8]) {
        if self.keep_default || !bytes.is_empty() {
            put_len_field(self.out, self.field.number, bytes);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.field.kind {
            Kind::String => deserializer.deserialize_option(self),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Expected(self.field), f)
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_none<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_bytes(self)
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        if self.keep_default || !text.is_empty() { put_text(self.field, text, self.out) } else { Ok(()) }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        if !matches!(self.field.kind, Kind::Bool) {
            return Err(E::invalid_type(Unexpected::Bool(value), &self));
        }
        wire::varint_field(self.out, self.field.number, value.into(), !value && !self.keep_default);
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.integer(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.double(value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let wrong = |field| E::invalid_value(Unexpected::Str(excerpt(text)), &Expected(field));
        let field = self.field;
        match field.kind {
            Kind::Hex => self.bytes(&unhex(text).ok_or_else(|| wrong(field))?),
            Kind::Base64 => self.bytes(&base64(text).ok_or_else(|| wrong(field))?),
            Kind::Enum(names) => self.integer(names(text).ok_or_else(|| wrong(field))?.into())?,
            Kind::Double => self.double(text.parse().map_err(|_| wrong(field))?)?,
            Kind::Int64 | Kind::Uint32 | Kind::Fixed32 | Kind::Fixed64 => match text.parse::<i128>() {
                Ok(value) => self.integer(value)?,
                Err(_) => self.double(text.parse().map_err(|_| wrong(field))?)?,
            },
            Kind::String | Kind::Bool | Kind::Message(_) | Kind::Repeated(_) | Kind::Strings => {
                return Err(E::invalid_type(Unexpected::Str(excerpt(text)), &Expected(field)));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let Kind::Message(message) = self.field.kind else {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        };
        put_message_field(self.out, self.field.number, |out| Body { message, out }.visit_map(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { field, out, .. } = self;
        match field.kind {
            Kind::Repeated(message) => while seq.next_element_seed(Element { field, message, out })?.is_some() {},
            Kind::Strings => while seq.next_element_seed(Text { field, out })?.is_some() {},
            _ => return Err(A::Error::invalid_type(Unexpected::Seq, &Expected(field))),
        }
        Ok(())
    }
}

/// One element of a repeated message field.
struct Element<'o> {
    field: &'static Field,
    message: &'static Message,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { field, message, out } = self;
        put_message_field(out, field.number, |out| Body { message, out }.deserialize(deserializer))
    }
}

/// One element of a repeated string field.
struct Text<'o> {
    field: &'static Field,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_bytes(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a string in {}", self.field.json)
    }

    fn visit_bytes<E: Error>(self, text: &[u8]) -> Result<(), E> {
        put_text(self.field, text, self.out)
    }
}

/// Writes a string, given as UTF-8 in which lone surrogates may stand as if they were characters.
fn put_text<E: Error>(field: &Field, text: &[u8], out: &mut Vec<u8>) -> Result<(), E> {
    const REPLACEMENT: [u8; 3] = *b"\xef\xbf\xbd";
    put_len_field(out, field.number, text);
    if std::str::from_utf8(text).is_ok() {
        return Ok(());
    }
    let start = out.len() - text.len();
    let written = &mut out[start..];
    for at in 0..written.len().saturating_sub(2) {
        if let [0xed, 0xa0..=0xbf, 0x80..=0xbf] = written[at..at + 3] {
            written[at..at + 3].copy_from_slice(&REPLACEMENT);
        }
    }
    std::str::from_utf8(written).map(drop).map_err(|_| E::custom(format_args!("{} is not UTF-8", field.json)))
}

/// "traceId, hex digits": what an error message says was expected.
struct Expected(&'static Field);

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.0.json, self.0.kind)
    }
}

impl serde::de::Expected for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The beginning of a text, for an error message.
fn excerpt(text: &str) -> &str {
    const BYTES: usize = 64;
    &text[..text.floor_char_boundary(BYTES)]
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|d| u8::try_from(d).ok());
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?)).collect()
}

#[cfg(test)]
mod tests;
