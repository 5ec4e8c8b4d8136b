//! Where to send, and how.

use std::fmt;
use std::str::FromStr;

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, TE,
    TRANSFER_ENCODING,
};
use http::uri::Uri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::generate::error::GenerateError;

/// A transport of OTLP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// gRPC, by custom on port 4317.
    #[default]
    Grpc,
    /// Protobuf over HTTP, by custom on port 4318.
    Http,
}

impl Protocol {
    /// The port of endpoints that name none.
    const fn port(self) -> u16 {
        match self {
            Self::Grpc => 4317,
            Self::Http => 4318,
        }
    }

    /// The receiver on this machine at its customary port.
    pub const fn local_endpoint(self) -> &'static str {
        match self {
            Self::Grpc => "http://127.0.0.1:4317",
            Self::Http => "http://127.0.0.1:4318",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Grpc => "grpc",
            Self::Http => "http",
        })
    }
}

impl FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "grpc" => Ok(Self::Grpc),
            "http" => Ok(Self::Http),
            _ => Err(format!("`{text}` is not a protocol; choose grpc or http")),
        }
    }
}

/// An OTLP receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// How it is spoken to.
    pub protocol: Protocol,
    /// Scheme, host and port, and a path before `/v1/traces` if any.
    uri: Uri,
    /// Go with every request; their values are marked as sensitive.
    headers: HeaderMap,
}

/// Headers that are not the user's to set.
const OURS: [HeaderName; 7] = [CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, TE, TRANSFER_ENCODING];

impl Target {
    /// A receiver at `http://HOST:PORT` or `HOST:PORT`; the port may be left out. TLS is not spoken.
    pub fn new(protocol: Protocol, endpoint: &str) -> Result<Self, GenerateError> {
        let wrong = |reason| {
            let (endpoint, example) = (endpoint.to_owned(), protocol.local_endpoint());
            GenerateError::Endpoint { endpoint, reason, example }
        };
        let full = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let uri: Uri = full.parse().map_err(|_| wrong("is not a URL"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(wrong("needs TLS, which the generator does not speak")),
            _ => return Err(wrong("has an unknown scheme")),
        }
        let mut parts = uri.into_parts();
        if let Some(authority) = parts.authority.take_if(|authority| authority.port().is_none()) {
            let with_port = format!("{}:{}", authority.host(), protocol.port());
            parts.authority = Some(with_port.parse().map_err(|_| wrong("is not a URL"))?);
        }
        let uri = Uri::from_parts(parts).map_err(|_| wrong("is not a URL"))?;
        Ok(Self { protocol, uri, headers: HeaderMap::new() })
    }

    /// The receiver, with a header `KEY=VALUE` for every request. Errors tell the key and never the value, which may
    /// be a secret.
    pub fn with_header(mut self, header: &str) -> Result<Self, GenerateError> {
        let wrong = |key: Option<&str>, reason| {
            let name = key.map_or_else(|| "header".into(), |key| format!("header `{key}`"));
            GenerateError::Header { name, reason }
        };
        let (key, value) = header.split_once('=').ok_or_else(|| wrong(None, "is not KEY=VALUE"))?;
        let (key, value) = (key.trim(), value.trim());
        let name: HeaderName = key.parse().map_err(|_| wrong(Some(key), "has a name that no header can have"))?;
        if OURS.contains(&name) {
            return Err(wrong(Some(key), "is set by the protocol"));
        }
        let unfit = |_| wrong(Some(key), "has a value that no header can have");
        let mut value: HeaderValue = value.parse().map_err(unfit)?;
        value.set_sensitive(true);
        self.headers.append(name, value);
        Ok(self)
    }

    /// What goes with every request.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The receiver's base address.
    pub(super) fn uri(&self) -> &Uri {
        &self.uri
    }

    /// The base address followed by a path.
    pub(super) fn join(&self, path: &str) -> Result<Uri, http::Error> {
        let authority = self.uri.authority().map_or("", |authority| authority.as_str());
        let base = self.uri.path().trim_end_matches('/');
        Uri::builder().scheme("http").authority(authority).path_and_query(format!("{base}{path}")).build()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.uri, self.protocol)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_may_leave_out_the_scheme_and_have_a_path() {
        let url = |endpoint| Target::new(Protocol::Http, endpoint).unwrap().join("/v1/logs").unwrap().to_string();
        assert_eq!(url("localhost:4318"), "http://localhost:4318/v1/logs");
        assert_eq!(url("http://[::1]:80/"), "http://[::1]:80/v1/logs");
        assert_eq!(url("http://gateway:8080/otlp"), "http://gateway:8080/otlp/v1/logs");
    }

    #[test]
    fn endpoints_without_a_port_have_the_one_of_their_protocol() {
        for (protocol, port) in [(Protocol::Grpc, 4317), (Protocol::Http, 4318)] {
            for (endpoint, base) in [
                ("localhost", format!("http://localhost:{port}/")),
                ("http://localhost", format!("http://localhost:{port}/")),
                ("http://localhost:", format!("http://localhost:{port}/")),
                ("http://[::1]/", format!("http://[::1]:{port}/")),
                ("http://gateway/otlp", format!("http://gateway:{port}/otlp")),
                ("localhost:80", "http://localhost:80/".into()),
            ] {
                assert_eq!(Target::new(protocol, endpoint).unwrap().uri().to_string(), base, "{endpoint}");
            }
        }
    }

    #[test]
    fn headers_are_a_key_and_a_value_that_nobody_gets_to_see() {
        let target = Target::new(Protocol::Http, "localhost").unwrap();
        let target = target.with_header("X-Scope-OrgID=team-a").unwrap().with_header(" authorization = a=b ").unwrap();
        let found: Vec<_> = target.headers().iter().map(|(key, value)| (key.as_str(), value.as_bytes())).collect();
        assert_eq!(found, [("x-scope-orgid", &b"team-a"[..]), ("authorization", b"a=b")]);
        assert!(!format!("{target:?} {target}").contains("team-a"), "{target:?}");
        for (header, reason) in [
            ("secret", "is not KEY=VALUE"),
            ("=secret", "header `` has a name that no header can have"),
            ("a b=secret", "header `a b` has a name that no header can have"),
            ("a=sec\nret", "`a` has a value that no header can have"),
            ("Content-Type=secret", "`Content-Type` is set by the protocol"),
            ("host=secret", "`host` is set by the protocol"),
        ] {
            let text = target.clone().with_header(header).unwrap_err().to_string();
            assert!(text.contains(reason) && text.contains("x-scope-orgid=team-a"), "{text}");
            assert!(header == "secret" || !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn endpoints_that_cannot_be_sent_to_are_refused_with_an_example() {
        for (endpoint, reason) in
            [("https://otlp.example:443", "TLS"), ("ftp://localhost:21", "unknown scheme"), ("http://", "not a URL")]
        {
            let text = Target::new(Protocol::Grpc, endpoint).unwrap_err().to_string();
            assert!(text.contains(reason) && text.contains("http://127.0.0.1:4317"), "{text}");
        }
    }
}
