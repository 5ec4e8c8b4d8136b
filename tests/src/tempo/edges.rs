//! The two protocols.

use std::io::Read as _;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, Extension, State as Shared};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request, Status};

use super::State;
use super::rules::{Outcome, Refusal};
use super::serve::Connection;

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

impl Refusal {
    fn status(&self) -> RpcStatus {
        let info = |after: std::time::Duration| Any {
            type_url: "type.googleapis.com/google.rpc.RetryInfo".into(),
            value: RetryInfo {
                retry_delay: Some(Delay {
                    seconds: after.as_secs().cast_signed(),
                    nanos: after.subsec_nanos().cast_signed(),
                }),
            }
            .encode_to_vec(),
        };
        let details = self.retry_after.map(info).into_iter().collect();
        RpcStatus { code: self.code as i32, message: self.message.clone(), details }
    }
}

/// All that is served.
pub(super) fn router(state: &Arc<State>) -> axum::Router {
    let service = TraceServiceServer::new(Grpc(Arc::clone(state)))
        .accept_compressed(CompressionEncoding::Gzip)
        // The limit is ours: tonic's own answers otherwise than Go's.
        .max_decoding_message_size(usize::MAX);
    let http = axum::Router::new()
        .route("/v1/traces", post(http).layer(DefaultBodyLimit::disable()))
        .with_state(Arc::clone(state));
    tonic::service::Routes::new(service).into_axum_router().merge(http)
}

/// OTLP over gRPC.
struct Grpc(Arc<State>);

#[tonic::async_trait]
impl TraceService for Grpc {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, Status> {
        let connection = request.extensions().get::<Connection>().cloned();
        let headers = request.metadata().clone().into_headers();
        match end(self.0.export(&headers, request.into_inner()), connection).await {
            Ok(response) => Ok(tonic::Response::new(response)),
            Err(refusal) => {
                let details = match refusal.retry_after {
                    Some(_) => refusal.status().encode_to_vec(),
                    None => Vec::new(),
                };
                Err(Status::with_details(refusal.code, refusal.message, details.into()))
            }
        }
    }
}

/// OTLP over HTTP, in protobuf.
async fn http(
    Shared(state): Shared<Arc<State>>,
    Extension(connection): Extension<Connection>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/x-protobuf") {
        return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response();
    }
    let mut bytes = Vec::new();
    let read = match headers.get(header::CONTENT_ENCODING) {
        None => body.as_ref().read_to_end(&mut bytes),
        Some(encoding) if encoding == "gzip" => flate2::read::GzDecoder::new(&*body).read_to_end(&mut bytes),
        Some(_) => return StatusCode::UNSUPPORTED_MEDIA_TYPE.into_response(),
    };
    let request = read.ok().and_then(|_| ExportTraceServiceRequest::decode(&*bytes).ok());
    let Some(request) = request else {
        let status = RpcStatus { code: Code::InvalidArgument as i32, message: "not OTLP".into(), details: Vec::new() };
        return protobuf(StatusCode::BAD_REQUEST, &status);
    };
    match end(state.export(&headers, request), Some(connection)).await {
        Ok(response) => protobuf(StatusCode::OK, &response),
        Err(refusal) => {
            // What cannot be read is a bad request here.
            let unreadable = refusal.message.contains("unmarshal");
            let status = if unreadable { StatusCode::BAD_REQUEST } else { http_status(refusal.code) };
            let mut response = protobuf(status, &refusal.status());
            if let Some(after) = refusal.retry_after {
                response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
            }
            response
        }
    }
}

/// As the Collector's receiver maps them.
fn http_status(code: Code) -> StatusCode {
    match code {
        Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
        Code::InvalidArgument => StatusCode::BAD_REQUEST,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

fn protobuf(status: StatusCode, message: &impl Message) -> Response {
    (status, [(header::CONTENT_TYPE, "application/x-protobuf")], message.encode_to_vec()).into_response()
}

/// The answer, if there is one: otherwise the connection ends, or nothing ever comes.
async fn end(outcome: Outcome, connection: Option<Connection>) -> Result<ExportTraceServiceResponse, Refusal> {
    let reset = match outcome {
        Outcome::Answer(answer) => return answer,
        Outcome::Reset => true,
        Outcome::Close => false,
        Outcome::Hang => return std::future::pending().await,
    };
    connection.iter().for_each(|connection| connection.end(reset));
    std::future::pending().await
}
