use afflux_bus::{Generation, Headers, PartitionId};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::*;

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
    open(record, Signal::Spans, "afflux.ingest.spans", &"fallback".into(), |e| envelopes.push(e))?;
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
    assert_eq!(opened(&Received { headers: bad_header, ..good }).unwrap_err(), Refused::Cluster);
}
