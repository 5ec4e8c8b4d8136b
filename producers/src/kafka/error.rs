//! What is wrong with the configuration of a source.

/// What is wrong with `bus.kafka.sources`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// No name, or one that cannot be a cluster's.
    #[error(
        "`bus.kafka.sources.{at}.name` is `{name}`, which is no name of a cluster: \
         write up to 100 letters, digits, dots, underscores and dashes"
    )]
    Name {
        /// Position in the list, from 0.
        at: usize,
        /// As configured.
        name: String,
    },
    /// Two sources could not be told apart.
    #[error("`bus.kafka.sources.{at}.name` is `{name}`, which another source has; name every source once")]
    Twice {
        /// Position in the list, from 0.
        at: usize,
        /// As configured.
        name: String,
    },
    /// No group to commit offsets for.
    #[error("`bus.kafka.sources.{at}.group` is empty; leave it out, or name the consumer group")]
    Group {
        /// Position in the list, from 0.
        at: usize,
    },
}
