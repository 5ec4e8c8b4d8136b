//! Answers as text for people and as files for programs.
//!
//! Each function takes an answer to its end, writes batch by batch, flushes, and returns the number of rows written.
//! Times are RFC 3339 in UTC everywhere.

mod csv;
mod json;
mod parquet;
mod table;

pub use csv::csv;
pub use json::json_lines;
pub use parquet::parquet;
pub use table::{DEFAULT_MAX_ROWS, TableOptions, table};

#[cfg(test)]
mod tests;
