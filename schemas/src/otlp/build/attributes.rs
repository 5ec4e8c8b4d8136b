//! Attributes in the making, every key once.

use std::borrow::Cow;
use std::collections::HashMap;

use super::{nested, put_text};
use crate::wire::{put_fixed64_field, put_len_field, put_varint_field};

/// Keys that are compared one by one; more are looked up in a map, so that no sender can make this slow.
const FEW: usize = 32;

/// A value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Str(Cow<'a, str>),
    Bool(bool),
    Int(i64),
    Double(f64),
    Bytes(Cow<'a, [u8]>),
}

impl<'a> Value<'a> {
    /// The text; empty for other values.
    pub(crate) fn into_text(self) -> Cow<'a, str> {
        match self {
            Self::Str(text) => text,
            _ => Cow::Borrowed(""),
        }
    }
}

/// Attributes in the order in which their keys first came; of a repeated key the last value counts.
#[derive(Debug, Default)]
pub(crate) struct AttributeMap<'a> {
    /// A value that was taken out leaves a gap.
    entries: Vec<(Cow<'a, str>, Option<Value<'a>>)>,
    /// Positions, once there are more than [`FEW`].
    index: HashMap<Cow<'a, str>, usize>,
}

impl<'a> AttributeMap<'a> {
    /// Sets an attribute.
    pub(crate) fn set(&mut self, key: impl Into<Cow<'a, str>>, value: Value<'a>) {
        let key = key.into();
        if let Some(at) = self.position(&key) {
            self.entries[at].1 = Some(value);
            return;
        }
        if self.entries.len() == FEW {
            self.index = self.entries.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        }
        if self.entries.len() >= FEW {
            self.index.insert(key.clone(), self.entries.len());
        }
        self.entries.push((key, Some(value)));
    }

    /// Sets a text.
    pub(crate) fn set_text(&mut self, key: impl Into<Cow<'a, str>>, text: impl Into<Cow<'a, str>>) {
        self.set(key, Value::Str(text.into()));
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Option<&Value<'a>> {
        self.entries[self.position(key)?].1.as_ref()
    }

    /// Takes an attribute out.
    pub(crate) fn take(&mut self, key: &str) -> Option<Value<'a>> {
        let at = self.position(key)?;
        self.entries[at].1.take()
    }

    /// Takes out a text; another value goes too, and counts as an empty text.
    pub(crate) fn take_text(&mut self, key: &str) -> Option<Cow<'a, str>> {
        self.take(key).map(Value::into_text)
    }

    /// Puts an attribute under another name, unless that is taken.
    pub(crate) fn rename(&mut self, from: &str, to: &'static str) {
        if self.get(to).is_none()
            && let Some(value) = self.take(from)
        {
            self.set(to, value);
        }
    }

    /// Takes an attribute out for one of a newer name, which keeps its value where there are both.
    pub(crate) fn supersede(&mut self, older: &str, newer: &'static str) {
        if let Some(value) = self.take(older)
            && self.get(newer).is_none()
        {
            self.set(newer, value);
        }
    }

    fn position(&self, key: &str) -> Option<usize> {
        if self.index.is_empty() {
            return self.entries.iter().position(|(known, _)| known == key);
        }
        self.index.get(key).copied()
    }

    /// Appends the attributes as fields of that number.
    pub(crate) fn put(&self, out: &mut Vec<u8>, field: u32) {
        for (key, value) in &self.entries {
            let Some(value) = value else { continue };
            nested(out, field, |out| {
                put_text(out, 1, key);
                nested(out, 2, |out| put_value(out, value));
            });
        }
    }
}

/// Appends the member of `AnyValue`, even where it is zero or empty.
fn put_value(out: &mut Vec<u8>, value: &Value<'_>) {
    match value {
        Value::Str(text) => put_len_field(out, 1, text.as_bytes()),
        Value::Bool(value) => put_varint_field(out, 2, (*value).into()),
        Value::Int(value) => put_varint_field(out, 3, value.cast_unsigned()),
        Value::Double(value) => put_fixed64_field(out, 4, value.to_bits()),
        Value::Bytes(bytes) => put_len_field(out, 7, bytes),
    }
}
