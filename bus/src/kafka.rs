//! Kafka bus.
