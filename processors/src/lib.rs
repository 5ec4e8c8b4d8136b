//! Processors: what happens to telemetry between the ingest topics and the topics that sinks read.
//!
//! One [`stage::ProcessorStage`] reads the ingest topics, passes every record through the chain of its
//! signal and writes the result together with the consumed offsets in one bus transaction (D4). A processor
//! is a [`chain::Step`].

pub mod chain;
pub mod config;
pub mod intake;
pub mod merge;
pub mod stage;
pub mod window;
mod work;

pub use config::ProcessorsConfig;
pub use stage::{ProcessorStage, default_transactional_id};
