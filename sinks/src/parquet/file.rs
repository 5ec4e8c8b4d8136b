//! One Parquet file in the making: rows in, parts for an upload out.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, encode_arrow_schema};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::errors::ParquetError as FormatError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::schema::types::{ColumnPath, SchemaDescriptor};

use super::config::ParquetConfig;
use super::encode::encode;
use super::intent::WRITER_VERSION;
use super::rows::Rows;
use super::table::Table;
use super::transport::PART_BYTES;

/// Rows of a page. The values of every column's page wait unencoded, eight bytes each, and maps have several per row.
const PAGE_ROWS: usize = 8192;
/// Share of lookups in a bloom filter that find a trace id which is not there.
const BLOOM_FPP: f64 = 0.01;

/// Columns of ids: never worth a dictionary.
const IDS: &[&str] = &["trace_id", "span_id", "parent_span_id"];
/// Columns whose least and greatest values exclude nothing that anybody asks for: ids are random (a bloom filter
/// finds them), and the others are free text, or nearly always the same.
const WITHOUT_STATISTICS: &[&str] = &[
    "trace_id",
    "span_id",
    "parent_span_id",
    "trace_state",
    "flags",
    "status_message",
    "body",
    "scope_version",
    "resource_schema_url",
    "scope_schema_url",
    "dropped_attributes_count",
    "dropped_events_count",
    "dropped_links_count",
];
/// Columns of times, which follow each other closely.
const TIMES: &[&str] = &["start_time", "end_time", "duration_ns", "time", "observed_time"];

/// What the footer says that a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Covers {
    /// Topic and partition that the rows come from.
    pub(crate) partition: afflux_bus::PartitionId,
    /// First offset of the range.
    pub(crate) first: u64,
    /// Last offset of the range.
    pub(crate) last: u64,
}

/// Encodes rows of one place.
pub(crate) struct FileEncoder {
    table: Table,
    cluster: Arc<str>,
    writer: ArrowWriter<Parts>,
}

impl FileEncoder {
    /// An empty file.
    pub(crate) fn new(table: Table, cluster: Arc<str>, config: &ParquetConfig) -> Result<Self, FormatError> {
        let parquet_schema = ArrowSchemaConverter::new().convert(&table.schema())?;
        let options = ArrowWriterOptions::new()
            .with_properties(properties(table, &parquet_schema, config)?)
            .with_parquet_schema(parquet_schema)
            .with_skip_arrow_metadata(true);
        let writer = ArrowWriter::try_new_with_options(Parts::default(), table.batch_schema(), options)?;
        Ok(Self { table, cluster, writer })
    }

    /// Writes rows as one row group, sorted by time.
    pub(crate) fn row_group(&mut self, mut rows: Rows) -> Result<(), FormatError> {
        rows.sort();
        let writer = &mut self.writer;
        encode(self.table, &rows, &self.cluster, |batch| writer.write(batch))?;
        self.writer.flush()?;
        self.writer.sync()?;
        Ok(())
    }

    /// Writes the footer. Nothing can be written behind it.
    pub(crate) fn finish(&mut self, covers: &Covers) -> Result<(), FormatError> {
        for (key, value) in [
            ("afflux.topic", covers.partition.topic.to_string()),
            ("afflux.partition", covers.partition.partition.to_string()),
            ("afflux.first_offset", covers.first.to_string()),
            ("afflux.last_offset", covers.last.to_string()),
            ("afflux.writer_version", WRITER_VERSION.to_string()),
            ("afflux.schema_version", self.table.schema_version().to_string()),
            ("ARROW:schema", encode_arrow_schema(&self.table.schema())),
        ] {
            self.writer.append_key_value_metadata(KeyValue::new(key.to_owned(), value));
        }
        self.writer.finish()?;
        self.writer.sync()?;
        self.writer.inner_mut().seal();
        Ok(())
    }

    /// The next part that is ready to be uploaded: a full one, or after [`FileEncoder::finish`] the rest.
    pub(crate) fn take_part(&mut self) -> Option<Bytes> {
        self.writer.inner_mut().full.pop_front()
    }

    /// Bytes encoded so far, with those already taken.
    pub(crate) fn written(&self) -> usize {
        self.writer.inner().written
    }
}

fn properties(
    table: Table,
    schema: &SchemaDescriptor,
    config: &ParquetConfig,
) -> Result<WriterProperties, FormatError> {
    let level = ZstdLevel::try_new(config.compression_level)?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("afflux version ", env!("CARGO_PKG_VERSION")).to_owned())
        .set_compression(Compression::ZSTD(level))
        // Row groups end where rows are handed over.
        .set_max_row_group_row_count(None)
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_sorting_columns(sorting(table, schema));
    for (index, column) in schema.columns().iter().enumerate() {
        let path = column.path();
        let top = schema.get_column_root(index).name();
        if WITHOUT_STATISTICS.contains(&top) {
            properties = properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None);
        }
        properties = match top {
            _ if path.parts().len() > 1 => nested(properties, path),
            name if IDS.contains(&name) => ids(properties, path, config),
            name if TIMES.contains(&name) => properties
                .set_column_dictionary_enabled(path.clone(), false)
                .set_column_encoding(path.clone(), Encoding::DELTA_BINARY_PACKED),
            _ => properties,
        };
    }
    Ok(properties.build())
}

fn ids(properties: WriterPropertiesBuilder, path: &ColumnPath, config: &ParquetConfig) -> WriterPropertiesBuilder {
    let properties = properties.set_column_dictionary_enabled(path.clone(), false);
    if path.string() != "trace_id" {
        return properties;
    }
    properties
        .set_column_bloom_filter_enabled(path.clone(), true)
        .set_column_bloom_filter_fpp(path.clone(), BLOOM_FPP)
        .set_column_bloom_filter_max_ndv(path.clone(), config.row_group_rows.into())
}

/// Columns within maps and lists: no reader prunes by their statistics.
fn nested(properties: WriterPropertiesBuilder, path: &ColumnPath) -> WriterPropertiesBuilder {
    properties.set_column_statistics_enabled(path.clone(), EnabledStatistics::None)
}

fn sorting(table: Table, schema: &SchemaDescriptor) -> Option<Vec<SortingColumn>> {
    let time = match table {
        Table::Spans => "start_time",
        Table::Logs | Table::Events => "time",
    };
    let index = schema.columns().iter().position(|column| column.path().string() == time)?;
    Some(vec![SortingColumn { column_idx: index as i32, descending: false, nulls_first: false }])
}

/// Collects what is written as parts of [`PART_BYTES`].
#[derive(Debug, Default)]
struct Parts {
    full: VecDeque<Bytes>,
    current: Vec<u8>,
    written: usize,
}

impl Parts {
    fn seal(&mut self) {
        if !self.current.is_empty() {
            self.full.push_back(std::mem::take(&mut self.current).into());
        }
    }
}

impl io::Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(PART_BYTES - self.current.len());
        self.current.extend_from_slice(&bytes[..taken]);
        self.written += taken;
        if self.current.len() == PART_BYTES {
            self.seal();
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
