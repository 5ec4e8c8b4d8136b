//! Full validation of a request in one pass: structure, wire types, UTF-8 and nesting.
//!
//! Accepts exactly what decoding with `prost` accepts. The messages are tables, read by one function.

use crate::wire::{self, FIXED32, FIXED64, LEN, RECURSION_LIMIT, Reader, Reason, VARINT};

/// What a valid request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Spans or log records.
    pub items: u64,
    /// Whether every singular message stands in one piece. Where it does not, protobuf merges the pieces but
    /// views read the last one: pass the request through [`super::canonical`] first.
    pub canonical: bool,
}

/// Bytes that are not a request of the expected signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed protobuf in {message} at byte {offset}: {reason}")]
pub struct Malformed {
    /// Position in the request of the field at fault.
    pub offset: usize,
    /// Type of the message that holds the field.
    pub message: &'static str,
    /// What is wrong with it.
    pub reason: Reason,
}

/// Checks a trace request.
pub fn traces(bytes: &[u8]) -> Result<Checked, Malformed> {
    check(&TRACES, bytes)
}

/// Checks a log request.
pub fn logs(bytes: &[u8]) -> Result<Checked, Malformed> {
    check(&LOGS, bytes)
}

fn check(request: &'static Message, bytes: &[u8]) -> Result<Checked, Malformed> {
    let mut checked = Checked { items: 0, canonical: true };
    message(request, bytes, RECURSION_LIMIT, &mut checked)?;
    Ok(checked)
}

/// A message type: its fields by number.
pub(super) struct Message {
    name: &'static str,
    /// Whether [`Checked::items`] counts it.
    item: bool,
    pub(super) fields: &'static [Type],
}

/// The type of a field.
#[derive(Clone, Copy)]
pub(super) enum Type {
    /// A number that the message does not define.
    Unknown,
    Varint,
    Fixed32,
    Fixed64,
    Bytes,
    Str,
    /// A singular message.
    One(&'static Message),
    /// A repeated message.
    Many(&'static Message),
}

use Type::{Bytes, Fixed32, Fixed64, Many, One, Str, Unknown, Varint};

impl Type {
    #[inline]
    pub(super) const fn wire_type(self) -> u32 {
        match self {
            Unknown | Varint => VARINT,
            Fixed32 => FIXED32,
            Fixed64 => FIXED64,
            Bytes | Str | One(_) | Many(_) => LEN,
        }
    }
}

const fn table(name: &'static str, fields: &'static [Type]) -> Message {
    Message { name, item: false, fields }
}

const fn item(name: &'static str, fields: &'static [Type]) -> Message {
    Message { name, item: true, fields }
}

pub(super) static TRACES: Message = table("ExportTraceServiceRequest", &[Unknown, Many(&RESOURCE_SPANS)]);
static RESOURCE_SPANS: Message = table("ResourceSpans", &[Unknown, One(&RESOURCE), Many(&SCOPE_SPANS), Str]);
static SCOPE_SPANS: Message = table("ScopeSpans", &[Unknown, One(&SCOPE), Many(&SPAN), Str]);
#[rustfmt::skip]
static SPAN: Message = item("Span", &[
    Unknown, Bytes, Bytes, Str, Bytes, Str, Varint, Fixed64, Fixed64, Many(&KEY_VALUE), Varint,
    Many(&EVENT), Varint, Many(&LINK), Varint, One(&STATUS), Fixed32,
]);
static EVENT: Message = table("Event", &[Unknown, Fixed64, Str, Many(&KEY_VALUE), Varint]);
static LINK: Message = table("Link", &[Unknown, Bytes, Bytes, Str, Many(&KEY_VALUE), Varint, Fixed32]);
static STATUS: Message = table("Status", &[Unknown, Unknown, Str, Varint]);

pub(super) static LOGS: Message = table("ExportLogsServiceRequest", &[Unknown, Many(&RESOURCE_LOGS)]);
static RESOURCE_LOGS: Message = table("ResourceLogs", &[Unknown, One(&RESOURCE), Many(&SCOPE_LOGS), Str]);
static SCOPE_LOGS: Message = table("ScopeLogs", &[Unknown, One(&SCOPE), Many(&LOG_RECORD), Str]);
#[rustfmt::skip]
static LOG_RECORD: Message = item("LogRecord", &[
    Unknown, Fixed64, Varint, Str, Unknown, One(&ANY_VALUE), Many(&KEY_VALUE), Varint, Fixed32, Bytes, Bytes,
    Fixed64, Str,
]);

static RESOURCE: Message = table("Resource", &[Unknown, Many(&KEY_VALUE), Varint, Many(&ENTITY_REF)]);
static ENTITY_REF: Message = table("EntityRef", &[Unknown, Str, Str, Str, Str]);
static SCOPE: Message = table("InstrumentationScope", &[Unknown, Str, Str, Many(&KEY_VALUE), Varint]);
static KEY_VALUE: Message = table("KeyValue", &[Unknown, Str, One(&ANY_VALUE), Varint]);
#[rustfmt::skip]
static ANY_VALUE: Message = table("AnyValue", &[
    Unknown, Str, Varint, Varint, Fixed64, One(&ARRAY_VALUE), One(&KEY_VALUE_LIST), Bytes, Varint,
]);
static ARRAY_VALUE: Message = table("ArrayValue", &[Unknown, Many(&ANY_VALUE)]);
static KEY_VALUE_LIST: Message = table("KeyValueList", &[Unknown, Many(&KEY_VALUE)]);

/// Checks a message below which `depth` further levels are allowed.
fn message(ty: &'static Message, bytes: &[u8], depth: u32, checked: &mut Checked) -> Result<(), Malformed> {
    checked.items += u64::from(ty.item);
    let mut reader = Reader::new(bytes);
    let mut seen = 0_u32;
    while !reader.is_empty() {
        let start = reader.rest();
        let fail = |reason| Malformed { offset: bytes.len() - start.len(), message: ty.name, reason };
        let key = reader.key().map_err(fail)?;
        let field = key >> 3;
        let found = ty.fields.get(field as usize).copied().unwrap_or(Unknown);
        if matches!(found, Unknown) {
            reader.skip(key, depth).map_err(fail)?;
            continue;
        }
        if found.wire_type() != key & 7 {
            return Err(fail(mismatch(key, found.wire_type())));
        }
        match found {
            Unknown => {}
            Varint => reader.varint().map(drop).map_err(fail)?,
            Fixed32 => reader.fixed32().map(drop).map_err(fail)?,
            Fixed64 => reader.fixed64().map(drop).map_err(fail)?,
            Bytes => reader.bytes().map(drop).map_err(fail)?,
            Str => {
                let text = reader.bytes().map_err(fail)?;
                if !wire::is_text(text) {
                    return Err(fail(Reason::Utf8 { field }));
                }
            }
            One(inner) | Many(inner) => {
                let nested = reader.bytes().map_err(fail)?;
                if depth == 0 {
                    return Err(fail(Reason::Depth));
                }
                if matches!(found, One(_)) {
                    checked.canonical &= seen & 1 << field == 0;
                    seen |= 1 << field;
                }
                message(inner, nested, depth - 1, checked).map_err(|mut malformed| {
                    malformed.offset += wire::offset_in(bytes, nested);
                    malformed
                })?;
            }
        }
    }
    Ok(())
}

#[cold]
fn mismatch(key: u32, expected: u32) -> Reason {
    match key & 7 {
        found @ 0..=5 => Reason::Mismatch { field: key >> 3, expected, found },
        other => Reason::WireType(other),
    }
}
