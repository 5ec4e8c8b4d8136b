//! The component over files of a temporary directory and a bus in memory.

mod copies;
mod crashes;
mod harness;
mod input;
mod limits;
mod rotation;
