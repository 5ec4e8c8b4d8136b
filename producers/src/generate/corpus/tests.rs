use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;

use super::*;

const START: u64 = 1_760_000_000_000_000_000;

const REQUESTS: usize = 120;

/// One corpus for all the tests that only look at it: decoding is what they spend their time on.
static CORPUS: LazyLock<Decoded> = LazyLock::new(|| Decoded::of(Corpus::new(1, START), REQUESTS));

/// A corpus as a reader sees it.
struct Decoded {
    batches: Vec<Batch>,
    /// Service and span.
    spans: Vec<(String, Span)>,
    /// Service and log record.
    records: Vec<(String, LogRecord)>,
    resources: Vec<Vec<KeyValue>>,
}

impl Decoded {
    fn of(mut corpus: Corpus, requests: usize) -> Self {
        let mut batches: Vec<_> = (0..requests).map(|_| corpus.next_request(512)).collect();
        batches.extend(corpus.finish());
        let (mut spans, mut records, mut resources) = (Vec::new(), Vec::new(), Vec::new());
        for batch in &batches {
            for resource in ExportTraceServiceRequest::decode(batch.traces.clone()).unwrap().resource_spans {
                let attributes = resource.resource.unwrap().attributes;
                let service = text(&attributes, "service.name").to_owned();
                let scopes = resource.scope_spans.into_iter();
                spans.extend(scopes.flat_map(|scope| scope.spans).map(|span| (service.clone(), span)));
                resources.push(attributes);
            }
            for resource in ExportLogsServiceRequest::decode(batch.logs.clone()).unwrap().resource_logs {
                let service = text(&resource.resource.unwrap().attributes, "service.name").to_owned();
                let scopes = resource.scope_logs.into_iter();
                records.extend(scopes.flat_map(|scope| scope.log_records).map(|record| (service.clone(), record)));
            }
        }
        Self { batches, spans, records, resources }
    }

    fn by_id(&self) -> HashMap<&[u8], &(String, Span)> {
        self.spans.iter().map(|entry| (entry.1.span_id.as_slice(), entry)).collect()
    }
}

fn value<'a>(attributes: &'a [KeyValue], key: &str) -> Option<&'a any_value::Value> {
    attributes.iter().find(|pair| pair.key == key)?.value.as_ref()?.value.as_ref()
}

fn text<'a>(attributes: &'a [KeyValue], key: &str) -> &'a str {
    match value(attributes, key) {
        Some(any_value::Value::StringValue(text)) => text,
        other => panic!("{key} is {other:?}"),
    }
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

#[test]
fn the_same_seed_and_time_give_the_same_bytes() {
    let run = |seed, start| {
        let mut corpus = Corpus::new(seed, start);
        (0..20).map(|i| corpus.next_request(100 + i)).collect::<Vec<_>>()
    };
    let (once, again, other) = (run(7, START), run(7, START), run(8, START));
    for ((a, b), c) in once.iter().zip(&again).zip(&other) {
        assert_eq!((&a.traces, &a.logs, a.spans, a.log_records), (&b.traces, &b.logs, b.spans, b.log_records));
        assert_ne!(a.traces, c.traces);
    }
    let later = run(7, START + 1_000_000_007);
    for (a, b) in once.iter().zip(&later) {
        assert_ne!(a.traces, b.traces, "times move with the start");
        assert!(a.span_ids().eq(b.span_ids()), "ids depend on the seed alone");
    }
}

#[test]
fn encoding_is_what_prost_would_have_written() {
    let corpus = &*CORPUS;
    for batch in &corpus.batches {
        let traces = ExportTraceServiceRequest::decode(batch.traces.clone()).unwrap();
        assert_eq!(traces.encode_to_vec(), batch.traces);
        let logs = ExportLogsServiceRequest::decode(batch.logs.clone()).unwrap();
        assert_eq!(logs.encode_to_vec(), batch.logs);
    }
}

