//! Views over trace requests (`ExportTraceServiceRequest`, `TracesData`).
//!
//! A view reads its message's own fields once, when it is made, and keeps where the rest lies. Views of bytes
//! that were not validated end early at what is malformed; text that is not UTF-8 reads as empty.

mod parts;

pub use parts::{EventView, LinkView, StatusView};

use super::block::{ResourceBlock, ScopeBlock};
use super::common::Attributes;
use crate::wire::{Extent, FIXED32, FIXED64, LEN, RECURSION_LIMIT, Reader, Reason, Repeated, VARINT, key, text};

/// A whole request.
#[derive(Clone, Copy, Debug)]
pub struct TracesView<'a> {
    raw: &'a [u8],
}

impl<'a> TracesView<'a> {
    /// Sees a request's bytes.
    #[inline]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// Its blocks, one for each resource.
    #[inline]
    pub const fn resource_spans(&self) -> Repeated<'a, ResourceSpansView<'a>> {
        Repeated::new(self.raw, 1)
    }
}

/// A `ResourceSpans` message: the spans of one resource.
pub type ResourceSpansView<'a> = ResourceBlock<'a, ScopeSpansView<'a>>;

impl<'a> ResourceSpansView<'a> {
    /// Its blocks, one for each scope.
    #[inline]
    pub fn scope_spans(&self) -> Repeated<'a, ScopeSpansView<'a>> {
        self.scopes()
    }
}

/// A `ScopeSpans` message: the spans of one instrumentation scope.
pub type ScopeSpansView<'a> = ScopeBlock<'a, SpanView<'a>>;

impl<'a> ScopeSpansView<'a> {
    /// The spans.
    #[inline]
    pub fn spans(&self) -> Repeated<'a, SpanView<'a>> {
        self.items()
    }
}

/// A `Span` message.
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanView<'a> {
    raw: &'a [u8],
    trace_id: &'a [u8],
    span_id: &'a [u8],
    parent_span_id: &'a [u8],
    trace_state: &'a [u8],
    name: &'a [u8],
    status: Option<&'a [u8]>,
    start_time_unix_nano: u64,
    end_time_unix_nano: u64,
    kind: i32,
    flags: u32,
    dropped_attributes_count: u32,
    dropped_events_count: u32,
    dropped_links_count: u32,
    attributes: Extent,
    events: Extent,
    links: Extent,
}

impl<'a> From<&'a [u8]> for SpanView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        let mut view = Self { raw, ..Self::default() };
        let _malformed = view.read();
        view
    }
}

impl<'a> SpanView<'a> {
    const TRACE_ID: u32 = key(1, LEN);
    const SPAN_ID: u32 = key(2, LEN);
    const TRACE_STATE: u32 = key(3, LEN);
    const PARENT_SPAN_ID: u32 = key(4, LEN);
    const NAME: u32 = key(5, LEN);
    const KIND: u32 = key(6, VARINT);
    const START_TIME: u32 = key(7, FIXED64);
    const END_TIME: u32 = key(8, FIXED64);
    const ATTRIBUTES: u32 = key(9, LEN);
    const DROPPED_ATTRIBUTES: u32 = key(10, VARINT);
    const EVENTS: u32 = key(11, LEN);
    const DROPPED_EVENTS: u32 = key(12, VARINT);
    const LINKS: u32 = key(13, LEN);
    const DROPPED_LINKS: u32 = key(14, VARINT);
    const STATUS: u32 = key(15, LEN);
    const FLAGS: u32 = key(16, FIXED32);

