//! What may be wrong with the configuration.

use super::filter::InvalidFilter;

/// Why span metrics cannot be configured so.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum InvalidSpanMetrics {
    /// Two labels of one name.
    #[error(
        "`processors.span_metrics.{key}` names `{name}`, whose label `{label}` is there already; \
         give it another name with `dimension_mappings`, or switch the other one off in `intrinsic_dimensions`"
    )]
    Collides {
        /// The key's path below `processors.span_metrics`.
        key: String,
        /// As configured.
        name: String,
        /// As it would be written.
        label: String,
    },
    /// A label that means something else.
    #[error(
        "`processors.span_metrics.{key}` names `{name}`, which Prometheus or the limits of cardinality use themselves; \
         give it another name with `dimension_mappings`"
    )]
    Reserved {
        /// The key's path below `processors.span_metrics`.
        key: String,
        /// As configured.
        name: String,
    },
    /// A label without a name.
    #[error("`processors.span_metrics.{key}` is empty; name an attribute")]
    Empty {
        /// The key's path below `processors.span_metrics`.
        key: String,
    },
    /// Bounds that do not rise, or are no positive numbers.
    #[error(
        "`processors.span_metrics.buckets.{at}` is {bound}; bounds are seconds above zero, each above the one before"
    )]
    Bounds {
        /// Position in the list, from 0.
        at: usize,
        /// The bound at fault.
        bound: f64,
    },
    /// Time buckets without width.
    #[error("`processors.span_metrics.interval` is {0}ms; it must be one second at least")]
    Interval(u128),
    /// Nothing to derive.
    #[error(
        "`processors.span_metrics`: `calls`, `latency`, `size` and `target_info` are all off; take the step from the chain"
    )]
    Nothing,
    /// A filter that cannot be.
    #[error(transparent)]
    Filter(#[from] InvalidFilter),
}
