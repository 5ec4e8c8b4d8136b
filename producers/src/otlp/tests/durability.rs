//! D1: success only after the bus has the data, "retry" whenever it does not take it.

use std::time::Duration;

use afflux_bus::{BusError, ErrorClass, PartitionId};
use afflux_runtime::admin::State;
use afflux_runtime::config::Period;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use prost::Message;
use serde_json::json;

use super::bus::Mode;
use super::harness::{JSON, PROTOBUF, Server, TRACES, bytes, frame, span, traces};
use crate::otlp::OtlpError;
use crate::otlp::answer::{Delay, RetryInfo, Status};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

fn retry_delay(status: &Status) -> Option<Delay> {
    let detail = status.details.first()?;
    assert_eq!(detail.type_url, "type.googleapis.com/google.rpc.RetryInfo");
    RetryInfo::decode(detail.value.clone()).unwrap().retry_delay
}

#[tokio::test]
async fn success_is_answered_only_after_the_bus_acknowledged() {
    let server = Server::start().await;
    server.bus.set(Mode::Hang);
    let (http, grpc, released) = (
        server.post(TRACES, &[PROTOBUF], bytes(&traces(1))),
        server.call(EXPORT, &[], frame(0, &bytes(&traces(1)))),
        async {
            server.bus.begun(2).await;
            // Both are with the bus and unanswered: whoever answered early would be done by now.
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert!(server.bus.records().is_empty());
            server.bus.set(Mode::Ack);
            std::time::Instant::now()
        },
    );
    let timed = async |answer| (answer, std::time::Instant::now());
    let http = async { timed(http.await).await };
    let grpc = async { timed(grpc.await).await };
    let ((http, http_at), (grpc, grpc_at), released) = tokio::join!(http, grpc, released);
    assert_eq!((http.status.as_u16(), grpc.grpc_status()), (200, "0"));
    assert!(http_at >= released && grpc_at >= released, "answered before the bus acknowledged");
    assert_eq!(server.spans().len(), 2);
}

fn unreachable() -> BusError {
    BusError::Unreachable { brokers: "secret:9092".into(), reason: "connection refused".into() }
}

