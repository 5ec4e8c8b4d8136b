//! End-to-end suites: the real thing against real peers.

mod bad_input;
mod kafka_pipeline;
mod kill;
mod real_clients;
