//! The receiver on real sockets, with a bus that does as it is told.

pub(crate) mod bus;
mod connections;
mod durability;
mod grpc;
mod harness;
mod http;
mod limits;
mod rejection;
mod shutdown;