#[test]
fn requests_hold_as_many_spans_as_asked_and_say_so() {
    let corpus = &*CORPUS;
    assert!(corpus.batches[..REQUESTS].iter().all(|batch| batch.spans == 512));
    assert_eq!(corpus.batches.iter().map(|batch| batch.spans).sum::<u64>(), corpus.spans.len() as u64);
    assert_eq!(corpus.batches.iter().map(|batch| batch.log_records).sum::<u64>(), corpus.records.len() as u64);
    let read_back: HashSet<_> = corpus.batches.iter().flat_map(Batch::span_ids).collect();
    let decoded: HashSet<_> = corpus.spans.iter().map(|(_, span)| ids(span)).collect();
    assert_eq!(read_back, decoded);
}

fn ids(span: &Span) -> ([u8; 16], [u8; 8]) {
    (span.trace_id.as_slice().try_into().unwrap(), span.span_id.as_slice().try_into().unwrap())
}

#[test]
fn spans_have_the_size_that_budgets_are_stated_for() {
    let corpus = &*CORPUS;
    let spans = corpus.spans.len() as f64;
    let bytes = corpus.batches.iter().map(|batch| batch.traces.len()).sum::<usize>() as f64 / spans;
    assert!((420.0..452.0).contains(&bytes), "{bytes} bytes a span");
    let attributes = corpus.spans.iter().map(|(_, span)| span.attributes.len()).sum::<usize>() as f64 / spans;
    assert!((7.7..8.3).contains(&attributes), "{attributes} attributes a span");
    let records = corpus.records.len() as f64 / spans;
    assert!((0.1..0.5).contains(&records), "{records} log records a span");
}

#[test]
fn ids_are_valid_and_unique_and_every_trace_is_whole() {
    let corpus = &*CORPUS;
    let by_id = corpus.by_id();
    assert_eq!(by_id.len(), corpus.spans.len(), "a span id repeats");
    let mut roots = HashMap::new();
    for (_, span) in &corpus.spans {
        assert!(span.trace_id.len() == 16 && span.span_id.len() == 8 && span.span_id != [0; 8]);
        *roots.entry(span.trace_id.as_slice()).or_insert(0) += usize::from(span.parent_span_id.is_empty());
        if !span.parent_span_id.is_empty() {
            let (_, parent) = by_id.get(span.parent_span_id.as_slice()).expect("the parent is in the corpus");
            assert_eq!(parent.trace_id, span.trace_id);
        }
    }
    assert!(roots.values().all(|roots| *roots == 1), "a trace has no root, or several");
    assert!(roots.len() > 3_000, "{} traces", roots.len());
}

#[test]
fn children_run_within_their_parents_and_consumers_after_them() {
    let corpus = &*CORPUS;
    let by_id = corpus.by_id();
    for (_, span) in &corpus.spans {
        assert!(span.start_time_unix_nano < span.end_time_unix_nano, "{}", span.name);
        for event in &span.events {
            assert!((span.start_time_unix_nano..=span.end_time_unix_nano).contains(&event.time_unix_nano));
        }
        let Some((_, parent)) = by_id.get(span.parent_span_id.as_slice()) else { continue };
        if span.kind() == SpanKind::Consumer {
            assert!(span.start_time_unix_nano > parent.end_time_unix_nano, "{}", span.name);
        } else {
            assert!(span.start_time_unix_nano >= parent.start_time_unix_nano, "{} in {}", span.name, parent.name);
            assert!(span.end_time_unix_nano <= parent.end_time_unix_nano, "{} in {}", span.name, parent.name);
        }
    }
}

#[test]
fn calls_between_services_are_pairs_of_client_and_server() {
    let corpus = &*CORPUS;
    let by_id = corpus.by_id();
    let mut served = HashMap::new();
    for (service, span) in &corpus.spans {
        let parent = by_id.get(span.parent_span_id.as_slice());
        match (span.kind(), parent) {
            (SpanKind::Server, Some((caller, parent))) => {
                assert_eq!(parent.kind(), SpanKind::Client, "{}", span.name);
                assert_ne!(caller, service);
                *served.entry(span.parent_span_id.as_slice()).or_insert(0) += 1;
            }
            (SpanKind::Server, None) => assert_eq!(service, "frontend"),
            (SpanKind::Consumer, Some((_, parent))) => {
                assert_eq!(parent.kind(), SpanKind::Producer);
                assert_eq!(span.links.len(), 1);
                assert_eq!((&span.links[0].trace_id, &span.links[0].span_id), (&parent.trace_id, &parent.span_id));
            }
            (SpanKind::Consumer, None) => assert_eq!(span.links.len(), BATCH),
            (SpanKind::Internal | SpanKind::Client | SpanKind::Producer, Some((caller, _))) => {
                assert_eq!(caller, service, "{} has its parent in another service", span.name);
            }
            (SpanKind::Internal, None) => assert_eq!(span.name, "restock"),
            (kind, parent) => panic!("{} is {kind:?} below {parent:?}", span.name),
        }
    }
    let to_services = corpus.spans.iter().filter(|(_, span)| {
        span.kind() == SpanKind::Client
            && value(&span.attributes, "db.system.name").is_none()
            && text(&span.attributes, "server.address").ends_with(".shop.svc.cluster.local")
    });
    for (_, span) in to_services {
        assert_eq!(served.get(span.span_id.as_slice()), Some(&1), "{} has one server", span.name);
    }
}

