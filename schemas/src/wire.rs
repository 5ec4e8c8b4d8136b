//! Protobuf's wire format: reading fields out of borrowed bytes and writing them.
//!
//! The reader accepts what `prost` accepts (keys up to 32 bits, padded varints, groups in unknown fields) and
//! copies nothing. It never panics, whatever the bytes.

use std::marker::PhantomData;

mod message;
#[cfg(test)]
mod tests;
mod text;
mod write;

pub(crate) use message::{Found, Message};
pub use text::text as as_text;
pub(crate) use text::{is_text, text};
pub use write::{
    len_field_size, put_fixed32_field, put_fixed64_field, put_len_field, put_len_header, put_message_field, put_varint,
    put_varint_field, varint_len,
};

/// Depth of messages and groups that `prost` accepts below the top-level message.
pub const RECURSION_LIMIT: u32 = 100;

/// Wire type of integers, booleans and enumerations.
pub const VARINT: u32 = 0;
/// Wire type of fixed64, sfixed64 and double.
pub const FIXED64: u32 = 1;
/// Wire type of strings, bytes and messages.
pub const LEN: u32 = 2;
/// Wire type that opens a group (known to no OTLP message, hence only ever skipped).
pub const START_GROUP: u32 = 3;
/// Wire type that closes a group.
pub const END_GROUP: u32 = 4;
/// Wire type of fixed32, sfixed32 and float.
pub const FIXED32: u32 = 5;

/// The key of a field: its number and its wire type, as they stand on the wire.
pub const fn key(field: u32, wire_type: u32) -> u32 {
    field << 3 | wire_type
}

/// Why bytes are not a protobuf message of the expected type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A varint without an end, or over 64 bits.
    #[error("a varint is cut off or over 64 bits")]
    Varint,
    /// Field number 0, or a key over 32 bits.
    #[error("a field key is out of range")]
    Key,
    /// Wire types 6 and 7.
    #[error("wire type {0} does not exist")]
    WireType(u32),
    /// A known field that is encoded as another type.
    #[error("field {field} has wire type {found} instead of {expected}")]
    Mismatch {
        /// Number of the field.
        field: u32,
        /// Wire type of its declared type.
        expected: u32,
        /// Wire type found.
        found: u32,
    },
    /// A length or a fixed-width value that reaches past the end of its message.
    #[error("a field reaches past the end of its message")]
    Truncated,
    /// Text that is not UTF-8.
    #[error("field {field} is not UTF-8")]
    Utf8 {
        /// Number of the field.
        field: u32,
    },
    /// A group that ends without having begun, or under another number.
    #[error("a group ends that was not open")]
    Group,
    /// More than [`RECURSION_LIMIT`] messages within each other.
    #[error("messages are nested deeper than {RECURSION_LIMIT} levels")]
    Depth,
    /// An id or address of another length than its kind has.
    #[error("field {field} has {len} bytes instead of {expected}")]
    Length {
        /// Number of the field.
        field: u32,
        /// Bytes found.
        len: usize,
        /// What would be right.
        expected: &'static str,
    },
    /// Bytes that pass every check here and that `prost` refuses all the same; none are known.
    #[error("the decoder refuses it")]
    Refused,
}

/// Reads fields one after the other.
///
/// After an error the position is unspecified; give up on the message.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads a message's bytes from their beginning.
    #[inline]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Whether the message has been read to its end.
    #[inline]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The bytes not yet read.
    #[inline]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// A variable-length integer.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Reason> {
        match *self.rest {
            [a, ref rest @ ..] if a < 0x80 => {
                self.rest = rest;
                Ok(u64::from(a))
            }
            [a, b, ref rest @ ..] if b < 0x80 => {
                self.rest = rest;
                Ok(u64::from(a & 0x7f) | u64::from(b) << 7)
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Reason> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                // The tenth byte holds one bit.
                if i == 9 && byte > 1 {
                    break;
                }
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(Reason::Varint)
    }

    /// The key of the next field; see [`key`]. Number and wire type are checked by whoever handles the field.
    #[inline]
    pub fn key(&mut self) -> Result<u32, Reason> {
        u32::try_from(self.varint()?).map_err(|_| Reason::Key)
    }

    /// A length and as many bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Reason> {
        let len = self.varint()?;
        let len = usize::try_from(len).map_err(|_| Reason::Truncated)?;
        self.take(len)
    }

    /// A fixed 32-bit value.
    #[inline]
    pub fn fixed32(&mut self) -> Result<u32, Reason> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Reason::Truncated)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// A fixed 64-bit value.
    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, Reason> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Reason::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }

    /// Passes over the value of a field of a message below which `depth` further levels are allowed.
    ///
    /// As in `prost`, skipping takes a level itself, a group one more.
    #[inline]
    pub fn skip(&mut self, key: u32, depth: u32) -> Result<(), Reason> {
        if key < 8 {
            return Err(Reason::Key);
        }
        if depth == 0 {
            return Err(Reason::Depth);
        }
        match key & 7 {
            VARINT => self.varint().map(drop),
            FIXED64 => self.take(8).map(drop),
            LEN => self.bytes().map(drop),
            FIXED32 => self.take(4).map(drop),
            START_GROUP => self.skip_group(key >> 3, depth),
            END_GROUP => Err(Reason::Group),
            other => Err(Reason::WireType(other)),
        }
    }

    fn skip_group(&mut self, field: u32, depth: u32) -> Result<(), Reason> {
        loop {
            let inner = self.key()?;
            if inner == key(field, END_GROUP) {
                return Ok(());
            }
            self.skip(inner, depth - 1)?;
        }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Reason::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }
}

