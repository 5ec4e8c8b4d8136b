//! Attempts over the loopback, against a server that tonic and prost make of the protocol's own definition.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use axum::response::{IntoResponse as _, Response as HttpResponse};
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::metadata::MetadataMap;
use tonic::{Request as Call, Response, Status};

use super::*;

type Calls = Arc<Mutex<Vec<(MetadataMap, ExportTraceServiceRequest)>>>;
type Answers = Arc<Mutex<VecDeque<Result<ExportTraceServiceResponse, Status>>>>;

/// Answers as told, and with success when not told otherwise.
#[derive(Clone, Default)]
struct Server {
    calls: Calls,
    answers: Answers,
    url: String,
}

#[tonic::async_trait]
impl TraceService for Server {
    async fn export(
        &self,
        call: Call<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let (metadata, _, request) = call.into_parts();
        self.calls.lock().unwrap().push((metadata, request));
        self.answers.lock().unwrap().pop_front().unwrap_or_else(|| Ok(Default::default())).map(Response::new)
    }
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self { url: format!("http://{}", listener.local_addr().unwrap()), ..Self::default() };
        let service = TraceServiceServer::new(server.clone()).accept_compressed(CompressionEncoding::Gzip);
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        server
    }

    fn answers(&self, answer: Result<ExportTraceServiceResponse, Status>) {
        self.answers.lock().unwrap().push_back(answer);
    }

    fn last(&self) -> (MetadataMap, ExportTraceServiceRequest) {
        self.calls.lock().unwrap().last().unwrap().clone()
    }
}

/// A server over HTTP that keeps what it was sent last.
async fn http_server(status: u16) -> (String, Arc<Mutex<(HeaderMap, Bytes)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let last = Arc::new(Mutex::default());
    let kept = Arc::clone(&last);
    let keep = move |headers: HeaderMap, body: Bytes| {
        *kept.lock().unwrap() = (headers, body);
        let answer: HttpResponse = http::StatusCode::from_u16(status).unwrap().into_response();
        std::future::ready(answer)
    };
    let router = axum::Router::new().route("/v1/traces", axum::routing::post(keep));
    tokio::spawn(axum::serve(listener, router).into_future());
    (url, last)
}

fn spans(number: u8) -> ExportTraceServiceRequest {
    let span = Span { trace_id: vec![number; 16], span_id: vec![number; 8], ..Span::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

fn batch(tenant: Option<&str>) -> Batch {
    let record = |number: u8| Received {
        from: PartitionId::new("spans", 0),
        generation: Generation(0),
        offset: number.into(),
        timestamp_ms: 0,
        key: None,
        value: Some(spans(number).encode_to_vec().into()),
        headers: Headers::new(),
    };
    Batch { kind: Kind::Spans, tenant: tenant.map(Arc::from), replay: false, records: vec![record(1), record(2)] }
}

fn joined() -> ExportTraceServiceRequest {
    ExportTraceServiceRequest { resource_spans: [spans(1), spans(2)].map(|part| part.resource_spans).concat() }
}

fn tempo(config: TempoConfig) -> Tempo {
    Tempo::new(&config, &Topics::default()).unwrap()
}

async fn attempt(tempo: &Tempo, tenant: Option<&str>) -> Answer {
    let encoded = tempo.encode(&batch(tenant));
    tempo.attempt(&encoded.requests[0], 0).await
}

#[tokio::test]
async fn records_become_one_call_with_all_of_their_spans() {
    let server = Server::start().await;
    for compression in [Compression::None, Compression::Gzip] {
        let tempo = tempo(TempoConfig { endpoint: server.url.clone(), compression, ..TempoConfig::default() });
        assert_eq!(attempt(&tempo, None).await, Answer::Stored);
        let (metadata, request) = server.last();
        assert_eq!(request, joined());
        assert!(!metadata.contains_key("x-scope-orgid") && !metadata.contains_key("authorization"));
        let encoding = metadata.get("grpc-encoding").map(|value| value.to_str().unwrap());
        assert_eq!(encoding, (compression == Compression::Gzip).then_some("gzip"));
    }
}

#[tokio::test]
async fn what_tonic_answers_is_understood() {
    let server = Server::start().await;
    let tempo = tempo(TempoConfig { endpoint: server.url.clone(), ..TempoConfig::default() });
    let partial = ExportTracePartialSuccess { rejected_spans: 3, error_message: "wär".into() };
    server.answers(Ok(ExportTraceServiceResponse { partial_success: Some(partial) }));
    assert_eq!(attempt(&tempo, None).await, Answer::PartlyStored { rejected: 3, error: "wär".into() });
    // A `google.rpc.Status` with a `RetryInfo` of five seconds.
    let any = b"\x0a\x28type.googleapis.com/google.rpc.RetryInfo\x12\x04\x0a\x02\x08\x05";
    let details = [&[8, 8, 0x1a, u8::try_from(any.len()).unwrap()], &any[..]].concat();
    server.answers(Err(Status::with_details(tonic::Code::ResourceExhausted, "späti", details.into())));
    let (error, after) = ("gRPC status 8: späti".to_owned(), Some(Duration::from_secs(5)));
    assert_eq!(attempt(&tempo, None).await, Answer::Later { reason: "rate_limited", error, after });
    server.answers(Err(Status::invalid_argument("bad ids")));
    let error = "gRPC status 3: bad ids".to_owned();
    assert_eq!(attempt(&tempo, None).await, Answer::Refused { reason: "refused", error });
    server.answers(Err(Status::unavailable("later")));
    assert!(matches!(attempt(&tempo, None).await, Answer::Later { reason: "unavailable", .. }));
}

#[tokio::test]
async fn a_message_that_is_too_large_for_tonic_is_refused_and_not_sent_for_ever() {
    let server = Server::start().await;
    let tempo = tempo(TempoConfig { endpoint: server.url.clone(), ..TempoConfig::default() });
    let mut batch = batch(None);
    let name = "n".repeat(5 << 20);
    let mut large = spans(1);
    large.resource_spans[0].scope_spans[0].spans[0].name = name;
    batch.records[0].value = Some(large.encode_to_vec().into());
    let encoded = tempo.encode(&batch);
    let answer = tempo.attempt(&encoded.requests[0], 0).await;
    assert!(matches!(&answer, Answer::Refused { reason: "too_large", .. }), "{answer:?}");
}

#[tokio::test]
async fn spans_over_http_go_to_their_path_with_their_type() {
    let (endpoint, last) = http_server(200).await;
    for compression in [Compression::None, Compression::Gzip] {
        let protocol = Protocol::Http;
        let tempo = tempo(TempoConfig { endpoint: endpoint.clone(), protocol, compression, ..TempoConfig::default() });
        assert_eq!(attempt(&tempo, Some("a")).await, Answer::Stored);
        let (headers, body) = last.lock().unwrap().clone();
        assert_eq!(
            (&headers["content-type"], &headers["x-scope-orgid"]),
            (&"application/x-protobuf".parse().unwrap(), &"a".parse().unwrap())
        );
        let zipped = headers.get("content-encoding").is_some_and(|encoding| encoding == "gzip");
        assert_eq!(zipped, compression == Compression::Gzip);
        let mut plain = Vec::new();
        if zipped {
            std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&*body), &mut plain).unwrap();
        } else {
            plain = body.to_vec();
        }
        assert_eq!(ExportTraceServiceRequest::decode(&*plain).unwrap(), joined());
    }
}

