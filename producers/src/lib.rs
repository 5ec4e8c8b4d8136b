//! What puts telemetry on the bus.

pub mod otlp;