    #[inline]
    fn read(&mut self) -> Result<(), Reason> {
        let mut reader = Reader::new(self.raw);
        while !reader.is_empty() {
            let before = reader.rest();
            match reader.key()? {
                Self::TRACE_ID => self.trace_id = reader.bytes()?,
                Self::SPAN_ID => self.span_id = reader.bytes()?,
                Self::TRACE_STATE => self.trace_state = reader.bytes()?,
                Self::PARENT_SPAN_ID => self.parent_span_id = reader.bytes()?,
                Self::NAME => self.name = reader.bytes()?,
                Self::KIND => self.kind = reader.varint()? as i32,
                Self::START_TIME => self.start_time_unix_nano = reader.fixed64()?,
                Self::END_TIME => self.end_time_unix_nano = reader.fixed64()?,
                Self::ATTRIBUTES => {
                    reader.bytes()?;
                    self.attributes.note(self.raw, before, reader.rest());
                }
                Self::DROPPED_ATTRIBUTES => self.dropped_attributes_count = reader.varint()? as u32,
                Self::EVENTS => {
                    reader.bytes()?;
                    self.events.note(self.raw, before, reader.rest());
                }
                Self::DROPPED_EVENTS => self.dropped_events_count = reader.varint()? as u32,
                Self::LINKS => {
                    reader.bytes()?;
                    self.links.note(self.raw, before, reader.rest());
                }
                Self::DROPPED_LINKS => self.dropped_links_count = reader.varint()? as u32,
                Self::STATUS => self.status = Some(reader.bytes()?),
                Self::FLAGS => self.flags = reader.fixed32()?,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }

    /// Sees a message's bytes as a span.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The message's bytes.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// 16 bytes, where the sender keeps to the specification.
    #[inline]
    pub const fn trace_id(&self) -> &'a [u8] {
        self.trace_id
    }

    /// 8 bytes, where the sender keeps to the specification.
    #[inline]
    pub const fn span_id(&self) -> &'a [u8] {
        self.span_id
    }

    /// 8 bytes, or empty for a root span, where the sender keeps to the specification.
    #[inline]
    pub const fn parent_span_id(&self) -> &'a [u8] {
        self.parent_span_id
    }

    /// The W3C trace state.
    #[inline]
    pub fn trace_state(&self) -> &'a str {
        text(self.trace_state)
    }

    /// What the span does.
    #[inline]
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// The name, not looked at as text: for finding it in a dictionary.
    #[inline]
    pub const fn name_bytes(&self) -> &'a [u8] {
        self.name
    }

    /// Number of the `SpanKind`: 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    #[inline]
    pub const fn kind(&self) -> i32 {
        self.kind
    }

    /// Nanoseconds since the Unix epoch.
    #[inline]
    pub const fn start_time_unix_nano(&self) -> u64 {
        self.start_time_unix_nano
    }

    /// Nanoseconds since the Unix epoch.
    #[inline]
    pub const fn end_time_unix_nano(&self) -> u64 {
        self.end_time_unix_nano
    }

    /// W3C trace flags in the low 8 bits, then `SpanFlags`.
    #[inline]
    pub const fn flags(&self) -> u32 {
        self.flags
    }

    /// The attributes.
    #[inline]
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes.iter(self.raw, 9)
    }

    /// How many attributes the sender left out.
    #[inline]
    pub const fn dropped_attributes_count(&self) -> u32 {
        self.dropped_attributes_count
    }

    /// The events.
    #[inline]
    pub fn events(&self) -> Repeated<'a, EventView<'a>> {
        self.events.iter(self.raw, 11)
    }

    /// How many events the sender left out.
    #[inline]
    pub const fn dropped_events_count(&self) -> u32 {
        self.dropped_events_count
    }

    /// The links to other spans.
    #[inline]
    pub fn links(&self) -> Repeated<'a, LinkView<'a>> {
        self.links.iter(self.raw, 13)
    }

    /// How many links the sender left out.
    #[inline]
    pub const fn dropped_links_count(&self) -> u32 {
        self.dropped_links_count
    }

    /// The status; an absent one reads as unset.
    #[inline]
    pub fn status(&self) -> StatusView<'a> {
        StatusView::from(self.status.unwrap_or_default())
    }

    /// Whether there is a `Status` message, be it empty.
    #[inline]
    pub const fn has_status(&self) -> bool {
        self.status.is_some()
    }
}
