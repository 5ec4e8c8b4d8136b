//! What travels: OTLP as bytes, topics, keys, headers and the columns of the lake.

pub mod topics;
