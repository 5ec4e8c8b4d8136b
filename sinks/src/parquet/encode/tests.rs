use afflux_bus::{Generation, Headers, PartitionId, Received};
use arrow_array::Array;
use arrow_array::cast::AsArray;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::*;
use crate::parquet::pressure::Usage;
use crate::parquet::rows::scan;

/// Rows of one resource with that many attributes, of which every second repeats the name of the one before.
fn rows(spans: usize, attributes: usize) -> Rows {
    let attribute = |i: usize| KeyValue {
        key: format!("key-{}", i / 2),
        value: Some(AnyValue { value: Some(Value::IntValue(i as i64)) }),
        ..Default::default()
    };
    let resource = Resource { attributes: (0..attributes).map(attribute).collect(), ..Default::default() };
    let span = Span { start_time_unix_nano: 5, ..Default::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span; spans], ..Default::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() }];
    let record = Received {
        from: PartitionId::new("t", 0),
        generation: Generation(1),
        offset: 0,
        timestamp_ms: 0,
        key: None,
        value: Some(ExportTraceServiceRequest { resource_spans }.encode_to_vec().into()),
        headers: Headers::new(),
    };
    let scan = scan(Table::Spans, &record, &"c".into(), &Usage::new(Arc::default())).unwrap();
    let mut rows = Rows::default();
    for (_, some) in scan.places {
        rows.append(&scan.chunk, some);
    }
    rows
}

/// Rows and resource attributes of every batch.
fn batches(rows: &Rows) -> Vec<(usize, usize)> {
    let mut sizes = Vec::new();
    let note = |batch: &RecordBatch| {
        let map = batch.column_by_name("resource_attributes").unwrap().as_map();
        sizes.push((batch.num_rows(), map.entries().len()));
        Ok::<_, ArrowError>(())
    };
    encode(Table::Spans, rows, "c", note).unwrap();
    sizes
}

#[test]
fn a_batch_ends_by_rows() {
    assert_eq!(batches(&rows(BATCH_ROWS + 1, 20)), [(BATCH_ROWS, BATCH_ROWS * 10), (1, 10)]);
    assert_eq!(batches(&rows(0, 20)), []);
}

#[test]
fn a_batch_whose_rows_share_very_many_attributes_ends_before_they_fill_the_memory() {
    let sizes = batches(&rows(500, 20_000));
    assert_eq!(sizes.iter().map(|(rows, _)| rows).sum::<usize>(), 500);
    assert!(sizes.iter().all(|(_, shared)| *shared < BATCH_SHARED_ATTRIBUTES + 10_000), "{sizes:?}");
}
