//! Writing trace requests of spans that came in another format.

mod attributes;
mod gather;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::convert::Infallible;

pub(crate) use attributes::{AttributeMap, Value};
pub(crate) use gather::Gather;

use crate::wire::{put_fixed32_field, put_fixed64_field, put_len_field, put_message_field, put_varint_field};

/// Tags, references, logs and annotations of one span at most: what a few bytes each turn into stays small.
pub(crate) const MOST: usize = 1 << 16;

/// `SPAN_KIND_…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Unspecified = 0,
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// `STATUS_CODE_…`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Code {
    #[default]
    Unset = 0,
    Ok = 1,
    Error = 2,
}

/// A span to be written.
#[derive(Debug, Default)]
pub(crate) struct SpanDraft<'a> {
    pub(crate) trace_id: [u8; 16],
    pub(crate) span_id: [u8; 8],
    /// Zeros: none.
    pub(crate) parent_span_id: [u8; 8],
    pub(crate) trace_state: Cow<'a, str>,
    pub(crate) name: Cow<'a, str>,
    pub(crate) kind: Kind,
    /// Nanoseconds since the epoch.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) attributes: AttributeMap<'a>,
    /// Written by [`put_event`].
    pub(crate) events: Vec<u8>,
    /// Written by [`put_link`].
    pub(crate) links: Vec<u8>,
    pub(crate) code: Code,
    pub(crate) message: Cow<'a, str>,
    pub(crate) flags: u32,
}

impl SpanDraft<'_> {
    /// The bytes of a `Span` message.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(128 + self.events.len() + self.links.len());
        put_len_field(&mut out, 1, &self.trace_id);
        put_len_field(&mut out, 2, &self.span_id);
        put_text(&mut out, 3, &self.trace_state);
        if self.parent_span_id != [0; 8] {
            put_len_field(&mut out, 4, &self.parent_span_id);
        }
        put_text(&mut out, 5, &self.name);
        put_number(&mut out, 6, self.kind as u64);
        put_time(&mut out, 7, self.start);
        put_time(&mut out, 8, self.end);
        self.attributes.put(&mut out, 9);
        out.extend_from_slice(&self.events);
        out.extend_from_slice(&self.links);
        if self.code != Code::Unset || !self.message.is_empty() {
            nested(&mut out, 15, |out| {
                put_text(out, 2, &self.message);
                put_number(out, 3, self.code as u64);
            });
        }
        if self.flags != 0 {
            put_fixed32_field(&mut out, 16, self.flags);
        }
        out
    }
}

/// Appends an event of a span.
pub(crate) fn put_event(out: &mut Vec<u8>, time: u64, name: &str, attributes: &AttributeMap<'_>, dropped: u32) {
    nested(out, 11, |out| {
        put_time(out, 1, time);
        put_text(out, 2, name);
        attributes.put(out, 3);
        put_number(out, 4, dropped.into());
    });
}

/// Appends a link of a span.
pub(crate) fn put_link(
    out: &mut Vec<u8>,
    (trace_id, span_id): ([u8; 16], [u8; 8]),
    trace_state: &str,
    attributes: &AttributeMap<'_>,
    dropped: u32,
) {
    nested(out, 13, |out| {
        put_len_field(out, 1, &trace_id);
        put_len_field(out, 2, &span_id);
        put_text(out, 3, trace_state);
        attributes.put(out, 4);
        put_number(out, 5, dropped.into());
    });
}

/// The bytes of an `InstrumentationScope` message.
pub(crate) fn scope(name: &str, version: &str) -> Vec<u8> {
    let mut out = Vec::new();
    put_text(&mut out, 1, name);
    put_text(&mut out, 2, version);
    out
}

/// The bytes of a `Resource` message.
pub(crate) fn resource(attributes: &AttributeMap<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    attributes.put(&mut out, 1);
    out
}

/// Nanoseconds since the epoch of a time in microseconds.
pub(crate) fn from_micros(micros: u64) -> u64 {
    micros.saturating_mul(1000)
}

fn nested(out: &mut Vec<u8>, field: u32, fill: impl FnOnce(&mut Vec<u8>)) {
    let Ok(()) = put_message_field(out, field, |out| {
        fill(out);
        Ok::<_, Infallible>(())
    });
}

fn put_text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        put_len_field(out, field, text.as_bytes());
    }
}

fn put_number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        put_varint_field(out, field, number);
    }
}

fn put_time(out: &mut Vec<u8>, field: u32, time: u64) {
    if time != 0 {
        put_fixed64_field(out, field, time);
    }
}
