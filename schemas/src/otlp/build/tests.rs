use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value;
use prost::Message as _;

use super::*;

#[test]
fn spans_of_one_resource_and_scope_stand_together_and_the_request_is_canonical() {
    let mut gather = Gather::default();
    let resource_of = |service: &'static str| {
        let mut attributes = AttributeMap::default();
        attributes.set_text("service.name", service);
        resource(&attributes)
    };
    for (service, library, name) in [("a", "x", "1"), ("b", "x", "2"), ("a", "x", "3"), ("a", "y", "4")] {
        let draft = SpanDraft { name: name.into(), trace_id: [1; 16], span_id: [2; 8], ..SpanDraft::default() };
        gather.add(resource_of(service), scope(library, ""), &draft.encode());
    }
    let request = gather.finish();
    let checked = crate::otlp::validate::traces(&request).unwrap();
    assert!(checked.canonical && checked.items == 4);
    let decoded = ExportTraceServiceRequest::decode(request).unwrap();
    let names: Vec<Vec<String>> = decoded
        .resource_spans
        .iter()
        .map(|r| r.scope_spans.iter().map(|s| s.spans.iter().map(|s| s.name.as_str()).collect()).collect())
        .collect();
    assert_eq!(names, [vec!["13".to_owned(), "4".into()], vec!["2".into()]]);
    assert!(Gather::default().finish().is_empty());
}

#[test]
fn of_a_repeated_key_the_last_value_counts_however_many_there_are() {
    let mut attributes = AttributeMap::default();
    for i in 0..200_i64 {
        attributes.set(format!("key {}", i % 97), Value::Int(i));
    }
    assert_eq!(attributes.take("key 3"), Some(Value::Int(197)));
    assert_eq!(attributes.get("key 3"), None);
    attributes.rename("key 4", "four");
    attributes.rename("key 5", "four");
    let draft = SpanDraft { attributes, ..SpanDraft::default() };
    let span = opentelemetry_proto::tonic::trace::v1::Span::decode(&draft.encode()[..]).unwrap();
    let value = |key: &str| {
        let mut found = span.attributes.iter().filter(|a| a.key == key);
        let value = found.next().and_then(|a| a.value.clone()?.value);
        assert!(found.next().is_none(), "{key} twice");
        value
    };
    assert_eq!(value("key 96"), Some(any_value::Value::IntValue(193)));
    assert_eq!(value("four"), Some(any_value::Value::IntValue(198)));
    assert_eq!(value("key 5"), Some(any_value::Value::IntValue(199)));
    assert_eq!(span.attributes.len(), 96, "97 keys less the one taken out");
}
