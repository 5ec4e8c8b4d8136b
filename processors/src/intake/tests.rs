use afflux_bus::{Generation, Headers, PartitionId};
use afflux_schemas::partition::trace_partition;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use afflux_schemas::topics::HEADER_ORIGIN;

use super::*;
use crate::config::{EncodingName, SignalName};

fn resource_spans(cluster: Option<&str>, names: &[&str]) -> ResourceSpans {
    let attribute = |key: &str, value: &str| KeyValue {
        key: key.into(),
        value: Some(AnyValue { value: Some(Value::StringValue(value.into())) }),
        ..Default::default()
    };
    let attributes = cluster.map(|c| attribute("k8s.cluster.name", c)).into_iter().collect();
    let spans = names.iter().map(|n| Span { name: (*n).into(), ..Default::default() }).collect();
    ResourceSpans {
        resource: Some(Resource { attributes, ..Default::default() }),
        scope_spans: vec![ScopeSpans { spans, ..Default::default() }],
        ..Default::default()
    }
}

fn record(topic: &str, resources: Vec<ResourceSpans>, headers: &[(&str, &str)]) -> Received {
    Received {
        from: PartitionId::new(topic, 0),
        generation: Generation(1),
        offset: 7,
        timestamp_ms: 42,
        key: None,
        value: Some(ExportTraceServiceRequest { resource_spans: resources }.encode_to_vec().into()),
        headers: Headers(headers.iter().map(|(n, v)| ((*n).into(), Bytes::copy_from_slice(v.as_bytes()))).collect()),
    }
}

fn opened(record: &Received) -> Result<Vec<Envelope>, Refused> {
    let mut envelopes = Vec::new();
    let source = Source::own("afflux.ingest.spans", Signal::Spans);
    let leftover = open(record, &source, 1, &"fallback".into(), |e| envelopes.push(e))?;
    assert_eq!(leftover, None);
    Ok(envelopes)
}

fn clusters(record: &Received) -> Vec<(String, u64)> {
    let mut all: Vec<_> = opened(record).unwrap().into_iter().map(|e| (e.cluster.to_string(), e.items)).collect();
    all.sort();
    all
}

#[test]
fn the_header_outranks_the_resource_which_outranks_prefix_and_default() {
    let both = || vec![resource_spans(Some("east"), &["a", "b"]), resource_spans(None, &["c"])];
    let plain = "afflux.ingest.spans";
    assert_eq!(clusters(&record(plain, both(), &[(HEADER_CLUSTER, "west")])), [("west".into(), 3)]);
    assert_eq!(clusters(&record(plain, both(), &[])), [("east".into(), 2), ("fallback".into(), 1)]);
    assert_eq!(clusters(&record(plain, both(), &[(HEADER_CLUSTER, "")])), clusters(&record(plain, both(), &[])));
    let mirrored = record("north.afflux.ingest.spans", both(), &[]);
    assert_eq!(clusters(&mirrored), [("east".into(), 2), ("north".into(), 1)]);
}

#[test]
fn the_source_of_a_copy_stands_between_the_resource_and_the_configuration() {
    let both = || vec![resource_spans(Some("east"), &["a", "b"]), resource_spans(None, &["c"])];
    let copy = record("north.afflux.ingest.spans", both(), &[(HEADER_SOURCE_CLUSTER, "eu")]);
    assert_eq!(clusters(&copy), [("east".into(), 2), ("eu".into(), 1)]);
    assert!(opened(&copy).unwrap().iter().all(|envelope| envelope.headers.get(HEADER_SOURCE_CLUSTER).is_none()));
    let named = record("afflux.ingest.spans", both(), &[(HEADER_CLUSTER, "west"), (HEADER_SOURCE_CLUSTER, "eu")]);
    assert_eq!(clusters(&named), [("west".into(), 3)]);
}

#[test]
fn spans_are_grouped_by_cluster_without_loss() {
    let resources =
        vec![resource_spans(Some("a"), &["1"]), resource_spans(Some("b"), &["2"]), resource_spans(Some("a"), &["3"])];
    let mut names = Vec::new();
    for envelope in opened(&record("afflux.ingest.spans", resources, &[])).unwrap() {
        let request = ExportTraceServiceRequest::decode(envelope.value).unwrap();
        for span in request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans) {
            names.push((envelope.cluster.to_string(), span.name.clone()));
        }
    }
    names.sort();
    let expected = [("a", "1"), ("a", "3"), ("b", "2")].map(|(c, n)| (c.to_owned(), n.to_owned()));
    assert_eq!(names, expected);
}

#[test]
fn foreign_headers_pass_and_own_ones_are_replaced() {
    let headers = [("afflux-tenant", "t"), ("x", "y"), (HEADER_SOURCE, "old"), (HEADER_ITEMS, "3")];
    let envelopes = opened(&record("afflux.ingest.spans", vec![resource_spans(None, &["a", "b", "c"])], &headers));
    let envelope = envelopes.unwrap().remove(0);
    let names: Vec<_> = envelope.headers.0.iter().map(|(n, _)| n.to_string()).collect();
    assert_eq!(names, ["afflux-tenant", "x"]);
    assert_eq!(envelope.timestamp_ms, 42);
}