#[test]
fn batches_link_to_messages_that_were_sent_before() {
    let corpus = &*CORPUS;
    let by_id = corpus.by_id();
    let batches: Vec<_> =
        corpus.spans.iter().filter(|(service, span)| service == "accounting" && span.links.len() > 1).collect();
    assert!(batches.len() > 5, "{} batches", batches.len());
    let mut taken = HashSet::new();
    for link in batches.iter().flat_map(|(_, batch)| batch.links.iter().map(move |link| (batch, link))) {
        let (batch, link) = link;
        let (_, sender) = by_id.get(link.span_id.as_slice()).expect("the sender is in the corpus");
        assert_eq!((sender.kind(), &sender.trace_id), (SpanKind::Producer, &link.trace_id));
        assert!(sender.end_time_unix_nano < batch.start_time_unix_nano);
        assert!(taken.insert(&link.span_id), "a message was taken twice");
    }
}

#[test]
fn failures_are_marked_and_come_with_an_exception_where_they_began() {
    let corpus = &*CORPUS;
    let by_id = corpus.by_id();
    let with_failed_call: HashSet<_> =
        corpus.spans.iter().filter(|(_, span)| failed(span)).map(|(_, span)| span.parent_span_id.as_slice()).collect();
    let mut roots = (0.0, 0.0);
    for (service, span) in &corpus.spans {
        let exceptions = span.events.iter().filter(|event| event.name == "exception").count();
        if span.parent_span_id.is_empty() {
            roots = (roots.0 + f64::from(u8::from(failed(span))), roots.1 + 1.0);
        }
        if !failed(span) {
            assert!(exceptions == 0 && value(&span.attributes, "error.type").is_none(), "{}", span.name);
            continue;
        }
        if span.kind() != SpanKind::Internal {
            assert!(value(&span.attributes, "error.type").is_some(), "{service} {}", span.name);
        }
        if !with_failed_call.contains(span.span_id.as_slice()) {
            assert_eq!(exceptions, 1, "{} failed by itself", span.name);
        }
        for event in &span.events {
            for key in ["exception.type", "exception.message", "exception.stacktrace"] {
                assert!(!text(&event.attributes, key).is_empty());
            }
        }
    }
    let share = roots.0 / roots.1;
    assert!((0.003..0.03).contains(&share), "{share} of the traces failed");
    let recovered = corpus.spans.iter().filter(|(_, span)| {
        failed(span) && by_id.get(span.parent_span_id.as_slice()).is_some_and(|(_, parent)| !failed(parent))
    });
    assert!(recovered.count() > 10, "some callers live with a failed call");
}

#[test]
fn latencies_have_a_tail() {
    let corpus = &*CORPUS;
    let ranked = corpus.spans.iter().filter(|(_, span)| span.name == "rankProducts");
    let mut took: Vec<_> = ranked.map(|(_, span)| span.end_time_unix_nano - span.start_time_unix_nano).collect();
    took.sort_unstable();
    let at = |quantile: f64| took[(took.len() as f64 * quantile) as usize] as f64;
    assert!((5e6..7e6).contains(&at(0.5)), "median {} ns", at(0.5));
    assert!(at(0.99) > 7.0 * at(0.5), "99th percentile {} of median {}", at(0.99), at(0.5));
}

