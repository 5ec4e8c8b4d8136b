//! The range-intent protocol against a bus and a store that fail, hang and are killed at every step: whatever
//! happens, every row is in the lake once.

mod bus;
mod faults;
mod races;
mod records;
mod store;
mod stops;
mod world;
