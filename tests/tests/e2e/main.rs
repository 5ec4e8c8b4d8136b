//! End-to-end suites: the real thing against real peers.

mod bus_kafka;