#[test]
fn every_record_is_validated_and_a_malformed_or_empty_one_refused() {
    let good = record("afflux.ingest.spans", vec![resource_spans(Some("a"), &["x"])], &[]);
    let value = good.value.clone().unwrap();
    let truncated = Received { value: Some(value.slice(..value.len() - 1)), ..good.clone() };
    assert_eq!(opened(&truncated).unwrap_err().reason(), "malformed");
    let items = Headers(vec![(HEADER_ITEMS.into(), Bytes::from_static(b"1"))]);
    let claimed = Received { headers: items, ..truncated };
    assert_eq!(opened(&claimed).unwrap_err().reason(), "malformed", "whatever it claims to hold");
    assert_eq!(opened(&Received { value: None, ..good.clone() }).unwrap_err(), Refused::Empty);
    let bad_header = Headers(vec![(HEADER_CLUSTER.into(), Bytes::from_static(b"\xff"))]);
    assert_eq!(opened(&Received { headers: bad_header, ..good }).unwrap_err(), Refused::Cluster(HEADER_CLUSTER));
}

fn foreign(encoding: EncodingName) -> Source {
    let topic = IngestTopic { topic: "t".into(), signal: SignalName::Spans, encoding, cluster: Some("edge".into()) };
    Source::foreign(&topic)
}

fn request(trace_ids: &[u8]) -> ResourceSpans {
    let span = |&id: &u8| Span { trace_id: vec![id; 16], span_id: vec![1; 8], ..Default::default() };
    let scope_spans = vec![ScopeSpans { spans: trace_ids.iter().map(span).collect(), ..Default::default() }];
    ResourceSpans { scope_spans, ..Default::default() }
}

/// Partition, cluster and trace ids of what comes out, and the leftover.
type Out = (Vec<(u32, String, Vec<u8>)>, Option<Leftover>);

fn placed(record: &Received, source: &Source) -> Result<Out, Refused> {
    let mut out = Vec::new();
    let leftover = open(record, source, 4, &"fallback".into(), |envelope| {
        let request = ExportTraceServiceRequest::decode(envelope.value).unwrap();
        let spans = request.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
        let ids: Vec<u8> = spans.map(|span| span.trace_id.first().copied().unwrap_or_default()).collect();
        assert_eq!(envelope.items, ids.len() as u64);
        out.push((envelope.route.partition, envelope.cluster.to_string(), ids));
    })?;
    Ok((out, leftover))
}

fn by_partition(ids: &[u8]) -> Vec<(u32, String, Vec<u8>)> {
    let of = |partition| -> Vec<u8> {
        ids.iter().copied().filter(|&id| trace_partition(&[id; 16], 4) == partition).collect()
    };
    (0..4).map(|partition| (partition, "edge".to_owned(), of(partition))).filter(|part| !part.2.is_empty()).collect()
}

#[test]
fn spans_of_others_go_where_their_traces_belong_and_ours_stay() {
    let ids: Vec<u8> = (1..20).chain(1..5).collect();
    let foreign_record = record("t", vec![request(&ids)], &[]);
    let expected = by_partition(&ids);
    assert!(expected.len() > 1);
    assert_eq!(placed(&foreign_record, &foreign(EncodingName::OtlpProto)).unwrap(), (expected.clone(), None));
    let own = Source::own("afflux.ingest.spans", Signal::Spans);
    let mut ours =
        record("afflux.ingest.spans", vec![request(&ids)], &[(HEADER_ITEMS, "23"), (HEADER_CLUSTER, "edge")]);
    ours.from.partition = 6;
    assert_eq!(placed(&ours, &own).unwrap().0, [(2, "edge".into(), ids.clone())]);
    // Without the count it is someone else's: a Collector may write our topics too.
    ours.headers.0.remove(0);
    assert_eq!(placed(&ours, &own).unwrap().0, expected);
    // In another Kafka cluster the topic may have more partitions or fewer.
    let count = (HEADER_ITEMS, "23");
    let origin = (HEADER_ORIGIN, "east:afflux.ingest.spans/6/1");
    let copied = record("afflux.ingest.spans", vec![request(&ids)], &[count, (HEADER_CLUSTER, "edge"), origin]);
    let mirrored = record("east.afflux.ingest.spans", vec![request(&ids)], &[count, (HEADER_CLUSTER, "edge")]);
    for record in [copied, mirrored] {
        assert_eq!(placed(&record, &own).unwrap().0, expected);
    }
    let mixed = Received { value: Some(encoded(&[request(&[0, 0])])), ..ours };
    assert_eq!(placed(&mixed, &own).unwrap(), (vec![(2, "edge".into(), vec![0, 0])], None), "passed as ever");
}

fn encoded(resources: &[ResourceSpans]) -> Bytes {
    ExportTraceServiceRequest { resource_spans: resources.to_vec() }.encode_to_vec().into()
}

