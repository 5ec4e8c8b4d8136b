//! OTLP over HTTP: what is accepted, and every answer that is not success.

#![allow(clippy::type_complexity)]

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde_json::json;

use super::harness::{JSON, LOGS, PROTOBUF, Server, TRACES, bytes, gzip, logs, span, traces, traces_of, zstd};
use crate::otlp::answer::Status;

#[tokio::test]
async fn spans_arrive_whole_in_every_format_and_compression() {
    let request = traces(50);
    let protobuf = bytes(&request);
    let json = serde_json::to_vec(&request).unwrap();
    for (format, body) in [(PROTOBUF, &protobuf[..]), (JSON, &json[..])] {
        for (encoding, body) in
            [("identity", body.to_vec().into()), ("gzip", gzip(body)), ("zstd", zstd(body)), ("GZIP", gzip(body))]
        {
            let server = Server::start().await;
            let answer = server.post(TRACES, &[format, ("content-encoding", encoding)], body).await;
            assert_eq!(answer.status, 200, "{format:?} {encoding} {answer:?}");
            assert_eq!(answer.header("content-type"), format.1);
            if format == JSON {
                assert_eq!(answer.json(), json!({}));
            } else {
                assert_eq!(ExportTraceServiceResponse::decode(answer.body).unwrap(), Default::default());
            }
            assert_eq!(server.spans(), (0..50).map(span).collect::<Vec<_>>(), "{format:?} {encoding}");
            server.stop().await.unwrap();
        }
    }
}

