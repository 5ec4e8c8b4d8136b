//! A running receiver, clients, and requests to send.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use afflux_runtime::admin::{HealthTable, State};
use afflux_runtime::config::{ByteSize, Period};
use afflux_runtime::{Context, Metrics};
use afflux_schemas::topics::Topics;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::bus::{FakeBus, Handle};
use crate::otlp::config::{GrpcListener, HttpListener, Limits};
use crate::otlp::server::Protocol;
use crate::otlp::{NAME, OtlpConfig, OtlpError, OtlpReceiver};

/// More than any test takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const TRACES: &str = "/v1/traces";
pub(crate) const LOGS: &str = "/v1/logs";
pub(crate) const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

pub(crate) struct Server {
    pub(crate) http: SocketAddr,
    pub(crate) grpc: SocketAddr,
    pub(crate) bus: Arc<FakeBus>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) health: HealthTable,
    pub(crate) shutdown: CancellationToken,
    pub(crate) task: JoinHandle<Result<(), OtlpError>>,
    http_client: Client<HttpConnector, Full<Bytes>>,
    grpc_client: Client<HttpConnector, Full<Bytes>>,
}

impl Server {
    /// A receiver for a bus of 4 partitions.
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    /// A receiver with other limits.
    pub(crate) async fn with(adjust: impl FnOnce(&mut Limits)) -> Self {
        Self::on(FakeBus::new(4), adjust).await
    }

    pub(crate) async fn on(bus: Arc<FakeBus>, adjust: impl FnOnce(&mut Limits)) -> Self {
        let any = Some("127.0.0.1:0".parse().unwrap());
        let mut limits = Limits { ack_timeout: Period(PATIENCE), ..Limits::default() };
        adjust(&mut limits);
        let config = OtlpConfig { grpc: GrpcListener { listen: any }, http: HttpListener { listen: any }, limits };
        let receiver = OtlpReceiver::new(config, Topics::default(), Some("c1".into())).unwrap();
        let health = HealthTable::default();
        let context = Context {
            bus: Arc::new(Handle(Arc::clone(&bus))),
            metrics: Arc::new(Metrics::new()),
            health: health.component(NAME),
            shutdown: CancellationToken::new(),
        };
        let listeners = receiver.bind().await.unwrap();
        let address = |wanted: Protocol| {
            let found = listeners.iter().find(|(protocol, _)| protocol.key() == wanted.key()).unwrap();
            found.1.local_addr().unwrap()
        };
        Self {
            http: address(Protocol::Http),
            grpc: address(Protocol::Grpc),
            bus,
            metrics: Arc::clone(&context.metrics),
            health,
            shutdown: context.shutdown.clone(),
            task: tokio::spawn(receiver.serve(listeners, context)),
            http_client: Client::builder(TokioExecutor::new()).build(prompt()),
            grpc_client: Client::builder(TokioExecutor::new()).http2_only(true).build(prompt()),
        }
    }

    /// Sends a POST and waits for the answer.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        self.send("POST", path, headers, body).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let response = self.http_client.request(request(method, self.http, path, headers, body.into()));
        Answer::of(tokio::time::timeout(PATIENCE, response).await.expect("an answer").unwrap()).await
    }

    /// Makes a gRPC call with the bytes of its body as they are.
    pub(crate) async fn call(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut all = vec![("te", "trailers")];
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            all.push(("content-type", "application/grpc"));
        }
        all.extend_from_slice(headers);
        let response = self.grpc_client.request(request("POST", self.grpc, path, &all, body.into()));
        Answer::of(tokio::time::timeout(PATIENCE, response).await.expect("an answer").unwrap()).await
    }

    pub(crate) fn state(&self) -> State {
        self.health.snapshot()[NAME].clone()
    }

    /// Whether the metrics hold that line.
    pub(crate) fn metric(&self, line: &str) -> bool {
        self.metrics.encode().lines().any(|found| found == line)
    }

    /// Stops the receiver and gives what it returned.
    pub(crate) async fn stop(self) -> Result<(), OtlpError> {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("the receiver stops").unwrap()
    }

    /// Every span on the bus, by span id.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut spans = Vec::new();
        for record in self.bus.records() {
            assert_eq!(&*record.to.topic, "afflux.ingest.spans");
            let request = ExportTraceServiceRequest::decode(record.value.unwrap()).unwrap();
            let count = spans.len();
            for resource in request.resource_spans {
                assert_eq!(resource.resource, Some(resource_of("shop")));
                spans.extend(resource.scope_spans.into_iter().flat_map(|scope| scope.spans));
            }
            let items = (spans.len() - count).to_string();
            assert_eq!(record.headers.get("afflux-items").unwrap(), items.as_bytes());
        }
        spans.sort_by(|a, b| a.span_id.cmp(&b.span_id));
        spans
    }
}

