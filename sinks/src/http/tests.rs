use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use afflux_bus::kafka::Secret;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

mod credentials;
mod tokens;

/// Nothing may ever print it.
const SECRET: &str = "hunter2-never-shown";

/// A server that answers as told, and 204 when not told otherwise.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Response>>>,
    seen: Arc<Mutex<Vec<Seen>>>,
    port: u16,
}

#[derive(Clone, Debug)]
struct Seen {
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Script {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let script = Self { port: listener.local_addr().unwrap().port(), ..Self::default() };
        let router = axum::Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(axum::serve(listener, router).into_future());
        script
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn answers(&self, answer: impl axum::response::IntoResponse) {
        self.answers.lock().unwrap().push_back(answer.into_response());
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

async fn answer(State(script): State<Script>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = String::from_utf8_lossy(&body).into_owned();
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    script.seen.lock().unwrap().push(Seen { path, headers: parts.headers, body });
    let answer = script.answers.lock().unwrap().pop_front();
    answer.unwrap_or_else(|| http::StatusCode::NO_CONTENT.into_response())
}

/// What an [`Endpoint`] borrows.
#[derive(Default)]
struct Parts {
    url: String,
    auth: AuthConfig,
    tls: ClientTlsConfig,
    headers: BTreeMap<String, String>,
    proxy: Option<String>,
    http2: bool,
}

impl Parts {
    fn of(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    fn client(&self) -> Result<HttpClient, HttpConfigError> {
        HttpClient::new(&Endpoint {
            key: "sinks.x",
            url_key: "url",
            url: &self.url,
            path: "/push",
            http2: self.http2,
            auth: &self.auth,
            tls: &self.tls,
            headers: &self.headers,
            proxy: self.proxy.as_deref(),
        })
    }
}

async fn post(client: &HttpClient) -> Result<Reply, Answer> {
    client.post(HeaderMap::new(), "body").await
}

/// Reason and text of what is to be tried again.
fn later(result: Result<Reply, Answer>) -> (&'static str, String) {
    match result {
        Err(Answer::Later { reason, error, after: None }) => (reason, error),
        other => panic!("{other:?}"),
    }
}

fn blocked(result: Result<Reply, Answer>) -> (&'static str, String) {
    match result {
        Err(Answer::Blocked { reason, error }) => (reason, error),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_path_is_appended_where_the_url_does_not_end_in_it() {
    let script = Script::start().await;
    let url = script.url();
    for (configured, path) in [
        ("", "/push"),
        ("/", "/push"),
        ("/push", "/push"),
        ("/push/", "/push/"),
        ("/a", "/a/push"),
        ("/a/?x=1", "/a/push?x=1"),
    ] {
        post(&Parts::of(format!("{url}{configured}")).client().unwrap()).await.unwrap();
        assert_eq!(script.seen().last().unwrap().path, path, "of {configured}");
    }
}

#[test]
fn what_cannot_work_is_named_by_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("bad.pem");
    std::fs::write(&file, "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n").unwrap();
    let missing = PathBuf::from("/nonexistent/file.pem");
    let url = || Parts::of("http://a:1");
    let tls = |ca: Option<PathBuf>, certificate: Option<PathBuf>, key: Option<PathBuf>| Parts {
        tls: ClientTlsConfig { ca, certificate, key },
        ..url()
    };
    let header = |name: &str, value: &str| Parts { headers: [(name.into(), value.into())].into(), ..url() };
    for (parts, expected) in [
        (Parts::of("a:1"), "sinks.x.url: `a:1` begins with neither http:// nor https://"),
        (Parts::of("/push"), "sinks.x.url: `/push` is no URL"),
        (Parts::of("ftp://a"), "sinks.x.url: `ftp://a` begins with neither"),
        (Parts::of(format!("http://me:{SECRET}@a")), "sinks.x.url: credentials do not belong into the URL"),
        (header("a b", "c"), "sinks.x.headers.a b: no valid name"),
        (header("a", "c\n"), "sinks.x.headers.a: no valid value"),
        (Parts { proxy: Some("::".into()), ..url() }, "sinks.x.proxy: "),
        (Parts { proxy: Some("http://p:1".into()), http2: true, ..url() }, "sinks.x.proxy: only HTTP/1 and TLS"),
        (tls(Some(missing.clone()), None, None), "sinks.x.tls.ca: /nonexistent/file.pem: No such file"),
        (tls(Some(file.clone()), None, None), "sinks.x.tls.ca: "),
        (tls(None, Some(missing.clone()), None), "sinks.x.tls: `certificate` and `key` belong together"),
        (tls(None, None, Some(missing.clone())), "sinks.x.tls: `certificate` and `key` belong together"),
        (tls(None, Some(missing.clone()), Some(missing)), "sinks.x.tls.certificate: /nonexistent/file.pem"),
        (tls(None, Some(file.clone()), Some(file)), "sinks.x.tls.certificate: "),
    ] {
        let error = parts.client().unwrap_err().to_string();
        assert!(error.starts_with(expected) && !error.contains(SECRET), "{error} instead of {expected}");
    }
}

#[tokio::test]
async fn configured_headers_go_with_every_request_and_a_requests_own_stand_above_them() {
    let script = Script::start().await;
    let mut parts = Parts::of(script.url());
    parts.headers =
        [("X-Team", "configured"), ("x-scope-orgid", "configured")].map(|(n, v)| (n.into(), v.into())).into();
    let client = parts.client().unwrap();
    client.post([(TENANT, HeaderValue::from_static("own"))].into_iter().collect(), "body").await.unwrap();
    let seen = script.seen().remove(0);
    assert_eq!((seen.header("x-team"), seen.header("x-scope-orgid"), &*seen.body), ("configured", "own", "body"));
    assert_eq!(seen.headers.get_all("x-scope-orgid").iter().count(), 1);
    assert_eq!(seen.header("user-agent"), concat!("afflux/", env!("CARGO_PKG_VERSION")));
    assert!(!seen.headers.contains_key("authorization"));
}

#[tokio::test]
async fn an_answer_of_whatever_status_is_an_answer_and_nobody_is_sent_elsewhere() {
    let script = Script::start().await;
    let client = Parts::of(script.url()).client().unwrap();
    let elsewhere = [(header::LOCATION, format!("{}/elsewhere", script.url()))];
    script.answers((http::StatusCode::TEMPORARY_REDIRECT, elsewhere));
    script.answers((http::StatusCode::BAD_REQUEST, "x".repeat(3 * ANSWER_BYTES)));
    assert_eq!(post(&client).await.unwrap().status, 307);
    let reply = post(&client).await.unwrap();
    assert_eq!((reply.status.as_u16(), reply.body.len()), (400, ANSWER_BYTES));
    assert_eq!(script.seen().len(), 2);
}

#[tokio::test]
async fn without_an_answer_it_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = Parts::of(format!("http://{}", listener.local_addr().unwrap())).client().unwrap();
    let closing = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // The request comes whole, and its answer never.
        let _ = stream.read(&mut [0; 4096]).await;
    });
    assert_eq!(later(post(&client).await).0, "connection_lost");
    closing.await.unwrap();
    let (reason, error) = later(post(&client).await);
    assert!(reason == "unreachable" && error.contains("Connection refused"), "{error}");
}

#[tokio::test]
async fn a_connection_whose_server_has_gone_without_a_word_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let parts = Parts { http2: true, ..Parts::of(format!("http://{}", listener.local_addr().unwrap())) };
    let client = parts.client().unwrap();
    let (kept, mut connections) = tokio::sync::mpsc::channel(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        // Settings of HTTP/2, and then silence.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        kept.send(stream).await.unwrap();
    });
    let lost = tokio::time::timeout(PING_EVERY + 2 * PONG_WITHIN, post(&client)).await;
    assert_eq!(later(lost.expect("it gives up")).0, "connection_lost");
    connections.recv().await.unwrap();
}

