//! Answers as JSON lines.

use std::collections::HashSet;
use std::io::Write;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow_schema::{ArrowError, Field, Schema, SchemaRef};
use futures::StreamExt;

use crate::error::QueryError;
use crate::lake::Answer;

/// Writes one JSON object per row and line. Maps are objects, lists are arrays, null is `null`, binary is hex. Of
/// columns with one name, as a join has them, the later ones are called `name_2`, `name_3`.
pub async fn json_lines(answer: Answer, out: &mut impl Write) -> Result<u64, QueryError> {
    let mut rows = 0;
    let mut batches = answer.batches;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        let lines = encoded(&batch)
            .map_err(|error: ArrowError| QueryError::Encode { format: "JSON lines", source: error.into() })?;
        out.write_all(&lines)?;
        rows += batch.num_rows() as u64;
    }
    out.flush()?;
    Ok(rows)
}

fn encoded(batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
    let batch = &RecordBatch::try_new_with_options(
        distinct(batch.schema_ref()),
        batch.columns().to_vec(),
        &RecordBatchOptions::new().with_row_count(Some(batch.num_rows())),
    )?;
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}

/// The schema with a name of its own for every column.
fn distinct(schema: &SchemaRef) -> SchemaRef {
    let all: HashSet<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    if all.len() == schema.fields().len() {
        return Arc::clone(schema);
    }
    let mut taken = HashSet::new();
    let field = |field: &Arc<Field>| {
        let mut name = field.name().clone();
        let mut number = 1;
        while taken.contains(&name) || (number > 1 && all.contains(name.as_str())) {
            number += 1;
            name = format!("{}_{number}", field.name());
        }
        taken.insert(name.clone());
        field.as_ref().clone().with_name(name)
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}
