//! The HTTP client of sinks: TLS, credentials, proxies, and what became of a request.

mod auth;
mod config;
mod reply;

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Duration;

use afflux_runtime::delivery::Answer;
use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use http_body_util::BodyExt as _;
use reqwest::{Body, Certificate, Client, Identity, Proxy, Url};

use self::auth::{Credentials, NoCredentials};
pub use self::config::{AuthConfig, BasicConfig, BearerConfig, ClientTlsConfig, OAuth2Config};
pub(crate) use self::reply::Reply;

/// What the TLS library says of an answer in plain text.
const NO_TLS: &str = "InvalidContentType";
/// Bytes of an answer that are read.
pub(crate) const ANSWER_BYTES: usize = 64 * 1024;
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may be silent while it owes an answer over HTTP/2, and how long it may then take to show that it is
/// there. Requests share a connection, which would otherwise be used on and on when the server has gone without a word.
const PING_EVERY: Duration = Duration::from_secs(5);
const PONG_WITHIN: Duration = Duration::from_secs(3);

/// What a server is asked for where it wants to know which tenant a request is for.
pub(crate) const TENANT: HeaderName = HeaderName::from_static("x-scope-orgid");

/// Where requests go and what they carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'c> {
    /// Key of the sink in the configuration, for errors.
    pub(crate) key: &'static str,
    /// Key of the URL below it.
    pub(crate) url_key: &'static str,
    /// The URL as configured.
    pub(crate) url: &'c str,
    /// What is appended where the URL does not end in it already.
    pub(crate) path: &'static str,
    /// HTTP/2 from the first byte on, where there is no TLS to settle that.
    pub(crate) http2: bool,
    pub(crate) auth: &'c AuthConfig,
    pub(crate) tls: &'c ClientTlsConfig,
    pub(crate) headers: &'c BTreeMap<String, String>,
    /// URL of a proxy; that of the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) where there is none.
    pub(crate) proxy: Option<&'c str>,
}

/// A client cannot be made of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}.{problem}")]
pub struct HttpConfigError {
    key: &'static str,
    problem: String,
}

/// A client for one address.
#[derive(Debug)]
pub(crate) struct HttpClient {
    client: Client,
    url: Url,
    headers: HeaderMap,
    credentials: Credentials,
}

impl HttpClient {
    /// Reads the files that the configuration names; connects to nobody.
    pub(crate) fn new(endpoint: &Endpoint<'_>) -> Result<Self, HttpConfigError> {
        let wrong = |problem| HttpConfigError { key: endpoint.key, problem };
        let url = url(endpoint).map_err(wrong)?;
        let headers = headers(endpoint.headers).map_err(wrong)?;
        let client = client(endpoint).map_err(wrong)?;
        // Whoever issues tokens need not speak what the endpoint does.
        let tokens = self::client(&Endpoint { http2: false, ..*endpoint }).map_err(wrong)?;
        let credentials = Credentials::new(endpoint.auth, &tokens).map_err(wrong)?;
        Ok(Self { client, url, headers, credentials })
    }