#[tokio::test]
async fn requests_go_through_the_proxy() {
    let proxy = Script::start().await;
    let parts = Parts { proxy: Some(proxy.url()), ..Parts::of("http://backend.invalid:9") };
    post(&parts.client().unwrap()).await.unwrap();
    let seen = proxy.seen().remove(0);
    assert_eq!((&*seen.path, seen.header("host")), ("/push", "backend.invalid:9"));
}

#[tokio::test]
async fn secrets_are_in_no_debug_output() {
    let script = Script::start().await;
    let secret = || Some(Secret::new(SECRET));
    let mut parts = Parts::of(script.url());
    parts.headers = [("x-key".to_owned(), SECRET.to_owned())].into();
    for auth in [
        AuthConfig {
            basic: Some(BasicConfig { password: secret(), ..BasicConfig::default() }),
            ..AuthConfig::default()
        },
        AuthConfig { bearer: Some(BearerConfig { token: secret(), token_file: None }), ..AuthConfig::default() },
        AuthConfig {
            oauth2: Some(OAuth2Config {
                token_url: format!("{}/token", script.url()),
                client_secret: secret(),
                ..OAuth2Config::default()
            }),
            ..AuthConfig::default()
        },
    ] {
        parts.auth = auth;
        script.answers(axum::Json(json!({"access_token": SECRET})));
        let client = parts.client().unwrap();
        let _ = post(&client).await;
        let shown = format!("{client:?} {:?}", parts.auth);
        assert!(!shown.contains(SECRET) && shown.contains("hidden"), "{shown}");
        script.answers.lock().unwrap().clear();
    }
}