#[tokio::test]
async fn a_bus_that_does_not_take_data_makes_clients_retry() {
    type Case = (fn() -> BusError, u64, &'static str);
    let cases: [Case; 5] = [
        (unreachable, 5, "bus_unavailable"),
        (|| BusError::Full { reason: "disk".into() }, 1, "bus_full"),
        (|| BusError::TimedOut { what: "ack", after: Duration::from_secs(3) }, 1, "ack_timeout"),
        (|| BusError::UnknownTopic { topic: "secret".into() }, 5, "bus_unavailable"),
        (
            || BusError::Other { what: "send", reason: "secret".into(), class: ErrorClass::Transient(None) },
            5,
            "bus_unavailable",
        ),
    ];
    for (error, seconds, reason) in cases {
        let server = Server::start().await;
        server.bus.set(Mode::Fail(error));
        let http = server.post(TRACES, &[PROTOBUF], bytes(&traces(1))).await;
        assert_eq!((http.status.as_u16(), http.header("retry-after")), (503, &*seconds.to_string()), "{reason}");
        assert_eq!(http.header("content-type"), PROTOBUF.1);
        let status = Status::decode(http.body).unwrap();
        assert_eq!(status.code, 14);
        assert!(status.message.contains("retry") && !status.message.contains("secret"), "{}", status.message);
        let expected = Some(Delay { seconds: seconds as i64, nanos: 0 });
        assert_eq!(retry_delay(&status), expected);

        let http = server.post(TRACES, &[JSON], serde_json::to_vec(&traces(1)).unwrap()).await;
        let detail = json!({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": format!("{seconds}s")});
        assert_eq!((http.json()["code"].clone(), http.json()["details"].clone()), (json!(14), json!([detail])));

        let grpc = server.call(EXPORT, &[], frame(0, &bytes(&traces(1)))).await;
        assert_eq!(grpc.grpc_status(), "14");
        let status = STANDARD_NO_PAD.decode(grpc.header("grpc-status-details-bin")).unwrap();
        assert_eq!(retry_delay(&Status::decode(&status[..]).unwrap()), expected);

        let counted = format!(r#"afflux_refused_requests_total{{component="producers.otlp",reason="{reason}"}} 3"#);
        assert!(server.metric(&counted), "{}", server.metrics.encode());
        assert!(matches!(server.state(), State::Failing(_)));
        server.bus.set(Mode::Ack);
        assert_eq!(server.post(TRACES, &[PROTOBUF], bytes(&traces(1))).await.status, 200, "and works again");
        assert_eq!(server.state(), State::Ready);
        assert_eq!(server.spans(), [span(0)]);
        server.stop().await.unwrap();
    }
}

#[tokio::test]
async fn an_instance_that_gets_no_requests_for_being_unready_finds_out_that_the_bus_is_back() {
    let server = Server::start().await;
    server.bus.set(Mode::Fail(|| BusError::TimedOut { what: "send", after: Duration::ZERO }));
    assert_eq!(server.post(TRACES, &[PROTOBUF], bytes(&traces(1))).await.status, 503);
    assert!(matches!(server.state(), State::Failing(_)));
    server.bus.set(Mode::Ack);
    let back = async {
        while server.state() != State::Ready {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), back).await.expect("ready again without a request");
}

#[tokio::test]
async fn what_the_bus_never_takes_is_refused_for_good() {
    let server = Server::start().await;
    let too_large = || BusError::TooLarge { to: PartitionId::new("t", 0), size: 2_000_000, limit: 1_000_000 };
    server.bus.set(Mode::Fail(too_large));
    let answer = server.post(TRACES, &[JSON], serde_json::to_vec(&traces(1)).unwrap()).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (413, ""));
    assert_eq!(answer.json()["code"], 8);
    assert!(answer.json()["message"].as_str().unwrap().contains("over the bus's limit of 1000000 bytes"));
    let grpc = server.call(EXPORT, &[], frame(0, &bytes(&traces(1)))).await;
    assert_eq!(grpc.grpc_status(), "8");
    let status = STANDARD_NO_PAD.decode(grpc.header("grpc-status-details-bin")).unwrap();
    assert!(Status::decode(&status[..]).unwrap().details.is_empty(), "no RetryInfo");

    let refused = || BusError::Other { what: "send", reason: "no".into(), class: ErrorClass::Permanent };
    server.bus.set(Mode::Fail(refused));
    assert_eq!(server.post(TRACES, &[PROTOBUF], bytes(&traces(1))).await.status, 500);
}

#[tokio::test]
async fn a_bus_slower_than_the_patience_makes_clients_retry_and_keeps_its_bytes_counted() {
    let server = Server::with(|limits| limits.ack_timeout = Period(Duration::from_millis(100))).await;
    server.bus.set(Mode::Hang);
    let answer = server.post(TRACES, &[PROTOBUF], bytes(&traces(64))).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "1"));
    assert!(Status::decode(answer.body).unwrap().message.contains("may have been stored"));
    assert!(matches!(server.state(), State::Failing(reason) if reason.contains("within 100ms")));
    let idle = r#"afflux_in_flight_bytes{component="producers.otlp",signal="all"} 0"#;
    assert!(!server.metric(idle), "the bus still holds the records");
    server.bus.set(Mode::Ack);
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while !server.metric(idle) || server.spans().len() < 64 {
        assert!(std::time::Instant::now() < deadline, "{}", server.metrics.encode());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.spans().len(), 64, "giving up the wait does not give up the writing");
}

#[tokio::test]
async fn a_broken_bus_stops_the_receiver_with_its_error() {
    let server = Server::start().await;
    server.bus.set(Mode::Fail(|| BusError::Poisoned { reason: "fsync".into() }));
    let answer = server.post(TRACES, &[PROTOBUF], bytes(&traces(1))).await;
    assert_eq!((answer.status.as_u16(), answer.header("retry-after")), (503, "5"), "another instance may take it");
    let ended = tokio::time::timeout(Duration::from_secs(5), server.task).await.expect("it stops").unwrap();
    assert!(matches!(ended, Err(OtlpError::Bus(BusError::Poisoned { .. }))), "{ended:?}");
}
