//! Resources, as they come in requests, and their pods.

use afflux_schemas::otlp::common::ResourceView;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::ResourceLogs;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;

use super::*;

fn value(text: &str) -> AnyValue {
    AnyValue { value: Some(Value::StringValue(text.into())) }
}

/// `[a,b]` is an array of texts.
fn resource(attributes: &[(&str, &str)]) -> Resource {
    let attribute = |(key, text): &(&str, &str)| {
        let array = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
        let value = array.map_or_else(
            || value(text),
            |texts| AnyValue {
                value: Some(Value::ArrayValue(ArrayValue { values: texts.split(',').map(value).collect() })),
            },
        );
        KeyValue { key: (*key).into(), value: Some(value), ..KeyValue::default() }
    };
    Resource { attributes: attributes.iter().map(attribute).collect(), ..Resource::default() }
}

fn enricher(objects: &[Object]) -> Enricher {
    let mut enricher = Enricher::new(&EnrichConfig::default()).unwrap();
    for object in objects {
        put(&mut enricher.table, "eu", object);
    }
    enricher
}

fn verdict(enricher: &Enricher, join_by: &[JoinKey], attributes: &[(&str, &str)]) -> String {
    let bytes = resource(attributes).encode_to_vec();
    match find(&enricher.table, join_by, ("eu", i64::MAX), ResourceView::new(&bytes)) {
        Join::Joined(pod) => pod.uid().into(),
        Join::NoKey => "no key".into(),
        Join::Missing => "missing".into(),
    }
}

#[test]
fn a_pod_is_found_by_uid_then_address_then_name() {
    let enricher = enricher(&[pod("a", "web-a", &["10.0.0.1"]), pod("b", "web-b", &["10.0.0.2"])]);
    let all = EnrichConfig::default().join_by;
    for (attributes, expected) in [
        (&[][..], "no key"),
        (&[("service.name", "web"), ("k8s.pod.name", "web-a")], "no key"),
        (&[("k8s.pod.uid", "a")], "a"),
        (&[("k8s.pod.uid", "c")], "missing"),
        (&[("k8s.pod.uid", "")], "no key"),
        (&[("k8s.pod.ip", "10.0.0.2")], "b"),
        (&[("ip", "10.0.0.2")], "b"),
        (&[("net.host.ip", "10.0.0.2")], "b"),
        (&[("host.ip", "10.0.0.2")], "b"),
        (&[("host.ip", "[127.0.0.1,fe80::1,10.0.0.2]")], "b"),
        (&[("host.ip", "[127.0.0.1,fe80::1]")], "missing"),
        (&[("host.ip", "127.0.0.1"), ("ip", "a host")], "no key"),
        (&[("k8s.pod.ip", "10.0.0.9"), ("ip", "10.0.0.1")], "a"),
        (&[("k8s.pod.ip", "10.0.0.1"), ("ip", "10.0.0.2")], "a"),
        (&[("k8s.namespace.name", "prod"), ("k8s.pod.name", "web-b")], "b"),
        (&[("k8s.namespace.name", "test"), ("k8s.pod.name", "web-b")], "missing"),
        // Of a repeated attribute the first one counts that says anything.
        (&[("k8s.pod.uid", "a"), ("k8s.pod.uid", "b")], "a"),
        (&[("k8s.pod.uid", ""), ("k8s.pod.uid", "b")], "b"),
        (&[("ip", "10.0.0.1"), ("ip", "10.0.0.2")], "a"),
        // What contradicts the resource is not its pod.
        (&[("k8s.pod.uid", "c"), ("k8s.pod.ip", "10.0.0.1")], "missing"),
        (&[("k8s.pod.uid", "a"), ("k8s.pod.ip", "10.0.0.2")], "a"),
        (&[("k8s.pod.uid", "a"), ("k8s.namespace.name", "test")], "missing"),
        (&[("host.ip", "10.0.0.1"), ("k8s.namespace.name", "prod"), ("k8s.pod.name", "web-b")], "b"),
        (&[("host.ip", "10.0.0.1"), ("k8s.pod.name", "web-b")], "missing"),
    ] {
        assert_eq!(verdict(&enricher, &all, attributes), expected, "{attributes:?}");
    }
}