/// Connects without Nagle's algorithm, which waits 40 ms for an acknowledgement between head and body.
fn prompt() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

fn request(
    method: &str,
    address: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Request<Full<Bytes>> {
    let request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(Full::new(body)).unwrap()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) trailers: HeaderMap,
}

impl Answer {
    async fn of(response: http::Response<hyper::body::Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Self { status: head.status, headers: head.headers, body: collected.to_bytes(), trailers }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The status of a call, wherever it stands.
    pub(crate) fn grpc_status(&self) -> &str {
        let status = self.trailers.get("grpc-status").or_else(|| self.headers.get("grpc-status"));
        status.expect("a grpc-status").to_str().unwrap()
    }

    /// The JSON of the body.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }
}

pub(crate) fn resource_of(service: &str) -> Resource {
    let value = Some(AnyValue { value: Some(Value::StringValue(service.into())) });
    let attribute = KeyValue { key: "service.name".into(), value, ..KeyValue::default() };
    Resource { attributes: vec![attribute], ..Resource::default() }
}

/// A span with ids made of the number.
pub(crate) fn span(n: u64) -> Span {
    Span {
        trace_id: (u128::from(n + 1) << 64 | 7).to_be_bytes().to_vec(),
        span_id: (n + 1).to_be_bytes().to_vec(),
        name: format!("GET /{n}"),
        start_time_unix_nano: 1_700_000_000_000_000_000 + n,
        end_time_unix_nano: 1_700_000_000_000_001_000 + n,
        ..Span::default()
    }
}

pub(crate) fn traces_of(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource = ResourceSpans { resource: Some(resource_of("shop")), scope_spans, ..ResourceSpans::default() };
    ExportTraceServiceRequest { resource_spans: vec![resource] }
}

pub(crate) fn traces(n: u64) -> ExportTraceServiceRequest {
    traces_of((0..n).map(span).collect())
}

pub(crate) fn logs(n: u64) -> ExportLogsServiceRequest {
    let log_records = (0..n).map(|n| LogRecord { time_unix_nano: n + 1, ..LogRecord::default() }).collect();
    let scope_logs = vec![ScopeLogs { log_records, ..ScopeLogs::default() }];
    let resource = ResourceLogs { resource: Some(resource_of("shop")), scope_logs, ..ResourceLogs::default() };
    ExportLogsServiceRequest { resource_logs: vec![resource] }
}

pub(crate) fn bytes(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

pub(crate) fn gzip(bytes: &[u8]) -> Bytes {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap().into()
}

pub(crate) fn zstd(bytes: &[u8]) -> Bytes {
    zstd::encode_all(bytes, 3).unwrap().into()
}

/// A gRPC message with that flag.
pub(crate) fn frame(flag: u8, message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat().into()
}

/// Limits as small as they can be together.
pub(crate) fn small(limits: &mut Limits, request: u64, decompressed: u64) {
    limits.request_bytes = ByteSize(request);
    limits.decompressed_bytes = ByteSize(decompressed);
    limits.in_flight_bytes = ByteSize(decompressed * 4);
}
