//! Processors: what happens to telemetry between the ingest topics and the topics that sinks read.
//!
//! One [`stage::ProcessorStage`] reads the ingest topics, passes every record through the chain of its
//! signal and writes the result together with the consumed offsets in one bus transaction (D4). A processor
//! is a [`chain::Step`].

pub mod accumulate;
pub mod attributes;
pub mod chain;
pub mod classify;
pub mod config;
pub mod derive;
pub mod enrich;
pub mod intake;
mod intern;
pub mod log_metrics;
pub mod merge;
mod names;
mod native;
pub mod sample;
pub mod service_graph;
pub mod span_metrics;
pub mod stage;
pub mod steps;
pub mod window;
mod work;

pub use config::ProcessorsConfig;
pub use stage::{ProcessorStage, default_transactional_id};
