//! Columns of text.

use std::collections::HashMap;
use std::sync::Arc;

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
use arrow_buffer::{Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::ArrowError;

/// Texts one after the other. They are checked to be UTF-8 once, when the column is finished.
#[derive(Debug)]
pub(super) struct TextColumn {
    bytes: Vec<u8>,
    offsets: Vec<i32>,
    nulls: NullBufferBuilder,
}

impl TextColumn {
    /// An empty column with room for that many texts of about `width` bytes.
    pub(super) fn new(rows: usize, width: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Self { bytes: Vec::with_capacity(rows * width), offsets, nulls: NullBufferBuilder::new(rows) }
    }

    /// Appends a text.
    #[inline]
    pub(super) fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.end();
        self.nulls.append_non_null();
    }

    /// Appends a text that is absent where it is empty, as it is in protobuf.
    #[inline]
    pub(super) fn push_optional(&mut self, text: &[u8]) {
        if text.is_empty() { self.push_null() } else { self.push(text) }
    }

    /// Appends that there is none.
    #[inline]
    pub(super) fn push_null(&mut self) {
        self.end();
        self.nulls.append_null();
    }

    /// Appends bytes as lower-case hex digits.
    #[inline]
    pub(super) fn push_hex(&mut self, bytes: &[u8]) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for &byte in bytes {
            self.bytes.extend_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        self.end();
        self.nulls.append_non_null();
    }

    /// Appends an id as hex digits; one that is empty or all zeros, which W3C calls invalid, is absent.
    #[inline]
    pub(super) fn push_optional_id(&mut self, id: &[u8]) {
        if id.iter().all(|&byte| byte == 0) { self.push_null() } else { self.push_hex(id) }
    }

    #[inline]
    fn end(&mut self) {
        // A batch holds a few bus records, whose size is far below 2 GiB; past that, finishing fails.
        self.offsets.push(i32::try_from(self.bytes.len()).unwrap_or(i32::MAX));
    }

    /// Number of texts.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// The text at a position.
    #[inline]
    pub(super) fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }

    /// Whether there is no text at a position.
    pub(super) fn is_null(&self, index: usize) -> bool {
        !self.nulls.is_valid(index)
    }

    /// Forgets all texts.
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.offsets.truncate(1);
        self.nulls = NullBufferBuilder::new(0);
    }

    /// The column.
    pub(super) fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        Ok(Arc::new(StringArray::try_new(offsets, Buffer::from_vec(self.bytes), self.nulls.finish())?))
    }
}

/// Distinct texts, each known by its key.
#[derive(Debug)]
pub(super) struct Dictionary {
    keys: HashMap<Box<[u8]>, i32>,
    texts: TextColumn,
}

impl Dictionary {
    /// An empty dictionary.
    pub(super) fn new() -> Self {
        Self { keys: HashMap::new(), texts: TextColumn::new(0, 0) }
    }

    /// The key of a text.
    pub(super) fn key(&mut self, text: &[u8]) -> i32 {
        if let Some(&key) = self.keys.get(text) {
            return key;
        }
        let key = self.texts.len() as i32;
        self.texts.push(text);
        self.keys.insert(text.into(), key);
        key
    }

    /// The key of a text, none for an empty one.
    pub(super) fn optional_key(&mut self, text: &[u8]) -> Option<i32> {
        if text.is_empty() { None } else { Some(self.key(text)) }
    }

    /// The texts in the order of their keys.
    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        self.texts.finish()
    }
}

/// A column of keys into finished texts.
pub(super) fn keyed(keys: Int32Array, texts: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(DictionaryArray::<Int32Type>::try_new(keys, Arc::clone(texts))?))
}
