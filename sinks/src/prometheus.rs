//! Derived series in Prometheus and in what else takes its remote write: Mimir, Thanos, VictoriaMetrics.
//!
//! The samples of the series topic are sent as they stand: with their own times and values, so that whatever is sent
//! again is what is there already (D6). Records of a partition go one batch after another, and a batch holds each
//! series once; within a batch, series are divided among shards. The zero with which a series begins goes before
//! all values, in a request of its own: it is the one sample that is older than what is there when a batch comes again.
//!
//! Remote write 2.0 is tried first, 1.0 is what remains where a server does not say that it has understood. Module
//! `encode` makes the requests, `answer` says what a server's words mean.

mod answer;
mod backend;
mod config;
mod encode;
mod error;
mod expand;
mod histogram;
mod labels;
mod names;
mod request;
pub mod scrape;
mod symbols;
#[cfg(test)]
mod tests;
mod version;

use afflux_runtime::delivery::Delivery;
use afflux_schemas::topics::Topics;

pub use backend::PrometheusSink;
pub use config::{PrometheusConfig, ProtocolConfig};
pub use error::PrometheusError;
pub use request::{Protocol, WriteRequest};

/// Name of the component.
pub const NAME: &str = "sinks.prometheus";

/// The component; `None` where no address is configured.
///
/// # Errors
/// [`PrometheusError`] names the key at fault.
pub fn sink(config: &PrometheusConfig, topics: &Topics) -> Result<Option<Delivery<PrometheusSink>>, PrometheusError> {
    if !config.is_on() {
        return Ok(None);
    }
    let backend = PrometheusSink::new(config, topics)?;
    Ok(Some(Delivery::new(backend, config.delivery.clone(), topics)))
}
