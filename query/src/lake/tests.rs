//! What a reader gets to see: rows, columns and errors.

use std::path::Path as FsPath;

use object_store::path::Path;

use super::*;
use crate::fixture::{HOUR, Row, SECOND, TestLake, chain, file_of, files, write_to_disk};

async fn open(url: &str) -> Result<Lake, QueryError> {
    Lake::open(url, Options::default()).await
}

async fn open_error(url: &str) -> String {
    match open(url).await {
        Ok(_) => panic!("{url} was opened"),
        Err(error) => chain(&error),
    }
}

async fn count(lake: &Lake, sql: &str) -> usize {
    let mut batches = lake.sql(sql).await.unwrap().batches;
    let mut rows = 0;
    while let Some(batch) = batches.next().await {
        rows += batch.unwrap().num_rows();
    }
    rows
}

#[tokio::test]
async fn a_lake_on_disk_opens_as_directory_and_as_file_url() {
    let dir = tempfile::tempdir().unwrap();
    write_to_disk(dir.path(), "spans", &[Row::at(HOUR, "eu"), Row::at(HOUR, "us")]);
    let plain = dir.path().to_str().unwrap();
    for url in [plain.to_owned(), format!("{plain}/"), format!("file://{plain}"), format!("file://localhost{plain}")] {
        assert_eq!(count(&open(&url).await.unwrap(), "SELECT * FROM spans").await, 2, "{url}");
    }
}

#[tokio::test]
async fn a_directory_that_is_not_there_is_an_error_that_names_it_and_a_lake_nearby() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("nowhere");
    let missing = missing.to_str().unwrap();
    assert_eq!(open_error(missing).await, format!("no lake at {missing:?}: the directory does not exist"));
    let lake = dir.path().join("lake");
    std::fs::create_dir(&lake).unwrap();
    let error = open_error(&format!("file://{missing}")).await;
    assert!(error.ends_with(&format!("; there is one at {:?}", lake.to_str().unwrap())), "{error}");
    let error = open_error(dir.path().to_str().unwrap()).await;
    assert!(error.contains("the directory holds no table; there is one at "), "the data directory: {error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(open_error(file.to_str().unwrap()).await.contains("it is a file"));
}

