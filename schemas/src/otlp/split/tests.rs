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
