//! Zipkin's data model, whatever it was read from.

use std::borrow::Cow;
use std::net::IpAddr;

use crate::otlp::build::Kind;

/// A span; times in microseconds, 0 where they are absent.
#[derive(Debug, Default)]
pub(super) struct Span<'a> {
    pub(super) trace_id: [u8; 16],
    pub(super) id: [u8; 8],
    /// Zeros: none.
    pub(super) parent: [u8; 8],
    pub(super) kind: Kind,
    pub(super) name: Cow<'a, str>,
    pub(super) timestamp: u64,
    pub(super) duration: u64,
    pub(super) local: Endpoint<'a>,
    pub(super) remote: Endpoint<'a>,
    pub(super) annotations: Vec<(u64, Cow<'a, str>)>,
    pub(super) tags: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    pub(super) debug: bool,
    pub(super) shared: bool,
}

/// One end of a call.
#[derive(Debug, Default)]
pub(super) struct Endpoint<'a> {
    pub(super) service: Cow<'a, str>,
    /// The address of version 6 where there are both.
    pub(super) address: Cow<'a, str>,
    /// 0: not known.
    pub(super) port: u16,
}

/// The usual text of an address.
pub(super) fn address(ip: IpAddr) -> String {
    ip.to_canonical().to_string()
}
