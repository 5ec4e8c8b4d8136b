//! Requests of a plausible shop of services: spans of about 436 bytes with 8 attributes, 512 to a request.

use afflux_bus::{Generation, Headers, PartitionId, Received};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status, span::Event};
use prost::Message;

/// Nanoseconds since the Unix epoch at which the corpus begins.
const START: u64 = 1_760_000_000_000_000_000;
const SERVICES: [&str; 12] = [
    "frontend",
    "cart",
    "checkout",
    "payment",
    "shipping",
    "currency",
    "catalog",
    "recommendation",
    "email",
    "ads",
    "inventory",
    "fraud",
];
const PATHS: [&str; 8] =
    ["/", "/cart", "/cart/items", "/checkout", "/product/{id}", "/api/v1/orders", "/api/v1/orders/{id}", "/healthz"];

/// A seeded source of numbers (SplitMix64).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

fn text(key: &str, value: impl Into<String>) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn int(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::IntValue(value)) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn resource(service: usize, pod: usize) -> Resource {
    let name = SERVICES[service];
    let attributes = vec![
        text("service.name", name),
        text("service.version", format!("1.{}.{}", service, pod % 3)),
        text("service.instance.id", format!("{name}-6d4cf56db6-{pod:05x}")),
        text("k8s.cluster.name", "eu-1"),
        text("k8s.namespace.name", "shop"),
        text("k8s.pod.name", format!("{name}-6d4cf56db6-{pod:05x}")),
        text("k8s.node.name", format!("node-{:02}", pod % 20)),
        text("telemetry.sdk.language", "go"),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.version", "1.38.0"),
    ];
    Resource { attributes, ..Resource::default() }
}

fn span(random: &mut Random, trace_id: &[u8], parent: &[u8], start: u64) -> Span {
    let path = PATHS[random.below(PATHS.len())];
    let status = if random.below(50) == 0 { 500 } else { 200 };
    // A tail of long ones.
    let duration = 200_000 + random.next() % 2_000_000 * (1 + u64::from(random.below(20) == 0) * 50);
    let attributes = vec![
        text("http.request.method", ["GET", "POST", "PUT"][random.below(3)]),
        text("http.route", path),
        text("url.path", path.replace("{id}", &random.below(100_000).to_string())),
        int("http.response.status_code", status),
        text("server.address", format!("{}.shop.svc.cluster.local", SERVICES[random.below(12)])),
        int("server.port", 8080),
        text("network.peer.address", format!("10.{}.{}.{}", random.below(4), random.below(256), random.below(256))),
        text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0"),
    ];
    let failed = status == 500;
    let exception = Event {
        time_unix_nano: start + duration,
        name: "exception".into(),
        attributes: vec![text("exception.type", "TimeoutError"), text("exception.message", "deadline exceeded")],
        ..Event::default()
    };
    Span {
        trace_id: trace_id.to_vec(),
        span_id: random.next().to_be_bytes().to_vec(),
        parent_span_id: parent.to_vec(),
        flags: 0x101,
        name: format!("GET {path}"),
        kind: 1 + random.below(3) as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start + duration,
        attributes,
        events: if failed { vec![exception] } else { Vec::new() },
        status: Some(Status { code: if failed { 2 } else { 0 }, ..Status::default() }),
        ..Span::default()
    }
}

/// A request of 512 spans of one service and pod; traces have about eight spans.
fn request(random: &mut Random, clock: &mut u64) -> ExportTraceServiceRequest {
    let service = random.below(SERVICES.len());
    let pod = random.below(3) * 4099 + service;
    let mut spans = Vec::new();
    while spans.len() < 512 {
        let trace_id: Vec<u8> = [random.next().to_be_bytes(), random.next().to_be_bytes()].concat();
        let mut parent = Vec::new();
        for _ in 0..1 + random.below(15) {
            *clock += random.next() % 20_000;
            let late = random.next() % 5_000_000;
            let span = span(random, &trace_id, &parent, *clock - late);
            parent = span.span_id.clone();
            spans.push(span);
        }
    }
    spans.truncate(512);
    let scope = InstrumentationScope {
        name: "go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp".into(),
        version: "0.63.0".into(),
        ..InstrumentationScope::default()
    };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
    let schema_url = "https://opentelemetry.io/schemas/1.37.0".into();
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource: Some(resource(service, pod)), scope_spans, schema_url }],
    }
}

/// Bus records of at least that many spans.
pub fn spans(count: usize) -> Vec<Received> {
    let mut random = Random(42);
    let mut clock = START;
    (0..count.div_ceil(512))
        .map(|offset| Received {
            from: PartitionId::new("afflux.spans", 0),
            generation: Generation(1),
            offset: offset as u64,
            timestamp_ms: (clock / 1_000_000) as i64,
            key: None,
            value: Some(request(&mut random, &mut clock).encode_to_vec().into()),
            headers: Headers::new(),
        })
        .collect()
}
