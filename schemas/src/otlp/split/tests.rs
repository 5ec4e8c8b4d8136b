use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::*;

fn request(ids: &[u8]) -> Bytes {
    let spans = ids.iter().map(|&id| Span {
        trace_id: vec![id; 16],
        span_id: vec![1; 8],
        name: format!("span {id}"),
        ..Span::default()
    });
    let scope = ScopeSpans { spans: spans.collect(), schema_url: "scope".into(), ..ScopeSpans::default() };
    let block = ResourceSpans { scope_spans: vec![scope], schema_url: "resource".into(), ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec().into()
}

#[test]
fn each_span_goes_to_the_partition_of_its_trace_with_its_envelopes() {
    let whole = request(&[3, 4, 5, 3, 8]);
    let split = traces_by(&whole, 4, |id| u32::from(id[0] % 4));
    let got: Vec<_> = split.parts.iter().map(|part| (part.partition, part.value.clone(), part.items)).collect();
    let decode = |bytes: &Bytes| ExportTraceServiceRequest::decode(bytes.clone()).unwrap();
    assert_eq!(got.iter().map(|part| (part.0, part.2)).collect::<Vec<_>>(), [(0, 2), (1, 1), (3, 2)]);
    assert_eq!(decode(&got[0].1), decode(&request(&[4, 8])));
    assert_eq!(decode(&got[1].1), decode(&request(&[5])));
    assert_eq!(decode(&got[2].1), decode(&request(&[3, 3])));
}

#[test]
fn a_request_of_one_partition_is_passed_on_without_copying() {
    let whole = request(&[7, 7]);
    let split = traces(&whole, 16);
    assert_eq!(split.parts.len(), 1);
    assert_eq!(split.parts[0].value.as_ptr(), whole.as_ptr());
    assert_eq!(split.parts[0].value, whole);
}

#[test]
fn the_reason_names_the_field_and_what_it_holds() {
    let mut spans = [3, 3, 3, 3, 3].map(|id| Span { trace_id: vec![id; 16], span_id: vec![1; 8], ..Span::default() });
    spans[0].trace_id.pop();
    spans[1].span_id.fill(0);
    spans[2].parent_span_id = vec![1; 7];
    spans[3].trace_id.fill(0);
    let reasons = spans.map(|span| {
        let scope = ScopeSpans { spans: vec![span], ..ScopeSpans::default() };
        let block = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
        let request = ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec();
        let split = traces(&request.into(), 4);
        assert_eq!(split.items() + split.rejected, 1);
        split.reason.map(|reason| reason.to_string())
    });
    let expected = [
        Some("trace_id has 15 bytes instead of 16"),
        Some("span_id is all zeros"),
        Some("parent_span_id has 7 bytes instead of 8"),
        Some("trace_id is all zeros"),
        None,
    ];
    assert_eq!(reasons.each_ref().map(Option::as_deref), expected);
}

#[test]
fn a_part_with_rejected_spans_is_written_anew_without_them() {
    let whole = request(&[7, 0, 7]);
    let split = traces(&whole, 1);
    assert_eq!((split.items(), split.rejected), (2, 1));
    assert_eq!(
        ExportTraceServiceRequest::decode(split.parts[0].value.clone()),
        ExportTraceServiceRequest::decode(request(&[7, 7]))
    );
    assert_eq!(traces(&request(&[]), 16), Split::default());
    assert_eq!(traces(&Bytes::new(), 16), Split::default());
}

#[test]
fn rejected_spans_can_be_kept_in_a_part_of_their_own() {
    let decode = |part: &Part| ExportTraceServiceRequest::decode(part.value.clone()).unwrap();
    let split = traces_keeping(&request(&[7, 0, 7, 0]), 1);
    assert_eq!(split.parts.iter().map(|part| (part.partition, part.items)).collect::<Vec<_>>(), [(0, 2), (1, 2)]);
    assert_eq!((split.rejected, split.reason), (2, Some(InvalidId::Zero { field: "trace_id" })));
    assert_eq!(decode(&split.parts[0]), decode(&Part { partition: 0, value: request(&[7, 7]), items: 2 }));
    assert_eq!(decode(&split.parts[1]), decode(&Part { partition: 1, value: request(&[0, 0]), items: 2 }));
    let good = request(&[3, 4, 5, 3, 8]);
    assert_eq!(traces_keeping(&good, 4), traces(&good, 4));
    let bad = request(&[0]);
    assert_eq!(traces_keeping(&bad, 4).parts[0].value.as_ptr(), bad.as_ptr(), "not copied");
}