#[tokio::test]
async fn urls_that_cannot_be_read_say_what_can() {
    for (url, says) in [
        ("gs://bucket/lake", "scheme \"gs\" is not supported"),
        ("s3:///lake", "the bucket's name is missing"),
        ("file://host/lake", "a file URL names an absolute path"),
        ("file:///la%ke", "percent-encoding is broken"),
    ] {
        let error = open_error(url).await;
        assert!(
            error.contains(says) && error.contains("give a directory, file:///dir or s3://bucket/prefix"),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_table_without_files_has_its_columns_and_no_rows() {
    let lake = TestLake::new();
    assert_eq!(lake.rows("SELECT * FROM spans").await, Vec::<String>::new());
    assert_eq!(lake.rows("SELECT count(*), max(duration_ns) FROM spans WHERE cluster = 'eu'").await, ["0,"]);
    let answer = lake.lake.sql("SELECT * FROM logs").await.unwrap();
    let names: Vec<_> = answer.schema.fields().iter().map(|field| field.name().clone()).collect();
    for column in afflux_schemas::columns::logs().fields() {
        assert!(names.contains(column.name()), "{} is missing", column.name());
    }
    assert_eq!(names.iter().filter(|name| *name == "cluster").count(), 1);
    assert!(names.ends_with(&["date".into(), "hour".into()]));
}

#[tokio::test]
async fn a_cluster_may_stand_anywhere_in_a_list() {
    let dir = tempfile::tempdir().unwrap();
    write_to_disk(dir.path(), "spans", &[Row::at(HOUR, "eu"), Row::at(HOUR, "us")]);
    let lake = open(dir.path().to_str().unwrap()).await.unwrap();
    assert_eq!(count(&lake, "SELECT service, cluster FROM spans").await, 2);
    assert_eq!(count(&lake, "SELECT service, count(*), cluster FROM spans GROUP BY service, cluster").await, 2);
}

#[tokio::test]
async fn names_of_clusters_come_out_as_their_rows_hold_them() {
    let lake = TestLake::new();
    let clusters = ["plain", "eu/west 1", "100%", "a=b", "München", "it's", "%2F", "*?", ".", "[x]~#"];
    lake.write("spans", &clusters.map(|cluster| Row::at(HOUR, cluster))).await;
    let mut expected = clusters.map(str::to_owned);
    expected.sort();
    assert_eq!(lake.rows("SELECT cluster FROM spans ORDER BY cluster").await, expected);
    for cluster in clusters {
        let sql = format!("SELECT cluster FROM spans WHERE cluster = '{}'", cluster.replace('\'', "''"));
        assert_eq!(lake.rows(&sql).await, [cluster]);
    }
}

#[tokio::test]
async fn names_of_clusters_come_out_right_from_a_disk_too() {
    let dir = tempfile::tempdir().unwrap();
    let clusters = ["plain", "eu/west 1", "100%", "München", "%2F"];
    let store = object_store::local::LocalFileSystem::new_with_prefix(dir.path()).unwrap();
    for (path, bytes) in files("spans", &clusters.map(|cluster| Row::at(HOUR, cluster))) {
        object_store::ObjectStoreExt::put(&store, &path, bytes.into()).await.unwrap();
    }
    let lake = open(dir.path().to_str().unwrap()).await.unwrap();
    for cluster in clusters {
        assert_eq!(count(&lake, &format!("SELECT * FROM spans WHERE cluster = '{cluster}'")).await, 1, "{cluster}");
    }
}

#[tokio::test]
async fn a_name_too_long_for_a_path_comes_whole_from_the_file() {
    let lake = TestLake::new();
    let long = "x".repeat(300);
    let (_, bytes) = files("spans", &[Row::at(HOUR, &long)]).remove(0);
    let folder = format!("spans/cluster_key={}~0123abcd/date=2026-03-04/hour=05", &long[..100]);
    lake.put(&Path::parse(format!("{folder}/x.parquet")).unwrap(), bytes).await;
    lake.write("spans", &[Row::at(HOUR, "eu")]).await;
    assert_eq!(lake.rows(&format!("SELECT cluster FROM spans WHERE cluster = '{long}'")).await, [long.as_str()]);
    assert_eq!(
        lake.rows("SELECT length(cluster) FROM spans WHERE cluster LIKE 'x%' AND date = '2026-03-04'").await,
        ["300"]
    );
    assert_eq!(lake.rows("SELECT cluster FROM spans WHERE cluster < 'f'").await, ["eu"]);
}

#[tokio::test]
async fn attributes_are_reached_by_name() {
    let lake = TestLake::new();
    lake.write("spans", &[Row::at(HOUR, "eu")]).await;
    let sql = "SELECT attributes['http.request.method'], attributes['none'] FROM spans WHERE attributes['url.path'] = '/cart'";
    assert_eq!(lake.rows(sql).await, ["GET,"]);
    assert_eq!(lake.rows("SELECT map_keys(attributes)[1] FROM spans").await, ["http.request.method"]);
}

#[tokio::test]
async fn grouping_joining_and_functions_work() {
    let lake = TestLake::new();
    let rows: Vec<Row> = (0..10).map(|i| Row::at(HOUR + i * 60 * SECOND, if i < 4 { "eu" } else { "us" })).collect();
    lake.write("spans", &rows).await;
    lake.write("logs", &rows[..2]).await;
    let sql = "SELECT cluster, count(*) AS n FROM spans GROUP BY cluster ORDER BY n DESC";
    assert_eq!(lake.rows(sql).await, ["us,6", "eu,4"]);
    let sql = "SELECT logs.body FROM logs JOIN spans USING (trace_id) ORDER BY spans.start_time";
    assert_eq!(lake.rows(sql).await.len(), 2);
    let sql = "SELECT date_bin(INTERVAL '5 minutes', start_time) AS t, count(*) FROM spans GROUP BY t ORDER BY t";
    assert_eq!(lake.rows(sql).await, ["2026-03-04T05:00:00Z,5", "2026-03-04T05:05:00Z,5"]);
    let sql = "WITH s AS (SELECT * FROM spans) SELECT regexp_replace(upper(name), ' .*', '') FROM s LIMIT 1";
    assert_eq!(lake.rows(sql).await, ["GET"]);
}

#[tokio::test]
async fn files_written_before_a_column_was_added_have_nulls_in_it() {
    let lake = TestLake::new();
    let schema = afflux_schemas::columns::spans();
    let old: Vec<usize> = (0..schema.fields().len()).filter(|at| schema.field(*at).name() != "kind").collect();
    let row = Row::at(HOUR, "eu");
    let batch = crate::fixture::batch(&schema, std::slice::from_ref(&row)).project(&old).unwrap();
    lake.put(&file_of("spans", &row), crate::fixture::written(&batch)).await;
    lake.write("spans", &[Row::at(HOUR, "us")]).await;
    assert_eq!(lake.rows("SELECT cluster, kind FROM spans ORDER BY 1").await, ["eu,", "us,unset"]);
    assert_eq!(lake.rows("SELECT cluster FROM spans WHERE kind IS NULL").await, ["eu"]);
}

#[tokio::test]
async fn files_of_other_writers_and_hidden_ones_are_left_alone() {
    let lake = TestLake::new();
    let row = Row::at(HOUR, "eu");
    lake.write("spans", std::slice::from_ref(&row)).await;
    lake.put(&Path::from("_afflux/intents/t/00000/0.json"), b"{}".to_vec()).await;
    lake.put(&Path::from("spans/_delta_log/x.json"), b"{}".to_vec()).await;
    lake.put(&Path::from("spans/README.md"), b"#".to_vec()).await;
    let folder = file_of("spans", &row).to_string();
    let folder = FsPath::new(&folder).parent().unwrap().to_str().unwrap();
    for name in ["_SUCCESS", "notes.txt", ".hidden.parquet", "_tmp.parquet"] {
        lake.put(&Path::from(format!("{folder}/{name}")), b"no parquet".to_vec()).await;
    }
    assert_eq!(lake.rows("SELECT count(trace_id) FROM spans").await, ["1"]);
}

#[tokio::test]
async fn a_folder_out_of_place_is_named() {
    let lake = TestLake::new();
    lake.put(&Path::from("spans/cluster_key=eu/2026-03-04/x.parquet"), b"".to_vec()).await;
    let error = lake.error("SELECT * FROM spans").await;
    assert!(
        error.starts_with("folder memory://team/lake/spans/cluster_key=eu/2026-03-04 does not name its date"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_file_is_named_whatever_part_of_it_is_damaged() {
    let row = Row::at(HOUR, "eu");
    let rows: Vec<Row> = (0..2000).map(|i| Row::at(HOUR + i, "us")).collect();
    let (path, whole) = files("spans", &rows).remove(0);
    let torn = whole[..whole.len() / 2].to_vec();
    let mut scratched = whole.clone();
    let third = whole.len() / 3;
    scratched[4..third].iter_mut().for_each(|byte| *byte ^= 0xa5);
    for (damage, bytes) in [("torn", torn), ("empty", Vec::new()), ("scratched", scratched)] {
        let lake = TestLake::new();
        lake.write("spans", std::slice::from_ref(&row)).await;
        lake.put(&path, bytes).await;
        let error = lake.error("SELECT * FROM spans").await;
        assert!(
            error.starts_with(&format!("cannot read memory://team/lake/{path}: it is damaged")),
            "{damage}: {error}"
        );
    }
}

#[tokio::test]
async fn an_unknown_table_is_answered_with_those_that_exist() {
    let lake = TestLake::new();
    assert_eq!(
        lake.error("SELECT * FROM span").await,
        "no table \"span\", did you mean spans; the lake has spans, logs, events"
    );
    assert_eq!(
        lake.error("SELECT * FROM (SELECT 1) a JOIN x.y ON true").await,
        "no table \"x.y\"; the lake has spans, logs, events"
    );
    assert_eq!(lake.rows("SELECT * FROM generate_series(1, 2)").await, ["1", "2"]);
}

#[tokio::test]
async fn an_unknown_column_is_answered_with_its_place_and_near_names() {
    let lake = TestLake::new();
    let error = lake.error("SELECT trace_id,\n  servce FROM spans").await;
    assert!(error.starts_with("no column \"servce\" at line 2, column 3, did you mean service; there are "), "{error}");
    assert!(error.contains("duration_ns"), "{error}");
    let error = lake.error("SELECT duration FROM spans").await;
    assert!(error.contains("did you mean duration_ns;"), "{error}");
    let error = lake.error("SELECT s.nme FROM spans s").await;
    assert!(error.starts_with("no column \"s.nme\" at line 1, column 8, did you mean name"), "{error}");
}

#[tokio::test]
async fn what_is_no_sql_or_has_no_meaning_says_where_and_why() {
    let lake = TestLake::new();
    let error = lake.error("SELECT * FRM spans").await;
    assert!(error.starts_with("not valid SQL: ") && error.contains("Line: 1, Column: 10"), "{error}");
    let error = lake.error("SELECT nosuch(name) FROM spans").await;
    assert!(error.starts_with("the query cannot be planned") && error.contains("nosuch"), "{error}");
    let error = lake.error("SELECT name, count(*) FROM spans").await;
    assert!(error.starts_with("the query cannot be planned at line 1, column 8"), "{error}");
    let error = lake.error("SELECT 1; SELECT 2").await;
    assert!(error.starts_with("the query cannot be planned"), "{error}");
}

#[tokio::test]
async fn a_query_cannot_write_or_change_settings() {
    let lake = TestLake::new();
    lake.write("spans", &[Row::at(HOUR, "eu")]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.parquet");
    for sql in [
        "INSERT INTO spans SELECT * FROM spans".to_owned(),
        "CREATE TABLE t AS SELECT 1".to_owned(),
        format!("COPY (SELECT 1) TO '{}'", file.display()),
        format!("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '{}'", dir.path().display()),
        "DROP TABLE spans".to_owned(),
        "SET datafusion.execution.target_partitions = 1".to_owned(),
    ] {
        let error = lake.error(&sql).await;
        assert!(error.starts_with("a query only reads"), "{sql}: {error}");
    }
    assert!(!file.exists());
    assert!(lake.error(&format!("SELECT * FROM '{}'", file.display())).await.starts_with("no table"));
}

#[tokio::test]
async fn the_lake_describes_itself() {
    let lake = TestLake::new();
    let tables = lake.rows("SHOW TABLES").await;
    assert!(
        tables.iter().any(|table| table.contains(",spans,")) && tables.iter().any(|table| table.contains(",logs,"))
    );
    assert!(lake.rows("DESCRIBE spans").await.iter().any(|column| column.starts_with("duration_ns,Int64")));
    assert!(!lake.rows("EXPLAIN SELECT * FROM spans").await.is_empty());
}

#[tokio::test]
async fn memory_is_bounded_and_says_so() {
    let lake = TestLake::with(Options { memory_limit: 200_000, threads: NonZeroUsize::new(1) });
    let rows: Vec<Row> = (0..20_000).map(|i| Row::at(HOUR + i, "eu")).collect();
    lake.write("spans", &rows).await;
    let error = lake.error("SELECT a.trace_id FROM spans a JOIN spans b ON a.trace_id = b.trace_id").await;
    assert!(error.starts_with("the query needs more than its 200000 bytes of memory; narrow it"), "{error}");
    assert_eq!(lake.rows("SELECT count(*) FROM spans").await, ["20000"], "what needs little goes on working");
}

#[tokio::test]
async fn what_fails_on_the_way_ends_the_answer() {
    let lake = TestLake::new();
    lake.write("spans", &[Row::at(HOUR, "eu")]).await;
    let error = lake.error("SELECT CAST(name AS INT) FROM spans").await;
    assert!(error.starts_with("the query failed: "), "{error}");
    let mut batches = lake.lake.sql("SELECT CAST(name AS INT) FROM spans").await.unwrap().batches;
    assert!(batches.next().await.unwrap().is_err());
    assert!(batches.next().await.is_none());
    let error = lake.error("SELECT name FROM spans WHERE CAST(name AS INT) = 1").await;
    assert!(error.starts_with("the query failed: "), "{error}");
}

#[tokio::test]
async fn each_query_sees_what_was_written_before_it() {
    let lake = TestLake::new();
    lake.write("spans", &[Row::at(HOUR, "eu")]).await;
    assert_eq!(lake.rows("SELECT count(*) FROM spans").await, ["1"]);
    lake.write("spans", &[Row::at(HOUR, "us"), Row::at(HOUR + 3600 * SECOND, "us")]).await;
    assert_eq!(lake.rows("SELECT count(*) FROM spans").await, ["3"]);
}
