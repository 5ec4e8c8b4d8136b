//! Why generating could not begin or go on.

use std::path::PathBuf;

/// What is wrong with the configuration, the endpoint or the file of acknowledged spans.
///
/// An endpoint that refuses, or is away, is no error: the report counts it.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// Requests without spans, or too large to be taken.
    #[error("request_spans {given} is out of range; choose between 1 and {max}")]
    RequestSpans {
        /// As configured.
        given: usize,
        /// Greatest that is allowed.
        max: usize,
    },
    /// Nothing would ever be sent, or too much at once.
    #[error("concurrency {given} is out of range; choose between 1 and {max}")]
    Concurrency {
        /// As configured.
        given: usize,
        /// Greatest that is allowed.
        max: usize,
    },
    /// Not an address that can be sent to.
    #[error("endpoint `{endpoint}` {reason}; write it like {example}")]
    Endpoint {
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        reason: &'static str,
        /// A right one.
        example: &'static str,
    },
    /// Not a header that can be sent.
    #[error("{name} {reason}; write it like x-scope-orgid=team-a")]
    Header {
        /// The word `header`, and its key where it has one.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file of acknowledged spans cannot be written.
    #[error("acked_file {} cannot be written: {source}", path.display())]
    AckedFile {
        /// As configured.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}
