//! Why the receiver cannot start or go on.

use std::net::SocketAddr;

use afflux_bus::BusError;
use afflux_runtime::config::ByteSize;

/// Why the receiver cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum OtlpError {
    /// A limit of zero would refuse everything.
    #[error("producers.otlp.limits.{field} must not be 0; leave it out for the default")]
    ZeroLimit {
        /// The key below `limits`.
        field: &'static str,
    },
    /// An uncompressed request must pass both limits.
    #[error(
        "producers.otlp.limits.request_bytes {request} is over decompressed_bytes {decompressed}; lower it or raise the other"
    )]
    RequestOverDecompressed {
        /// Limit as sent.
        request: ByteSize,
        /// Limit after decompression.
        decompressed: ByteSize,
    },
    /// The largest allowed request would be told to retry forever.
    #[error(
        "producers.otlp.limits.in_flight_bytes {in_flight} cannot hold the largest request; set at least {least}, 4 times decompressed_bytes"
    )]
    InFlightTooSmall {
        /// As configured.
        in_flight: ByteSize,
        /// The smallest that works.
        least: ByteSize,
    },
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address} ({key}): {source}; stop what uses it or set another address")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// The bus is unusable from now on.
    #[error("bus: {0}")]
    Bus(#[from] BusError),
}
