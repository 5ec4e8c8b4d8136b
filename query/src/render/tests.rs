use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Int64Array, ListArray, MapBuilder, NullArray, RecordBatch, StringArray,
    StringBuilder, TimestampNanosecondArray,
};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow_schema::SchemaRef;
use bytes::Bytes;
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use futures::StreamExt;

use super::*;
use crate::{Answer, QueryError};

fn answer(batches: Vec<RecordBatch>) -> Answer {
    let schema = batches[0].schema();
    Answer { schema, batches: futures::stream::iter(batches.into_iter().map(Ok)).boxed() }
}

fn of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

fn mixed() -> RecordBatch {
    let mut map = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    map.keys().append_value("url");
    map.values().append_value("a \"b\"");
    map.keys().append_value("none");
    map.values().append_null();
    map.append(true).unwrap();
    map.append(false).unwrap();
    let times = TimestampNanosecondArray::from(vec![Some(1_772_600_400_000_000_001), None]).with_timezone("UTC");
    let list = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None]);
    let dictionary: DictionaryArray<Int32Type> = vec![Some("x"), None].into_iter().collect();
    of(vec![
        ("text", Arc::new(StringArray::from(vec![Some("a,b\nc"), None]))),
        ("time", Arc::new(times)),
        ("map", Arc::new(map.finish())),
        ("list", Arc::new(list)),
        ("n", Arc::new(Int64Array::from(vec![Some(i64::MAX), None]))),
        ("f", Arc::new(Float64Array::from(vec![Some(0.5), Some(f64::NAN)]))),
        ("dict", Arc::new(dictionary)),
        ("nothing", Arc::new(NullArray::new(2))),
    ])
}

async fn as_table(batches: Vec<RecordBatch>, options: TableOptions) -> String {
    let mut out = Vec::new();
    table(answer(batches), &mut out, &options).await.unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test]
async fn csv_quotes_text_and_holds_nested_values_as_json() {
    let mut out = Vec::new();
    assert_eq!(csv(answer(vec![mixed(), mixed()]), &mut out).await.unwrap(), 4);
    let row = "\"a,b\nc\",2026-03-04T05:00:00.000000001Z,\"{\"\"url\"\":\"\"a \\\"\"b\\\"\"\"\",\"\"none\"\":null}\",\
               \"[1,null]\",9223372036854775807,0.5,x,\n,,,,,NaN,,\n";
    assert_eq!(String::from_utf8(out).unwrap(), format!("text,time,map,list,n,f,dict,nothing\n{row}{row}"));
}

#[tokio::test]
async fn csv_without_rows_is_a_header() {
    let mut out = Vec::new();
    assert_eq!(csv(answer(vec![mixed().slice(0, 0)]), &mut out).await.unwrap(), 0);
    assert_eq!(String::from_utf8(out).unwrap(), "text,time,map,list,n,f,dict,nothing\n");
}

#[tokio::test]
async fn json_lines_keep_every_column_of_a_join_with_itself() {
    let column = |text: &str| Arc::new(StringArray::from(vec![text])) as ArrayRef;
    let batch = of(vec![("id", column("a")), ("id_2", column("b")), ("id", column("c")), ("id", column("d"))]);
    let mut out = Vec::new();
    assert_eq!(json_lines(answer(vec![batch]), &mut out).await.unwrap(), 1);
    assert_eq!(String::from_utf8(out).unwrap(), "{\"id\":\"a\",\"id_2\":\"b\",\"id_3\":\"c\",\"id_4\":\"d\"}\n");
}

#[tokio::test]
async fn json_lines_hold_every_type_and_write_nulls() {
    let mut out = Vec::new();
    assert_eq!(json_lines(answer(vec![mixed(), mixed()]), &mut out).await.unwrap(), 4);
    let expected = "{\"text\":\"a,b\\nc\",\"time\":\"2026-03-04T05:00:00.000000001Z\",\
                    \"map\":{\"url\":\"a \\\"b\\\"\",\"none\":null},\"list\":[1,null],\"n\":9223372036854775807,\
                    \"f\":0.5,\"dict\":\"x\",\"nothing\":null}\n\
                    {\"text\":null,\"time\":null,\"map\":null,\"list\":null,\"n\":null,\"f\":null,\"dict\":null,\"nothing\":null}\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected.repeat(2));
}

#[tokio::test]
async fn parquet_reads_back_as_it_was_and_may_be_empty() {
    for rows in [2, 0] {
        let batch = mixed().slice(0, rows);
        let mut out = Vec::new();
        assert_eq!(parquet(answer(vec![batch.clone()]), &mut out).await.unwrap(), rows as u64);
        let reader = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(out)).unwrap();
        let schema: SchemaRef = Arc::clone(reader.schema());
        assert_eq!(schema.fields(), batch.schema().fields());
        let read: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
        assert_eq!(read.iter().map(RecordBatch::num_rows).sum::<usize>(), rows);
        if rows > 0 {
            assert_eq!(format!("{:?}", read[0].columns()), format!("{:?}", batch.columns()));
        }
    }
}

