//! Reading messages of others field by field, with errors that say where.

use super::{END_GROUP, FIXED32, FIXED64, LEN, RECURSION_LIMIT, Reader, Reason, START_GROUP, VARINT, is_text, text};
use crate::otlp::validate::Malformed;

/// A message within a record, read field by field.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    /// Name of its type, for errors.
    name: &'static str,
    /// Bytes of the record before the message.
    offset: usize,
    whole: &'a [u8],
    reader: Reader<'a>,
}

/// A field with its value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found<'a> {
    /// Its number.
    pub(crate) number: u32,
    value: Scalar<'a>,
    message: &'static str,
    offset: usize,
    /// Bytes of the record before the value, of a field of [`LEN`].
    inner: usize,
}

#[derive(Clone, Copy, Debug)]
enum Scalar<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32,
    Bytes(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The outermost message of a record.
    pub(crate) fn of_record(name: &'static str, bytes: &'a [u8]) -> Self {
        Self { name, offset: 0, whole: bytes, reader: Reader::new(bytes) }
    }

    /// The next field; groups, which nobody uses, are passed over.
    pub(crate) fn next(&mut self) -> Result<Option<Found<'a>>, Malformed> {
        while !self.reader.is_empty() {
            let offset = self.offset + self.whole.len() - self.reader.rest().len();
            let read = self.read();
            let found = read.map_err(|reason| Malformed { offset, message: self.name, reason })?;
            if let Some((number, value)) = found {
                let inner = match value {
                    Scalar::Bytes(bytes) => self.offset + self.whole.len() - self.reader.rest().len() - bytes.len(),
                    _ => offset,
                };
                return Ok(Some(Found { number, value, message: self.name, offset, inner }));
            }
        }
        Ok(None)
    }

    /// An error at the beginning of the message.
    pub(crate) fn fault(&self, reason: Reason) -> Malformed {
        Malformed { offset: self.offset, message: self.name, reason }
    }

    fn read(&mut self) -> Result<Option<(u32, Scalar<'a>)>, Reason> {
        let key = self.reader.key()?;
        if key < 8 {
            return Err(Reason::Key);
        }
        let value = match key & 7 {
            VARINT => Scalar::Varint(self.reader.varint()?),
            FIXED64 => Scalar::Fixed64(self.reader.fixed64()?),
            FIXED32 => self.reader.fixed32().map(|_| Scalar::Fixed32)?,
            LEN => Scalar::Bytes(self.reader.bytes()?),
            START_GROUP => return self.reader.skip(key, RECURSION_LIMIT).map(|()| None),
            END_GROUP => return Err(Reason::Group),
            other => return Err(Reason::WireType(other)),
        };
        Ok(Some((key >> 3, value)))
    }
}

impl<'a> Found<'a> {
    /// An integer, boolean or enumeration.
    pub(crate) fn varint(&self) -> Result<u64, Malformed> {
        match self.value {
            Scalar::Varint(value) => Ok(value),
            _ => Err(self.mismatch(VARINT)),
        }
    }

    /// A fixed64 value, or the bits of a double.
    pub(crate) fn fixed64(&self) -> Result<u64, Malformed> {
        match self.value {
            Scalar::Fixed64(value) => Ok(value),
            _ => Err(self.mismatch(FIXED64)),
        }
    }

    pub(crate) fn bytes(&self) -> Result<&'a [u8], Malformed> {
        match self.value {
            Scalar::Bytes(bytes) => Ok(bytes),
            _ => Err(self.mismatch(LEN)),
        }
    }

    pub(crate) fn text(&self) -> Result<&'a str, Malformed> {
        let bytes = self.bytes()?;
        if is_text(bytes) { Ok(text(bytes)) } else { Err(self.fault(Reason::Utf8 { field: self.number })) }
    }

    /// A message within this one; `name` is its type.
    pub(crate) fn message(&self, name: &'static str) -> Result<Message<'a>, Malformed> {
        let bytes = self.bytes()?;
        Ok(Message { name, offset: self.inner, whole: bytes, reader: Reader::new(bytes) })
    }

    /// An error at this field.
    pub(crate) fn fault(&self, reason: Reason) -> Malformed {
        Malformed { offset: self.offset, message: self.message, reason }
    }

    fn mismatch(&self, expected: u32) -> Malformed {
        let found = match self.value {
            Scalar::Varint(_) => VARINT,
            Scalar::Fixed64(_) => FIXED64,
            Scalar::Fixed32 => FIXED32,
            Scalar::Bytes(_) => LEN,
        };
        self.fault(Reason::Mismatch { field: self.number, expected, found })
    }
}
