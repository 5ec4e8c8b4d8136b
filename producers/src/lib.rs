//! Producers: what brings telemetry onto the bus.

pub mod generate;
