//! The lake: its tables, and SQL over them.

use std::num::NonZeroUsize;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow_schema::SchemaRef;
use datafusion::common::config::Dialect;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::execution::memory_pool::{FairSpillPool, TrackConsumersPool};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext};
use futures::stream::{BoxStream, StreamExt};
use object_store::ObjectStore;
use object_store::path::Path;

use crate::error::{QueryError, near};
use crate::store::Place;
use crate::table::LakeTable;
use crate::words;

/// Memory that sorts, joins and groupings of one query may use unless told otherwise, in bytes. Beyond it they
/// spill to the temporary directory where they can.
pub const DEFAULT_MEMORY_LIMIT: usize = 1 << 30;
/// Name of the lake's store within DataFusion.
const REGISTERED: &str = "lake://lake";
/// Consumers of memory that an error about exceeding it names.
const NAMED_CONSUMERS: NonZeroUsize = NonZeroUsize::new(3).expect("three is not zero");

/// How queries may use the machine.
#[derive(Debug, Clone)]
pub struct Options {
    /// Bytes of memory for sorts, joins and groupings together.
    pub memory_limit: usize,
    /// Threads that a query is spread over; all cores by default.
    pub threads: Option<NonZeroUsize>,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory_limit: DEFAULT_MEMORY_LIMIT, threads: None }
    }
}

/// A table of the lake, and the column that its rows' date and hour are made from.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    columns: fn() -> SchemaRef,
    time: &'static str,
}

/// Every table that a lake may hold.
pub(crate) const TABLES: &[Table] = &[
    Table { name: "spans", columns: afflux_schemas::columns::spans, time: "start_time" },
    Table { name: "logs", columns: afflux_schemas::columns::logs, time: "time" },
    Table { name: "events", columns: afflux_schemas::columns::logs, time: "time" },
];

/// The Parquet tables below one URL, open for SQL.
///
/// Files are listed anew by each query, so that it sees what was flushed before it began. A query only reads.
pub struct Lake {
    context: SessionContext,
    memory_limit: usize,
}

/// The rows of an answer as they are found.
pub struct Answer {
    /// Columns of every batch.
    pub schema: SchemaRef,
    /// Rows; nothing follows an error. Dropping it ends the query.
    pub batches: BoxStream<'static, Result<RecordBatch, QueryError>>,
}

impl Lake {
    /// Opens the lake at a directory, `file://` or `s3://` URL.
    ///
    /// S3 takes endpoint, region and credentials from the environment (`AWS_ENDPOINT_URL`, `AWS_REGION`,
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, …). A lake whose tables have no files yet is an empty one;
    /// a directory that does not exist, or a prefix under which nothing is stored, is an error.
    pub async fn open(url: &str, options: Options) -> Result<Self, QueryError> {
        let place = Place::resolve(url)?;
        place.must_exist().await?;
        Self::at(place, options)
    }

    /// Opens the lake that lies under `base` in a store. `url` is what messages call it.
    pub fn over(store: Arc<dyn ObjectStore>, base: Path, url: &str, options: Options) -> Result<Self, QueryError> {
        Self::at(Place { store, base, url: url.into() }, options)
    }

    fn at(place: Place, options: Options) -> Result<Self, QueryError> {
        let pool = TrackConsumersPool::new(FairSpillPool::new(options.memory_limit), NAMED_CONSUMERS);
        let runtime =
            RuntimeEnvBuilder::new().with_memory_pool(Arc::new(pool)).build_arc().map_err(QueryError::planning)?;
        let registered = ObjectStoreUrl::parse(REGISTERED).map_err(QueryError::planning)?;
        runtime.register_object_store(registered.as_ref(), Arc::clone(&place.store));
        let context = SessionContext::new_with_config_rt(session_config(&options), runtime);
        for Table { name, columns, time } in TABLES {
            let table = LakeTable::new(place.clone(), registered.clone(), name, &columns(), time);
            context.register_table(*name, Arc::new(table)).map_err(QueryError::planning)?;
        }
        Ok(Self { context, memory_limit: options.memory_limit })
    }

    /// Plans `sql` (one statement that only reads) and begins to answer it.
    pub async fn sql(&self, sql: &str) -> Result<Answer, QueryError> {
        let state = self.context.state();
        let statement = state.sql_to_statement(&words::quoted(sql), &Dialect::Generic).map_err(QueryError::planning)?;
        let tables = state.resolve_table_references(&statement).map_err(QueryError::planning)?;
        let plan = match state.statement_to_plan(statement).await {
            Ok(plan) => plan,
            Err(error) => {
                return Err(self.unknown_table(&error, tables).unwrap_or_else(|| QueryError::planning(error)));
            }
        };
        let reads = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reads.verify_plan(&plan).map_err(|error| QueryError::ReadOnly { source: error.into() })?;
        let frame = self.context.execute_logical_plan(plan).await.map_err(QueryError::planning)?;
        let stream = frame.execute_stream().await.map_err(QueryError::planning)?;
        let schema = stream.schema();
        let limit = self.memory_limit;
        let mut failed = false;
        let batches = stream.map(move |batch| batch.map_err(|error| QueryError::running(error, limit)));
        let batches = batches.take_while(move |batch| {
            let go_on = !failed;
            failed = batch.is_err();
            std::future::ready(go_on)
        });
        Ok(Answer { schema, batches: batches.boxed() })
    }

    /// The table of a statement whose absence `error` is about.
    fn unknown_table(&self, error: &DataFusionError, tables: Vec<TableReference>) -> Option<QueryError> {
        let message = error.strip_backtrace();
        let missing = tables.into_iter().find(|table| {
            let absent = !self.context.table_exist(table.clone()).unwrap_or(false);
            absent && message.contains(&format!("{}' not found", table.table()))
        })?;
        let known: Vec<String> = TABLES.iter().map(|table| table.name.to_owned()).collect();
        let near = near(missing.table(), TABLES.iter().map(|table| table.name));
        Some(QueryError::UnknownTable { name: missing.to_string(), near, tables: known })
    }
}

fn session_config(options: &Options) -> SessionConfig {
    let mut config = SessionConfig::new().with_information_schema(true);
    if let Some(threads) = options.threads {
        config = config.with_target_partitions(threads.get());
    }
    let settings = config.options_mut();
    settings.sql_parser.collect_spans = true;
    // Rows are dropped while they are decoded: a lookup of one trace decodes the other columns of its rows only.
    settings.execution.parquet.pushdown_filters = true;
    settings.execution.parquet.reorder_filters = true;
    config
}

#[cfg(test)]
mod tests;
