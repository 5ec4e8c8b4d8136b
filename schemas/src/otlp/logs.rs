//! Views over log requests (`ExportLogsServiceRequest`, `LogsData`); see [`super::trace`] for how views behave.

use super::block::{ResourceBlock, ScopeBlock};
use super::common::{Attributes, ValueView};
use crate::wire::{Extent, FIXED32, FIXED64, LEN, RECURSION_LIMIT, Reader, Reason, Repeated, VARINT, key, text};

/// A whole request.
#[derive(Clone, Copy, Debug)]
pub struct LogsView<'a> {
    raw: &'a [u8],
}

impl<'a> LogsView<'a> {
    /// Sees a request's bytes.
    #[inline]
    pub const fn new(raw: &'a [u8]) -> Self {
        Self { raw }
    }

    /// Its blocks, one for each resource.
    #[inline]
    pub const fn resource_logs(&self) -> Repeated<'a, ResourceLogsView<'a>> {
        Repeated::new(self.raw, 1)
    }
}

/// A `ResourceLogs` message: the log records of one resource.
pub type ResourceLogsView<'a> = ResourceBlock<'a, ScopeLogsView<'a>>;

impl<'a> ResourceLogsView<'a> {
    /// Its blocks, one for each scope.
    #[inline]
    pub fn scope_logs(&self) -> Repeated<'a, ScopeLogsView<'a>> {
        self.scopes()
    }
}

/// A `ScopeLogs` message: the log records of one instrumentation scope.
pub type ScopeLogsView<'a> = ScopeBlock<'a, LogRecordView<'a>>;

impl<'a> ScopeLogsView<'a> {
    /// The log records.
    #[inline]
    pub fn log_records(&self) -> Repeated<'a, LogRecordView<'a>> {
        self.items()
    }
}

/// A `LogRecord` message.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogRecordView<'a> {
    raw: &'a [u8],
    trace_id: &'a [u8],
    span_id: &'a [u8],
    severity_text: &'a [u8],
    event_name: &'a [u8],
    body: Option<&'a [u8]>,
    time_unix_nano: u64,
    observed_time_unix_nano: u64,
    severity_number: i32,
    flags: u32,
    dropped_attributes_count: u32,
    attributes: Extent,
}

impl<'a> From<&'a [u8]> for LogRecordView<'a> {
    #[inline]
    fn from(raw: &'a [u8]) -> Self {
        let mut view = Self { raw, ..Self::default() };
        let _malformed = view.read();
        view
    }
}

impl<'a> LogRecordView<'a> {
    const TIME: u32 = key(1, FIXED64);
    const SEVERITY_NUMBER: u32 = key(2, VARINT);
    const SEVERITY_TEXT: u32 = key(3, LEN);
    const BODY: u32 = key(5, LEN);
    const ATTRIBUTES: u32 = key(6, LEN);
    const DROPPED_ATTRIBUTES: u32 = key(7, VARINT);
    const FLAGS: u32 = key(8, FIXED32);
    const TRACE_ID: u32 = key(9, LEN);
    const SPAN_ID: u32 = key(10, LEN);
    const OBSERVED_TIME: u32 = key(11, FIXED64);
    const EVENT_NAME: u32 = key(12, LEN);

    #[inline]
    fn read(&mut self) -> Result<(), Reason> {
        let mut reader = Reader::new(self.raw);
        while !reader.is_empty() {
            let before = reader.rest();
            match reader.key()? {
                Self::TIME => self.time_unix_nano = reader.fixed64()?,
                Self::SEVERITY_NUMBER => self.severity_number = reader.varint()? as i32,
                Self::SEVERITY_TEXT => self.severity_text = reader.bytes()?,
                Self::BODY => self.body = Some(reader.bytes()?),
                Self::ATTRIBUTES => {
                    reader.bytes()?;
                    self.attributes.note(self.raw, before, reader.rest());
                }
                Self::DROPPED_ATTRIBUTES => self.dropped_attributes_count = reader.varint()? as u32,
                Self::FLAGS => self.flags = reader.fixed32()?,
                Self::TRACE_ID => self.trace_id = reader.bytes()?,
                Self::SPAN_ID => self.span_id = reader.bytes()?,
                Self::OBSERVED_TIME => self.observed_time_unix_nano = reader.fixed64()?,
                Self::EVENT_NAME => self.event_name = reader.bytes()?,
                other => reader.skip(other, RECURSION_LIMIT)?,
            }
        }
        Ok(())
    }

    /// Sees a message's bytes as a log record.
    #[inline]
    pub fn new(raw: &'a [u8]) -> Self {
        raw.into()
    }

    /// The message's bytes.
    #[inline]
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// When it happened, in nanoseconds since the Unix epoch; 0 where the sender does not know.
    #[inline]
    pub const fn time_unix_nano(&self) -> u64 {
        self.time_unix_nano
    }

    /// When it was collected, in nanoseconds since the Unix epoch; 0 where absent.
    #[inline]
    pub const fn observed_time_unix_nano(&self) -> u64 {
        self.observed_time_unix_nano
    }

    /// Number of the `SeverityNumber`: 0 unspecified, 1 to 24 from trace to fatal in steps of four.
    #[inline]
    pub const fn severity_number(&self) -> i32 {
        self.severity_number
    }

    /// The severity as the source spells it.
    #[inline]
    pub fn severity_text(&self) -> &'a str {
        text(self.severity_text)
    }

    /// The body; an absent one is [`ValueView::Empty`].
    #[inline]
    pub fn body(&self) -> ValueView<'a> {
        self.body.map_or(ValueView::Empty, ValueView::new)
    }

    /// Bytes of the body's `AnyValue` message, where there is one.
    #[inline]
    pub const fn body_raw(&self) -> Option<&'a [u8]> {
        self.body
    }

    /// The attributes.
    #[inline]
    pub fn attributes(&self) -> Attributes<'a> {
        self.attributes.iter(self.raw, 6)
    }

    /// How many attributes the sender left out.
    #[inline]
    pub const fn dropped_attributes_count(&self) -> u32 {
        self.dropped_attributes_count
    }

    /// W3C trace flags in the low 8 bits.
    #[inline]
    pub const fn flags(&self) -> u32 {
        self.flags
    }

    /// 16 bytes, or empty outside a trace, where the sender keeps to the specification.
    #[inline]
    pub const fn trace_id(&self) -> &'a [u8] {
        self.trace_id
    }

    /// 8 bytes, or empty outside a span, where the sender keeps to the specification.
    #[inline]
    pub const fn span_id(&self) -> &'a [u8] {
        self.span_id
    }

    /// Name of the event that the record is; empty for plain log lines.
    #[inline]
    pub fn event_name(&self) -> &'a str {
        text(self.event_name)
    }
}