#[tokio::test]
async fn the_configured_tenant_stands_above_that_of_records() {
    let server = Server::start().await;
    for (configured, of_record, sent) in [
        (None, None, None),
        (None, Some("record"), Some("record")),
        (Some(""), Some("record"), Some("record")),
        (Some("config"), None, Some("config")),
        (Some("config"), Some("record"), Some("config")),
        (Some("config"), Some("no\nheader"), Some("config")),
    ] {
        let tenant = configured.map(str::to_owned);
        let tempo = tempo(TempoConfig { endpoint: server.url.clone(), tenant, ..TempoConfig::default() });
        assert_eq!(attempt(&tempo, of_record).await, Answer::Stored);
        let (metadata, _) = server.last();
        assert_eq!(metadata.get("x-scope-orgid").map(|value| value.to_str().unwrap()), sent);
    }
    let tempo = tempo(TempoConfig { endpoint: server.url.clone(), ..TempoConfig::default() });
    let answer = attempt(&tempo, Some("no\nheader")).await;
    assert!(matches!(&answer, Answer::Refused { reason: "bad_tenant", .. }), "{answer:?}");
}

#[tokio::test]
async fn a_defect_is_one_of_the_request_only_where_others_are_stored() {
    let server = Server::start().await;
    let tempo = tempo(TempoConfig { endpoint: server.url.clone(), ..TempoConfig::default() });
    let (bad, good) = (tempo.encode(&batch(None)), tempo.encode(&batch(None)));
    for attempt in 0..20 {
        server.answers(Err(Status::internal("defect")));
        let answer = tempo.attempt(&bad.requests[0], attempt).await;
        assert!(matches!(answer, Answer::Later { reason: "server_error", .. }), "attempt {attempt}: {answer:?}");
    }
    assert_eq!(tempo.attempt(&good.requests[0], 0).await, Answer::Stored);
    server.answers(Err(Status::internal("defect")));
    let answer = tempo.attempt(&bad.requests[0], 63).await;
    assert!(matches!(answer, Answer::Refused { reason: "server_error", .. }), "{answer:?}");
}

#[test]
fn what_cannot_work_is_named_by_its_key() {
    let with = |change: fn(&mut TempoConfig)| {
        let mut config = TempoConfig { endpoint: "http://a:4317".into(), ..TempoConfig::default() };
        change(&mut config);
        Tempo::new(&config, &Topics::default()).err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(with(|_| {}), "");
    for (change, expected) in [
        (with(|config| config.endpoint = "a:4317".into()), "sinks.tempo.endpoint: `a:4317` begins with neither"),
        (with(|config| config.tenant = Some("a\nb".into())), "sinks.tempo.tenant: `a\nb` has characters"),
        (with(|config| config.proxy = Some("http://p:1".into())), "sinks.tempo.proxy: only HTTP/1 and TLS"),
        (with(|config| config.delivery.concurrency = 0), "sinks.tempo.delivery.concurrency: `0` is too few"),
    ] {
        assert!(change.starts_with(expected), "{change} instead of {expected}");
    }
    for (yaml, problem) in [
        (r#"{"endpoint": "http://a", "protocol": "thrift"}"#, "unknown variant `thrift`"),
        (r#"{"endpoint": "http://a", "compression": "zip"}"#, "unknown variant `zip`"),
        (r#"{"endpint": "http://a"}"#, "unknown field `endpint`"),
    ] {
        let error = serde_json::from_str::<TempoConfig>(yaml).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}

#[test]
fn without_an_endpoint_there_is_no_sink() {
    assert!(super::super::sink(&TempoConfig::default(), &Topics::default()).unwrap().is_none());
}
