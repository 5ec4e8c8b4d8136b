//! Log records and Kubernetes events to Grafana Loki.
//!
//! Labels, time, line and structured metadata of an entry are a function of the record alone (D6), so that Loki knows an
//! entry that comes again. What exceeds Loki's limits is cut or refused here, where it can be counted; what Loki itself
//! refuses is found by halving and becomes a dead letter. [`LokiConfig`] says what can be set.

mod answer;
mod backend;
mod behind;
mod config;
mod encode;
mod entry;
mod error;
mod input;
mod labels;
mod level;
mod limits;
mod metadata;
mod names;
mod otlp;
mod pick;
mod policy;
mod quote;
mod request;
mod said;
mod sent;
mod stream_name;
mod streams;
mod write;

#[cfg(test)]
mod tests;

pub use backend::Loki;
pub use config::{BackfillConfig, LabelConfig, LabelPreset, LabelsConfig, LimitsConfig, LokiConfig, Protocol};
pub use error::LokiError;
pub use request::LokiRequest;

use std::sync::Arc;

use afflux_runtime::delivery::{Delivery, Input, Kind};
use afflux_schemas::topics::Topics;

/// Name of the component.
pub const NAME: &str = "sinks.loki";

/// The topics that it takes: log records and Kubernetes events.
pub fn inputs(topics: &Topics) -> Vec<Input> {
    vec![
        Input { topic: Arc::from(topics.logs()), kind: Kind::Logs },
        Input { topic: Arc::from(topics.events()), kind: Kind::Events },
    ]
}

/// The component; `None` where no address is configured.
///
/// # Errors
/// [`LokiError`] names the key at fault.
pub fn sink(config: &LokiConfig, topics: &Topics) -> Result<Option<Delivery<Loki>>, LokiError> {
    if config.address().is_none() {
        return Ok(None);
    }
    let backend = Loki::new(config, inputs(topics))?;
    Ok(Some(Delivery::new(backend, config.delivery.clone(), topics)))
}
