use std::io::Write as _;

use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use prost::Message as _;
use reqwest::StatusCode;
use tonic::codec::CompressionEncoding;
use tonic::{Code, Request};

use super::*;

fn span(number: u8, text: &str) -> Span {
    let value = AnyValue { value: Some(Value::StringValue(text.into())) };
    let attributes = vec![KeyValue { key: "text".into(), value: Some(value), ..KeyValue::default() }];
    Span { trace_id: vec![number; 16], span_id: vec![number; 8], attributes, ..Span::default() }
}

fn request(spans: Vec<Span>) -> ExportTraceServiceRequest {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    ExportTraceServiceRequest { resource_spans: vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }] }
}

async fn grpc(tempo: &Tempo, spans: Vec<Span>, headers: &[(&'static str, &'static str)]) -> Result<i64, tonic::Status> {
    let client = TraceServiceClient::connect(tempo.endpoint()).await.expect("it listens");
    let mut request = Request::new(request(spans));
    headers.iter().for_each(|(name, value)| drop(request.metadata_mut().insert(*name, value.parse().unwrap())));
    let response = client.send_compressed(CompressionEncoding::Gzip).export(request).await?.into_inner();
    Ok(response.partial_success.map(|partial| partial.rejected_spans).unwrap_or_default())
}

async fn post(tempo: &Tempo, spans: Vec<Span>, headers: &[(&str, &str)]) -> reqwest::Result<reqwest::Response> {
    let post = reqwest::Client::new().post(format!("{}/v1/traces", tempo.endpoint()));
    let post = headers.iter().fold(post, |post, (name, value)| post.header(*name, *value));
    post.header("content-type", "application/x-protobuf").body(request(spans).encode_to_vec()).send().await
}

#[tokio::test]
async fn both_protocols_store_and_duplicates_are_removed_where_they_are_read() {
    let tempo = Tempo::start(Settings::default()).await.unwrap();
    assert_eq!(grpc(&tempo, vec![span(1, ""), span(2, "")], &[]).await.unwrap(), 0);
    assert_eq!(post(&tempo, vec![span(2, ""), span(3, "")], &[]).await.unwrap().status(), 200);
    let mut zipped = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zipped.write_all(&request(vec![span(4, "")]).encode_to_vec()).unwrap();
    let client = reqwest::Client::new().post(format!("{}/v1/traces", tempo.endpoint()));
    let client = client.header("content-type", "application/x-protobuf").header("content-encoding", "gzip");
    assert_eq!(client.body(zipped.finish().unwrap()).send().await.unwrap().status(), 200);
    let other_kind = Span { kind: 2, ..span(1, "") };
    grpc(&tempo, vec![other_kind], &[]).await.unwrap();
    let found = tempo.found();
    assert_eq!((found.spans.len(), found.duplicates, found.truncated), (4, 1, 0));
    assert!(found.spans.contains_key(&"03".repeat(24)));
    assert_eq!(tempo.missing(&["03", "05"].map(|byte| byte.repeat(24)).into()), 1);
    assert_eq!(tempo.count("stored"), 4);
}

#[tokio::test]
async fn an_invalid_id_has_the_whole_request_refused() {
    let tempo = Tempo::start(Settings::default()).await.unwrap();
    for (wrong, code) in [
        (Span { trace_id: vec![1; 8], ..span(1, "") }, Code::Internal),
        (Span { trace_id: vec![0; 16], ..span(1, "") }, Code::InvalidArgument),
        (Span { span_id: vec![0; 8], ..span(1, "") }, Code::InvalidArgument),
        (Span { span_id: vec![], ..span(1, "") }, Code::InvalidArgument),
        (Span { span_id: vec![1; 4], ..span(1, "") }, Code::Internal),
    ] {
        let refused = grpc(&tempo, vec![span(2, ""), wrong.clone()], &[]).await.unwrap_err();
        assert_eq!(refused.code(), code);
        assert_eq!(post(&tempo, vec![span(2, ""), wrong], &[]).await.unwrap().status(), 400);
    }
    assert_eq!(tempo.found().spans.len(), 0);
}

#[tokio::test]
async fn limits_of_size_rate_and_attributes_are_those_of_the_real_one() {
    let rate = Some((100, 2_000));
    let settings = Settings { max_message_bytes: 6_000, rate, max_attribute_bytes: 10, ..Settings::default() };
    let tempo = Tempo::start(settings).await.unwrap();
    let long = |bytes| vec![span(1, &"x".repeat(bytes))];
    let refused = grpc(&tempo, long(7_000), &[]).await.unwrap_err();
    assert_eq!((refused.code(), refused.details().len()), (Code::ResourceExhausted, 0));
    assert!(refused.message().contains("larger than max"), "{refused}");
    let refused = grpc(&tempo, long(3_000), &[]).await.unwrap_err();
    assert!(refused.message().starts_with("RATE_LIMITED: batch size"), "{refused}");
    grpc(&tempo, long(1_500), &[]).await.unwrap();
    let refused = grpc(&tempo, long(1_500), &[]).await.unwrap_err();
    assert!(refused.message().starts_with("RATE_LIMITED: ingestion rate"), "{refused}");
    assert!(refused.details().windows(9).any(|words| words == b"RetryInfo"), "{refused:?}");
    let answer = post(&tempo, long(1_500), &[]).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["retry-after"]),
        (StatusCode::TOO_MANY_REQUESTS, &"5".parse().unwrap())
    );
    let found = tempo.found();
    let text = found.spans.values().next().and_then(|span| span.attributes[0].value.clone()).unwrap();
    assert_eq!((found.truncated, text.value), (1, Some(Value::StringValue("x".repeat(10)))));
}

