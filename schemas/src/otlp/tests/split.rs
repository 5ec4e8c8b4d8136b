//! What goes into a split comes out of it, once and in the right place.

use ::bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message;

use super::bytes::{Dice, scramble};
use super::generate;
use crate::otlp::validate::{LOGS, TRACES};
use crate::otlp::{concat, split, validate};
use crate::partition::{sarama_partition, stream_partition};

/// An item with all that encloses it: resource, its schema, scope, its schema, item, each as encoded by `prost`.
type Flat = [Vec<u8>; 5];

fn some<M: Message>(message: &Option<M>) -> Vec<u8> {
    message.as_ref().map_or_else(Vec::new, M::encode_to_vec)
}

fn spans(bytes: &[u8]) -> Vec<(Flat, [Vec<u8>; 3])> {
    let mut flat = Vec::new();
    for block in ExportTraceServiceRequest::decode(bytes).unwrap().resource_spans {
        for scope in &block.scope_spans {
            for span in &scope.spans {
                let ids = [span.trace_id.clone(), span.span_id.clone(), span.parent_span_id.clone()];
                let urls = [&block.schema_url, &scope.schema_url].map(|url| url.clone().into_bytes());
                let [resource_url, scope_url] = urls;
                let item = [some(&block.resource), resource_url, some(&scope.scope), scope_url, span.encode_to_vec()];
                flat.push((item, ids));
            }
        }
    }
    flat
}

fn log_records(bytes: &[u8]) -> Vec<(Flat, [Vec<u8>; 2])> {
    let mut flat = Vec::new();
    for block in ExportLogsServiceRequest::decode(bytes).unwrap().resource_logs {
        for scope in &block.scope_logs {
            for record in &scope.log_records {
                let urls = [&block.schema_url, &scope.schema_url].map(|url| url.clone().into_bytes());
                let [resource_url, scope_url] = urls;
                let item = [some(&block.resource), resource_url, some(&scope.scope), scope_url, record.encode_to_vec()];
                flat.push((item, [record.trace_id.clone(), record.span_id.clone()]));
            }
        }
    }
    flat
}

fn is_id(id: &[u8], len: usize) -> bool {
    id.len() == len && id.iter().any(|&byte| byte != 0)
}

fn valid_span(ids: &[Vec<u8>; 3]) -> bool {
    is_id(&ids[0], 16) && is_id(&ids[1], 8) && [0, 8].contains(&ids[2].len())
}

fn valid_record(ids: &[Vec<u8>; 2]) -> bool {
    [0, 16].contains(&ids[0].len()) && [0, 8].contains(&ids[1].len())
}

