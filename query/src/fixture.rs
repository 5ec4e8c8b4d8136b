//! Small lakes with the real columns, and a store that counts what is read of it.

use std::fmt;
use std::ops::Range;
use std::path::Path as FsPath;
use std::sync::{Arc, Mutex};

use arrow::array::ListArray;
use arrow::array::{
    ArrayRef, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray, StringBuilder, new_empty_array,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow_schema::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::parquet::arrow::ArrowWriter;
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::WriterProperties;
use datafusion::parquet::schema::types::ColumnPath;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use crate::{Answer, Lake, Options, QueryError, render};

/// 2026-03-04T05:00:00Z.
pub(crate) const HOUR: i64 = 1_772_600_400_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
/// Rows of a row group in these lakes, so that a few thousand rows make several.
pub(crate) const ROW_GROUP: usize = 500;

/// A row of either table: what the tests look at; the other columns are null, zero or empty.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) nanos: i64,
    pub(crate) trace_id: String,
    pub(crate) name: String,
    pub(crate) service: String,
    pub(crate) cluster: String,
    pub(crate) attributes: Vec<(String, String)>,
}

impl Row {
    pub(crate) fn at(nanos: i64, cluster: &str) -> Self {
        Self {
            nanos,
            trace_id: format!("{nanos:032x}"),
            name: "GET /cart".into(),
            service: "frontend".into(),
            cluster: cluster.into(),
            attributes: vec![("http.request.method".into(), "GET".into()), ("url.path".into(), "/cart".into())],
        }
    }

    /// The folder of the row below a table, as the sink names it.
    fn folder(&self) -> Path {
        let hours = self.nanos.div_euclid(3600 * SECOND);
        let date = arrow::temporal_conversions::date32_to_datetime(i32::try_from(hours.div_euclid(24)).unwrap());
        let date = date.unwrap().format("%Y-%m-%d");
        let cluster = encoded(&self.cluster);
        Path::parse(format!("cluster_key={cluster}/date={date}/hour={:02}", hours.rem_euclid(24))).unwrap()
    }
}

/// A name as it stands in a path.
fn encoded(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || (b"._-".contains(&byte) && !matches!(name, "." | ".."));
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// Rows as a batch of the real columns.
pub(crate) fn batch(schema: &SchemaRef, rows: &[Row]) -> RecordBatch {
    let columns = schema.fields().iter().map(|field| column(field, rows)).collect();
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

fn column(field: &Field, rows: &[Row]) -> ArrayRef {
    let text = |of: &dyn Fn(&Row) -> &str| -> ArrayRef {
        cast(&StringArray::from_iter_values(rows.iter().map(of)), field.data_type()).unwrap()
    };
    let number = |of: &dyn Fn(&Row) -> i64| -> ArrayRef {
        cast(&Int64Array::from_iter_values(rows.iter().map(of)), field.data_type()).unwrap()
    };
    match (field.name().as_str(), field.data_type()) {
        ("trace_id", _) => text(&|row| &row.trace_id),
        ("name" | "body", _) => text(&|row| &row.name),
        ("service", _) => text(&|row| &row.service),
        ("cluster", _) => text(&|row| &row.cluster),
        ("start_time" | "time" | "end_time", _) => number(&|row| row.nanos),
        ("attributes", _) => map(field, rows.iter().map(|row| row.attributes.as_slice())),
        _ if field.is_nullable() => new_null_array(field.data_type(), rows.len()),
        (_, DataType::Map(..)) => map(field, rows.iter().map(|_| [].as_slice())),
        (_, DataType::List(element)) => {
            let offsets = OffsetBuffer::from_lengths(std::iter::repeat_n(0, rows.len()));
            Arc::new(ListArray::new(Arc::clone(element), offsets, new_empty_array(element.data_type()), None))
        }
        (_, DataType::Utf8) => text(&|_| "unset"),
        _ => number(&|_| 0),
    }
}

fn map<'a>(field: &Field, rows: impl Iterator<Item = &'a [(String, String)]>) -> ArrayRef {
    let DataType::Map(entries, _) = field.data_type() else { panic!("{field} is no map") };
    let DataType::Struct(pair) = entries.data_type() else { panic!("{entries} is no pair") };
    let names =
        MapFieldNames { entry: entries.name().clone(), key: pair[0].name().clone(), value: pair[1].name().clone() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(Arc::clone(&pair[0]))
        .with_values_field(Arc::clone(&pair[1]));
    for row in rows {
        for (key, value) in row {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true).unwrap();
    }
    Arc::new(builder.finish())
}

/// Rows as a Parquet file with the sink's properties: sorted by time, page index, bloom filter on trace ids.
pub(crate) fn parquet(schema: &SchemaRef, rows: &[Row]) -> Vec<u8> {
    let mut rows = rows.to_vec();
    rows.sort_by_key(|row| row.nanos);
    written(&batch(schema, &rows))
}

/// A batch as a Parquet file with the sink's properties.
pub(crate) fn written(batch: &RecordBatch) -> Vec<u8> {
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP))
        .set_data_page_row_count_limit(ROW_GROUP / 5)
        .set_write_batch_size(ROW_GROUP / 5)
        .set_column_bloom_filter_enabled(ColumnPath::from("trace_id"), true)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
    writer.write(batch).unwrap();
    writer.into_inner().unwrap()
}

