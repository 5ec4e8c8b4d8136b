//! Handing what lies on the bus over to a backend: batch, budget, retry, timeout, one attempt.
//!
//! A sink is a [`Backend`], which says what it makes of a batch and makes one attempt to hand it over, and a
//! [`Delivery`], which does all the rest and is the same for every sink: a consumer group of its own, batches, bounded
//! memory, retries, dead letters, offsets, health and freshness. So no sink can hold another one up, and each can lag or
//! be replayed alone.
//!
//! A record is settled when the backend has acknowledged all of it, or when what it refuses for good is on the
//! dead-letter topic (D7). What the backend refuses is found by halving: batches first, then the items of a record.

mod backend;
mod config;
mod deliver;
mod queue;
mod replay;
mod session;
mod sink;
#[cfg(test)]
mod tests;
mod trouble;

pub use backend::{Answer, Backend, Batch, Encoded, Input, Kind, Named, Order, Refused};
pub use config::{BatchConfig, DeliveryConfig, InvalidDelivery, RetryConfig};
pub use replay::{Progress, Replay, Replays, Span};
pub use sink::Delivery;
