//! Spans to Tempo, or to any other backend that takes OTLP.
//!
//! What lies on the bus is OTLP already: the bytes of records are put one behind another, which is a request that holds
//! all of them, and sent as they are. Nothing is decoded.

mod answer;
mod backend;
mod config;
mod request;

use afflux_runtime::delivery::Delivery;
use afflux_schemas::topics::Topics;

pub use self::backend::Tempo;
pub use self::config::{Compression, Protocol, TempoConfig, TempoConfigError};

/// Name of the component.
pub const NAME: &str = "sinks.tempo";

/// The component; `None` where no endpoint is configured.
///
/// # Errors
/// [`TempoConfigError`] names the key at fault.
pub fn sink(config: &TempoConfig, topics: &Topics) -> Result<Option<Delivery<Tempo>>, TempoConfigError> {
    if config.endpoint.is_empty() {
        return Ok(None);
    }
    let backend = Tempo::new(config, topics)?;
    Ok(Some(Delivery::new(backend, config.delivery.clone(), topics)))
}
