//! A plausible shop of services, as telemetry: for demonstrations, tests and benchmarks.
//!
//! [`Corpus`] makes the requests, the same ones for the same seed. [`send::run`] sends them to any OTLP receiver
//! at a rate, which is what `afflux generate` does; [`Generate`] does so within `afflux up --demo`.
//!
//! How a corpus comes to be: `services` says who works in the shop, `journeys` what people do there, in terms of
//! the operations of `operation`. `shop` encodes every operation once as a `template`; `plan` draws which of them
//! a trace has, when, and with what outcome; `corpus` copies the templates and fills in what differs.

mod attributes;
pub mod component;
pub mod config;
pub mod corpus;
pub mod error;
mod facts;
mod journeys;
mod operation;
mod pace;
mod plan;
mod random;
pub mod send;
mod services;
mod shop;
mod template;
mod wire;

pub use component::Generate;
pub use config::GenerateConfig;
pub use corpus::{Batch, Corpus};
pub use error::GenerateError;
