//! Columns of attributes: maps from name to text.

use std::sync::Arc;

use afflux_schemas::columns::{MAP_ENTRIES, MAP_KEY, MAP_VALUE};
use afflux_schemas::otlp::common::{Attributes, ValueView};
use arrow_array::{Array, ArrayRef, MapArray, StructArray};
use arrow_buffer::{OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, Field, Fields};

use super::text::TextColumn;

/// Attributes of one row after the other. Of a repeated name the first value counts.
#[derive(Debug)]
pub(super) struct AttributesColumn {
    offsets: Vec<i32>,
    keys: TextColumn,
    values: TextColumn,
    scratch: String,
}

impl AttributesColumn {
    /// An empty column with room for that many rows of about `each` attributes.
    pub(super) fn new(rows: usize, each: usize) -> Self {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        let (keys, values) = (TextColumn::new(rows * each, 16), TextColumn::new(rows * each, 16));
        Self { offsets, keys, values, scratch: String::new() }
    }

    /// Appends the attributes of a row.
    pub(super) fn push(&mut self, attributes: Attributes<'_>) {
        for attribute in attributes.unique() {
            self.keys.push(attribute.key_bytes());
            push_value(&mut self.values, &attribute.value(), &mut self.scratch);
        }
        self.offsets.push(i32::try_from(self.keys.len()).unwrap_or(i32::MAX));
    }

    /// The column.
    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        map(self.offsets, self.keys.finish()?, self.values.finish()?)
    }
}

/// Appends a value as text; no value is null.
pub(super) fn push_value(column: &mut TextColumn, value: &ValueView<'_>, scratch: &mut String) {
    match value {
        ValueView::Empty => column.push_null(),
        ValueView::Str(text) => column.push(text.as_bytes()),
        other => {
            scratch.clear();
            other.write_text(scratch);
            column.push(scratch.as_bytes());
        }
    }
}

/// A map column of its parts.
pub(super) fn map(offsets: Vec<i32>, keys: ArrayRef, values: ArrayRef) -> Result<ArrayRef, ArrowError> {
    let fields = Fields::from(vec![
        Field::new(MAP_KEY, keys.data_type().clone(), false),
        Field::new(MAP_VALUE, values.data_type().clone(), true),
    ]);
    let entries = StructArray::try_new(fields, vec![keys, values], None)?;
    let field = Arc::new(Field::new(MAP_ENTRIES, entries.data_type().clone(), false));
    let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
    Ok(Arc::new(MapArray::try_new(field, offsets, entries, None, false)?))
}
