//! Peers that the end-to-end suites run against: real servers, started on free ports of the loopback with a
//! fresh directory, and stopped again.

pub mod afflux;
pub mod collector;
pub mod derived;
pub mod faults;
pub mod forward_proxy;
pub mod kafka;
pub mod kubernetes;
pub mod load;
pub mod loki;
pub mod mirror_maker;
pub mod node;
pub mod numbered;
pub mod oauth;
pub mod prometheus;
pub mod proxy;
pub mod python;
pub mod s3;
pub mod tempo;
pub mod topic;
mod watchdog;