#[test]
fn every_resource_has_a_service_and_its_place_in_kubernetes() {
    let corpus = &*CORPUS;
    let (mut services, mut pods, mut clusters) = (HashSet::new(), HashMap::new(), HashSet::new());
    for resource in &corpus.resources {
        let of = |key| text(resource, key).to_owned();
        services.insert(of("service.name"));
        clusters.insert(of("k8s.cluster.name"));
        assert!(of("k8s.pod.name").starts_with(&of("k8s.deployment.name")));
        let place = (of("k8s.node.name"), of("k8s.namespace.name"), of("k8s.pod.name"), of("service.instance.id"));
        assert_eq!(*pods.entry(of("k8s.pod.uid")).or_insert(place.clone()), place, "a pod stays where it is");
    }
    assert_eq!(services.len(), Service::ALL.len());
    assert_eq!(clusters.len(), CLUSTERS.len());
    assert_eq!(pods.len(), Service::ALL.len() * REPLICAS * CLUSTERS.len());
}

#[test]
fn a_key_stands_once_in_its_attributes() {
    let corpus = &*CORPUS;
    let spans = corpus.spans.iter().map(|(_, span)| (&span.name, &span.attributes));
    for (name, attributes) in spans.chain(corpus.records.iter().map(|(service, record)| (service, &record.attributes)))
    {
        let keys: HashSet<_> = attributes.iter().map(|pair| &pair.key).collect();
        assert_eq!(keys.len(), attributes.len(), "{name}: {attributes:?}");
    }
}

#[test]
fn attributes_of_every_scalar_type_and_lists_occur() {
    let corpus = &*CORPUS;
    let mut kinds = HashSet::new();
    for pair in corpus.spans.iter().flat_map(|(_, span)| &span.attributes) {
        kinds.insert(std::mem::discriminant(pair.value.as_ref().unwrap().value.as_ref().unwrap()));
    }
    assert_eq!(kinds.len(), 5, "text, integer, double, boolean, list");
    assert!(corpus.spans.iter().any(|(_, span)| !span.trace_state.is_empty()));
}

#[test]
fn logs_belong_to_spans_of_their_service() {
    let corpus = &*CORPUS;
    let by_id = corpus.by_id();
    let mut severities = HashMap::new();
    for (service, record) in &corpus.records {
        let (owner, span) = by_id.get(record.span_id.as_slice()).expect("the span is in the corpus");
        assert_eq!((owner, &span.trace_id), (service, &record.trace_id));
        assert!((span.start_time_unix_nano..=span.end_time_unix_nano).contains(&record.time_unix_nano));
        assert!(record.observed_time_unix_nano > record.time_unix_nano);
        let Some(AnyValue { value: Some(any_value::Value::StringValue(body)), .. }) = &record.body else { panic!() };
        assert!(!body.contains('{'), "a placeholder was left: {body}");
        *severities.entry(record.severity_text.as_str()).or_insert(0) += 1;
    }
    for severity in ["DEBUG", "INFO", "WARN", "ERROR"] {
        assert!(severities.get(severity).is_some_and(|count| *count > 5), "{severities:?}");
    }
}

#[test]
fn leaving_out_logs_changes_nothing_about_the_spans() {
    let (mut with, mut without) = (Corpus::new(2, START), Corpus::new(2, START).without_logs());
    for _ in 0..20 {
        let (a, b) = (with.next_request(512), without.next_request(512));
        assert_eq!(a.traces, b.traces);
        assert!(b.logs.is_empty() && b.log_records == 0 && a.log_records > 0);
    }
}

#[test]
fn spans_made_at_a_time_end_before_it_and_after_the_previous_request() {
    let mut corpus = Corpus::new(3, START);
    corpus.next_request_at(START + 1_000_000_000, 200);
    let batch = corpus.next_request_at(START + 2_000_000_000, 2_000);
    let decoded = ExportTraceServiceRequest::decode(batch.traces).unwrap();
    let spans = decoded.resource_spans.iter().flat_map(|r| &r.scope_spans).flat_map(|s| &s.spans);
    let ends: Vec<_> = spans.map(|span| span.end_time_unix_nano - START).collect();
    assert!(ends.iter().all(|end| *end <= 2_000_000_000), "nothing ends in the future");
    let within = ends.iter().filter(|end| **end > 1_000_000_000).count();
    assert!(within > 1_500, "{within} of 2000 ended since the previous request");
}
