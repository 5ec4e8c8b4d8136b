//! Jaeger's data model, whatever it was read from.

use std::borrow::Cow;

use crate::otlp::build::Value;

/// A span; times in nanoseconds.
#[derive(Debug, Default)]
pub(super) struct Span<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    pub(super) operation: Cow<'a, str>,
    pub(super) references: Vec<Reference>,
    pub(super) flags: u32,
    pub(super) start: i128,
    pub(super) duration: i128,
    pub(super) tags: Vec<Tag<'a>>,
    pub(super) logs: Vec<Log<'a>>,
    pub(super) process: Option<Process<'a>>,
}

/// Who made a span.
#[derive(Debug, Default)]
pub(super) struct Process<'a> {
    pub(super) service: Cow<'a, str>,
    pub(super) tags: Vec<Tag<'a>>,
}

/// A tag, or a field of a log.
#[derive(Debug)]
pub(super) struct Tag<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) value: Value<'a>,
}

/// Fields with a time.
#[derive(Debug, Default)]
pub(super) struct Log<'a> {
    pub(super) time: i128,
    pub(super) fields: Vec<Tag<'a>>,
}

/// Another span that this one refers to.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reference {
    pub(super) trace_id: [u8; 16],
    pub(super) span_id: [u8; 8],
    /// Otherwise it is the parent.
    pub(super) follows: bool,
}

/// Bit of [`Span::flags`].
pub(super) const SAMPLED: u32 = 1;

/// The value of a type that is not known.
pub(super) fn unknown(number: i64) -> Value<'static> {
    Value::Str(format!("<Unknown Jaeger TagType \"{number}\">").into())
}

/// A trace id of 16 bytes, or of 8 for one of 64 bits; no bytes are zeros. Another length is given back.
pub(super) fn trace_id(bytes: &[u8]) -> Result<[u8; 16], usize> {
    let mut id = [0; 16];
    match bytes.len() {
        0 => {}
        8 => id[8..].copy_from_slice(bytes),
        16 => id.copy_from_slice(bytes),
        other => return Err(other),
    }
    Ok(id)
}

/// A span id of 8 bytes; no bytes are zeros. Another length is given back.
pub(super) fn span_id(bytes: &[u8]) -> Result<[u8; 8], usize> {
    if bytes.is_empty() { Ok([0; 8]) } else { bytes.try_into().map_err(|_| bytes.len()) }
}
