//! Loading of configuration.

mod units;

pub use units::{ByteSize, Period};
