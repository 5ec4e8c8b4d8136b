//! A table of the lake as DataFusion sees it.

use std::sync::Arc;

use arrow_schema::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{Result, Statistics, project_schema};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::file_format::parquet::transform_schema_to_view;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use object_store::path::Path;

use crate::layout::{Folder, Level, timestamp};
use crate::list::{self, Listed};
use crate::named::NamedFiles;
use crate::prune::Pruner;
use crate::store::Place;

/// A folder of the lake, read as one table: the columns of its files, then date and hour from the path.
///
/// Every predicate is offered to the paths first, then to the files' statistics, page indexes and bloom filters,
/// and is still applied to what is read. A table without files has its columns and no rows. A column that a file
/// was written without is null in its rows.
#[derive(Debug)]
pub(crate) struct LakeTable {
    place: Place,
    folder: Path,
    /// The name of the store in DataFusion's registry.
    registered: ObjectStoreUrl,
    columns: TableSchema,
    time: Arc<str>,
}

impl LakeTable {
    /// `columns` are those of the files; `time` names the one that date and hour are made from.
    pub(crate) fn new(place: Place, registered: ObjectStoreUrl, name: &str, columns: &Schema, time: &str) -> Self {
        // Nullable, whatever the writer promises: files written before a column was added lack it.
        let optional = |field: &Arc<Field>| field.as_ref().clone().with_nullable(true);
        let of_file: Vec<_> = columns.fields().iter().map(optional).collect();
        let file = transform_schema_to_view(&Schema::new(of_file));
        let path = Level::OF_PATH.map(|level| Arc::new(level.field())).to_vec();
        let columns = TableSchema::builder(Arc::new(file)).with_table_partition_cols(path).build();
        Self { folder: place.base.clone().join(name), place, registered, columns, time: time.into() }
    }

    fn partitioned(&self, listed: Listed) -> PartitionedFile {
        let values = Level::OF_PATH.iter().filter_map(|level| listed.folder.value(*level)).collect();
        let file = PartitionedFile::new_from_meta(listed.meta).with_partition_values(values);
        match self.bounds(&listed.folder) {
            Some(bounds) => file.with_statistics(Arc::new(bounds)),
            None => file,
        }
    }

    /// What the path says about a file's times, as statistics of the file, so that a search for the newest rows
    /// begins with the newest files and leaves the others unopened.
    ///
    /// The values are bounds which no row need reach, but DataFusion prunes by statistics called exact only. They
    /// are attached to files alone, where they order and prune, never to the scan, whose minimum and maximum would
    /// be taken for an answer.
    fn bounds(&self, folder: &Folder) -> Option<Statistics> {
        let columns = self.columns.file_schema();
        let at = columns.index_of(&self.time).ok()?;
        let (first, last) = folder.time_bounds()?;
        let exact = |nanos| timestamp(columns.field(at).data_type(), nanos).map(Precision::Exact);
        let mut statistics = Statistics::new_unknown(columns);
        let time = statistics.column_statistics.get_mut(at)?;
        time.min_value = exact(first)?;
        time.max_value = exact(last)?;
        time.null_count = Precision::Exact(0);
        Some(statistics)
    }

    fn source(&self, state: &dyn Session) -> Result<NamedFiles> {
        let runtime = state.runtime_env();
        let options =
            TableParquetOptions { global: state.config_options().execution.parquet.clone(), ..Default::default() };
        let hint = options.global.metadata_size_hint;
        let footers = runtime.cache_manager.get_file_metadata_cache();
        let readers = CachedParquetFileReaderFactory::new(runtime.object_store(&self.registered)?, footers);
        let mut source = ParquetSource::new(self.columns.clone())
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(Arc::new(readers));
        if let Some(hint) = hint {
            source = source.with_metadata_size_hint(hint);
        }
        Ok(NamedFiles::new(Arc::new(source), self.place.clone()))
    }
}

#[async_trait]
impl TableProvider for LakeTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.columns.table_schema())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = self.schema();
        let pruner = Pruner::new(state, &schema, &self.time, filters)?;
        let files = list::files(&self.place, &self.folder, &pruner).await?;
        tracing::debug!(folder = %self.folder, files = files.len(), "listed the files that a query may need");
        if files.is_empty() {
            return Ok(Arc::new(EmptyExec::new(project_schema(&schema, projection)?)));
        }
        let bytes: u64 = files.iter().map(|file| file.meta.size).sum();
        let mut statistics = Statistics::new_unknown(&schema);
        statistics.total_byte_size = Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
        let files = FileGroup::new(files.into_iter().map(|file| self.partitioned(file)).collect());
        let config = FileScanConfigBuilder::new(self.registered.clone(), Arc::new(self.source(state)?))
            .with_file_groups(files.split_files(state.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

#[cfg(test)]
mod tests;
