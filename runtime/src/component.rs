//! The lifecycle of producers, processors and sinks.

use std::sync::Arc;

use afflux_bus::Bus;
use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::admin::Health;
use crate::metrics::Metrics;

/// One running part of the pipeline.
///
/// Built from validated configuration without I/O; everything that can fail for outside reasons happens in
/// [`Component::run`].
#[async_trait]
pub trait Component: Send {
    /// Unique name, as `/status` and the metrics show it, e.g. `producers.otlp` or `sinks.parquet`.
    fn name(&self) -> &'static str;

    /// The consumer groups with which it reads, so that the process can report how far they are behind.
    fn subscriptions(&self) -> Vec<Subscription> {
        Vec::new()
    }

    /// Runs until shutdown is requested, then drains: what was accepted is settled or left on the bus.
    ///
    /// Returns once no task of the component is alive. An error stops the whole process with exit code 1,
    /// so transient failures are retried inside.
    async fn run(self: Box<Self>, context: Context) -> Result<(), ComponentError>;
}

/// Which side of the bus a component is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Writes to the bus what comes from outside.
    Producers,
    /// Reads the bus and writes the bus.
    Processors,
    /// Reads the bus and writes a backend.
    Sinks,
}

impl Role {
    /// Every role, in the direction of the data, which is also the order of a drain.
    pub const ALL: [Self; 3] = [Self::Producers, Self::Processors, Self::Sinks];

    /// As on the command line and in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Producers => "producers",
            Self::Processors => "processors",
            Self::Sinks => "sinks",
        }
    }
}

/// A consumer group and what it reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The group's name.
    pub group: Arc<str>,
    /// Full names of the topics.
    pub topics: Vec<Arc<str>>,
}

/// What the process gives to a component.
#[derive(Clone)]
pub struct Context {
    /// The bus that the process is on.
    pub bus: Arc<dyn Bus>,
    /// Counters and gauges of the process.
    pub metrics: Arc<Metrics>,
    /// Readiness of this component, and what `/status` says of it.
    pub health: Health,
    /// Cancelled when the process is asked to stop.
    pub shutdown: CancellationToken,
}

/// Why a component could not go on: what failed, on which input, and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{component}: {cause}")]
pub struct ComponentError {
    /// The component's name.
    pub component: &'static str,
    /// The cause. Its text is in this one's, so it is no source: whoever prints the chain would say it twice.
    pub cause: Box<dyn std::error::Error + Send + Sync>,
}

impl ComponentError {
    /// An error of that component.
    pub fn new(component: &'static str, cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self { component, cause: cause.into() }
    }
}
