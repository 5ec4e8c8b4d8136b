//! End-to-end suites: the real thing against real peers.

mod kafka_pipeline;
mod kill;
