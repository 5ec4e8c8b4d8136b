//! Requests re-encoded so that no singular message stands in two pieces.
//!
//! Protobuf merges the pieces of a singular message; views read the last piece. [`super::validate`] says when
//! that matters, which no known encoder causes.

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use super::validate::{self, Checked, Malformed};
use crate::wire::Reason;

/// A trace request with the same meaning as read by `prost`, without unknown fields.
pub fn traces(bytes: &[u8]) -> Result<Bytes, Malformed> {
    reencode::<ExportTraceServiceRequest>(bytes, validate::traces)
}

/// A log request with the same meaning as read by `prost`, without unknown fields.
pub fn logs(bytes: &[u8]) -> Result<Bytes, Malformed> {
    reencode::<ExportLogsServiceRequest>(bytes, validate::logs)
}

fn reencode<M: Message + Default>(
    bytes: &[u8],
    validate: fn(&[u8]) -> Result<Checked, Malformed>,
) -> Result<Bytes, Malformed> {
    validate(bytes)?;
    let refused = |_| Malformed { offset: 0, message: "request", reason: Reason::Refused };
    Ok(M::decode(bytes).map_err(refused)?.encode_to_vec().into())
}
