//! Views over trace requests (`ExportTraceServiceRequest`, `TracesData`).
//!
//! A view reads its message's own fields once, when it is made, and keeps where the rest lies. Views of bytes
//! that were not validated end early at what is malformed; text that is not UTF-8 reads as empty.

use super::common::{Attributes, ResourceView, ScopeView};
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
#[derive(Clone, Copy, Debug, Default)]
pub struct ResourceSpansView<'a> {
    block: Block<'a>,
}

impl<'a> From<&'a [u8]> for ResourceSpansView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        Self { block: Block::new(raw) }
    }
}

impl<'a> ResourceSpansView<'a> {
    /// Sees a message's bytes as the spans of a resource.
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The message's bytes.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.block.raw
    }

    /// The resource; an absent one reads as empty.
    #[inline]
    pub fn resource(&self) -> ResourceView<'a> {
        ResourceView::new(self.block.head.unwrap_or_default())
    }

    /// Bytes of the `Resource` message, where there is one.
    #[inline]
    pub const fn resource_raw(&self) -> Option<&'a [u8]> {
        self.block.head
    }

    /// URL of the schema of the resource.
    pub fn schema_url(&self) -> &'a str {
        text(self.block.schema_url)
    }

    /// Its blocks, one for each scope.
    #[inline]
    pub fn scope_spans(&self) -> Repeated<'a, ScopeSpansView<'a>> {
        self.block.items()
    }
}

/// A `ScopeSpans` message: the spans of one instrumentation scope.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScopeSpansView<'a> {
    block: Block<'a>,
}

impl<'a> From<&'a [u8]> for ScopeSpansView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        Self { block: Block::new(raw) }
    }
}

impl<'a> ScopeSpansView<'a> {
    /// Sees a message's bytes as the spans of a scope.
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The message's bytes.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.block.raw
    }

    /// The scope; an absent one reads as empty.
    #[inline]
    pub fn scope(&self) -> ScopeView<'a> {
        ScopeView::new(self.block.head.unwrap_or_default())
    }

    /// Bytes of the `InstrumentationScope` message, where there is one.
    #[inline]
    pub const fn scope_raw(&self) -> Option<&'a [u8]> {
        self.block.head
    }

    /// URL of the schema of the spans.
    pub fn schema_url(&self) -> &'a str {
        text(self.block.schema_url)
    }

    /// The spans.
    #[inline]
    pub fn spans(&self) -> Repeated<'a, SpanView<'a>> {
        self.block.items()
    }
}

/// What the messages around items have in common, for spans and logs: field 1 is the resource or scope, field 2
/// the items, field 3 the schema URL.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Block<'a> {
    pub(super) raw: &'a [u8],
    pub(super) head: Option<&'a [u8]>,
    pub(super) schema_url: &'a [u8],
    items: Extent,
}

impl<'a> Block<'a> {
    const HEAD: u32 = key(1, LEN);
    const ITEMS: u32 = key(2, LEN);
    const SCHEMA_URL: u32 = key(3, LEN);

    #[inline]
    pub(super) fn new(raw: &'a [u8]) -> Self {
        let mut view = Self { raw, ..Self::default() };
        let _malformed = view.read();
        view
    }

    #[inline]
    pub(super) fn items<T>(&self) -> Repeated<'a, T> {
        self.items.iter(self.raw, 2)
    }

    fn read(&mut self) -> Result<(), Reason> {
        let mut reader = Reader::new(self.raw);
        while !reader.is_empty() {
            let before = reader.rest();
            match reader.key()? {
                Self::HEAD => self.head = Some(reader.bytes()?),
                Self::ITEMS => {
                    reader.bytes()?;
                    self.items.note(self.raw, before, reader.rest());
                }
                Self::SCHEMA_URL => self.schema_url = reader.bytes()?,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
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

/// A `Status` message.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatusView<'a> {
    message: &'a [u8],
    code: i32,
}

impl<'a> From<&'a [u8]> for StatusView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        let mut view = Self::default();
        let _malformed = view.read(raw);
        view
    }
}

impl<'a> StatusView<'a> {
    const MESSAGE: u32 = key(2, LEN);
    const CODE: u32 = key(3, VARINT);

