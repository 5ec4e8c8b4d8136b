//! Items that are never stored, named in the answer, while the others of their request are.

use afflux_runtime::config::ByteSize;
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use prost::Message;
use serde_json::json;

use super::bus::{FakeBus, Mode};
use super::harness::{JSON, LOGS, PROTOBUF, Server, TRACES, bytes, frame, logs, span, traces, traces_of};
use crate::otlp::answer::Status;
use crate::otlp::config::Limits;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A span with a name of that many bytes.
fn named(n: u64, bytes: usize) -> Span {
    Span { name: "n".repeat(bytes), ..span(n) }
}

/// A receiver for records of about 2000 bytes, on a bus that takes up to 4000.
async fn narrow() -> Server {
    let server = Server::with(|limits| limits.record_bytes = ByteSize(2000)).await;
    server.bus.set(Mode::Limit(4000));
    server
}

#[tokio::test]
async fn an_item_too_large_for_the_bus_is_named_and_the_others_stored() {
    let server = narrow().await;
    let request = traces_of(vec![span(0), named(1, 5000), named(2, 3000), named(3, 6000), span(4)]);
    let kept = [span(0), named(2, 3000), span(4)];
    let answer = server.post(TRACES, &[PROTOBUF], bytes(&request)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2);
    let reason = partial.error_message;
    assert!(reason.ends_with("is over the bus's limit of 4000 bytes; send smaller items"), "{reason}");
    assert_eq!(server.spans(), kept);
    assert!(server.metric(r#"afflux_dropped_items_total{component="producers.otlp",reason="too_large"} 2"#));
    assert!(server.metric(r#"afflux_accepted_items_total{component="producers.otlp",signal="spans"} 3"#));
    assert!(server.metric(r#"afflux_in_flight_bytes{component="producers.otlp",signal="all"} 0"#));

    let answer = server.post(TRACES, &[JSON], serde_json::to_vec(&request).unwrap()).await;
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "2");
    let answer = server.call(EXPORT, &[], frame(0, &bytes(&request))).await;
    assert_eq!(answer.grpc_status(), "0");
    let partial = ExportTraceServiceResponse::decode(&answer.body[5..]).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2);
    assert_eq!(server.spans().len(), 9, "each time the others are stored once");

    let mut records = logs(3);
    records.resource_logs[0].scope_logs[0].log_records[1].severity_text = "s".repeat(5000);
    let answer = server.post(LOGS, &[PROTOBUF], bytes(&records)).await;
    let partial = ExportLogsServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_log_records, 1);
    let stored = server.bus.records().into_iter().filter(|record| &*record.to.topic == "afflux.ingest.logs");
    let stored = stored.map(|record| ExportLogsServiceRequest::decode(record.value.unwrap()).unwrap());
    let times = stored.flat_map(|request| request.resource_logs).flat_map(|resource| resource.scope_logs);
    let times: Vec<_> = times.flat_map(|scope| scope.log_records).map(|record| record.time_unix_nano).collect();
    assert_eq!(times, [1, 3]);
}

#[tokio::test]
async fn a_request_of_which_nothing_fits_is_refused_for_good() {
    let server = narrow().await;
    let mut invalid = span(7);
    invalid.trace_id.pop();
    for spans in [vec![named(1, 5000)], vec![named(1, 5000), named(2, 9000)], vec![named(1, 5000), invalid]] {
        let answer = server.post(TRACES, &[PROTOBUF], bytes(&traces_of(spans))).await;
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (413, ""));
        let status = Status::decode(answer.body).unwrap();
        assert!(status.message.contains("over the bus's limit of 4000 bytes"), "{}", status.message);
    }
    assert!(server.bus.records().is_empty());
    assert!(server.metric(r#"afflux_refused_requests_total{component="producers.otlp",reason="too_large"} 3"#));
}

#[tokio::test]
async fn items_rejected_for_different_reasons_are_all_counted_and_named() {
    let server = narrow().await;
    let mut short = span(3);
    short.trace_id.pop();
    let answer = server.post(TRACES, &[PROTOBUF], bytes(&traces_of(vec![span(0), short, named(1, 5000)]))).await;
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!(partial.rejected_spans, 2);
    assert!(partial.error_message.starts_with("trace_id has 15 bytes instead of 16; a record of "));
    assert_eq!(server.spans(), [span(0)]);
}

#[tokio::test]
async fn what_fits_is_written_in_one_call_so_that_a_retry_repeats_nothing() {
    let server = narrow().await;
    let request = bytes(&traces_of(vec![span(0), named(2, 3000), named(1, 5000)]));
    let answer = server.post(TRACES, &[PROTOBUF], request.clone()).await;
    assert_eq!((answer.status.as_u16(), server.bus.sends()), (200, 1));
    server.bus.set(Mode::Fail(|| afflux_bus::BusError::Full { reason: "disk".into() }));
    let answer = server.post(TRACES, &[PROTOBUF], request).await;
    assert_eq!((answer.status.as_u16(), server.bus.sends()), (503, 2));
}

fn attributes(n: usize) -> Vec<KeyValue> {
    (0..n).map(|n| KeyValue { key: n.to_string(), ..KeyValue::default() }).collect()
}

fn few(limits: &mut Limits) {
    (limits.attributes, limits.events, limits.links) = (10, 5, 3);
}

/// What is wrong with a span that has so many attributes, events, links, and attributes in an event and a link.
fn crowded() -> [(Span, &'static str); 5] {
    let event = |n| Event { attributes: attributes(n), ..Event::default() };
    let link = |n| Link { attributes: attributes(n), ..Link::default() };
    [
        (Span { attributes: attributes(11), ..span(1) }, "a span has over 10 attributes"),
        (Span { events: vec![event(0); 6], ..span(1) }, "a span has over 5 events"),
        (Span { links: vec![link(0); 4], ..span(1) }, "a span has over 3 links"),
        (Span { events: vec![event(0), event(11)], ..span(1) }, "an event has over 10 attributes"),
        (Span { links: vec![link(11)], ..span(1) }, "a link has over 10 attributes"),
    ]
}

#[tokio::test]
async fn an_item_over_a_limit_of_counts_is_named_and_the_others_stored() {
    for (wrong, reason) in crowded() {
        let server = Server::with(few).await;
        let mut full = Span { attributes: attributes(10), ..span(2) };
        full.events = vec![Event { attributes: attributes(10), ..Event::default() }; 5];
        full.links = vec![Link { attributes: attributes(10), ..Link::default() }; 3];
        let request = traces_of(vec![span(0), wrong, full.clone()]);
        let answer = server.post(TRACES, &[PROTOBUF], bytes(&request)).await;
        let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
        let reason = format!("{reason}, the limit of this receiver");
        assert_eq!((partial.rejected_spans, &*partial.error_message), (1, &*reason));
        assert_eq!(server.spans(), [span(0), full], "what reaches a limit is within it");
        assert!(server.metric(r#"afflux_dropped_items_total{component="producers.otlp",reason="over_limit"} 1"#));
    }
    let server = Server::with(few).await;
    let mut records = logs(3);
    records.resource_logs[0].scope_logs[0].log_records[2].attributes = attributes(11);
    let answer = server.post(LOGS, &[JSON], serde_json::to_vec(&records).unwrap()).await;
    let reason = "a log record has over 10 attributes, the limit of this receiver";
    assert_eq!(answer.json(), json!({"partialSuccess": {"rejectedLogRecords": "1", "errorMessage": reason}}));
    assert_eq!(server.bus.records()[0].value.as_ref().unwrap(), &bytes(&logs(2)));
}

#[tokio::test]
async fn a_resource_or_scope_over_the_limit_rejects_the_items_under_it() {
    let server = Server::on(FakeBus::new(1), few).await;
    let mut request = traces(2);
    let mut scope = request.resource_spans[0].scope_spans[0].clone();
    scope.scope = Some(InstrumentationScope { attributes: attributes(11), ..InstrumentationScope::default() });
    scope.spans = vec![span(5), span(6), span(7)];
    request.resource_spans[0].scope_spans.push(scope);
    let mut resource = request.resource_spans[0].clone();
    resource.resource.get_or_insert_default().attributes = attributes(11);
    request.resource_spans.insert(0, resource);
    let answer = server.post(TRACES, &[PROTOBUF], bytes(&request)).await;
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    let reason = "a resource has over 10 attributes, the limit of this receiver";
    assert_eq!((partial.rejected_spans, &*partial.error_message), (8, reason));
    assert_eq!(server.spans(), [span(0), span(1)]);

    request.resource_spans.remove(0);
    request.resource_spans[0].scope_spans.remove(0);
    let answer = server.post(TRACES, &[PROTOBUF], bytes(&request)).await;
    assert_eq!(answer.status, 200, "as with invalid ids, the answer names what is wrong with all of them");
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    let reason = "a scope has over 10 attributes, the limit of this receiver";
    assert_eq!((partial.rejected_spans, &*partial.error_message), (3, reason));
    assert_eq!(server.spans().len(), 2);
}
