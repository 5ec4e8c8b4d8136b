//! Spans and log records as Parquet files on a local disk or an object store, each exactly once (D5).
//!
//! Every partition of the bus is written range by range. A range covers the offsets `first..=last` and becomes one
//! file per cluster and hour; names and rows are a function of the range alone. Which range is written next is
//! agreed on by an *intent*, an object that is only ever created, so that writers that overlap in a rebalance, or
//! that die half way, write the same files. Any reader that lists files sees every row once, with no catalog.
//! Module `protocol` holds the decisions, `layout` the names, `docs` of the fields the configuration.

mod clock;
mod config;
mod dead_letters;
mod encode;
mod error;
mod export;
mod file;
mod intent;
mod layout;
mod partition;
mod pressure;
mod protocol;
mod range;
mod rows;
mod sink;
mod table;
mod times;
mod transport;
mod upkeep;
mod writer;

pub use clock::Clock;
pub use config::{FlushConfig, ParquetConfig, S3Config};
pub use error::{ParquetError, StoreError};
pub use export::{ExportError, to_parquet};
pub use sink::ParquetSink;
pub use table::Table;
pub use transport::{Listed, LocalStore, PART_BYTES, RemoteStore, Store, Upload};

/// Name of the component.
pub const NAME: &str = "sinks.parquet";
