//! Answers as one Parquet file.

use std::io::{self, Write};

use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::errors::ParquetError;
use datafusion::parquet::file::properties::WriterProperties;
use futures::StreamExt;

use crate::error::QueryError;
use crate::lake::Answer;

/// Writes one Parquet file, zstd-compressed, with the answer's own types. An answer without rows is a valid file.
pub async fn parquet(answer: Answer, out: &mut (impl Write + Send)) -> Result<u64, QueryError> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(out, answer.schema, Some(properties)).map_err(failed)?;
    let mut rows = 0;
    let mut batches = answer.batches;
    while let Some(batch) = batches.next().await {
        let batch = batch?;
        writer.write(&batch).map_err(failed)?;
        rows += batch.num_rows() as u64;
    }
    writer.into_inner().map_err(failed)?.flush()?;
    Ok(rows)
}

/// An error of the writer: the output's own where there is one beneath it.
fn failed(error: ParquetError) -> QueryError {
    match error {
        ParquetError::External(external) => match external.downcast::<io::Error>() {
            Ok(error) => QueryError::Output(*error),
            Err(other) => QueryError::Encode { format: "Parquet", source: ParquetError::External(other).into() },
        },
        other => QueryError::Encode { format: "Parquet", source: other.into() },
    }
}
