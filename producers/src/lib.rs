//! Producers: what brings telemetry onto the bus.

pub mod files;
pub mod generate;
pub mod kafka;
pub mod kubernetes;
pub mod otlp;
