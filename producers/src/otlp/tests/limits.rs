//! What a stranger can send: sizes, bombs, slowness, numbers.

use std::time::{Duration, Instant};

use afflux_runtime::config::{ByteSize, Period};
use bytes::Bytes;
use futures::future::join_all;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::bus::{FakeBus, Mode};
use super::harness::{
    JSON, LOGS, PATIENCE, PROTOBUF, Server, TRACES, bytes, frame, gzip, logs, small, span, traces, traces_of, zstd,
};
use crate::otlp::answer::Status;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// Answers of HTTP and gRPC to a body that is too large: for good, saying which limit.
async fn too_large(server: &Server, encoding: &str, body: &Bytes, text: &str) {
    let flag = u8::from(encoding != "identity");
    let http = server.post(TRACES, &[PROTOBUF, ("content-encoding", encoding)], body.clone()).await;
    assert_eq!((http.status.as_u16(), http.header("retry-after")), (413, ""), "{encoding} {http:?}");
    let status = Status::decode(http.body).unwrap();
    assert_eq!((status.code, status.details.len()), (8, 0), "{encoding}");
    assert!(status.message.contains(text), "{}", status.message);
    let grpc = server.call(EXPORT, &[("grpc-encoding", encoding)], frame(flag, body)).await;
    assert_eq!(grpc.grpc_status(), "8", "{encoding}");
    assert!(grpc.header("grpc-message").contains(text), "{encoding} {grpc:?}");
}

#[tokio::test]
async fn a_request_over_the_limit_as_sent_is_refused_before_it_is_read() {
    let server = Server::with(|limits| small(limits, 1000, 4000)).await;
    let fits = bytes(&traces(10));
    assert!(fits.len() < 1000);
    assert_eq!(server.post(TRACES, &[PROTOBUF], fits).await.status, 200);
    for n in [1001, 5_000_000] {
        too_large(&server, "identity", &vec![0; n].into(), "over 1000 bytes; send smaller batches").await;
    }
    let before = Instant::now();
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n\
                expect: 100-continue\r\ncontent-length: 999999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert!(before.elapsed() < Duration::from_secs(1), "nobody waits for a body that was only announced");
}

#[tokio::test]
async fn a_body_of_unknown_length_is_stopped_at_the_limit() {
    let server = Server::with(|limits| small(limits, 100_000, 100_000)).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head =
        "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for _ in 0..3 {
        stream.write_all(chunk.as_bytes()).await.unwrap();
    }
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_bomb_is_stopped_at_the_limit() {
    let server = Server::with(|limits| small(limits, 1 << 20, 1 << 20)).await;
    let mebibyte = vec![0; 1 << 20];
    for (encoding, piece) in [("gzip", gzip(&mebibyte)), ("zstd", zstd(&mebibyte))] {
        let bomb = piece.repeat(512).into();
        too_large(&server, encoding, &bomb, "over 1048576 bytes after decompression").await;
    }
    let fits = bytes(&traces(17_000));
    assert!((3 << 18..1 << 20).contains(&fits.len()), "{}", fits.len());
    let answer = server.post(TRACES, &[PROTOBUF, ("content-encoding", "gzip")], gzip(&fits)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(server.spans().len(), 17_000);
}

#[tokio::test]
async fn a_length_in_the_prefix_is_not_believed() {
    let server = Server::with(|limits| small(limits, 1 << 20, 4 << 20)).await;
    let answer = server.call(EXPORT, &[], Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff])).await;
    assert_eq!(answer.grpc_status(), "8", "over the limit: refused by the announcement alone");
    let answer = server.call(EXPORT, &[], Bytes::from_static(&[0, 0, 0x0f, 0xff, 0xff, 1])).await;
    assert_eq!(answer.grpc_status(), "3", "within the limit: cut off");
}

