//! What it costs to look at spans: views, validation, splitting, and `prost` for comparison.
//!
//! Requests hold 512 spans of about 436 bytes with 8 attributes.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;

use afflux_schemas::identity::Identity;
use afflux_schemas::otlp::trace::TracesView;
use afflux_schemas::otlp::{split, validate};

const SPANS: u64 = 512;
const SPANS_PER_TRACE: u64 = 4;

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

/// Bytes that look random and are the same in every run.
fn scatter(seed: u64) -> [u8; 8] {
    let z = (seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (z ^ z >> 31).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_le_bytes()
}

fn span(i: u64) -> Span {
    // Spans of a trace do not stand together.
    let trace = i % (SPANS / SPANS_PER_TRACE);
    let start = 1_760_000_000_000_000_000 + i * 1_234_567;
    Span {
        trace_id: [scatter(trace), scatter(trace + 7_000)].concat(),
        span_id: scatter(i + 10_000).into(),
        parent_span_id: scatter(i + 20_000).into(),
        flags: 0x101,
        name: "POST /api/v1/cart/{userId}/items".into(),
        kind: 2 + (i % 2) as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start + 3_456_789 + i,
        attributes: vec![
            text("http.request.method", "POST"),
            text("http.route", "/api/v1/cart/{userId}/items"),
            attribute("http.response.status_code", Value::IntValue(200 + (i % 5) as i64)),
            text("url.path", &format!("/api/v1/cart/{i:08}/items")),
            text("server.address", "cart.shop.svc.cluster.local"),
            attribute("server.port", Value::IntValue(8080)),
            text("user_agent.original", "python-requests/2.32.3 CPython/3.12.1 Linux/6.1.0"),
            text("network.protocol.version", "1.1"),
        ],
        status: Some(Status { message: String::new(), code: 2 * i32::from(i.is_multiple_of(50)) }),
        ..Span::default()
    }
}

fn request() -> Bytes {
    let resource = Resource {
        attributes: vec![
            text("service.name", "cart"),
            text("k8s.cluster.name", "eu-central-1"),
            text("k8s.namespace.name", "shop"),
            text("k8s.pod.name", "cart-7d9c5b6f4-x2x7p"),
            text("k8s.node.name", "node-17"),
            text("telemetry.sdk.name", "opentelemetry"),
        ],
        ..Resource::default()
    };
    let scope = InstrumentationScope { name: "http".into(), version: "0.50.0".into(), ..Default::default() };
    let spans = (0..SPANS).map(span).collect();
    let scopes = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
    let block = ResourceSpans { resource: Some(resource), scope_spans: scopes, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec().into()
}

/// The fields that span metrics need.
fn scan(bytes: &[u8]) -> u64 {
    let mut sum = 0;
    for block in TracesView::new(bytes).resource_spans() {
        sum += Identity::of(block.resource()).service.map_or(0, str::len) as u64;
        for span in block.scope_spans().flat_map(|scope| scope.spans()) {
            sum += span.end_time_unix_nano().wrapping_sub(span.start_time_unix_nano());
            sum += span.name_bytes().len() as u64 + span.kind() as u64 + span.status().code() as u64;
        }
    }
    sum
}

/// Every attribute of every span, as text of names and values.
fn attributes(bytes: &[u8]) -> u64 {
    let mut sum = 0;
    for block in TracesView::new(bytes).resource_spans() {
        for span in block.scope_spans().flat_map(|scope| scope.spans()) {
            sum += span.name().len() as u64;
            for attribute in span.attributes() {
                sum += (attribute.key().len() + attribute.value().as_str().map_or(0, str::len)) as u64;
            }
        }
    }
    sum
}

fn benches(criterion: &mut Criterion) {
    let request = request();
    assert_eq!(request.len() as u64 / SPANS, 436);
    let mut group = criterion.benchmark_group("otlp");
    group.throughput(Throughput::Elements(SPANS));
    group.bench_function("views: fields of span metrics", |b| b.iter(|| scan(black_box(&request))));
    group.bench_function("views: all attributes as text", |b| b.iter(|| attributes(black_box(&request))));
    group.bench_function("validate", |b| b.iter(|| validate::traces(black_box(&request))));
    group.bench_function("split into 16", |b| b.iter(|| split::traces(black_box(&request), 16)));
    group.bench_function("prost decode", |b| {
        b.iter(|| ExportTraceServiceRequest::decode(black_box(&request[..])));
    });
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
