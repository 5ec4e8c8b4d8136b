//! Why the sink cannot be made of its configuration.

use afflux_runtime::delivery::InvalidDelivery;

use crate::http::HttpConfigError;

/// Why the sink cannot be made of its configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrometheusError {
    /// No requests at all, or too many.
    #[error("sinks.prometheus.shards: {shards} is out of range; write a number from 1 to {most}")]
    Shards {
        /// The value.
        shards: u32,
        /// The highest.
        most: u32,
    },
    /// Requests without samples.
    #[error("sinks.prometheus.max_samples_per_send: 0 sends nothing; write the number of samples of a request")]
    NoSamples,
    /// A label that Prometheus does not take, or means something else by.
    #[error(
        "{section}.{key}: `{name}` is no name for a label; \
         use letters, digits and underscores, no digit first, and not `__name__`, `le` or `span_id`"
    )]
    Label {
        /// The sink.
        section: &'static str,
        /// The key below it.
        key: &'static str,
        /// The name.
        name: String,
    },
    /// Two meanings of one label.
    #[error("{section}.tenant_label: `{name}` is the cluster's label; choose another one")]
    SameLabel {
        /// The sink.
        section: &'static str,
        /// The name.
        name: String,
    },
    /// A tenant that no header can hold.
    #[error("sinks.prometheus.tenant: `{tenant}` has characters that no header may have")]
    Tenant {
        /// The value.
        tenant: String,
    },
    /// Of the delivery.
    #[error("sinks.prometheus.delivery.{0}")]
    Delivery(#[from] InvalidDelivery),
    /// The client refuses its configuration.
    #[error(transparent)]
    Http(#[from] HttpConfigError),
}
