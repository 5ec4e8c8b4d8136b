//! Answers as CSV.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, StringBuilder};
use arrow::csv::WriterBuilder;
use arrow::json::writer::{EncoderOptions, make_encoder};
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Schema};
use futures::StreamExt;

use crate::error::QueryError;
use crate::lake::Answer;

/// Writes a header and one record per row. Maps, lists and structs are JSON within their field; null is empty.
pub async fn csv(answer: Answer, out: &mut impl Write) -> Result<u64, QueryError> {
    let encode = |error: ArrowError| QueryError::Encode { format: "CSV", source: error.into() };
    let mut rows = 0;
    let mut batches = answer.batches;
    out.write_all(&encoded(&RecordBatch::new_empty(answer.schema), true).map_err(encode)?)?;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        out.write_all(&encoded(&batch, false).map_err(encode)?)?;
        rows += batch.num_rows() as u64;
    }
    out.flush()?;
    Ok(rows)
}

fn encoded(batch: &RecordBatch, header: bool) -> Result<Vec<u8>, ArrowError> {
    let mut bytes = Vec::new();
    let mut writer = WriterBuilder::new().with_header(header).build(&mut bytes);
    writer.write(&flat(batch)?)?;
    drop(writer);
    Ok(bytes)
}

/// The batch with nested columns as JSON text, which CSV has no other way to hold.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, column)| {
        if !column.data_type().is_nested() {
            return Ok((Arc::clone(field), Arc::clone(column)));
        }
        let text = Field::new(field.name(), DataType::Utf8, true);
        Ok((Arc::new(text), json_text(field, column)?))
    });
    let (fields, columns): (Vec<FieldRef>, Vec<ArrayRef>) =
        columns.collect::<Result<Vec<_>, ArrowError>>()?.into_iter().unzip();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns, &options)
}

fn json_text(field: &FieldRef, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = EncoderOptions::default().with_explicit_nulls(true);
    let mut encoder = make_encoder(field, column, &options)?;
    let mut texts = StringBuilder::new();
    let mut text = Vec::new();
    for row in 0..column.len() {
        if encoder.is_null(row) {
            texts.append_null();
            continue;
        }
        text.clear();
        encoder.encode(row, &mut text);
        texts.append_value(String::from_utf8_lossy(&text));
    }
    Ok(Arc::new(texts.finish()))
}
