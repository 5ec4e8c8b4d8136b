//! Records as one Parquet file in memory: what the sink writes, for benchmarks and for tests of readers.

use std::sync::Arc;

use afflux_bus::Received;
use bytes::Bytes;

use super::config::ParquetConfig;
use super::file::{Covers, FileEncoder};
use super::pressure::Usage;
use super::rows::{Rows, scan};
use super::table::Table;

/// Why records are no file.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// There is no record.
    #[error("no records to write")]
    Empty,
    /// A record is not a request of the table's signal.
    #[error("{record}: {reason}")]
    Malformed {
        /// Its position on the bus.
        record: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The rows cannot be encoded.
    #[error("rows cannot be encoded: {0}")]
    Encode(#[from] parquet::errors::ParquetError),
}

/// Encodes records of one partition as one file, whatever their hours. All rows are given the cluster of the first.
pub fn to_parquet(table: Table, config: &ParquetConfig, records: &[Received]) -> Result<Bytes, ExportError> {
    let (Some(first), Some(last)) = (records.first(), records.last()) else { return Err(ExportError::Empty) };
    let usage = Usage::new(Arc::default());
    let default_cluster: Arc<str> = config.default_cluster.as_str().into();
    let mut encoder = None;
    let mut rows = Rows::default();
    let mut bytes = Vec::new();
    for record in records {
        let scanned = scan(table, record, &default_cluster, &usage).map_err(|error| ExportError::Malformed {
            record: format!("{} at offset {}", record.from, record.offset),
            reason: error.to_string(),
        })?;
        for (place, found) in scanned.places {
            rows.append(&scanned.chunk, found);
            if encoder.is_none() {
                encoder = Some(FileEncoder::new(table, place.cluster, config)?);
            }
        }
        if let Some(encoder) = encoder.as_mut().filter(|_| rows.len() >= config.row_group_rows as usize) {
            encoder.row_group(std::mem::take(&mut rows))?;
        }
    }
    let mut encoder = match encoder {
        Some(encoder) => encoder,
        None => FileEncoder::new(table, default_cluster, config)?,
    };
    if !rows.is_empty() {
        encoder.row_group(rows)?;
    }
    encoder.finish(&Covers { partition: first.from.clone(), first: first.offset, last: last.offset })?;
    while let Some(part) = encoder.take_part() {
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.into())
}
