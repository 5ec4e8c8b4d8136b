//! The attributes of data points.

use crate::otlp::common::KeyValueView;
use crate::wire::{Reader, put_len_field, put_message_field, put_varint, varint_len};

/// The attributes of a series, encoded once: `KeyValue` messages, each behind its length.
///
/// Equal bytes mean the same series; whoever makes labels keeps to one order of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Labels(Box<[u8]>);

impl Labels {
    /// Texts by name, in that order.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let (mut out, mut one) = (Vec::new(), Vec::new());
        for (name, value) in pairs {
            one.clear();
            put_len_field(&mut one, 1, name.as_bytes());
            let Ok(()) = put_message_field(&mut one, 2, |out| {
                put_len_field(out, 1, value.as_bytes());
                Ok::<_, std::convert::Infallible>(())
            });
            put_varint(&mut out, one.len() as u64);
            out.extend_from_slice(&one);
        }
        Self(out.into())
    }

    /// `KeyValue` messages in that order.
    pub(super) fn of_messages(messages: &[&[u8]]) -> Self {
        // Exactly, since a boxed slice is as long as its memory.
        let size = |message: &&[u8]| varint_len(message.len() as u64) + message.len();
        let mut out = Vec::with_capacity(messages.iter().map(size).sum());
        for message in messages {
            put_varint(&mut out, message.len() as u64);
            out.extend_from_slice(message);
        }
        Self(out.into())
    }

    /// The encoded bytes: what tells series apart.
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The labels of those bytes.
    pub fn from_bytes(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The `KeyValue` messages.
    pub fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let mut reader = Reader::new(&self.0);
        std::iter::from_fn(move || if reader.is_empty() { None } else { reader.bytes().ok() })
    }

    /// Names and values; values that are no text read as empty.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.messages().map(|message| {
            let attribute = KeyValueView::new(message);
            (attribute.key(), attribute.value().as_str().unwrap_or_default())
        })
    }

    /// Appends them as fields of that number.
    pub(super) fn put(&self, out: &mut Vec<u8>, field: u32) {
        self.messages().for_each(|message| put_len_field(out, field, message));
    }
}