    #[inline]
    fn read(&mut self, raw: &'a [u8]) -> Result<(), Reason> {
        let mut reader = Reader::new(raw);
        while !reader.is_empty() {
            match reader.key()? {
                Self::MESSAGE => self.message = reader.bytes()?,
                Self::CODE => self.code = reader.varint()? as i32,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }

    /// What the sender says about the error.
    #[inline]
    pub fn message(&self) -> &'a str {
        text(self.message)
    }

    /// Number of the `StatusCode`: 0 unset, 1 ok, 2 error.
    #[inline]
    pub const fn code(&self) -> i32 {
        self.code
    }
}

/// An `Event` message: something that happened during a span.
#[derive(Clone, Copy, Debug, Default)]
pub struct EventView<'a> {
    raw: &'a [u8],
    name: &'a [u8],
    time_unix_nano: u64,
    dropped_attributes_count: u32,
    attributes: Extent,
}

impl<'a> From<&'a [u8]> for EventView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        let mut view = Self { raw, ..Self::default() };
        let _malformed = view.read();
        view
    }
}

impl<'a> EventView<'a> {
    const TIME: u32 = key(1, FIXED64);
    const NAME: u32 = key(2, LEN);
    const ATTRIBUTES: u32 = key(3, LEN);
    const DROPPED_ATTRIBUTES: u32 = key(4, VARINT);

    fn read(&mut self) -> Result<(), Reason> {
        let mut reader = Reader::new(self.raw);
        while !reader.is_empty() {
            let before = reader.rest();
            match reader.key()? {
                Self::TIME => self.time_unix_nano = reader.fixed64()?,
                Self::NAME => self.name = reader.bytes()?,
                Self::ATTRIBUTES => {
                    reader.bytes()?;
                    self.attributes.note(self.raw, before, reader.rest());
                }
                Self::DROPPED_ATTRIBUTES => self.dropped_attributes_count = reader.varint()? as u32,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }

    /// Nanoseconds since the Unix epoch.
    pub const fn time_unix_nano(&self) -> u64 {
        self.time_unix_nano
    }

    /// What happened.
    pub fn name(&self) -> &'a str {
        text(self.name)
    }

    /// The attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes.iter(self.raw, 3)
    }

    /// How many attributes the sender left out.
    pub const fn dropped_attributes_count(&self) -> u32 {
        self.dropped_attributes_count
    }
}

/// A `Link` message: a reference to another span.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkView<'a> {
    raw: &'a [u8],
    trace_id: &'a [u8],
    span_id: &'a [u8],
    trace_state: &'a [u8],
    flags: u32,
    dropped_attributes_count: u32,
    attributes: Extent,
}

impl<'a> From<&'a [u8]> for LinkView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        let mut view = Self { raw, ..Self::default() };
        let _malformed = view.read();
        view
    }
}

impl<'a> LinkView<'a> {
    const TRACE_ID: u32 = key(1, LEN);
    const SPAN_ID: u32 = key(2, LEN);
    const TRACE_STATE: u32 = key(3, LEN);
    const ATTRIBUTES: u32 = key(4, LEN);
    const DROPPED_ATTRIBUTES: u32 = key(5, VARINT);
    const FLAGS: u32 = key(6, FIXED32);

    fn read(&mut self) -> Result<(), Reason> {
        let mut reader = Reader::new(self.raw);
        while !reader.is_empty() {
            let before = reader.rest();
            match reader.key()? {
                Self::TRACE_ID => self.trace_id = reader.bytes()?,
                Self::SPAN_ID => self.span_id = reader.bytes()?,
                Self::TRACE_STATE => self.trace_state = reader.bytes()?,
                Self::ATTRIBUTES => {
                    reader.bytes()?;
                    self.attributes.note(self.raw, before, reader.rest());
                }
                Self::DROPPED_ATTRIBUTES => self.dropped_attributes_count = reader.varint()? as u32,
                Self::FLAGS => self.flags = reader.fixed32()?,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }

    /// 16 bytes, where the sender keeps to the specification.
    pub const fn trace_id(&self) -> &'a [u8] {
        self.trace_id
    }

    /// 8 bytes, where the sender keeps to the specification.
    pub const fn span_id(&self) -> &'a [u8] {
        self.span_id
    }

    /// The W3C trace state.
    pub fn trace_state(&self) -> &'a str {
        text(self.trace_state)
    }

    /// The attributes.
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes.iter(self.raw, 4)
    }

    /// How many attributes the sender left out.
    pub const fn dropped_attributes_count(&self) -> u32 {
        self.dropped_attributes_count
    }

    /// W3C trace flags in the low 8 bits, then `SpanFlags`.
    pub const fn flags(&self) -> u32 {
        self.flags
    }
}
