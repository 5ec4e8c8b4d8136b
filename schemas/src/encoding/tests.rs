use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::Message as _;

use super::*;

/// Records that a Collector 0.165 exported, a line each in hex; an empty line; and what its own receiver made of them,
/// as trace requests. The end-to-end suite writes these files where `AFFLUX_GOLDEN` names the folder.
const GOLDEN: [(Encoding, &str); 4] = [
    (Encoding::JaegerProto, include_str!("golden/jaeger_proto.txt")),
    (Encoding::JaegerJson, include_str!("golden/jaeger_json.txt")),
    (Encoding::ZipkinProto, include_str!("golden/zipkin_proto.txt")),
    (Encoding::ZipkinJson, include_str!("golden/zipkin_json.txt")),
];

fn unhex(line: &str) -> Bytes {
    line.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// One block for each span, in the order of the spans' ids; attributes in the order of their keys.
fn spans(request: Bytes) -> Vec<ResourceSpans> {
    let request = ExportTraceServiceRequest::decode(request).expect("valid");
    let mut blocks = Vec::new();
    for mut resource in request.resource_spans {
        resource.resource.iter_mut().for_each(|r| r.attributes.sort_by(|a, b| a.key.cmp(&b.key)));
        for mut scope in std::mem::take(&mut resource.scope_spans) {
            for mut span in std::mem::take(&mut scope.spans) {
                span.attributes.sort_by(|a, b| a.key.cmp(&b.key));
                span.events.iter_mut().for_each(|event| event.attributes.sort_by(|a, b| a.key.cmp(&b.key)));
                span.links.iter_mut().for_each(|link| link.attributes.sort_by(|a, b| a.key.cmp(&b.key)));
                // The Collector writes the status of those without one, too.
                span.status = span.status.filter(|status| *status != Default::default());
                let mut scope = scope.clone();
                scope.spans.push(span);
                blocks.push(ResourceSpans { scope_spans: vec![scope], ..resource.clone() });
            }
        }
    }
    blocks.sort_by(|a, b| a.scope_spans[0].spans[0].span_id.cmp(&b.scope_spans[0].spans[0].span_id));
    blocks
}

#[test]
fn records_of_a_collector_are_read_as_it_reads_them_itself() {
    for (encoding, golden) in GOLDEN {
        let (records, requests) = golden.split_once("\n\n").expect("an empty line");
        let ours = records.lines().flat_map(|line| spans(encoding.traces(&unhex(line)).expect(line)));
        let theirs = requests.lines().flat_map(|line| spans(unhex(line)));
        let (ours, theirs): (Vec<_>, Vec<_>) = (ours.collect(), theirs.collect());
        assert_eq!(ours.len(), 6, "{encoding:?}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert_eq!(ours, theirs, "{encoding:?}");
        }
        assert_eq!(theirs.len(), 6, "{encoding:?}");
    }
}

#[test]
fn a_request_in_json_is_transcoded_and_one_in_protobuf_passed_on() {
    let json = Bytes::from_static(br#"{"resourceSpans":[{"schemaUrl":"x"}],"resourceLogs":[{"schemaUrl":"y"}]}"#);
    assert_eq!(Encoding::OtlpJson.traces(&json).unwrap(), &b"\x0a\x03\x1a\x01x"[..]);
    assert_eq!(Encoding::OtlpJson.logs(&json).unwrap(), &b"\x0a\x03\x1a\x01y"[..]);
    let error = Encoding::OtlpJson.traces(&Bytes::from_static(b"[")).unwrap_err().to_string();
    assert!(error.starts_with("malformed JSON: "), "{error}");
    assert_eq!(Encoding::OtlpProto.traces(&json).unwrap().as_ptr(), json.as_ptr());
    let with_logs: Vec<_> = Encoding::ALL.into_iter().filter(|encoding| encoding.has_logs()).collect();
    assert_eq!(with_logs, [Encoding::OtlpProto, Encoding::OtlpJson]);
}
