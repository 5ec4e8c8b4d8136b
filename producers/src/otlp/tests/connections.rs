//! Connections of slow, idle and talkative strangers.

use std::time::{Duration, Instant};

use afflux_runtime::config::{ByteSize, Period};
use futures::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{advance, pause, resume, sleep, timeout};

use super::bus::Mode;
use super::harness::{PATIENCE, PROTOBUF, Server, TRACES, bytes, frame, small, traces};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";
/// How the answer to it ends.
const END: &[u8] = b"send to /v1/traces or /v1/logs";

/// Sends a request and reads its answer.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(REQUEST).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(END) {
        let read = timeout(PATIENCE, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
    }
    assert!(answer.starts_with(b"HTTP/1.1 404"));
}

/// Whether the server has closed the connection, or does so within that time.
async fn closes(stream: &mut TcpStream, within: Duration) -> bool {
    !matches!(timeout(within, stream.read(&mut [0])).await, Err(_) | Ok(Ok(1..)))
}

#[tokio::test]
async fn a_head_that_comes_slowly_is_given_up_on_kept_connections_too() {
    let server = Server::with(|limits| limits.header_timeout = Period(Duration::from_millis(300))).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    for _ in 0..2 {
        ask(&mut stream).await;
    }
    // Longer than a head may take: the time of the next one has not begun.
    sleep(Duration::from_millis(700)).await;
    ask(&mut stream).await;
    sleep(Duration::from_millis(500)).await;
    let begun = Instant::now();
    stream.write_all(b"GET / HTTP/1.1\r\nslow: ").await.unwrap();
    while !closes(&mut stream, Duration::from_millis(20)).await {
        assert!(begun.elapsed() < Duration::from_secs(5), "a byte now and then keeps the connection");
        // Whoever closed it meanwhile is found out by reading.
        let _ = stream.write_all(b"x").await;
    }
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_may_be_idle_for_as_long_as_configured() {
    let server = Server::with(|limits| limits.idle_timeout = Period(Duration::from_secs(300))).await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    for seconds in [31, 290, 120] {
        ask(&mut stream).await;
        pause();
        advance(Duration::from_secs(seconds)).await;
        resume();
        assert!(!closes(&mut stream, Duration::from_millis(100)).await, "closed within {seconds} s");
    }
    ask(&mut stream).await;
    pause();
    advance(Duration::from_secs(302)).await;
    resume();
    assert!(closes(&mut stream, PATIENCE).await);
}

#[tokio::test]
async fn pings_are_no_head_of_a_request() {
    let server = Server::with(|limits| limits.header_timeout = Period(Duration::from_millis(200))).await;
    let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    builder
        .timer(hyper_util::rt::TokioTimer::new())
        .keep_alive_interval(Duration::from_millis(50))
        .keep_alive_while_idle(true);
    for address in [server.grpc, server.http] {
        let io = hyper_util::rt::TokioIo::new(TcpStream::connect(address).await.unwrap());
        let (mut sender, connection) = builder.handshake::<_, http_body_util::Empty<bytes::Bytes>>(io).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..3 {
            let request = http::Request::get(format!("http://{address}/")).body(Default::default()).unwrap();
            timeout(PATIENCE, sender.send_request(request)).await.unwrap().expect("the connection is open");
            sleep(Duration::from_millis(500)).await;
        }
    }
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    let head = format!("POST /v1/traces HTTP/1.1\r\nlong: {}\r\n\r\n", "x".repeat(200 * 1024));
    // The answer may come, and the connection end, before all of it is written.
    let _ = stream.write_all(head.as_bytes()).await;
    let mut answer = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.unwrap().unwrap();
    assert_eq!(&answer, b"HTTP/1.1 431");
    let long = "x".repeat(20 * 1024);
    let answer = server.call(EXPORT, &[("long", &long)], frame(0, &bytes(&traces(1)))).await;
    assert_eq!(answer.status, 431);
    assert!(server.bus.records().is_empty());
}

#[tokio::test]
async fn heads_count_in_the_budget_like_bodies() {
    let server = Server::with(|limits| {
        small(limits, 10_000, 10_000);
        limits.in_flight_bytes = ByteSize(200_000);
    })
    .await;
    server.bus.set(Mode::Hang);
    let long = "x".repeat(60_000);
    let headers = [PROTOBUF, ("long", &*long)];
    let posts = join_all((0..8).map(|_| server.post(TRACES, &headers, bytes(&traces(1)))));
    let release = async {
        server.bus.begun(1).await;
        sleep(Duration::from_millis(300)).await;
        let begun = server.bus.sends();
        server.bus.set(Mode::Ack);
        begun
    };
    let (answers, begun) = tokio::join!(posts, release);
    assert!((1..=3).contains(&begun), "{begun} requests of 60 KB each within 200 KB");
    assert!(answers.iter().filter(|answer| answer.status == 503).count() >= 5);
}