#[tokio::test]
async fn tenants_are_kept_apart_and_whoever_names_none_is_told_so() {
    let tempo = Tempo::start(Settings { multitenant: true, ..Settings::default() }).await.unwrap();
    for tenant in ["a", "b"] {
        grpc(&tempo, vec![span(1, "")], &[("x-scope-orgid", tenant)]).await.unwrap();
        post(&tempo, vec![span(1, "")], &[("x-scope-orgid", tenant)]).await.unwrap();
    }
    assert_eq!(tempo.tenants(), ["a", "b"].map(str::to_owned).into());
    assert_eq!(tempo.found().duplicates, 2);
    let refused = grpc(&tempo, vec![span(1, "")], &[]).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, "no org id"));
    let refused = grpc(&tempo, vec![span(1, "")], &[("x-scope-orgid", "a b")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_gateway_lets_in_whom_it_knows() {
    let tempo = Tempo::start(Settings::default()).await.unwrap();
    tempo.admit(Access::Authorization("Bearer one".into()));
    assert_eq!(grpc(&tempo, vec![], &[]).await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(post(&tempo, vec![], &[]).await.unwrap().status(), 401);
    assert_eq!(post(&tempo, vec![], &[("authorization", "Bearer one")]).await.unwrap().status(), 200);
    grpc(&tempo, vec![], &[("authorization", "Bearer one")]).await.unwrap();
    tempo.admit(Access::Nobody);
    assert_eq!(grpc(&tempo, vec![], &[]).await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(post(&tempo, vec![], &[]).await.unwrap().status(), 403);
    assert_eq!((tempo.count("unauthenticated"), tempo.count("forbidden"), tempo.count("stored")), (2, 2, 2));
}

#[tokio::test]
async fn faults_come_as_scripted() {
    let tempo = Tempo::start(Settings::default()).await.unwrap();
    let wait = Some(Duration::from_millis(1500));
    for (fault, code, status) in [
        (Fault::Unavailable, Code::Unavailable, 503),
        (Fault::ServerError, Code::Internal, 500),
        (Fault::RateLimited(None), Code::ResourceExhausted, 429),
        (Fault::RateLimited(wait), Code::ResourceExhausted, 429),
    ] {
        tempo.script(2, fault);
        assert_eq!(grpc(&tempo, vec![span(1, "")], &[]).await.unwrap_err().code(), code);
        let answer = post(&tempo, vec![span(1, "")], &[]).await.unwrap();
        let told = fault == Fault::RateLimited(wait);
        assert_eq!((answer.status().as_u16(), answer.headers().contains_key("retry-after")), (status, told));
    }
    tempo.script(2, Fault::Reset);
    assert!(grpc(&tempo, vec![span(1, "")], &[]).await.is_err());
    assert!(post(&tempo, vec![span(1, "")], &[]).await.is_err());
    assert_eq!(tempo.found().spans.len(), 0, "nothing of this is stored");
    for (number, fault) in [(1, Fault::StoreAndReset), (2, Fault::StoreAndClose)] {
        tempo.script(2, fault);
        assert!(grpc(&tempo, vec![span(number, "")], &[]).await.is_err());
        assert!(post(&tempo, vec![span(number, "")], &[]).await.is_err());
        assert_eq!((tempo.found().spans.len(), tempo.found().duplicates), (usize::from(number), usize::from(number)));
    }
    tempo.script(1, Fault::StoreAndHang);
    let hanging = tokio::time::timeout(Duration::from_millis(200), post(&tempo, vec![span(3, "")], &[])).await;
    assert!(hanging.is_err() && tempo.found().spans.len() == 3);
    tempo.reject(Some(7));
    assert_eq!(grpc(&tempo, vec![span(4, "")], &[]).await.unwrap(), 7);
    tempo.reject(None);

    tempo.always(Some(Fault::Unavailable));
    assert!(grpc(&tempo, vec![], &[]).await.is_err());
    tempo.always(None);
    tempo.sometimes(1, 2, &[Fault::Unavailable]);
    let mut outcomes = [0; 2];
    for _ in 0..40 {
        outcomes[usize::from(post(&tempo, vec![], &[]).await.unwrap().status() == 200)] += 1;
    }
    assert!(outcomes.iter().all(|count| *count > 5), "{outcomes:?}");
    tempo.sometimes(0, 1, &[]);
    grpc(&tempo, vec![], &[]).await.unwrap();
}

#[tokio::test]
async fn tls_asks_for_a_certificate_where_it_is_told_to() {
    let certificates = Certificates::new().unwrap();
    let tempo = Tempo::start_tls(Settings::default(), &certificates, true).await.unwrap();
    let pem = |path: &std::path::Path| std::fs::read(path).unwrap();
    let authority = |path: &std::path::Path| reqwest::Certificate::from_pem(&pem(path)).unwrap();
    let (certificate, key) = certificates.client();
    let identity = reqwest::Identity::from_pem(&[pem(&certificate), pem(&key)].concat()).unwrap();
    let ask = |client: reqwest::ClientBuilder| {
        let url = format!("{}/v1/traces", tempo.endpoint());
        client.build().unwrap().post(url).header("content-type", "application/x-protobuf").send()
    };
    let client = || reqwest::Client::builder().add_root_certificate(authority(&certificates.ca()));
    assert!(ask(client()).await.is_err());
    assert!(ask(client().identity(identity)).await.unwrap().status().is_success());
    let stranger = reqwest::Client::builder().add_root_certificate(authority(&certificates.other_ca()));
    assert!(ask(stranger).await.unwrap_err().is_connect());
}