#[tokio::test]
async fn a_taken_budget_makes_clients_retry_and_stays_within_its_bytes() {
    let server = Server::with(|limits| small(limits, 100_000, 100_000)).await;
    server.bus.set(Mode::Hang);
    let body = bytes(&traces(500));
    let posts = join_all((0..30).map(|_| server.post(TRACES, &[PROTOBUF], body.clone())));
    let release = async {
        // As many are with the bus as the budget has room for; the others are refused at once.
        let refused = r#"afflux_refused_requests_total{component="producers.otlp",reason="budget"} "#;
        let deadline = Instant::now() + PATIENCE;
        let count = |text: String| text.lines().find_map(|l| l.strip_prefix(refused)?.parse().ok()).unwrap_or(0_usize);
        while count(server.metrics.encode()) + server.bus.sends() < 30 {
            assert!(Instant::now() < deadline, "{}", server.metrics.encode());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let text = server.metrics.encode();
        let held = r#"afflux_in_flight_bytes{component="producers.otlp",signal="all"} "#;
        let held: u64 = text.lines().find_map(|line| line.strip_prefix(held)?.parse().ok()).unwrap();
        assert!((body.len() as u64..=400_064).contains(&held), "{held}");
        server.bus.set(Mode::Ack);
    };
    let (answers, ()) = tokio::join!(posts, release);
    let (stored, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert!(!stored.is_empty() && refused.len() >= 15, "{} stored, {} refused", stored.len(), refused.len());
    for answer in refused {
        assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
        let status = Status::decode(answer.body.clone()).unwrap();
        assert_eq!((status.code, status.details.len()), (14, 1));
    }
    assert_eq!(server.spans().len(), 500 * stored.len(), "refused means not stored");
    assert_eq!(server.post(TRACES, &[PROTOBUF], body).await.status, 200, "the budget is free again");
}

#[tokio::test]
async fn few_bytes_that_turn_into_many_are_refused() {
    let server = Server::on(FakeBus::new(64), |limits| small(limits, 1 << 20, 1 << 20)).await;
    // An envelope of half a megabyte, wanted by 64 partitions.
    let mut request = traces(1000);
    request.resource_spans[0].schema_url = "u".repeat(1 << 19);
    too_large(&server, "identity", &bytes(&request), "takes over 4194304 bytes of memory").await;
    // Empty log records of two bytes each.
    let answer = server.post(LOGS, &[PROTOBUF], bytes(&logs_without_content(200_000))).await;
    assert_eq!(answer.status, 413, "{answer:?}");
    // A scope in two pieces has to be decoded to structs: only small requests may.
    let mut pieces = bytes(&traces(500)).to_vec();
    let block_of_two_resources = [0x0a, 0x04, 0x0a, 0x00, 0x0a, 0x00];
    pieces.extend_from_slice(&block_of_two_resources);
    too_large(&server, "identity", &pieces.into(), "takes over 4194304 bytes of memory").await;
    // JSON of nothing but empty spans: each is two bytes of protobuf, and an entry of a table while it is sorted.
    let empty_spans = |n| {
        let spans = vec!["{}"; n].join(",");
        server.post(TRACES, &[JSON], format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{spans}]}}]}}]}}"#))
    };
    let answer = empty_spans(300_000).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (413, ""));
    assert!(answer.json()["message"].as_str().unwrap().contains("takes over 4194304 bytes of memory"));
    let answer = empty_spans(30_000).await;
    assert_eq!(answer.json()["partialSuccess"]["rejectedSpans"], "30000", "{answer:?}");
}

fn logs_without_content(n: u64) -> impl Message {
    let mut request = logs(n);
    for record in &mut request.resource_logs[0].scope_logs[0].log_records {
        record.time_unix_nano = 0;
    }
    request
}

#[tokio::test]
async fn what_is_too_long_for_a_record_becomes_several() {
    let server = Server::on(FakeBus::new(1), |limits| limits.record_bytes = ByteSize(2000)).await;
    assert_eq!(server.post(TRACES, &[PROTOBUF], bytes(&traces(100))).await.status, 200);
    let records = server.bus.records();
    assert!(records.len() > 2, "{}", records.len());
    assert!(records.iter().all(|record| record.value.as_ref().unwrap().len() <= 2000));
    assert_eq!(server.spans(), (0..100).map(span).collect::<Vec<_>>());
    let mut long = span(0);
    long.name = "n".repeat(5000);
    let before = server.bus.records().len();
    assert_eq!(server.post(TRACES, &[PROTOBUF], bytes(&traces_of(vec![long]))).await.status, 200);
    assert_eq!(server.bus.records().len(), before + 1, "an item is never cut");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_given_up() {
    let server = Server::with(|limits| limits.body_timeout = Period(Duration::from_millis(100))).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = "POST /v1/traces HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: 10\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let server = Server::with(|limits| {
        limits.header_timeout = Period(Duration::from_millis(100));
        limits.idle_timeout = Period(Duration::from_millis(300));
    })
    .await;
    for (address, sent) in [
        (server.http, &b""[..]),
        (server.http, b"POST /v1/tr"),
        (server.grpc, b""),
        (server.grpc, b"PRI * HTTP/2.0\r\n"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "still open after {:?}", String::from_utf8_lossy(sent));
    }
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let asked = Instant::now();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await.expect("closed").unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 404"));
    assert!(asked.elapsed() > Duration::from_millis(200), "the idle timeout counts from the last request");
}

#[tokio::test]
async fn connections_over_the_limit_wait_for_a_place() {
    let server = Server::with(|limits| limits.connections = 1).await;
    let first = TcpStream::connect(server.http).await.unwrap();
    let mut second = TcpStream::connect(server.http).await.unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    let early = tokio::time::timeout(Duration::from_millis(200), second.read_exact(&mut answer)).await;
    assert!(early.is_err(), "served although the only place is taken");
    drop(first);
    tokio::time::timeout(PATIENCE, second.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}
