//! The range-intent protocol against a bus and a store that fail, hang and are killed at every step: whatever
//! happens, every row is in the lake once.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

mod bus;
mod faults;
mod races;
mod records;
mod stops;
mod store;
mod world;
