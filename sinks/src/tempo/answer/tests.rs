use http::StatusCode;

use super::*;

fn asked(attempt: u32) -> Asked {
    Asked { attempt, others_stored: false, tenant_of_record: false }
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

/// An answer whose gRPC status stands in its headers, as where there is no body.
fn grpc(code: &str, words: &str, details: Option<&str>) -> Reply {
    let mut all = headers(&[("grpc-status", code), ("grpc-message", words)]);
    if let Some(details) = details {
        all.insert("grpc-status-details-bin", details.parse().unwrap());
    }
    Reply { status: StatusCode::OK, headers: all, body: bytes::Bytes::new() }
}

fn http(status: u16, kind: &str, body: impl Into<bytes::Bytes>) -> Reply {
    let headers = headers(&[("content-type", kind)]);
    Reply { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() }
}

/// A message's field of bytes, short ones.
fn field(number: u8, value: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, u8::try_from(value.len()).unwrap()], value].concat()
}

/// A `google.rpc.Status` with a detail of another kind and with `RetryInfo`.
fn status(words: &str, seconds: &[u8], nanos: &[u8]) -> Vec<u8> {
    let delay = field(1, &[seconds, nanos].concat());
    let any = |kind: &str, value: &[u8]| field(3, &[field(1, kind.as_bytes()), field(2, value)].concat());
    let other = any("type.googleapis.com/google.rpc.DebugInfo", b"x");
    [vec![8, 8], field(2, words.as_bytes()), other, any("type.googleapis.com/google.rpc.RetryInfo", &delay)].concat()
}

/// What an answer is, in short.
fn kind(answer: &Answer) -> (&'static str, &'static str) {
    match answer {
        Answer::Stored => ("stored", ""),
        Answer::PartlyStored { .. } => ("partly", ""),
        Answer::Known { reason } => ("known", reason),
        Answer::Later { reason, .. } => ("later", reason),
        Answer::Refused { reason, .. } => ("refused", reason),
        Answer::StoredExcept { .. } => ("stored_except", ""),
        Answer::Otherwise { reason, .. } => ("otherwise", reason),
        Answer::Blocked { reason, .. } => ("blocked", reason),
    }
}

#[test]
fn every_code_of_grpc_has_its_answer() {
    for (code, expected) in [
        ("0", ("stored", "")),
        ("1", ("later", "unavailable")),
        ("2", ("later", "server_error")),
        ("3", ("refused", "refused")),
        ("4", ("later", "unavailable")),
        ("5", ("refused", "refused")),
        ("6", ("refused", "refused")),
        ("7", ("blocked", "unauthorized")),
        ("8", ("later", "server_error")),
        ("9", ("refused", "refused")),
        ("10", ("later", "unavailable")),
        ("11", ("later", "unavailable")),
        ("12", ("blocked", "wrong_address")),
        ("13", ("later", "server_error")),
        ("14", ("later", "unavailable")),
        ("15", ("later", "unavailable")),
        ("16", ("blocked", "unauthorized")),
        ("17", ("refused", "refused")),
    ] {
        assert_eq!(kind(&of_grpc(&grpc(code, "", None), asked(0))), expected, "of code {code}");
    }
}

#[test]
fn retry_info_says_when_to_come_again_with_padding_and_without() {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
    let five = status("RATE_LIMITED: x", &[8, 5], &[]);
    let half = status("x", &[], &[16, 0x80, 0xca, 0xb5, 0xee, 0x01]);
    let negative = status("x", &[8, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], &[]);
    for (details, after) in [
        (STANDARD.encode(&five), Some(Duration::from_secs(5))),
        (STANDARD_NO_PAD.encode(&five), Some(Duration::from_secs(5))),
        (STANDARD.encode(&half), Some(Duration::from_millis(500))),
        (STANDARD.encode(&negative), Some(Duration::ZERO)),
    ] {
        for (code, reason) in [("8", "rate_limited"), ("14", "unavailable")] {
            let error = format!("gRPC status {code}: why");
            let expected = Answer::Later { reason, error, after };
            assert_eq!(of_grpc(&grpc(code, "why", Some(&details)), asked(0)), expected);
        }
    }
    for broken in ["!", "AAAA", &STANDARD.encode(&five[..five.len() - 3])] {
        let answer = of_grpc(&grpc("14", "", Some(broken)), asked(0));
        assert!(matches!(answer, Answer::Later { after: None, .. }), "{broken}: {answer:?}");
    }
}

#[test]
fn words_say_more_than_codes() {
    let record = Asked { tenant_of_record: true, ..asked(0) };
    for (code, words, asked, expected) in [
        ("8", "RATE_LIMITED: ingestion rate limit exceeded", asked(0), ("later", "rate_limited")),
        ("8", "RATE_LIMITED: batch size (9 bytes) exceeds ingestion limit (local", asked(0), ("refused", "too_large")),
        ("8", "grpc: received message larger than max (9 vs. 4)", asked(0), ("refused", "too_large")),
        ("8", "gRPC message exceeds maximum size 4: 9", asked(0), ("refused", "too_large")),
        ("11", "Error, decoded message length too large: found 9 bytes", asked(0), ("refused", "too_large")),
        ("3", "multiple org IDs present", asked(0), ("blocked", "bad_tenant")),
        ("3", "multiple org IDs present", record, ("refused", "bad_tenant")),
        ("13", "grpc: error unmarshalling request: unexpected EOF", asked(0), ("refused", "refused")),
        ("14", "no org id", asked(0), ("blocked", "no_tenant")),
        ("3", "tenant ID 'a b' contains unsupported character ' '", asked(0), ("blocked", "bad_tenant")),
        ("3", "tenant ID 'a b' contains unsupported character ' '", record, ("refused", "bad_tenant")),
    ] {
        assert_eq!(kind(&of_grpc(&grpc(code, words, None), asked)), expected, "of {code}: {words}");
        let body = [vec![8, 8], field(2, words.as_bytes())].concat();
        let over_http = of_http(&http(429, "application/x-protobuf", body), asked);
        assert_eq!(kind(&over_http).0, expected.0, "of {words} over HTTP");
    }
}

