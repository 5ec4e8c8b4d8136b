//! What can be wrong with the configuration of the Loki sink.

use afflux_runtime::delivery::InvalidDelivery;

use super::NAME;
use crate::http::HttpConfigError;

/// Why the sink cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LokiError {
    /// There is no address.
    #[error("sinks.loki.url: no address; write it like http://HOST:3100")]
    Off,
    /// A value is outside its range.
    #[error("sinks.loki.{field}: `{value}` is {problem}")]
    Value {
        /// The key below `sinks.loki`.
        field: String,
        /// The value.
        value: String,
        /// What is wrong with it, and what to write instead.
        problem: &'static str,
    },
    /// How records are handed over cannot work.
    #[error("{NAME}.delivery.{0}")]
    Delivery(#[from] InvalidDelivery),
    /// The HTTP client refuses its configuration.
    #[error(transparent)]
    Client(#[from] HttpConfigError),
}