#[tokio::test]
async fn records_say_partition_items_cluster_and_tenant() {
    let server = Server::start().await;
    let answer = server.post(TRACES, &[PROTOBUF, ("X-Scope-OrgID", "team-a")], bytes(&traces(64))).await;
    assert_eq!(answer.status, 200);
    let records = server.bus.records();
    assert_eq!(records.len(), 4, "one for each partition");
    for record in records {
        assert_eq!(record.headers.get("afflux-cluster").unwrap(), "c1");
        assert_eq!(record.headers.get("afflux-tenant").unwrap(), "team-a");
        assert!(record.timestamp_ms > 1_700_000_000_000);
    }
    assert_eq!(server.spans().len(), 64);
    assert!(server.metric(r#"afflux_accepted_items_total{component="producers.otlp",signal="spans"} 64"#));
    let sent = bytes(&traces(64)).len();
    let counted = format!(r#"afflux_accepted_bytes_total{{component="producers.otlp",signal="spans"}} {sent}"#);
    assert!(server.metric(&counted), "{}", server.metrics.encode());
    assert!(server.metric(r#"afflux_in_flight_bytes{component="producers.otlp",signal="all"} 0"#));
}

#[tokio::test]
async fn logs_go_to_their_topic_byte_for_byte() {
    let server = Server::start().await;
    let request = bytes(&logs(3));
    let answer = server.post(LOGS, &[PROTOBUF], request.clone()).await;
    assert_eq!(answer.status, 200);
    assert_eq!(ExportLogsServiceResponse::decode(answer.body).unwrap(), Default::default());
    let [record] = &server.bus.records()[..] else { panic!("one record") };
    assert_eq!(&*record.to.topic, "afflux.ingest.logs");
    assert_eq!(record.value.as_ref().unwrap(), &request);
    assert_eq!(record.headers.get("afflux-items").unwrap(), "3");
}

#[tokio::test]
async fn a_message_in_two_pieces_is_merged_before_anyone_reads_it() {
    let server = Server::start().await;
    let mut split = span(1);
    split.name.clear();
    let mut request = traces_of(vec![split]).encode_to_vec();
    // The same resource block again, its scope without spans: protobuf appends, and so must we.
    request.extend_from_slice(&traces_of(vec![]).encode_to_vec());
    let resource_twice = {
        let resource = super::harness::resource_of("shop").encode_to_vec();
        let piece = [&[0x0a, u8::try_from(resource.len()).unwrap()][..], &resource].concat();
        let scope = [&[0x12, u8::try_from(2 + span(2).encode_to_vec().len()).unwrap(), 0x12][..]].concat();
        let span = span(2).encode_to_vec();
        let block = [&piece[..], &[0x0a, 0x00], &scope, &[u8::try_from(span.len()).unwrap()], &span].concat();
        [&[0x0a, u8::try_from(block.len()).unwrap()][..], &block].concat()
    };
    request.extend_from_slice(&resource_twice);
    assert_eq!(server.post(TRACES, &[PROTOBUF], request).await.status, 200);
    assert_eq!(server.spans().len(), 2, "and the harness saw the resource of both");
}

#[tokio::test]
async fn an_empty_request_is_a_success() {
    let server = Server::start().await;
    for (path, headers, body) in [
        (TRACES, PROTOBUF, &b""[..]),
        (LOGS, PROTOBUF, b""),
        (TRACES, JSON, b"{}"),
        (LOGS, JSON, br#"{"resourceLogs":[{"scopeLogs":[{}]}]}"#),
    ] {
        assert_eq!(server.post(path, &[headers], body).await.status, 200, "{path} {headers:?}");
    }
    assert!(server.bus.records().is_empty());
}

#[tokio::test]
async fn spans_with_invalid_ids_are_named_and_the_others_stored() {
    let mut short = span(1);
    short.trace_id.pop();
    let mut zero = span(2);
    zero.span_id = vec![0; 8];
    let request = traces_of(vec![span(0), short, zero, span(3)]);
    let server = Server::start().await;
    let answer = server.post(TRACES, &[PROTOBUF], bytes(&request)).await;
    assert_eq!(answer.status, 200);
    let partial = ExportTraceServiceResponse::decode(answer.body).unwrap().partial_success.unwrap();
    assert_eq!((partial.rejected_spans, &*partial.error_message), (2, "trace_id has 15 bytes instead of 16"));
    assert_eq!(server.spans(), [span(0), span(3)]);
    let dropped = r#"afflux_dropped_items_total{component="producers.otlp",reason="invalid_id"} 2"#;
    assert!(server.metric(dropped), "{}", server.metrics.encode());

    let answer = server.post(TRACES, &[JSON], serde_json::to_vec(&request).unwrap()).await;
    let reason = "trace_id has 15 bytes instead of 16";
    assert_eq!(answer.json(), json!({"partialSuccess": {"rejectedSpans": "2", "errorMessage": reason}}));

    let mut records = logs(2);
    records.resource_logs[0].scope_logs[0].log_records[0].trace_id = vec![1; 15];
    let answer = server.post(LOGS, &[JSON], serde_json::to_vec(&records).unwrap()).await;
    assert_eq!(answer.json()["partialSuccess"]["rejectedLogRecords"], "1");
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_answered_with_status_and_reason() {
    let server = Server::start().await;
    let good = bytes(&traces(1));
    let gz = gzip(&good);
    let long = "t".repeat(151);
    // method, path, headers, body, status, code, text
    let cases: &[(&str, &str, &[(&str, &str)], &[u8], u16, i32, &str)] = &[
        ("POST", TRACES, &[PROTOBUF], b"\x0a\xff", 400, 3, "malformed protobuf in ExportTraceServiceRequest at byte 0"),
        ("POST", TRACES, &[JSON], br#"{"resourceSpans":7}"#, 400, 3, "expected resourceSpans, an array of objects"),
        ("POST", TRACES, &[JSON], &good, 400, 3, "malformed JSON"),
        ("POST", TRACES, &[PROTOBUF, ("content-encoding", "gzip")], &good, 400, 3, "malformed gzip data"),
        ("POST", TRACES, &[PROTOBUF, ("content-encoding", "gzip")], &gz[..gz.len() - 9], 400, 3, "malformed gzip data"),
        ("POST", TRACES, &[PROTOBUF, ("content-encoding", "gzip")], b"", 400, 3, "malformed gzip data"),
        ("POST", TRACES, &[PROTOBUF, ("content-encoding", "zstd")], &good, 400, 3, "malformed zstd data"),
        (
            "POST",
            TRACES,
            &[JSON, ("content-encoding", "br")],
            &good,
            415,
            12,
            "compression br is not supported; send gzip, zstd or none",
        ),
        (
            "POST",
            TRACES,
            &[PROTOBUF, ("content-encoding", "gzip, gzip")],
            &good,
            415,
            12,
            "compression gzip, gzip is not",
        ),
        ("GET", TRACES, &[JSON], b"", 405, 12, "method GET is not supported; send POST"),
        ("PUT", LOGS, &[PROTOBUF], &good, 405, 12, "method PUT is not supported"),
        ("POST", "/v1/metrics", &[PROTOBUF], b"", 404, 12, "metrics are not received"),
        ("POST", "/v1/metrics", &[JSON], b"{}", 404, 12, "turn the metrics exporter off"),
        ("POST", "/v2/traces", &[JSON], b"{}", 404, 12, "nothing is served at /v2/traces; send to /v1/traces"),
        ("POST", TRACES, &[PROTOBUF, ("x-scope-orgid", &long)], &good, 400, 3, "x-scope-orgid must be 1 to 150"),
        ("POST", TRACES, &[PROTOBUF, ("x-scope-orgid", "a b")], &good, 400, 3, "visible ASCII"),
    ];
    for &(method, path, headers, body, status, code, text) in cases {
        let answer = server.send(method, path, headers, body.to_vec()).await;
        let case = format!("{method} {path} {headers:?}: {answer:?}");
        assert_eq!(answer.status, status, "{case}");
        assert_eq!(answer.header("content-type"), headers[0].1, "{case}");
        assert_eq!(answer.header("retry-after"), "", "{case}");
        assert_eq!(answer.header("allow"), if status == 405 { "POST" } else { "" }, "{case}");
        assert_eq!(answer.header("accept-encoding"), if status == 415 { "gzip, zstd" } else { "" }, "{case}");
        let (found, message) = if headers[0] == JSON {
            let json = answer.json();
            (json["code"].as_i64().unwrap() as i32, json["message"].as_str().unwrap().to_owned())
        } else {
            let status = Status::decode(answer.body.clone()).unwrap();
            assert!(status.details.is_empty(), "{case}");
            (status.code, status.message)
        };
        assert_eq!(found, code, "{case}");
        assert!(message.contains(text), "{message}");
    }
    assert!(server.bus.records().is_empty());
    assert!(server.metric(r#"afflux_refused_requests_total{component="producers.otlp",reason="compression"} 4"#));
    assert!(server.metric(r#"afflux_refused_requests_total{component="producers.otlp",reason="malformed"} 3"#));
}

#[tokio::test]
async fn a_content_type_that_is_not_otlp_is_told_which_are() {
    let server = Server::start().await;
    for headers in [&[("content-type", "text/plain")][..], &[]] {
        let answer = server.post(TRACES, headers, bytes(&traces(1))).await;
        assert_eq!(answer.status, 415);
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
        let text = String::from_utf8(answer.body.to_vec()).unwrap();
        assert!(text.ends_with("is not supported; send application/x-protobuf or application/json"), "{text}");
    }
    let answer = server.post(TRACES, &[("content-type", "Application/JSON; charset=UTF-8")], "{}").await;
    assert_eq!((answer.status.as_u16(), answer.header("content-type")), (200, "application/json"));
}

#[tokio::test]
async fn a_request_cut_off_at_any_byte_is_refused_or_a_shorter_valid_one() {
    let server = Server::start().await;
    let request = traces_of(vec![span(0)]);
    let (protobuf, json) = (bytes(&request), serde_json::to_vec(&request).unwrap());
    let (gz, zst) = (gzip(&protobuf), zstd(&protobuf));
    let whole: [(&[_], &[u8]); 4] = [
        (&[PROTOBUF], &protobuf),
        (&[JSON], &json),
        (&[PROTOBUF, ("content-encoding", "gzip")], &gz),
        (&[PROTOBUF, ("content-encoding", "zstd")], &zst),
    ];
    for (headers, body) in whole {
        for end in 0..body.len() {
            let answer = server.post(TRACES, headers, body[..end].to_vec()).await;
            // No bytes are a valid protobuf request.
            let expected = if end == 0 && headers == [PROTOBUF] { 200 } else { 400 };
            assert_eq!(answer.status, expected, "{headers:?} cut at {end}: {answer:?}");
        }
        assert_eq!(server.post(TRACES, headers, body.to_vec()).await.status, 200);
    }
    assert_eq!(server.spans().len(), 4);
}
