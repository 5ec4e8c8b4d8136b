use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;

use ::http::HeaderMap;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::TcpListener;

use super::*;

/// What the receiver says to its next request of traces; without a script it accepts.
#[derive(Clone, Copy, Debug)]
enum Say {
    Busy,
    Wrong,
    RejectOne,
    /// Store the spans, then hide it.
    StoreAndFail,
}

/// A receiver that remembers what it took.
#[derive(Clone, Default)]
struct Receiver(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    script: VecDeque<Say>,
    span_ids: Vec<(Vec<u8>, Vec<u8>)>,
    log_records: u64,
    /// Tenants that requests of either signal named.
    tenants: Vec<String>,
    /// How long it takes to answer.
    delay: Duration,
}

impl Receiver {
    fn saying(script: &[Say]) -> Self {
        let receiver = Self::default();
        receiver.0.lock().unwrap().script.extend(script);
        receiver
    }

    fn traces(&self, request: ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Say> {
        let mut taken = self.0.lock().unwrap();
        let say = taken.script.pop_front();
        if matches!(say, None | Some(Say::RejectOne | Say::StoreAndFail)) {
            let scopes = request.resource_spans.into_iter().flat_map(|resource| resource.scope_spans);
            taken.span_ids.extend(scopes.flat_map(|scope| scope.spans).map(|span| (span.trace_id, span.span_id)));
        }
        match say {
            None => Ok(ExportTraceServiceResponse::default()),
            Some(Say::RejectOne) => {
                let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "one is bad".into() };
                Ok(ExportTraceServiceResponse { partial_success: Some(partial) })
            }
            Some(say) => Err(say),
        }
    }

    fn logs(&self, request: ExportLogsServiceRequest) {
        let scopes = request.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
        self.0.lock().unwrap().log_records += scopes.map(|scope| scope.log_records.len() as u64).sum::<u64>();
    }

    /// Takes note of a request's headers, and takes its time.
    async fn receive(&self, headers: &HeaderMap) {
        let delay = {
            let mut taken = self.0.lock().unwrap();
            taken.tenants.extend(headers.get("x-scope-orgid").map(|tenant| tenant.to_str().unwrap().to_owned()));
            taken.delay
        };
        tokio::time::sleep(delay).await;
    }

    async fn serve(&self, protocol: Protocol) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        match protocol {
            Protocol::Http => {
                let traces = async |State(receiver): State<Self>, headers: HeaderMap, body: Bytes| {
                    receiver.receive(&headers).await;
                    let request = ExportTraceServiceRequest::decode(body).unwrap();
                    match receiver.traces(request) {
                        Ok(response) => response.encode_to_vec().into_response(),
                        Err(Say::Wrong) => ::http::StatusCode::BAD_REQUEST.into_response(),
                        Err(_) => (::http::StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")]).into_response(),
                    }
                };
                let logs = async |State(receiver): State<Self>, headers: HeaderMap, body: Bytes| -> Response {
                    receiver.receive(&headers).await;
                    receiver.logs(ExportLogsServiceRequest::decode(body).unwrap());
                    ExportLogsServiceResponse::default().encode_to_vec().into_response()
                };
                let app = Router::new().route("/v1/traces", post(traces)).route("/v1/logs", post(logs));
                tokio::spawn(axum::serve(listener, app.with_state(self.clone())).into_future());
            }
            Protocol::Grpc => {
                let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
                let server = tonic::transport::Server::builder()
                    .add_service(TraceServiceServer::new(self.clone()))
                    .add_service(LogsServiceServer::new(self.clone()));
                tokio::spawn(server.serve_with_incoming(incoming));
            }
        }
        target(protocol, address)
    }

    /// Distinct spans, after checking that none came twice.
    fn spans(&self) -> HashSet<String> {
        let taken = self.0.lock().unwrap();
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let spans: HashSet<_> =
            taken.span_ids.iter().map(|(trace, span)| format!("{} {}", hex(trace), hex(span))).collect();
        assert_eq!(spans.len(), taken.span_ids.len(), "a span was stored twice");
        spans
    }
}

#[tonic::async_trait]
impl TraceService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.receive(&request.metadata().clone().into_headers()).await;
        self.traces(request.into_inner()).map(tonic::Response::new).map_err(|say| match say {
            Say::Wrong => tonic::Status::invalid_argument("wrong"),
            _ => tonic::Status::unavailable("busy"),
        })
    }
}

#[tonic::async_trait]
impl LogsService for Receiver {
    async fn export(
        &self,
        request: tonic::Request<ExportLogsServiceRequest>,
    ) -> Result<tonic::Response<ExportLogsServiceResponse>, tonic::Status> {
        self.receive(&request.metadata().clone().into_headers()).await;
        self.logs(request.into_inner());
        Ok(tonic::Response::new(ExportLogsServiceResponse::default()))
    }
}

fn target(protocol: Protocol, address: SocketAddr) -> Target {
    Target::new(protocol, &address.to_string()).unwrap()
}

/// So many spans, as fast as possible.
fn spans(spans: u64) -> GenerateConfig {
    GenerateConfig { rate: 0, spans: Some(spans), seed: Some(1), request_spans: 100, ..GenerateConfig::default() }
}

async fn sent(config: &GenerateConfig, target: &Target) -> Report {
    run(config, target, CancellationToken::new(), |_| {}).await.unwrap()
}

const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::Http];

