//! OTLP over gRPC: generated clients, and what they would never send.

#![allow(clippy::type_complexity)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use prost::Message;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;

use super::harness::{Answer, Server, bytes, frame, gzip, logs, span, traces, traces_of, zstd};
use crate::otlp::answer::Status;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

async fn channel(server: &Server) -> Channel {
    Channel::from_shared(format!("http://{}", server.grpc)).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn generated_clients_store_spans_and_logs_in_every_compression() {
    for encoding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let server = Server::start().await;
        let mut client = TraceServiceClient::new(channel(&server).await);
        if let Some(encoding) = encoding {
            client = client.send_compressed(encoding);
        }
        let answer = client.export(traces(500)).await.unwrap();
        assert_eq!(answer.into_inner().partial_success, None);
        assert_eq!(server.spans(), (0..500).map(span).collect::<Vec<_>>(), "{encoding:?}");
        server.stop().await.unwrap();
    }
    let server = Server::start().await;
    let mut request = tonic::Request::new(logs(3));
    request.metadata_mut().insert("x-scope-orgid", "team-a".parse().unwrap());
    LogsServiceClient::new(channel(&server).await).export(request).await.unwrap();
    let [record] = &server.bus.records()[..] else { panic!("one record") };
    assert_eq!(&*record.to.topic, "afflux.ingest.logs");
    assert_eq!(record.value.as_ref().unwrap(), &bytes(&logs(3)));
    assert_eq!(record.headers.get("afflux-tenant").unwrap(), "team-a");
}

#[tokio::test]
async fn spans_with_invalid_ids_are_named_and_the_others_stored() {
    let mut short = span(1);
    short.trace_id.pop();
    let server = Server::start().await;
    let answer = TraceServiceClient::new(channel(&server).await).export(traces_of(vec![span(0), short])).await.unwrap();
    let partial = answer.into_inner().partial_success.unwrap();
    assert_eq!((partial.rejected_spans, &*partial.error_message), (1, "trace_id has 15 bytes instead of 16"));
    assert_eq!(server.spans(), [span(0)]);
}

#[tokio::test]
async fn metrics_are_unimplemented_with_what_to_do() {
    let server = Server::start().await;
    let mut client = MetricsServiceClient::new(channel(&server).await);
    let status = client.export(ExportMetricsServiceRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().contains("turn the metrics exporter off"), "{status}");
}

fn status_of(answer: &Answer) -> Status {
    let details = STANDARD_NO_PAD.decode(answer.header("grpc-status-details-bin")).unwrap();
    let status = Status::decode(&details[..]).unwrap();
    assert_eq!(status.code.to_string(), answer.grpc_status(), "both say the same");
    status
}

#[tokio::test]
async fn what_is_wrong_with_a_call_is_answered_with_code_and_reason() {
    let server = Server::start().await;
    let good = bytes(&traces(1));
    let one = frame(0, &good);
    let two = [&one[..], &one].concat();
    let gz = frame(1, &gzip(&good));
    let zst = frame(1, &zstd(&good));
    let lying_long = frame(0, &[&good[..], b"x"].concat())[..one.len()].to_vec();
    let lying_short = [&frame(0, &good[..4])[..], &good[4..]].concat();
    let plain_said_gzip = frame(1, &good);
    // path, headers, body, code, text
    let cases: &[(&str, &[(&str, &str)], &[u8], u8, &str)] = &[
        (EXPORT, &[], &frame(0, b"\x0a\xff"), 3, "malformed protobuf in ExportTraceServiceRequest"),
        (EXPORT, &[], &lying_long, 3, "announces 87 bytes, 86 arrived"),
        (EXPORT, &[], &lying_short, 12, "exactly one gRPC message"),
        (EXPORT, &[], &two, 12, "exactly one gRPC message"),
        (EXPORT, &[], b"", 12, "exactly one gRPC message"),
        (EXPORT, &[], &frame(2, &good), 13, "compression flag 2"),
        (EXPORT, &[], &gz, 13, "compression flag 1"),
        (EXPORT, &[("grpc-encoding", "identity")], &gz, 13, "compression flag 1"),
        (EXPORT, &[("grpc-encoding", "gzip")], &plain_said_gzip, 3, "malformed gzip data"),
        (EXPORT, &[("grpc-encoding", "gzip")], &zst, 3, "malformed gzip data"),
        (EXPORT, &[("grpc-encoding", "snappy")], &gz, 12, "compression snappy is not supported"),
        (EXPORT, &[("x-scope-orgid", "")], &one, 3, "x-scope-orgid must be"),
        ("/opentelemetry.proto.collector.trace.v1.TraceService/Import", &[], &one, 12, "Import is not served"),
        ("/grpc.health.v1.Health/Check", &[], &one, 12, "is not served"),
    ];
    for &(path, headers, body, code, text) in cases {
        let answer = server.call(path, headers, body.to_vec()).await;
        let case = format!("{path} {headers:?}: {answer:?}");
        assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/grpc"), "{case}");
        assert_eq!(answer.grpc_status(), code.to_string(), "{case}");
        assert!(answer.header("grpc-message").contains(text), "{case}");
        let status = status_of(&answer);
        assert!(status.message.contains(text) && status.details.is_empty(), "{case}");
        let accepted = if text.contains("snappy") { "identity, gzip, zstd" } else { "" };
        assert_eq!(answer.header("grpc-accept-encoding"), accepted, "{case}");
    }
    assert!(server.bus.records().is_empty());
}

#[tokio::test]
async fn an_uncompressed_message_passes_though_compression_was_negotiated() {
    let server = Server::start().await;
    let answer = server.call(EXPORT, &[("grpc-encoding", "gzip")], frame(0, &bytes(&traces(1)))).await;
    assert_eq!(answer.grpc_status(), "0");
    assert_eq!(server.spans(), [span(0)]);
}

#[tokio::test]
async fn what_is_no_call_gets_a_status_of_http() {
    let server = Server::start().await;
    let answer = server.call(EXPORT, &[("content-type", "application/json")], "{}").await;
    assert_eq!(answer.status, 415);
    let answer = server.call(EXPORT, &[("content-type", "application/grpc+json")], "{}").await;
    assert_eq!(answer.status, 415);
    let answer = server.call(EXPORT, &[("content-type", "application/grpc+proto")], frame(0, b"")).await;
    assert_eq!((answer.status.as_u16(), answer.grpc_status()), (200, "0"));
    assert_eq!(&answer.body[..], [0; 5], "an empty message");
}

#[tokio::test]
async fn a_message_cut_off_at_any_byte_is_refused() {
    let server = Server::start().await;
    let protobuf = bytes(&traces(1));
    for (encoding, whole) in [("identity", frame(0, &protobuf)), ("gzip", frame(1, &gzip(&protobuf)))] {
        for end in 1..whole.len() {
            let answer = server.call(EXPORT, &[("grpc-encoding", encoding)], whole.slice(..end)).await;
            assert_eq!(answer.grpc_status(), "3", "{encoding} cut at {end}: {answer:?}");
        }
    }
    for end in 1..protobuf.len() {
        let answer = server.call(EXPORT, &[], frame(0, &protobuf[..end])).await;
        assert_eq!(answer.grpc_status(), "3", "message cut at {end}: {answer:?}");
    }
    assert!(server.bus.records().is_empty());
}
