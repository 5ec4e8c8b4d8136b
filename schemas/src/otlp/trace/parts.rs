//! What a span holds: status, events and links.

use crate::otlp::common::Attributes;
use crate::wire::{Extent, FIXED32, FIXED64, LEN, RECURSION_LIMIT, Reader, Reason, VARINT, key, text};

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