fn hex_text(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first `k8s.cluster.name` that is text and not empty.
fn cluster(resource: &Option<Resource>) -> Option<String> {
    resource.iter().flat_map(|resource| &resource.attributes).filter(|a| a.key == "k8s.cluster.name").find_map(|a| {
        match &a.value.as_ref()?.value {
            Some(Value::StringValue(name)) if !name.is_empty() => Some(name.clone()),
            _ => None,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_valid_span_is_in_the_part_of_its_partition_in_order(
        request in generate::traces(), seed in any::<u64>(), partitions in 1..6_u32,
    ) {
        let whole: Bytes = scramble(&TRACES, &request.encode_to_vec(), &mut Dice(seed)).into();
        let split = split::traces(&whole, partitions);
        let (valid, rejected): (Vec<_>, Vec<_>) = spans(&whole).into_iter().partition(|(_, ids)| valid_span(ids));
        prop_assert_eq!(split.rejected, rejected.len() as u64);
        prop_assert_eq!(split.reason.is_some(), !rejected.is_empty());
        prop_assert_eq!(split.items(), valid.len() as u64);
        prop_assert!(split.parts.is_sorted_by(|a, b| a.partition < b.partition));
        for partition in 0..partitions {
            let expected: Vec<_> = valid
                .iter()
                .filter(|(_, ids)| sarama_partition(hex_text(&ids[0]).as_bytes(), partitions) == partition)
                .cloned()
                .collect();
            let part = split.parts.iter().find(|part| part.partition == partition);
            prop_assert_eq!(part.map_or(0, |part| part.items), expected.len() as u64);
            prop_assert_eq!(part.map_or_else(Vec::new, |part| spans(&part.value)), expected);
            prop_assert!(part.is_none_or(|part| validate::traces(&part.value).unwrap().items == part.items));
        }
    }

    #[test]
    fn every_valid_log_record_is_in_the_part_of_its_stream_in_order(
        request in generate::logs(), seed in any::<u64>(), partitions in 1..6_u32,
    ) {
        // The stream is known by the resource's bytes, hence those stay as they were encoded.
        let encoded = request.encode_to_vec();
        for (whole, exact) in [(encoded.clone(), true), (scramble(&LOGS, &encoded, &mut Dice(seed)), false)] {
            let whole = Bytes::from(whole);
            let split = split::logs(&whole, partitions, "cluster");
            let (valid, rejected): (Vec<_>, Vec<_>) =
                log_records(&whole).into_iter().partition(|(_, ids)| valid_record(ids));
            prop_assert_eq!(split.rejected, rejected.len() as u64);
            prop_assert_eq!(split.reason.is_some(), !rejected.is_empty());
            prop_assert_eq!(split.items(), valid.len() as u64);
            let mut found = Vec::new();
            for part in &split.parts {
                let records = log_records(&part.value);
                prop_assert_eq!(records.len() as u64, part.items);
                if exact {
                    let place = |item: &Flat| stream_partition("cluster", &item[0], partitions);
                    prop_assert!(records.iter().all(|(item, _)| place(item) == part.partition));
                    let expected: Vec<_> = valid.iter().filter(|(i, _)| place(i) == part.partition).cloned().collect();
                    prop_assert_eq!(&records, &expected);
                }
                found.extend(records);
            }
            let mut valid = valid;
            valid.sort();
            found.sort();
            prop_assert_eq!(found, valid);
        }
    }

    #[test]
    fn a_request_is_cut_at_any_item(request in generate::traces(), seed in any::<u64>(), first in 0..20_u64) {
        let whole: Bytes = scramble(&TRACES, &request.encode_to_vec(), &mut Dice(seed)).into();
        let parts = split::at_item(&whole, first);
        let all = spans(&whole);
        let expected = (all.len() as u64).min(first.max(1));
        prop_assert_eq!(parts.first().map_or(0, |part| part.items), expected);
        prop_assert_eq!(parts.iter().map(|part| part.items).sum::<u64>(), all.len() as u64);
        prop_assert_eq!(parts.iter().flat_map(|part| spans(&part.value)).collect::<Vec<_>>(), all);
        prop_assert!(parts.len() <= 2);
    }

    #[test]
    fn resources_are_grouped_by_cluster_and_nothing_else_changes(request in generate::traces(), seed in any::<u64>()) {
        let whole: Bytes = scramble(&TRACES, &request.encode_to_vec(), &mut Dice(seed)).into();
        prop_assume!(validate::traces(&whole).unwrap().canonical);
        let decoded = ExportTraceServiceRequest::decode(whole.clone()).unwrap();
        let parts = split::by_cluster(&whole);
        let mut clusters: Vec<_> = decoded.resource_spans.iter().map(|block| cluster(&block.resource)).collect();
        for part in &parts {
            let expected = decoded.resource_spans.iter().filter(|block| cluster(&block.resource) == part.cluster);
            let expected = ExportTraceServiceRequest { resource_spans: expected.cloned().collect() };
            let found = ExportTraceServiceRequest::decode(part.value.clone()).unwrap();
            prop_assert_eq!(found.encode_to_vec(), expected.encode_to_vec());
            prop_assert_eq!(part.items, spans(&part.value).len() as u64);
            clusters.retain(|cluster| *cluster != part.cluster);
        }
        prop_assert!(clusters.is_empty());
        prop_assert!(parts.len() != 1 || parts[0].value.as_ptr() == whole.as_ptr());
    }

    #[test]
    fn joined_requests_hold_what_each_of_them_held(a in generate::traces(), b in generate::traces()) {
        let joined = concat([&a.encode_to_vec()[..], &b.encode_to_vec()].into_iter());
        let mut expected = a;
        expected.resource_spans.extend(b.resource_spans);
        prop_assert_eq!(joined, expected.encode_to_vec());
    }
}
