//! End-to-end suites: the real thing against real peers.

mod against_duckdb;
mod bad_input;
mod bus_kafka;
mod bus_local;
mod collector;
mod dead_letters;
mod exactly_once;
mod files;
mod kafka_pipeline;
mod kafka_security;
mod kafka_topics;
mod kill;
mod kubernetes;
mod loki;
mod multi_cluster;
mod prometheus;
mod real_clients;
mod s3;
mod span_metrics;
mod stack;
mod stuck_partition;
mod tempo;
