//! The bus: durable, partitioned, ordered topics behind one small contract.
//!
//! Two implementations, [`kafka`] and [`local`], pass the same conformance suite. Everything else in the
//! workspace sees only the traits of [`contract`], so a stage cannot tell on which of the two it runs.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod contract;
pub mod error;
pub mod kafka;
pub mod ledger;
pub mod local;
pub mod record;

pub use contract::{
    Assignment, Bus, Consumer, ConsumerConfig, Event, Offset, PartitionLag, Producer, Reader, ReaderConfig,
    ReaderEvent, Start, StartAt, Transactional,
};
pub use error::{BusError, ErrorClass};
pub use ledger::{Ledger, Settle};
pub use local::{LocalBus, LocalConfig};
pub use record::{Cleanup, Generation, Headers, PartitionId, Received, Record, TopicSpec};
