//! Sinks: what takes telemetry off the bus and stores it elsewhere.
//!
//! Each sink is a component with a consumer group of its own, so a slow backend delays nobody else.

mod buffers;
pub mod http;
pub mod loki;
pub mod parquet;
pub mod prometheus;
pub mod tempo;
