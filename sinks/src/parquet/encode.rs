//! OTLP bytes to Arrow batches, straight from the views: no decoded trees, no allocation per row.
//!
//! What rows of one resource or scope share is rendered once per row group and travels as dictionary keys.

mod attributes;
mod context;
mod logs;
mod nested;
mod spans;
mod text;

use std::sync::{Arc, LazyLock};

use afflux_schemas::columns;
use arrow_array::{ArrayRef, RecordBatch, TimestampNanosecondArray};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema, SchemaRef};

use self::context::Contexts;
use self::logs::LogColumns;
use self::spans::SpanColumns;
use super::rows::Rows;
use super::table::Table;

/// Rows per batch: few enough for a batch to stay in the cache between its building and its encoding.
const BATCH_ROWS: usize = 4096;
/// Attributes of resources and scopes per batch, in which each row repeats those that it shares: as many as in rows
/// that share 64. Further rows wait for the next batch, so that a resource of thousands costs no more memory.
const BATCH_SHARED_ATTRIBUTES: usize = 64 * BATCH_ROWS;

/// Columns that rows of one resource or scope share; they are built as dictionaries.
const SHARED_COLUMNS: &[&str] = &[
    "service",
    "cluster",
    "namespace",
    "pod",
    "node",
    "scope_name",
    "scope_version",
    "resource_attributes",
    "scope_attributes",
    "tenant",
    "resource_schema_url",
    "scope_schema_url",
    // And those of few values.
    "kind",
    "status",
    "severity",
];

impl Table {
    /// The table's columns as readers see them.
    pub(crate) fn schema(self) -> SchemaRef {
        match self {
            Self::Spans => columns::spans(),
            Self::Logs | Self::Events => columns::logs(),
        }
    }

    /// Version of the columns.
    pub(crate) fn schema_version(self) -> u32 {
        match self {
            Self::Spans => columns::SPANS_VERSION,
            Self::Logs | Self::Events => columns::LOGS_VERSION,
        }
    }

    /// The columns as batches hold them: those of [`Table::schema`], some of them as dictionaries. Parquet knows
    /// no difference.
    pub(crate) fn batch_schema(self) -> SchemaRef {
        static SPANS: LazyLock<SchemaRef> = LazyLock::new(|| with_dictionaries(&columns::spans()));
        static LOGS: LazyLock<SchemaRef> = LazyLock::new(|| with_dictionaries(&columns::logs()));
        match self {
            Self::Spans => SPANS.clone(),
            Self::Logs | Self::Events => LOGS.clone(),
        }
    }
}

fn with_dictionaries(schema: &Schema) -> SchemaRef {
    let field = |field: &Arc<Field>| {
        if SHARED_COLUMNS.contains(&field.name().as_str()) { Arc::new(as_dictionary(field)) } else { Arc::clone(field) }
    };
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Fields>()))
}

/// The field with a dictionary for every text in it.
fn as_dictionary(field: &Field) -> Field {
    let data_type = match field.data_type() {
        DataType::Utf8 => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
        DataType::Map(entries, sorted) => DataType::Map(Arc::new(as_dictionary(entries)), *sorted),
        DataType::Struct(fields) => {
            DataType::Struct(fields.iter().map(|field| Arc::new(as_dictionary(field))).collect())
        }
        other => other.clone(),
    };
    field.clone().with_data_type(data_type)
}

/// Encodes rows, which must all belong to `cluster`, as batches in their order.
pub(crate) fn encode<E: From<ArrowError>>(
    table: Table,
    rows: &Rows,
    cluster: &str,
    mut write: impl FnMut(&RecordBatch) -> Result<(), E>,
) -> Result<(), E> {
    let contexts = Contexts::new(rows, cluster)?;
    let mut items = rows.items().peekable();
    while items.len() > 0 {
        let count = items.len().min(BATCH_ROWS);
        let (mut rows, mut shared) = (0, 0);
        let batch = std::iter::from_fn(|| {
            let room = rows < BATCH_ROWS && shared < BATCH_SHARED_ATTRIBUTES;
            let item = items.next_if(|_| room)?;
            rows += 1;
            shared += contexts.attributes_of(item.context);
            Some(item)
        });
        let columns = match table {
            Table::Spans => batch.fold(SpanColumns::new(count), |columns, item| columns.push(item)).finish(&contexts),
            Table::Logs | Table::Events => {
                batch.fold(LogColumns::new(count), |columns, item| columns.push(item)).finish(&contexts)
            }
        };
        write(&RecordBatch::try_new(table.batch_schema(), columns?)?)?;
    }
    Ok(())
}

/// A column of times.
fn times(nanos: Vec<i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from(nanos).with_timezone("UTC"))
}

#[cfg(test)]
mod tests;