#[test]
fn spans_without_valid_ids_are_refused_alone_where_they_can_stand_alone() {
    let mixed = record("t", vec![request(&[1, 0]), request(&[0, 1])], &[]);
    let (out, leftover) = placed(&mixed, &foreign(EncodingName::OtlpProto)).unwrap();
    assert_eq!(out, by_partition(&[1, 1]));
    let leftover = leftover.unwrap();
    assert_eq!(leftover.refused.to_string(), "2 spans with an invalid id: trace_id is all zeros");
    assert_eq!(leftover.refused.reason(), "invalid_ids");
    let kept = ExportTraceServiceRequest::decode(leftover.value).unwrap();
    assert_eq!(kept, ExportTraceServiceRequest { resource_spans: vec![request(&[0]), request(&[0])] });

    let json = serde_json::to_vec(&ExportTraceServiceRequest { resource_spans: vec![request(&[1, 0])] }).unwrap();
    let in_json = Received { value: Some(json.into()), ..mixed };
    let refused = placed(&in_json, &foreign(EncodingName::OtlpJson)).unwrap_err();
    assert_eq!(refused.to_string(), "1 spans with an invalid id: trace_id is all zeros");
}

#[test]
fn every_encoding_is_opened_and_what_is_not_of_it_refused() {
    let json = serde_json::to_string(&ExportTraceServiceRequest { resource_spans: vec![request(&[1])] }).unwrap();
    let jaeger = r#"{"traceId":"AQEBAQEBAQEBAQEBAQEBAQ==","spanId":"AQEBAQEBAQE="}"#;
    let zipkin = r#"[{"traceId":"01010101010101010101010101010101","id":"1"}]"#;
    let mut in_protobuf = vec![0x0a, 16];
    in_protobuf.extend([1; 16]);
    in_protobuf.extend([0x12, 8, 1, 1, 1, 1, 1, 1, 1, 1]);
    let mut of_zipkin = vec![0x0a, 28];
    of_zipkin.extend(in_protobuf.iter().map(|&byte| if byte == 0x12 { 0x1a } else { byte }));
    let values: [(EncodingName, &[u8]); 5] = [
        (EncodingName::OtlpJson, json.as_bytes()),
        (EncodingName::JaegerJson, jaeger.as_bytes()),
        (EncodingName::ZipkinJson, zipkin.as_bytes()),
        (EncodingName::JaegerProto, &in_protobuf),
        (EncodingName::ZipkinProto, &of_zipkin),
    ];
    let of = |value: &[u8]| Received { value: Some(Bytes::copy_from_slice(value)), ..record("t", vec![], &[]) };
    for (encoding, value) in values {
        assert_eq!(placed(&of(value), &foreign(encoding)), Ok((by_partition(&[1]), None)), "{encoding:?}");
        let refused = placed(&of(&value[..value.len() - 1]), &foreign(encoding)).unwrap_err();
        assert_eq!(refused.reason(), "malformed");
        let name = afflux_schemas::encoding::Encoding::from(encoding).as_str();
        assert!(refused.to_string().starts_with(&format!("not spans in {name}: malformed ")), "{refused}");
    }
    // A single item that was too large after it was decoded comes back as it was then.
    let replayed = record("t", vec![request(&[1])], &[(HEADER_ENCODING, "otlp_proto")]);
    assert_eq!(placed(&replayed, &foreign(EncodingName::JaegerJson)), Ok((by_partition(&[1]), None)));
    let nothing = placed(&of(b"[]"), &foreign(EncodingName::ZipkinJson));
    assert_eq!(nothing, Ok((vec![], None)), "an empty list is no error");
}

#[test]
fn a_header_or_resource_outranks_the_cluster_of_a_topic() {
    let both = || vec![resource_spans(Some("east"), &["a", "b"]), resource_spans(None, &["c"])];
    let of = |headers: &[(&str, &str)]| {
        let mut record = record("t", both(), headers);
        let mut request = ExportTraceServiceRequest::decode(record.value.unwrap()).unwrap();
        let spans = request.resource_spans.iter_mut().flat_map(|r| &mut r.scope_spans).flat_map(|s| &mut s.spans);
        spans.for_each(|span| (span.trace_id, span.span_id) = (vec![1; 16], vec![1; 8]));
        record.value = Some(encoded(&request.resource_spans));
        let (out, _) = placed(&record, &foreign(EncodingName::OtlpProto)).unwrap();
        out.into_iter().map(|(_, cluster, ids)| (cluster, ids.len())).collect::<Vec<_>>()
    };
    assert_eq!(of(&[(HEADER_CLUSTER, "west")]), [("west".into(), 3)]);
    assert_eq!(of(&[]), [("east".into(), 2), ("edge".into(), 1)]);
}

#[test]
fn keys_and_headers_of_others_need_not_be_text() {
    let mut record = record("t", vec![request(&[1])], &[]);
    record.key = Some(Bytes::from_static(b"\xff\xfe"));
    record.headers.push("kafka", Bytes::from_static(b"\xff\x00"));
    let mut headers = Vec::new();
    open(&record, &foreign(EncodingName::OtlpProto), 1, &"c".into(), |e| headers.push(e.headers)).unwrap();
    assert_eq!(headers[0].get("kafka"), Some(&Bytes::from_static(b"\xff\x00")));
}
