#![allow(clippy::type_complexity)]
use afflux_schemas::otlp::split;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::*;

fn span(id: u64, name: usize) -> Span {
    Span {
        trace_id: (u128::from(id) << 64 | 1).to_be_bytes().to_vec(),
        span_id: (id + 1).to_be_bytes().to_vec(),
        name: "n".repeat(name),
        ..Span::default()
    }
}

/// A request by the lengths of its resources' and scopes' envelopes and of its spans' names.
fn request(shape: &[(usize, Vec<(usize, Vec<usize>)>)]) -> ExportTraceServiceRequest {
    let mut id = 0;
    let mut scope = |(envelope, spans): &(usize, Vec<usize>)| {
        let next = |name: &usize| {
            id += 1;
            span(id, *name)
        };
        let spans = spans.iter().map(next).collect();
        ScopeSpans { spans, schema_url: "s".repeat(*envelope), ..ScopeSpans::default() }
    };
    let resource = |(envelope, scopes): &(usize, Vec<_>)| ResourceSpans {
        scope_spans: scopes.iter().map(&mut scope).collect(),
        schema_url: "r".repeat(*envelope),
        ..ResourceSpans::default()
    };
    ExportTraceServiceRequest { resource_spans: shape.iter().map(resource).collect() }
}

/// Spans with what surrounds them.
fn spans(request: ExportTraceServiceRequest) -> Vec<(String, String, Span)> {
    let mut all = Vec::new();
    for resource in request.resource_spans {
        for scope in resource.scope_spans {
            let with = |span| (resource.schema_url.clone(), scope.schema_url.clone(), span);
            all.extend(scope.spans.into_iter().map(with));
        }
    }
    all
}

fn pieces(bytes: &[u8], limit: usize) -> Vec<Piece> {
    let mut pieces = Vec::new();
    cut(bytes, limit, |piece| {
        pieces.push(piece);
        Ok::<_, ()>(())
    })
    .unwrap();
    pieces
}

/// Four entries of each table: what it begins with.
const SMALLEST_TABLES: usize = 4 * (24 + 24 + 32 + 16) + 8;

/// Bytes that a table of that many entries takes at its worst: while it moves to twice the place.
fn table<T: Copy + Default>(entries: usize) -> usize {
    let (mut table, mut worst) = (Vec::<T>::new(), 0);
    for _ in 0..entries {
        let before = table.capacity();
        table.push(T::default());
        if table.capacity() > before {
            worst = worst.max((before + table.capacity()) * size_of::<T>());
        }
    }
    worst
}

/// Bytes of the splitter's tables for such a request, at their worst all at once.
fn tables(shape: &[(usize, Vec<(usize, Vec<usize>)>)]) -> usize {
    let url = |length: usize| if length == 0 { 0 } else { len_field_size(3, length) };
    let scopes = || shape.iter().flat_map(|(_, scopes)| scopes);
    let items = scopes().map(|(_, spans)| spans.len()).sum();
    let envelopes = shape.iter().map(|(length, _)| url(*length)).chain(scopes().map(|(length, _)| url(*length))).sum();
    // Items and their order, scopes and the runs of a partition, resources, envelopes.
    let entries = table::<[u64; 3]>(items) + 4 * items;
    let around = table::<[u64; 3]>(scopes().count()) + table::<[u64; 4]>(scopes().count());
    entries + around + table::<[u64; 2]>(shape.len()) + table::<u8>(envelopes)
}

fn shapes() -> impl Strategy<Value = Vec<(usize, Vec<(usize, Vec<usize>)>)>> {
    let scopes = prop::collection::vec((0..300_usize, prop::collection::vec(0..200_usize, 0..20)), 0..4);
    prop::collection::vec((0..300_usize, scopes), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn pieces_hold_every_item_in_order_with_its_envelopes(shape in shapes(), limit in 100..5000_usize) {
        let request = request(&shape);
        let bytes = request.encode_to_vec();
        let pieces = pieces(&bytes, limit);
        let mut found = Vec::new();
        for piece in &pieces {
            let piece_spans = spans(ExportTraceServiceRequest::decode(piece.value.clone()).unwrap());
            prop_assert_eq!(piece_spans.len() as u64, piece.items);
            let envelope = 600 * ENVELOPE_SHARE;
            prop_assert!(piece.items == 1 || piece.value.len() <= limit.max(envelope), "{}", piece.value.len());
            found.extend(piece_spans);
        }
        prop_assert_eq!(found, spans(request));
        let total: usize = pieces.iter().map(|piece| piece.value.len()).sum();
        prop_assert!(total <= bytes.len() * 3 / 2 + 64 * pieces.len(), "{total} of {}", bytes.len());
    }

    #[test]
    fn no_split_gives_more_bytes_than_was_foreseen(shape in shapes(), partitions in 1..40_u32) {
        let bytes: Bytes = request(&shape).encode_to_vec().into();
        let cost = SplitCost::of(&bytes, partitions as usize);
        let split = split::traces(&bytes, partitions);
        let total: usize = split.parts.iter().map(|part| part.value.len()).sum();
        prop_assert!(total <= cost.parts, "{total} > {}", cost.parts);
        let tables = tables(&shape);
        prop_assert!(tables <= cost.tables + SMALLEST_TABLES, "{tables} > {}", cost.tables);
        prop_assert!(cost.tables <= 4 * tables, "{} for {tables}", cost.tables);
    }
}

#[test]
fn an_envelope_wanted_by_many_partitions_is_foreseen() {
    let bytes = request(&[(1000, vec![(10, vec![0; 100])])]).encode_to_vec();
    assert!(SplitCost::of(&bytes, 50).parts > 50 * 1000);
    assert!(SplitCost::of(&bytes, 1).parts < bytes.len() + 1100);
}