    /// Posts a body. An answer of whatever status is `Ok`; `Err` says what follows where there was none.
    pub(crate) async fn post(&self, headers: HeaderMap, body: impl Into<Body>) -> Result<Reply, Answer> {
        let later = |reason, error| Answer::Later { reason, error, after: None };
        let authorization = self.credentials.header().await.map_err(|why| match why {
            NoCredentials::Later(why) => later("credentials", why),
            NoCredentials::Wrong(why) => {
                Answer::Blocked { reason: "unauthorized", error: format!("{why}; check `auth`") }
            }
        })?;
        let mut all = self.headers.clone();
        all.extend(headers);
        all.extend(authorization.clone().map(|value| (header::AUTHORIZATION, value)));
        let sent = self.client.post(self.url.clone()).headers(all).body(body).send().await;
        let failed = |error: &reqwest::Error| {
            let mut why = because(error);
            if why.contains(NO_TLS) {
                why.push_str("; the server seems to speak no TLS there, which http:// would be for");
            }
            later(if error.is_connect() { "unreachable" } else { "connection_lost" }, why)
        };
        let response = sent.map_err(|error| failed(&error))?;
        let (parts, mut body) = http::Response::<Body>::from(response).into_parts();
        let (mut text, mut headers) = (BytesMut::new(), parts.headers);
        while let Some(frame) = body.frame().await {
            match frame.map_err(|error| failed(&error))?.into_data() {
                Ok(data) => text.extend_from_slice(&data[..data.len().min(ANSWER_BYTES - text.len())]),
                // gRPC says what became of a call behind the body.
                Err(frame) => headers.extend(frame.into_trailers().unwrap_or_default()),
            }
        }
        if parts.status == http::StatusCode::UNAUTHORIZED || headers.get("grpc-status").is_some_and(|code| code == "16")
        {
            if self.credentials.refused(authorization.as_ref()).await {
                return Err(later("credentials", "the token is not accepted any more; asking for another".into()));
            }
        } else if parts.status.is_success() {
            self.credentials.accepted(authorization.as_ref()).await;
        }
        Ok(Reply { status: parts.status, headers, body: text.freeze() })
    }
}

/// An error with those behind it, each once: a client's own says little.
pub(crate) fn because(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

fn url(endpoint: &Endpoint<'_>) -> Result<Url, String> {
    let key = endpoint.url_key;
    let wrong =
        |why: &dyn std::fmt::Display| format!("{key}: `{}` {why}; write it like http://HOST:PORT", endpoint.url);
    let mut url = Url::parse(endpoint.url).map_err(|error| wrong(&format!("is no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong(&"begins with neither http:// nor https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!("{key}: credentials do not belong into the URL; write them as `auth.basic`"));
    }
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(endpoint.path) {
        url.set_path(&format!("{path}{}", endpoint.path));
    }
    Ok(url)
}

fn headers(configured: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    let header = |(name, value): (&String, &String)| {
        let mut value = HeaderValue::try_from(value).map_err(|_| format!("headers.{name}: no valid value"))?;
        // They may hold keys.
        value.set_sensitive(true);
        Ok((HeaderName::try_from(name).map_err(|_| format!("headers.{name}: no valid name"))?, value))
    };
    configured.iter().map(header).collect()
}

fn client(endpoint: &Endpoint<'_>) -> Result<Client, String> {
    let mut builder = Client::builder()
        .user_agent(concat!("afflux/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT);
    if !endpoint.http2 {
        builder = builder.http1_only();
    } else if endpoint.url.starts_with("https://") {
        builder = builder.http2_keep_alive_interval(PING_EVERY).http2_keep_alive_timeout(PONG_WITHIN);
    } else {
        if endpoint.proxy.is_some() {
            return Err("proxy: only HTTP/1 and TLS go through a proxy; write https:// or use OTLP over HTTP".into());
        }
        builder = builder.http2_prior_knowledge().no_proxy();
        builder = builder.http2_keep_alive_interval(PING_EVERY).http2_keep_alive_timeout(PONG_WITHIN);
    }
    if let Some(proxy) = endpoint.proxy {
        let proxy = Proxy::all(proxy).map_err(|error| format!("proxy: {}", because(&error)))?;
        builder = builder.proxy(proxy);
    }
    let tls = endpoint.tls;
    if let Some(ca) = &tls.ca {
        let authorities = Certificate::from_pem_bundle(&read("tls.ca", ca)?);
        for authority in authorities.map_err(|error| format!("tls.ca: {}: {}", ca.display(), because(&error)))? {
            builder = builder.add_root_certificate(authority);
        }
    }
    match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            let mut pem = read("tls.certificate", certificate)?;
            pem.push(b'\n');
            pem.extend(read("tls.key", key)?);
            let identity = Identity::from_pem(&pem);
            builder = builder.identity(identity.map_err(|error| format!("tls.certificate: {}", because(&error)))?);
        }
        (None, None) => {}
        _ => return Err("tls: `certificate` and `key` belong together".into()),
    }
    builder.build().map_err(|error| format!("tls: {}", because(&error)))
}

fn read(key: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{key}: {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
