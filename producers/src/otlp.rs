//! otlp
pub mod config;
pub mod error;
mod json;
