//! Where to send, and how.

use std::fmt;
use std::str::FromStr;

use http::Uri;
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
}

impl Target {
    /// A receiver at `http://HOST:PORT` or `HOST:PORT`. TLS is not spoken.
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
        if uri.port_u16().is_none() {
            return Err(wrong("has no port"));
        }
        Ok(Self { protocol, uri })
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
    fn endpoints_that_cannot_be_sent_to_are_refused_with_an_example() {
        for (endpoint, reason) in [
            ("https://otlp.example:443", "TLS"),
            ("localhost", "no port"),
            ("ftp://localhost:21", "unknown scheme"),
            ("http://", "not a URL"),
        ] {
            let text = Target::new(Protocol::Grpc, endpoint).unwrap_err().to_string();
            assert!(text.contains(reason) && text.contains("http://127.0.0.1:4317"), "{text}");
        }
    }
}