#[test]
fn messages_are_percent_decoded() {
    let answer = of_grpc(&grpc("3", "sp%C3%A4n %25 1%0A%zz%4", None), asked(0));
    let error = "gRPC status 3: spän % 1\n%zz%4".to_owned();
    assert_eq!(answer, Answer::Refused { reason: "refused", error });
}

#[test]
fn an_answer_without_grpc_is_one_of_something_in_between() {
    for (status, expected) in [
        (200, ("blocked", "wrong_address")),
        (400, ("blocked", "wrong_address")),
        (401, ("blocked", "unauthorized")),
        (403, ("blocked", "unauthorized")),
        (404, ("blocked", "wrong_address")),
        (413, ("refused", "too_large")),
        (415, ("blocked", "wrong_address")),
        (429, ("later", "rate_limited")),
        (502, ("later", "server_error")),
        (503, ("later", "server_error")),
    ] {
        assert_eq!(kind(&of_grpc(&http(status, "text/html", "x"), asked(0))), expected, "of status {status}");
    }
    assert_eq!(kind(&of_grpc(&grpc("none", "", None), asked(0))), ("blocked", "wrong_address"));
}

#[test]
fn every_status_of_http_has_its_answer() {
    for (status, expected) in [
        (200, ("stored", "")),
        (202, ("stored", "")),
        (302, ("blocked", "wrong_address")),
        (400, ("refused", "refused")),
        (401, ("blocked", "unauthorized")),
        (403, ("blocked", "unauthorized")),
        (404, ("blocked", "wrong_address")),
        (408, ("later", "timeout")),
        (413, ("refused", "too_large")),
        (415, ("blocked", "wrong_address")),
        (422, ("refused", "refused")),
        (429, ("later", "rate_limited")),
        (500, ("later", "server_error")),
        (502, ("later", "server_error")),
        (503, ("later", "server_error")),
        (504, ("later", "server_error")),
    ] {
        assert_eq!(kind(&of_http(&http(status, "application/json", ""), asked(0))), expected, "of {status}");
    }
    assert_eq!(kind(&of_http(&http(400, "text/html; charset=x", "<h1>"), asked(0))), ("blocked", "wrong_address"));
}

#[test]
fn errors_over_http_are_shown_in_their_own_words_and_say_when_to_come_again() {
    let body = status("why it is so", &[8, 7], &[]);
    let answer = of_http(&http(503, "application/x-protobuf", body.clone()), asked(0));
    let (error, after) = ("answered 503: why it is so".to_owned(), Some(Duration::from_secs(7)));
    assert_eq!(answer, Answer::Later { reason: "server_error", error, after });
    let mut reply = http(429, "application/x-protobuf", body);
    reply.headers.insert(RETRY_AFTER, "3".parse().unwrap());
    let answer = of_http(&reply, asked(0));
    assert!(matches!(&answer, Answer::Later { after, .. } if *after == Some(Duration::from_secs(3))), "{answer:?}");
    let answer = of_http(&http(400, "text/plain", "plain words"), asked(0));
    assert_eq!(answer, Answer::Refused { reason: "refused", error: "answered 400: plain words".into() });
}

#[test]
fn what_is_rejected_of_a_stored_request_is_accounted() {
    // `rejected_spans: 300`, `error_message: "why"`.
    let partial = field(1, &[&[8, 0xac, 2][..], &field(2, b"why")].concat());
    let warning = field(1, &field(2, b"a warning"));
    let expected = Answer::PartlyStored { rejected: 300, error: "why".into() };
    for (body, expected) in [(partial, expected), (warning, Answer::Stored), (vec![0xff], Answer::Stored)] {
        assert_eq!(of_http(&http(200, "application/x-protobuf", body.clone()), asked(0)), expected);
        let length = u8::try_from(body.len()).unwrap();
        let reply = Reply { body: [vec![0, 0, 0, 0, length], body].concat().into(), ..grpc("0", "", None) };
        assert_eq!(of_grpc(&reply, asked(0)), expected);
    }
}

#[test]
fn nothing_is_given_up_for_a_bad_moment() {
    for (attempt, others_stored, expected) in
        [(62, true, "later"), (63, true, "refused"), (63, false, "later"), (10_000, false, "later")]
    {
        let asked = Asked { others_stored, ..asked(attempt) };
        for code in ["2", "8", "13"] {
            assert_eq!(kind(&of_grpc(&grpc(code, "", None), asked)), (expected, "server_error"));
        }
        assert_eq!(kind(&of_http(&http(500, "", ""), asked)), (expected, "server_error"));
        assert_eq!(kind(&of_http(&http(503, "", ""), asked)).0, "later", "which passes");
    }
}