/// Where the file of `row`'s hour lies below `table`.
pub(crate) fn file_of(table: &str, row: &Row) -> Path {
    let folder = row.folder();
    Path::parse(format!("{table}/{folder}/afflux.spans-00000-00000000000000000000.parquet")).unwrap()
}

/// What was asked of a store.
#[derive(Debug, Default, Clone)]
pub(crate) struct Reads {
    /// Folders listed.
    pub(crate) listed: Vec<String>,
    /// Objects of which anything was read, once each.
    pub(crate) files: Vec<String>,
    /// Bytes read.
    pub(crate) bytes: u64,
}

/// A store in memory that counts reads.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    inner: InMemory,
    reads: Mutex<Reads>,
}

impl Counting {
    fn count(&self, location: &Path, bytes: u64) {
        let mut reads = self.reads.lock().unwrap();
        let file = location.to_string();
        if !reads.files.contains(&file) {
            reads.files.push(file);
        }
        reads.bytes += bytes;
    }
}

impl fmt::Display for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("counting")
    }
}

#[async_trait]
impl ObjectStore for Counting {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let result = self.inner.get_opts(location, options).await?;
        self.count(location, result.range.end - result.range.start);
        Ok(result)
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.count(location, ranges.iter().map(|range| range.end - range.start).sum());
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.reads.lock().unwrap().listed.push(format!("{} and all below", prefix.cloned().unwrap_or_default()));
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reads.lock().unwrap().listed.push(prefix.cloned().unwrap_or_default().to_string());
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// A lake in memory.
pub(crate) struct TestLake {
    pub(crate) lake: Lake,
    pub(crate) store: Arc<Counting>,
}

impl TestLake {
    pub(crate) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        let store = Arc::new(Counting::default());
        let base = Path::from("team/lake");
        let lake = Lake::over(Arc::clone(&store) as _, base, "memory://team/lake", options).unwrap();
        Self { lake, store }
    }

    /// Adds one file for each cluster and hour that `rows` touch.
    pub(crate) async fn write(&self, table: &str, rows: &[Row]) {
        for (path, bytes) in files(table, rows) {
            self.put(&path, bytes).await;
        }
    }

    pub(crate) async fn put(&self, path: &Path, bytes: Vec<u8>) {
        self.store.put(&Path::parse(format!("team/lake/{path}")).unwrap(), bytes.into()).await.unwrap();
    }

    /// The answer as CSV without its header.
    pub(crate) async fn rows(&self, sql: &str) -> Vec<String> {
        self.try_rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {}", chain(&error)))
    }

    pub(crate) async fn try_rows(&self, sql: &str) -> std::result::Result<Vec<String>, QueryError> {
        let answer: Answer = self.lake.sql(sql).await?;
        let mut out = Vec::new();
        render::csv(answer, &mut out).await?;
        Ok(String::from_utf8(out).unwrap().lines().skip(1).map(str::to_owned).collect())
    }

    /// The error of a query that must fail, with its causes.
    pub(crate) async fn error(&self, sql: &str) -> String {
        chain(&self.try_rows(sql).await.expect_err(sql))
    }

    /// What was read since the last call.
    pub(crate) fn take_reads(&self) -> Reads {
        std::mem::take(&mut *self.store.reads.lock().unwrap())
    }
}

/// The files of `rows` below `table`: one for each cluster and hour.
pub(crate) fn files(table: &str, rows: &[Row]) -> Vec<(Path, Vec<u8>)> {
    let schema = if table == "spans" { afflux_schemas::columns::spans() } else { afflux_schemas::columns::logs() };
    let mut hours: Vec<(Path, Vec<Row>)> = Vec::new();
    for row in rows {
        let path = file_of(table, row);
        match hours.iter_mut().find(|(of, _)| *of == path) {
            Some((_, rows)) => rows.push(row.clone()),
            None => hours.push((path, vec![row.clone()])),
        }
    }
    hours.into_iter().map(|(path, rows)| (path, parquet(&schema, &rows))).collect()
}

/// A lake on disk.
pub(crate) fn write_to_disk(dir: &FsPath, table: &str, rows: &[Row]) {
    for (path, bytes) in files(table, rows) {
        let file = dir.join(path.to_string());
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }
}

/// An error and its causes, as the command line prints them.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}
