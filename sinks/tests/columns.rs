//! Files read back by a reader of Parquet: every field of every row against the request decoded by `prost`, and
//! the schema against goldens.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

mod support {
    pub mod cells;
    pub mod requests;
}

use std::collections::BTreeMap;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_sinks::parquet::{ParquetConfig, Table, to_parquet};
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::ReaderProperties;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::{ReadOptionsBuilder, SerializedFileReader};
use proptest::prelude::*;
use prost::Message;

use support::cells::rows_of;
use support::requests::{Requests, expected_logs, expected_spans};

fn record(offset: u64, value: Vec<u8>) -> Received {
    let mut headers = Headers::new();
    headers.push("afflux-cluster", "eu-1");
    if offset % 2 == 1 {
        headers.push("afflux-tenant", "shop");
    }
    Received {
        from: PartitionId::new("afflux.spans", 3),
        generation: Generation(1),
        offset,
        timestamp_ms: 0,
        key: None,
        value: Some(value.into()),
        headers,
    }
}

fn small_row_groups() -> ParquetConfig {
    ParquetConfig { row_group_rows: 7, ..ParquetConfig::default() }
}

fn read(file: Bytes) -> Vec<BTreeMap<String, String>> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap();
    reader.flat_map(|batch| rows_of(&batch.unwrap())).collect()
}

fn sorted(mut rows: Vec<BTreeMap<String, String>>) -> Vec<BTreeMap<String, String>> {
    rows.sort();
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn spans_read_back_as_prost_decodes_them(seed in any::<u64>(), requests in 1..4_u64) {
        let mut random = Requests::new(seed);
        let requests: Vec<_> = (0..requests).map(|_| random.traces()).collect();
        let records: Vec<_> = (0..).zip(&requests).map(|(offset, request)| record(offset, request.encode_to_vec())).collect();
        let file = to_parquet(Table::Spans, &small_row_groups(), &records).unwrap();
        let expected = (0..).zip(&requests).flat_map(|(offset, r)| expected_spans(r, "eu-1", offset % 2 == 1)).collect();
        prop_assert_eq!(sorted(read(file)), sorted(expected));
    }

    #[test]
    fn logs_read_back_as_prost_decodes_them(seed in any::<u64>(), requests in 1..4_u64) {
        let mut random = Requests::new(seed);
        let requests: Vec<_> = (0..requests).map(|_| random.logs()).collect();
        let records: Vec<_> = (0..).zip(&requests).map(|(offset, request)| record(offset, request.encode_to_vec())).collect();
        let file = to_parquet(Table::Logs, &small_row_groups(), &records).unwrap();
        let expected = (0..).zip(&requests).flat_map(|(offset, r)| expected_logs(r, "eu-1", offset % 2 == 1)).collect();
        prop_assert_eq!(sorted(read(file)), sorted(expected));
    }
}

fn sample(table: Table) -> Bytes {
    let mut random = Requests::new(7);
    let requests = (0..24).map(|offset| match table {
        Table::Spans => record(offset, random.traces().encode_to_vec()),
        Table::Logs | Table::Events => record(offset, random.logs().encode_to_vec()),
    });
    to_parquet(table, &small_row_groups(), &requests.collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_same_records_give_the_same_bytes() {
    assert_eq!(sample(Table::Spans), sample(Table::Spans));
    assert_eq!(sample(Table::Logs), sample(Table::Logs));
}

#[test]
fn the_schema_that_readers_see_is_that_of_the_table() {
    for (table, schema) in
        [(Table::Spans, afflux_schemas::columns::spans()), (Table::Logs, afflux_schemas::columns::logs())]
    {
        let metadata = ArrowReaderMetadata::load(&sample(table), ArrowReaderOptions::new()).unwrap();
        assert_eq!(metadata.schema().fields(), schema.fields());
    }
}

#[test]
fn the_parquet_schema_is_the_golden_one() {
    for (table, golden) in
        [(Table::Spans, include_str!("golden/spans.v1.schema")), (Table::Logs, include_str!("golden/logs.v1.schema"))]
    {
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&sample(table)).unwrap();
        let mut text = Vec::new();
        parquet::schema::printer::print_schema(&mut text, metadata.file_metadata().schema());
        assert_eq!(String::from_utf8(text).unwrap(), golden, "{}", table.name());
    }
}

#[test]
fn the_footer_says_what_the_file_covers() {
    let metadata = ParquetMetaDataReader::new().parse_and_finish(&sample(Table::Spans)).unwrap();
    let pairs: BTreeMap<_, _> = metadata
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .map(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap()))
        .collect();
    for (key, value) in [
        ("afflux.topic", "afflux.spans"),
        ("afflux.partition", "3"),
        ("afflux.first_offset", "0"),
        ("afflux.last_offset", "23"),
        ("afflux.writer_version", "1"),
        ("afflux.schema_version", "1"),
    ] {
        assert_eq!(pairs.get(key), Some(&value), "{key}");
    }
    assert!(metadata.file_metadata().created_by().unwrap().starts_with("afflux version "));
}

#[test]
fn row_groups_are_sorted_by_time_and_carry_what_readers_prune_by() {
    for (table, time) in [(Table::Spans, "start_time"), (Table::Logs, "time")] {
        let file = sample(table);
        let metadata = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Required)
            .parse_and_finish(&file)
            .unwrap();
        assert!(metadata.num_row_groups() > 1);
        for (i, group) in metadata.row_groups().iter().enumerate() {
            let column =
                |name: &str| group.columns().iter().position(|column| column.column_path().string() == name).unwrap();
            assert!(group.column(column("trace_id")).bloom_filter_offset().is_some());
            assert!(group.column(column(time)).statistics().is_some());
            assert!(metadata.offset_index().unwrap()[i][column(time)].page_locations().len() == 1);
            assert_eq!(group.sorting_columns().unwrap()[0].column_idx as usize, column(time));
            let reader = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().with_row_groups(vec![i]);
            let times: Vec<i64> = reader
                .build()
                .unwrap()
                .flat_map(|batch| rows_of(&batch.unwrap()))
                .map(|row| row[time].parse().unwrap())
                .collect();
            assert!(times.is_sorted(), "{times:?}");
        }
    }
}

#[test]
fn a_bloom_filter_finds_the_trace_ids_of_its_row_group() {
    let file = sample(Table::Spans);
    let properties = ReaderProperties::builder().set_read_bloom_filter(true).build();
    let options = ReadOptionsBuilder::new().with_reader_properties(properties).build();
    let reader = SerializedFileReader::new_with_options(file.clone(), options).unwrap();
    let ids: Vec<_> = read(file).into_iter().take(7).map(|row| row["trace_id"].clone()).collect();
    let group = reader.get_row_group(0).unwrap();
    let filter = group.get_column_bloom_filter(0).unwrap();
    let found = |id: &str| filter.check(&parquet::data_type::ByteArray::from(id));
    assert!(ids.iter().all(|id| found(id)));
    assert!(!found("no such trace id"));
}