#[test]
fn only_the_configured_attributes_count_in_their_order() {
    let enricher = enricher(&[pod("a", "web-a", &["10.0.0.1"]), pod("b", "web-b", &["10.0.0.2"])]);
    let both = [("ip", "10.0.0.1"), ("host.ip", "10.0.0.2")];
    assert_eq!(verdict(&enricher, &[JoinKey::Ip, JoinKey::HostIp], &both), "a");
    assert_eq!(verdict(&enricher, &[JoinKey::HostIp, JoinKey::Ip], &both), "b");
    assert_eq!(verdict(&enricher, &[JoinKey::PodUid, JoinKey::PodName], &both), "no key");
    assert_eq!(verdict(&enricher, &[JoinKey::PodIp], &[("k8s.pod.uid", "a")]), "no key");
}

#[test]
fn a_request_gets_what_its_senders_do_not_say() {
    let web = labelled(
        owned(pod("a", "web-5f-x", &["10.0.0.1"]), "ReplicaSet", "web-5f", "r"),
        &[("pod-template-hash", "5f")],
    );
    let enricher = enricher(&[web]);
    let said = [("k8s.pod.ip", "10.0.0.1"), ("k8s.deployment.name", "mine"), ("k8s.pod.uid", "")];
    let spans = ScopeSpans { spans: vec![Span { name: "s".into(), ..Span::default() }], ..ScopeSpans::default() };
    let block = |attributes: &[(&str, &str)]| ResourceSpans {
        resource: Some(resource(attributes)),
        scope_spans: vec![spans.clone()],
        ..ResourceSpans::default()
    };
    let other = [("service.name", "x")];
    let gone = [("k8s.pod.uid", "z")];
    let request = |first| ExportTraceServiceRequest { resource_spans: vec![first, block(&other), block(&gone)] };
    let (value, joins) = enricher.enrich(("eu", i64::MAX), &request(block(&said)).encode_to_vec().into());
    assert_eq!(joins, Joins { joined: 1, no_key: 1, missing: 1 });
    let added = [
        ("k8s.namespace.name", "prod"),
        ("k8s.pod.name", "web-5f-x"),
        ("k8s.replicaset.name", "web-5f"),
        ("k8s.replicaset.uid", "r"),
    ];
    let expected = request(block(&[&said[..], &added].concat()));
    assert_eq!(ExportTraceServiceRequest::decode(value.clone()).unwrap(), expected);
    let (again, _) = enricher.enrich(("eu", i64::MAX), &value);
    assert_eq!(again.as_ptr(), value.as_ptr());
    let (elsewhere, joins) = enricher.enrich(("us", i64::MAX), &value);
    assert_eq!((elsewhere.as_ptr(), joins.missing), (value.as_ptr(), 2));
}

#[test]
fn log_records_are_enriched_as_spans_are() {
    let enricher = enricher(&[pod("a", "web", &[])]);
    let logs = |attributes: &[(&str, &str)]| ExportLogsServiceRequest {
        resource_logs: vec![ResourceLogs { resource: Some(resource(attributes)), ..ResourceLogs::default() }],
    };
    let (value, joins) = enricher.enrich(("eu", i64::MAX), &logs(&[("k8s.pod.uid", "a")]).encode_to_vec().into());
    let expected = [("k8s.pod.uid", "a"), ("k8s.namespace.name", "prod"), ("k8s.pod.name", "web")];
    assert_eq!(ExportLogsServiceRequest::decode(value).unwrap(), logs(&expected));
    assert_eq!(joins.joined, 1);
}