/// One occurrence of a field of messages, strings or bytes, or a field of another type passed over.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Number and wire type; see [`key`].
    pub key: u32,
    /// The field as it stands in its message: key, length and value.
    pub raw: &'a [u8],
    /// The value without key and length; empty for other wire types than [`LEN`].
    pub value: &'a [u8],
}

/// The fields of a message in their order. Ends at the first malformed byte.
#[derive(Clone, Debug)]
pub struct Fields<'a>(Reader<'a>);

impl<'a> Fields<'a> {
    /// The fields of a message's bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(Reader::new(bytes))
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let before = self.0.rest;
        if before.is_empty() {
            return None;
        }
        let mut read = || {
            let key = self.0.key()?;
            let value = match key & 7 {
                LEN if key >= 8 => self.0.bytes()?,
                _ => self.0.skip(key, RECURSION_LIMIT).map(|()| &[][..])?,
            };
            Ok::<_, Reason>(Field { key, raw: &before[..before.len() - self.0.rest.len()], value })
        };
        let field = read().ok();
        if field.is_none() {
            self.0.rest = &[];
        }
        field
    }
}

/// The occurrences of one field of messages, strings or bytes, each seen as a `T`. Ends at the first malformed
/// byte.
#[derive(Debug)]
pub struct Repeated<'a, T> {
    reader: Reader<'a>,
    key: u32,
    item: PhantomData<fn(&'a [u8]) -> T>,
}

impl<'a, T> Repeated<'a, T> {
    /// The occurrences of field number `field` in a message's bytes.
    #[inline]
    pub const fn new(bytes: &'a [u8], field: u32) -> Self {
        Self { reader: Reader::new(bytes), key: key(field, LEN), item: PhantomData }
    }

    #[inline]
    fn advance(&mut self) -> Result<&'a [u8], Reason> {
        loop {
            let key = self.reader.key()?;
            if key == self.key {
                return self.reader.bytes();
            }
            self.reader.skip(key, RECURSION_LIMIT)?;
        }
    }
}

impl<T> Clone for Repeated<'_, T> {
    fn clone(&self) -> Self {
        Self { reader: self.reader, key: self.key, item: PhantomData }
    }
}

impl<'a, T: From<&'a [u8]>> Iterator for Repeated<'a, T> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        if self.reader.is_empty() {
            return None;
        }
        match self.advance() {
            Ok(bytes) => Some(T::from(bytes)),
            Err(_) => {
                self.reader = Reader::new(&[]);
                None
            }
        }
    }
}

impl<'a, T: From<&'a [u8]>> std::iter::FusedIterator for Repeated<'a, T> {}

/// Where a repeated field stands in its message: from its first occurrence to the end of its last one.
///
/// Noted while the other fields are read, so that iterating does not start over at the front.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    start: usize,
    end: usize,
}

impl Extent {
    /// Notes an occurrence within `whole`: `before` is what was left to read at its key, `after` behind its value.
    #[inline]
    pub(crate) fn note(&mut self, whole: &[u8], before: &[u8], after: &[u8]) {
        if self.end == 0 {
            self.start = whole.len() - before.len();
        }
        self.end = whole.len() - after.len();
    }

    /// The occurrences noted within `whole`.
    #[inline]
    pub(crate) fn iter<'a, T>(&self, whole: &'a [u8], field: u32) -> Repeated<'a, T> {
        Repeated::new(&whole[self.start..self.end], field)
    }
}

/// Position of `part` within `whole`, of which it must be a part.
#[inline]
pub(crate) fn offset_in(whole: &[u8], part: &[u8]) -> usize {
    part.as_ptr().addr() - whole.as_ptr().addr()
}
