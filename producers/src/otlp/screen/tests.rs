use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::*;

const MOST: Most = Most { attributes: 4, events: 3, links: 2 };

fn attributes(n: usize) -> Vec<KeyValue> {
    vec![KeyValue::default(); n]
}

/// Whether that many are within the limit, decided without the code under test.
fn within(attributes: &[KeyValue]) -> bool {
    attributes.len() <= MOST.attributes
}

fn span_within(span: &Span) -> bool {
    let events = span.events.iter().all(|event| within(&event.attributes));
    let links = span.links.iter().all(|link| within(&link.attributes));
    let counts = span.events.len() <= MOST.events && span.links.len() <= MOST.links;
    within(&span.attributes) && counts && events && links
}

fn spans() -> impl Strategy<Value = Span> {
    let events = prop::collection::vec(0..6_usize, 0..5);
    let links = prop::collection::vec(0..6_usize, 0..4);
    (0..6_usize, events, links, ".{0,6}").prop_map(|(count, events, links, name)| Span {
        attributes: attributes(count),
        events: events.into_iter().map(|n| Event { attributes: attributes(n), ..Event::default() }).collect(),
        links: links.into_iter().map(|n| Link { attributes: attributes(n), ..Link::default() }).collect(),
        name,
        ..Span::default()
    })
}

fn traces() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = (0..6_usize, prop::collection::vec(spans(), 0..4)).prop_map(|(count, spans)| ScopeSpans {
        scope: Some(InstrumentationScope { attributes: attributes(count), ..InstrumentationScope::default() }),
        spans,
        schema_url: "s".into(),
    });
    let resource = (0..6_usize, prop::collection::vec(scope, 0..3)).prop_map(|(count, scope_spans)| ResourceSpans {
        resource: Some(Resource { attributes: attributes(count), ..Resource::default() }),
        scope_spans,
        schema_url: "r".into(),
    });
    prop::collection::vec(resource, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

/// The spans within the limits, with what surrounds them.
fn kept(request: &ExportTraceServiceRequest) -> Vec<(Option<Resource>, Option<InstrumentationScope>, Span)> {
    let mut kept = Vec::new();
    for block in &request.resource_spans {
        for scope in &block.scope_spans {
            let resource = block.resource.as_ref().is_none_or(|resource| within(&resource.attributes));
            let outside = resource && scope.scope.as_ref().is_none_or(|scope| within(&scope.attributes));
            for span in scope.spans.iter().filter(|span| outside && span_within(span)) {
                kept.push((block.resource.clone(), scope.scope.clone(), span.clone()));
            }
        }
    }
    kept
}

fn count(request: &ExportTraceServiceRequest) -> usize {
    request.resource_spans.iter().flat_map(|block| &block.scope_spans).map(|scope| scope.spans.len()).sum()
}

proptest! {
    #[test]
    fn exactly_the_spans_within_all_limits_are_kept(request in traces()) {
        let bytes = request.encode_to_vec();
        let (copy, rejected) = remove(&bytes, Signal::Spans, &MOST);
        prop_assert!(copy.len() <= bytes.len());
        let copy = ExportTraceServiceRequest::decode(&copy[..]).unwrap();
        let expected = kept(&request);
        prop_assert_eq!(rejected as usize, count(&request) - expected.len());
        prop_assert_eq!(count(&copy), expected.len());
        prop_assert_eq!(kept(&copy), expected);
        if find(&bytes, Signal::Spans, &MOST).is_none() {
            prop_assert_eq!(copy, request);
        }
        if rejected > 0 {
            prop_assert!(find(&bytes, Signal::Spans, &MOST).is_some());
        }
    }
}

#[test]
fn the_first_excess_is_named_by_its_message() {
    let span = Span { events: vec![Event { attributes: attributes(5), ..Event::default() }], ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![Span::default(), span], ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    let bytes = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let found = find(&bytes, Signal::Spans, &MOST).unwrap();
    assert_eq!(found.to_string(), "an event has over 4 attributes, the limit of this receiver");
    assert_eq!(find(&bytes, Signal::Spans, &Most { attributes: 5, ..MOST }), None);
}

#[test]
fn log_records_are_counted_by_their_own_fields() {
    let record = |n| LogRecord { attributes: attributes(n), time_unix_nano: n as u64, ..LogRecord::default() };
    let request = |records: Vec<LogRecord>| {
        let scope_logs = vec![ScopeLogs { log_records: records, ..ScopeLogs::default() }];
        ExportLogsServiceRequest { resource_logs: vec![ResourceLogs { scope_logs, ..ResourceLogs::default() }] }
    };
    let bytes = request(vec![record(4), record(5), record(3), record(100)]).encode_to_vec();
    let found = find(&bytes, Signal::Logs, &MOST).unwrap();
    assert_eq!(found.to_string(), "a log record has over 4 attributes, the limit of this receiver");
    let (copy, rejected) = remove(&bytes, Signal::Logs, &MOST);
    assert_eq!((copy, rejected), (request(vec![record(4), record(3)]).encode_to_vec(), 2));
}
