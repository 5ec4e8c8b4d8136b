//! Ways to the backend: TLS, certificates of clients, proxies, tenants, headers, compression.

use std::time::Duration;

use afflux_tests::afflux::{Afflux, Options};
use afflux_tests::forward_proxy::ForwardProxy;
use afflux_tests::load::Load;
use afflux_tests::tempo::certificates::Certificates;
use afflux_tests::tempo::{Settings, Tempo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message as _;

use super::{PATIENCE, acked, holds, options, send};

fn with_tls(options: Options, certificates: &Certificates, client: bool) -> Options {
    let options = options.env("AFFLUX__SINKS__TEMPO__TLS__CA", certificates.ca().display().to_string());
    if !client {
        return options;
    }
    let (certificate, key) = certificates.client();
    options
        .env("AFFLUX__SINKS__TEMPO__TLS__CERTIFICATE", certificate.display().to_string())
        .env("AFFLUX__SINKS__TEMPO__TLS__KEY", key.display().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_go_over_tls_with_a_clients_certificate_through_a_proxy() -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    for protocol in ["grpc", "http"] {
        let (dir, proxy) = (tempfile::tempdir()?, ForwardProxy::start().await?);
        let tempo = Tempo::start_tls(Settings::default(), &certificates, true).await?;
        let options = with_tls(options(dir.path(), &tempo, protocol), &certificates, true)
            .env("AFFLUX__SINKS__TEMPO__PROXY", proxy.url())
            .env("AFFLUX__SINKS__TEMPO__COMPRESSION", "gzip")
            .config("sinks: {tempo: {headers: {x-team: shop}}}");
        let afflux = Afflux::start(dir.path(), &options).await?;
        let load = Load::new(rand::random());
        send(&load, &afflux, 5).await;
        holds(&tempo, &load, &acked(&load)).await?;
        assert!(proxy.tunnels() > 0, "{protocol} went past the proxy");
        let headers = &tempo.arrivals()[0].headers;
        assert_eq!(headers["x-team"], "shop");
        afflux.stop().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_goes_through_a_proxy() -> anyhow::Result<()> {
    let (dir, proxy) = (tempfile::tempdir()?, ForwardProxy::start().await?);
    let tempo = Tempo::start(Settings::default()).await?;
    let options = options(dir.path(), &tempo, "http").env("AFFLUX__SINKS__TEMPO__PROXY", proxy.url());
    let afflux = Afflux::start(dir.path(), &options).await?;
    let load = Load::new(rand::random());
    send(&load, &afflux, 3).await;
    holds(&tempo, &load, &acked(&load)).await?;
    assert!(proxy.plain() > 0, "it went past the proxy");
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_goes_to_a_server_that_is_not_known_or_without_the_certificate_that_it_wants() -> anyhow::Result<()> {
    let certificates = Certificates::new()?;
    let tempo = Tempo::start_tls(Settings::default(), &certificates, true).await?;
    let dir = tempfile::tempdir()?;
    let load = Load::new(rand::random());
    let stranger = options(dir.path(), &tempo, "grpc")
        .env("AFFLUX__SINKS__TEMPO__TLS__CA", certificates.other_ca().display().to_string());
    let nameless = with_tls(options(dir.path(), &tempo, "grpc"), &certificates, false);
    for options in [stranger, nameless] {
        let afflux = Afflux::start(dir.path(), &options).await?;
        send(&load, &afflux, 2).await;
        let retries = |reason| format!("afflux_retries_total{{component=\"sinks.tempo\",reason=\"{reason}\"}}");
        let started = std::time::Instant::now();
        loop {
            let [a, b] = ["unreachable", "connection_lost"].map(retries);
            let count = afflux.metric(&a).await?.unwrap_or_default() + afflux.metric(&b).await?.unwrap_or_default();
            if count >= 3.0 {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "it did not even try");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(tempo.found().spans.len(), 0);
        afflux.kill()?;
    }
    let afflux = Afflux::start(dir.path(), &with_tls(options(dir.path(), &tempo, "grpc"), &certificates, true)).await?;
    holds(&tempo, &load, &acked(&load)).await?;
    afflux.stop().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_go_to_the_tenants_that_sent_them() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let tempo = Tempo::start(Settings { multitenant: true, ..Settings::default() }).await?;
    let afflux = Afflux::start(dir.path(), &options(dir.path(), &tempo, "grpc")).await?;
    for (number, tenant) in [(1, "team-a"), (2, "team-b"), (3, "team/c"), (4, "team-a")] {
        let span = Span { trace_id: vec![number; 16], span_id: vec![number; 8], ..Span::default() };
        let scope_spans = vec![ScopeSpans { spans: vec![span], ..ScopeSpans::default() }];
        let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
        let request = reqwest::Client::new()
            .post(format!("http://127.0.0.1:{}/v1/traces", afflux.http))
            .header("content-type", "application/x-protobuf")
            .header("x-scope-orgid", tenant)
            .body(ExportTraceServiceRequest { resource_spans }.encode_to_vec());
        assert_eq!(request.send().await?.status(), 200);
    }
    afflux.settles("sinks.tempo", "spans", 4).await?;
    assert_eq!(tempo.tenants(), ["team-a", "team-b"].map(str::to_owned).into());
    assert_eq!(tempo.found().spans.len(), 3);
    let letters = afflux.dead_letters()?;
    assert_eq!((letters.len(), &letters[0]["reason"]), (1, &"bad_tenant".into()), "{letters:?}");
    afflux.stop().await
}
