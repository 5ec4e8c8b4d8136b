//! Answers as JSON lines.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::json::WriterBuilder;
use arrow::json::writer::LineDelimited;
use arrow_schema::ArrowError;
use futures::StreamExt;

use crate::error::QueryError;
use crate::lake::Answer;

/// Writes one JSON object per row and line. Maps are objects, lists are arrays, null is `null`, binary is hex.
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
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    Ok(writer.into_inner())
}
