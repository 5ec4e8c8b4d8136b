//! Answers as one Parquet file.

use std::io::Write;

use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;

use crate::error::QueryError;
use crate::lake::Answer;

/// Writes one Parquet file, zstd-compressed, with the answer's own types. An answer without rows is a valid file.
pub async fn parquet(answer: Answer, out: &mut impl Write) -> Result<u64, QueryError> {
    let encode = |error: ParquetError| QueryError::Encode { format: "Parquet", source: error.into() };
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), answer.schema, Some(properties)).map_err(encode)?;
    let mut rows = 0;
    let mut batches = answer.batches;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        writer.write(&batch).map_err(encode)?;
        rows += batch.num_rows() as u64;
        // What is encoded is handed on from here, so that the output's errors stay its own.
        out.write_all(&std::mem::take(writer.inner_mut()))?;
    }
    out.write_all(&writer.into_inner().map_err(encode)?)?;
    out.flush()?;
    Ok(rows)
}
