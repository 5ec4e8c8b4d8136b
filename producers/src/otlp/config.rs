//! Configuration of the receiver.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use afflux_runtime::config::{ByteSize, Period};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::OtlpError;

/// Port of OTLP over gRPC.
pub const GRPC_PORT: u16 = 4317;
/// Port of OTLP over HTTP.
pub const HTTP_PORT: u16 = 4318;

/// `producers.otlp`: receives spans and logs from OpenTelemetry clients.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// OTLP over gRPC.
    pub grpc: GrpcListener,
    /// OTLP over HTTP, protobuf and JSON.
    pub http: HttpListener,
    /// What a client may send, and how much of it is held at a time.
    pub limits: Limits,
}

/// Where gRPC clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcListener {
    /// Address and port; `null` turns gRPC off.
    pub listen: Option<SocketAddr>,
}

/// Where HTTP clients connect.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpListener {
    /// Address and port; `null` turns HTTP off.
    pub listen: Option<SocketAddr>,
}

/// What a client may send, and how much of it is held at a time.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes of one request as sent, compressed or not.
    pub request_bytes: ByteSize,
    /// Bytes of one request after decompression.
    pub decompressed_bytes: ByteSize,
    /// Bytes of all requests being read, decoded or waiting for the bus. Beyond it clients are told to retry.
    pub in_flight_bytes: ByteSize,
    /// Bytes of one record on the bus, about: what a request has for one partition is cut into as many records as
    /// it takes. Stay below what the bus allows (Kafka's topics, unless configured: 1 MB).
    pub record_bytes: ByteSize,
    /// Attributes of one resource, scope, span, event, link or log record. Items that have more, or whose resource
    /// or scope has more, are left out, and the answer says so.
    pub attributes: usize,
    /// Events of one span; spans that have more are left out.
    pub events: usize,
    /// Links of one span; spans that have more are left out.
    pub links: usize,
    /// How long a request waits for the bus before its client is told to retry.
    pub ack_timeout: Period,
    /// How long a client may take to send the body of one request.
    pub body_timeout: Period,
    /// How long the head of a request may take: for the first of a connection from its beginning, for others from
    /// their first byte.
    pub header_timeout: Period,
    /// How long a connection may stay without a request.
    pub idle_timeout: Period,
    /// Connections open at a time on each listener; more wait in the system's queue.
    pub connections: usize,
}

/// `in_flight_bytes` must hold the largest request in its worst moment: JSON text, the unescaped copy of a
/// string as long as the text, and the protobuf made of it.
pub(super) const IN_FLIGHT_PER_REQUEST: u64 = 4;

impl OtlpConfig {
    /// Checks what the types cannot, without I/O.
    pub fn validate(&self) -> Result<(), OtlpError> {
        let limits = &self.limits;
        let positive = [
            ("request_bytes", limits.request_bytes.0 > 0),
            ("record_bytes", limits.record_bytes.0 > 0),
            ("attributes", limits.attributes > 0),
            ("events", limits.events > 0),
            ("links", limits.links > 0),
            ("ack_timeout", !limits.ack_timeout.0.is_zero()),
            ("body_timeout", !limits.body_timeout.0.is_zero()),
            ("header_timeout", !limits.header_timeout.0.is_zero()),
            ("idle_timeout", !limits.idle_timeout.0.is_zero()),
            ("connections", limits.connections > 0),
        ];
        if let Some((field, _)) = positive.into_iter().find(|(_, ok)| !ok) {
            return Err(OtlpError::ZeroLimit { field });
        }
        if limits.request_bytes > limits.decompressed_bytes {
            return Err(OtlpError::RequestOverDecompressed {
                request: limits.request_bytes,
                decompressed: limits.decompressed_bytes,
            });
        }
        let least = ByteSize(limits.decompressed_bytes.0.saturating_mul(IN_FLIGHT_PER_REQUEST));
        if limits.in_flight_bytes < least {
            return Err(OtlpError::InFlightTooSmall { in_flight: limits.in_flight_bytes, least });
        }
        Ok(())
    }
}

impl Default for GrpcListener {
    fn default() -> Self {
        Self { listen: Some(loopback(GRPC_PORT)) }
    }
}

impl Default for HttpListener {
    fn default() -> Self {
        Self { listen: Some(loopback(HTTP_PORT)) }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_bytes: ByteSize::mib(20),
            decompressed_bytes: ByteSize::mib(64),
            in_flight_bytes: ByteSize::mib(256),
            record_bytes: ByteSize(900_000),
            attributes: 1024,
            events: 4096,
            links: 4096,
            // Below the 5 s after which a Collector gives up, so that it sees the answer.
            ack_timeout: Period(Duration::from_secs(4)),
            body_timeout: Period(Duration::from_secs(30)),
            header_timeout: Period(Duration::from_secs(10)),
            idle_timeout: Period(Duration::from_secs(5 * 60)),
            connections: 512,
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        match serde_json::from_str::<OtlpConfig>(json) {
            Err(e) => e.to_string(),
            Ok(config) => config.validate().expect_err("should be refused").to_string(),
        }
    }

    #[test]
    fn defaults_are_valid_and_listen_on_loopback() {
        let config: OtlpConfig = serde_json::from_str("{}").unwrap();
        assert_eq!(config, OtlpConfig::default());
        config.validate().unwrap();
        assert_eq!(config.grpc.listen.unwrap().to_string(), "127.0.0.1:4317");
        assert_eq!(config.http.listen.unwrap().to_string(), "127.0.0.1:4318");
    }

    #[test]
    fn naming_one_key_leaves_the_others_at_their_defaults() {
        let config: OtlpConfig =
            serde_json::from_str(r#"{"grpc":{"listen":null},"limits":{"ack_timeout":"1s"}}"#).unwrap();
        assert_eq!(config.grpc.listen, None);
        assert_eq!(config.http, HttpListener::default());
        assert_eq!(config.limits, Limits { ack_timeout: Period(Duration::from_secs(1)), ..Limits::default() });
    }

    #[test]
    fn what_cannot_work_is_refused_with_the_key_and_what_to_do() {
        for (json, expected) in [
            (r#"{"grcp":{}}"#, "unknown field `grcp`"),
            (r#"{"http":{"listen":"localhost"}}"#, "socket address"),
            (r#"{"limits":{"connections":0}}"#, "producers.otlp.limits.connections must not be 0"),
            (r#"{"limits":{"ack_timeout":"0s"}}"#, "producers.otlp.limits.ack_timeout must not be 0"),
            (
                r#"{"limits":{"request_bytes":"65MiB"}}"#,
                "producers.otlp.limits.request_bytes 65MiB is over decompressed_bytes 64MiB",
            ),
            (
                r#"{"limits":{"in_flight_bytes":"64MiB"}}"#,
                "producers.otlp.limits.in_flight_bytes 64MiB cannot hold the largest request; set at least 256MiB",
            ),
        ] {
            let error = refused(json);
            assert!(error.contains(expected), "{json}: {error}");
        }
    }
}