#[tokio::test]
async fn what_is_acknowledged_is_what_the_receiver_has() {
    for protocol in BOTH {
        let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::default());
        let acked_file = dir.path().join("acked");
        let config = GenerateConfig { acked_file: Some(acked_file.clone()), ..spans(1_000) };
        let report = sent(&config, &receiver.serve(protocol).await).await;
        let stored = receiver.spans();
        assert_eq!(report.spans, Counts { sent: stored.len() as u64, acked: stored.len() as u64, refused: 0 });
        assert!((1_000..1_100).contains(&report.spans.sent), "the last traces are completed: {}", report.spans.sent);
        assert_eq!(report.log_records.acked, receiver.0.lock().unwrap().log_records);
        assert!(report.log_records.acked > 50 && report.problem.is_none() && report.bytes > 400_000, "{report:?}");
        let lines: HashSet<_> = std::fs::read_to_string(acked_file).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(lines, stored, "{protocol}");
    }
}

#[tokio::test]
async fn a_busy_receiver_gets_the_request_again_until_it_takes_it() {
    for protocol in BOTH {
        let receiver = Receiver::saying(&[Say::Busy, Say::Busy, Say::Busy]);
        let report = sent(&spans(500), &receiver.serve(protocol).await).await;
        assert_eq!(report.spans.acked, report.spans.sent);
        assert_eq!(report.retries, 3);
        assert!(report.problem.is_some());
        assert_eq!(receiver.spans().len() as u64, report.spans.sent);
    }
}

#[tokio::test]
async fn without_resending_every_span_is_stored_at_most_once() {
    for protocol in BOTH {
        let receiver = Receiver::saying(&[Say::StoreAndFail, Say::Busy]);
        let config = GenerateConfig { resend: false, logs: false, concurrency: 1, ..spans(500) };
        let report = sent(&config, &receiver.serve(protocol).await).await;
        assert_eq!(report.spans.unanswered(), 200);
        let stored = receiver.spans().len() as u64;
        assert_eq!((stored, report.retries), (report.spans.acked + 100, 0), "one request was stored unseen");
    }
}

#[tokio::test]
async fn refused_spans_are_counted_and_not_sent_again() {
    for protocol in BOTH {
        let (dir, receiver) = (tempfile::tempdir().unwrap(), Receiver::saying(&[Say::Wrong, Say::RejectOne]));
        let acked_file = dir.path().join("acked");
        let config = GenerateConfig { acked_file: Some(acked_file.clone()), concurrency: 1, ..spans(500) };
        let report = sent(&config, &receiver.serve(protocol).await).await;
        assert_eq!((report.spans.refused, report.spans.unanswered()), (101, 0));
        let lines = std::fs::read_to_string(acked_file).unwrap().lines().count() as u64;
        assert_eq!(lines, report.spans.sent - 200, "neither the refused nor the partly rejected request is listed");
    }
}

#[tokio::test]
async fn shutdown_gives_up_on_a_receiver_that_is_away() {
    for protocol in BOTH {
        // Bound and dropped: nobody listens there.
        let address = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let (shutdown, config) = (CancellationToken::new(), GenerateConfig { concurrency: 4, ..spans(100_000) });
        let stop = shutdown.clone();
        // Called at once, then every second: by then every place is taken by a request that is tried again.
        let progress = move |report: &Report| {
            if report.retries > 0 {
                stop.cancel();
            }
        };
        let report = run(&config, &target(protocol, address), shutdown, progress).await.unwrap();
        assert_eq!(report.spans.acked, 0);
        assert!(report.spans.unanswered() > 0 && report.retries > 0);
        assert!(report.problem.is_some_and(|problem| problem.contains("refused")));
    }
}

#[tokio::test]
async fn a_run_ends_after_its_duration() {
    let receiver = Receiver::default();
    let duration = Some(afflux_runtime::config::Period(Duration::from_millis(300)));
    let config = GenerateConfig { rate: 1_000, spans: None, duration, ..spans(0) };
    let report = sent(&config, &receiver.serve(Protocol::Grpc).await).await;
    assert!((100..=500).contains(&report.spans.sent), "{report:?}");
    assert_eq!(report.spans.acked, report.spans.sent);
}

#[tokio::test]
async fn headers_go_with_every_request() {
    for protocol in BOTH {
        let receiver = Receiver::default();
        let target = receiver.serve(protocol).await.with_header("x-scope-orgid=team-a").unwrap();
        let report = sent(&spans(200), &target).await;
        assert_eq!(report.spans.acked, report.spans.sent, "{protocol}");
        let tenants = receiver.0.lock().unwrap().tenants.clone();
        assert_eq!(tenants, vec!["team-a"; report.requests as usize], "{protocol}");
    }
}

#[tokio::test]
async fn the_last_requests_may_take_as_long_as_any() {
    let receiver = Receiver::default();
    receiver.0.lock().unwrap().delay = Duration::from_secs(6);
    let report = sent(&spans(100), &receiver.serve(Protocol::Http).await).await;
    assert_eq!(report.spans.unanswered() + report.log_records.unanswered(), 0, "{report:?}");
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_named() {
    let config = GenerateConfig { acked_file: Some("/nowhere/acked".into()), ..spans(1) };
    let target = Target::new(Protocol::Grpc, "127.0.0.1:1").unwrap();
    let error = run(&config, &target, CancellationToken::new(), |_| {}).await.unwrap_err();
    assert!(error.to_string().starts_with("acked_file /nowhere/acked cannot be written"), "{error}");
}
