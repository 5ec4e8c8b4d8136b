//! A request of remote write.

use bytes::Bytes;
use http::HeaderValue;

/// A version of remote write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// 1.0.
    V1,
    /// 2.0.
    V2,
}

impl Protocol {
    /// The `Content-Type` of its requests.
    pub(super) const fn content_type(self) -> &'static str {
        match self {
            Self::V1 => "application/x-protobuf",
            Self::V2 => "application/x-protobuf;proto=io.prometheus.write.v2.Request",
        }
    }

    /// The `X-Prometheus-Remote-Write-Version` of its requests.
    pub(super) const fn version(self) -> &'static str {
        match self {
            Self::V1 => "0.1.0",
            Self::V2 => "2.0.0",
        }
    }
}

/// What one request holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Samples that are numbers, stale markers included.
    pub(super) samples: u64,
    /// Samples that are native histograms.
    pub(super) histograms: u64,
    pub(super) exemplars: u64,
}

impl Counts {
    /// Samples of either sort.
    pub(super) const fn all(self) -> u64 {
        self.samples + self.histograms
    }
}

/// Samples of some series, to be sent together.
#[derive(Clone, Debug)]
pub struct WriteRequest {
    pub(super) protocol: Protocol,
    /// The message, compressed.
    pub(super) body: Bytes,
    pub(super) counts: Counts,
    /// Whether it holds the zeros that series begin with, and nothing else.
    pub(super) zeros: bool,
    /// Tenant that the server is told.
    pub(super) tenant: Option<HeaderValue>,
    /// Tenant that its records name.
    pub(super) owner: Option<std::sync::Arc<str>>,
    /// The values of its records, for when it is to be said in another version.
    pub(super) records: Vec<Bytes>,
}

impl WriteRequest {
    /// The version that it is written in.
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The message, compressed as a block of Snappy.
    pub const fn body(&self) -> &Bytes {
        &self.body
    }

    /// Samples in it, native histograms included.
    pub const fn samples(&self) -> u64 {
        self.counts.all()
    }
}
