//! Peers that the end-to-end suites run against: real servers, started on free ports of the loopback with a
//! fresh directory, and stopped again.

pub mod afflux;
pub mod collector;
pub mod derived;
pub mod kafka;
pub mod load;
pub mod mirror_maker;
pub mod node;
pub mod numbered;
pub mod proxy;
pub mod python;
pub mod s3;
pub mod topic;
mod watchdog;
