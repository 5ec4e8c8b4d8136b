//! What travels: OTLP as bytes, topics, keys, headers and the columns of the lake.

pub mod columns;
pub mod encoding;
pub mod hex;
pub mod identity;
pub mod jaeger;
mod lenient;
pub mod objects;
pub mod otlp;
pub mod partition;
pub mod topics;
pub mod wire;
pub mod zipkin;