#[tokio::test]
async fn a_table_aligns_numbers_right_and_counts_rows() {
    let batch = of(vec![
        ("service", Arc::new(StringArray::from(vec![Some("cart"), None, Some("日本")]))),
        ("spans", Arc::new(Int64Array::from(vec![1234, 5, 67]))),
    ]);
    let expected = " service │ spans\n\
                    ─────────┼───────\n\
                    \x20cart    │  1234\n\
                    \x20NULL    │     5\n\
                    \x20日本    │    67\n\
                    (3 rows)\n";
    assert_eq!(as_table(vec![batch], TableOptions::default()).await, expected);
}

#[tokio::test]
async fn a_table_shows_times_maps_and_lists_readably() {
    let text = as_table(vec![mixed()], TableOptions::default()).await;
    let row = text.lines().nth(2).unwrap();
    for cell in
        ["a,b\\nc", "2026-03-04T05:00:00.000000001Z", "{url: a \"b\", none: NULL}", "[1, NULL]", "9223372036854775807"]
    {
        assert!(row.contains(cell), "{cell} is not in {row}");
    }
}

#[tokio::test]
async fn a_narrow_terminal_cuts_the_longest_columns_first() {
    let batch = of(vec![
        ("id", Arc::new(StringArray::from(vec!["0123456789"]))),
        ("body", Arc::new(StringArray::from(vec!["x".repeat(500)]))),
    ]);
    let text = as_table(vec![batch], TableOptions { width: Some(40), ..TableOptions::default() }).await;
    assert_eq!(text.lines().nth(2).unwrap(), format!(" 0123456789 │ {}…", "x".repeat(24)));
    assert!(text.lines().all(|line| line.chars().count() <= 40), "{text}");
}

#[tokio::test]
async fn too_many_columns_become_a_block_for_each_row() {
    let column = |i: usize| Arc::new(StringArray::from(vec![format!("value number {i}"); 2])) as ArrayRef;
    let names: Vec<String> = (0..10).map(|i| format!("c{i}")).collect();
    let batch = of(names.iter().enumerate().map(|(i, name)| (name.as_str(), column(i))).collect());
    let text = as_table(vec![batch], TableOptions { width: Some(80), ..TableOptions::default() }).await;
    assert!(text.starts_with("── row 1 ──\nc0 │ value number 0\nc1 │ value number 1\n"), "{text}");
    assert!(text.ends_with("c9 │ value number 9\n(2 rows)\n"), "{text}");
}

#[tokio::test]
async fn values_cannot_steer_the_terminal() {
    let batch = of(vec![("body", Arc::new(StringArray::from(vec!["a\x1b[2J\r\n\t\u{202e}b\u{9b}"])))]);
    let text = as_table(vec![batch], TableOptions::default()).await;
    assert!(text.contains("a\\u{1b}[2J\\r\\n\\t\\u{202e}b\\u{9b}"), "{text}");
    assert!(!text.contains('\x1b') && !text.contains('\u{202e}'));
}

#[tokio::test]
async fn a_table_ends_the_query_after_its_rows_and_says_so() {
    let batch = of(vec![("n", Arc::new(Int64Array::from_iter_values(0..10)))]);
    let schema = batch.schema();
    let endless = futures::stream::repeat_with(move || Ok(batch.clone())).boxed();
    let mut out = Vec::new();
    let options = TableOptions { width: None, max_rows: 15 };
    assert_eq!(table(Answer { schema, batches: endless }, &mut out, &options).await.unwrap(), 15);
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.ends_with("(first 15 rows; more follow: narrow the query, or write it as csv, json or parquet)\n"),
        "{text}"
    );
}

#[tokio::test]
async fn exactly_as_many_rows_as_are_shown_are_all_of_them() {
    let batch = of(vec![("n", Arc::new(Int64Array::from_iter_values(0..10)))]);
    let text = as_table(vec![batch.clone(), batch], TableOptions { width: None, max_rows: 20 }).await;
    assert!(text.ends_with("\n(20 rows)\n"), "{text}");
}

/// An output whose reader has gone away.
struct Closed;

impl std::io::Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
}

#[tokio::test]
async fn a_reader_that_went_away_is_told_from_a_failure() {
    let errors = [
        csv(answer(vec![mixed()]), &mut Closed).await.unwrap_err(),
        json_lines(answer(vec![mixed()]), &mut Closed).await.unwrap_err(),
        parquet(answer(vec![mixed()]), &mut Closed).await.unwrap_err(),
        table(answer(vec![mixed()]), &mut Closed, &TableOptions::default()).await.unwrap_err(),
    ];
    for error in errors {
        assert!(error.is_closed_pipe(), "{error:?}");
    }
}

#[tokio::test]
async fn an_error_on_the_way_is_the_answer_s() {
    let first = mixed();
    let schema = first.schema();
    let failed = QueryError::Output(std::io::ErrorKind::Other.into());
    let batches = futures::stream::iter([Ok(first), Err(failed)]).boxed();
    let mut out = Vec::new();
    assert!(json_lines(Answer { schema, batches }, &mut out).await.is_err());
    assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 2, "what came before it was written");
}
