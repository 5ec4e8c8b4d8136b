//! SQL over the Parquet tables of a lake.
//!
//! A [`Lake`] is opened at a URL and answers `SELECT`s with a stream of Arrow batches, which [`render`] writes as a
//! table for people, CSV, JSON lines or Parquet. Predicates reach the files: folders are chosen by cluster and time,
//! row groups, pages and rows by statistics, page indexes and bloom filters.
//!
//! ```text
//! {base}/{table}/cluster_key={c}/date=YYYY-MM-DD/hour=HH/*.parquet
//! ```

mod error;
#[cfg(test)]
mod fixture;
mod lake;
mod layout;
mod list;
mod named;
mod prune;
pub mod render;
mod store;
mod table;
mod words;

pub use error::{Cause, FileError, QueryError};
pub use lake::{Answer, DEFAULT_MEMORY_LIMIT, Lake, Options};
