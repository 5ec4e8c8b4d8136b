//! Start and end.

use std::sync::Arc;
use std::time::Duration;

use afflux_runtime::admin::{HealthTable, State};
use afflux_runtime::config::Period;
use afflux_runtime::{Component, Context, Metrics};
use afflux_schemas::topics::Topics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::bus::{FakeBus, Handle, Mode};
use super::harness::{PROTOBUF, Server, TRACES, bytes, frame, traces};
use crate::otlp::config::{GrpcListener, HttpListener};
use crate::otlp::{NAME, OtlpConfig, OtlpReceiver};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

#[tokio::test]
async fn requests_in_flight_are_answered_before_the_end() {
    let server = Server::start().await;
    server.bus.set(Mode::Hang);
    let stop = async {
        server.bus.begun(2).await;
        server.shutdown.cancel();
        // The address is free although the requests are still open.
        while TcpStream::connect(server.http).await.is_ok() || TcpStream::connect(server.grpc).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(!server.task.is_finished());
        server.bus.set(Mode::Ack);
    };
    let http = server.post(TRACES, &[PROTOBUF], bytes(&traces(1)));
    let grpc = server.call(EXPORT, &[], frame(0, &bytes(&traces(1))));
    let (http, grpc, ()) = tokio::join!(http, grpc, stop);
    assert_eq!((http.status.as_u16(), grpc.grpc_status()), (200, "0"));
    assert_eq!(server.spans().len(), 2);
    let health = server.health.clone();
    server.stop().await.unwrap();
    assert_eq!(health.snapshot()[NAME], State::Stopped);
}

#[tokio::test]
async fn idle_connections_do_not_hold_up_the_end() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.http).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    let _silent = TcpStream::connect(server.http).await.unwrap();
    let _silent_too = TcpStream::connect(server.grpc).await.unwrap();
    let begun = std::time::Instant::now();
    server.stop().await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "took {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_bus_that_never_acknowledges_does_not_hold_up_the_end_beyond_the_patience() {
    let server = Server::with(|limits| limits.ack_timeout = Period(Duration::from_millis(300))).await;
    server.bus.set(Mode::Hang);
    let bus = Arc::clone(&server.bus);
    let post = server.post(TRACES, &[PROTOBUF], bytes(&traces(1)));
    let (answer, ()) = tokio::join!(post, server.bus.begun(1));
    assert_eq!(answer.status, 503);
    let begun = std::time::Instant::now();
    server.stop().await.unwrap();
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    // Every task is gone: the only owner left is this test.
    assert_eq!(Arc::strong_count(&bus), 1);
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_address_and_key() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let config = OtlpConfig {
        grpc: GrpcListener { listen: Some(address) },
        http: HttpListener { listen: None },
        ..OtlpConfig::default()
    };
    let receiver = Box::new(OtlpReceiver::new(config, Topics::default(), None).unwrap());
    assert_eq!(receiver.name(), "producers.otlp");
    let context = Context {
        bus: Arc::new(Handle(FakeBus::new(1))),
        metrics: Arc::new(Metrics::new()),
        health: HealthTable::default().component(NAME),
        shutdown: CancellationToken::new(),
    };
    let error = receiver.run(context).await.expect_err("the port is taken").to_string();
    assert!(
        error.starts_with(&format!("producers.otlp: cannot listen on {address} (producers.otlp.grpc.listen): ")),
        "{error}"
    );
    assert!(error.ends_with("stop what uses it or set another address"), "{error}");
}

#[tokio::test]
async fn a_listening_receiver_is_ready() {
    let server = Server::start().await;
    assert_eq!(server.post(TRACES, &[PROTOBUF], bytes(&traces(1))).await.status, 200);
    assert_eq!(server.state(), State::Ready);
}
