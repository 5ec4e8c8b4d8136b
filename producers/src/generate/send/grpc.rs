//! OTLP over gRPC, with requests that are bytes already.

use std::error::Error;
use std::time::Duration;

use afflux_runtime::Signal;
use bytes::{Buf, BufMut, Bytes};
use http::uri::PathAndQuery;
use prost::Message;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Extensions, Request, Status};

use super::answer::{Answer, innermost};
use super::target::Target;
use super::{CONNECT_TIMEOUT, TIMEOUT};

/// A connection that is made when first needed, and again when it is lost.
#[derive(Clone, Debug)]
pub(super) struct Client {
    channel: Channel,
    metadata: MetadataMap,
}

impl Client {
    pub(super) fn new(target: &Target) -> Self {
        let endpoint = Endpoint::from(target.uri().clone()).connect_timeout(CONNECT_TIMEOUT).timeout(TIMEOUT);
        Self { channel: endpoint.connect_lazy(), metadata: MetadataMap::from_headers(target.headers().clone()) }
    }

    pub(super) async fn export(&self, signal: Signal, body: Bytes) -> Answer {
        let path = PathAndQuery::from_static(match signal {
            Signal::Spans => "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            Signal::Logs | Signal::Events => "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
        });
        let mut grpc = Grpc::new(self.channel.clone());
        if let Err(error) = grpc.ready().await {
            return Answer::Retry { after: None, reason: innermost(&error) };
        }
        let request = Request::from_parts(self.metadata.clone(), Extensions::default(), body);
        match grpc.unary(request, path, RawCodec).await {
            Ok(response) => Answer::accepted(signal, response.get_ref()),
            Err(status) => judge(&status),
        }
    }
}

/// Which statuses may be sent again is fixed by the specification of OTLP.
fn judge(status: &Status) -> Answer {
    let delay = retry_delay(status.details());
    let retryable = match status.code() {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => delay.is_some(),
        // Made by the client itself when the connection broke before a status came.
        _ => status.source().is_some(),
    };
    let said = status.source().map_or_else(|| status.message().to_owned(), innermost);
    let reason = format!("{:?}: {said}", status.code());
    if retryable { Answer::Retry { after: delay, reason } } else { Answer::Refused { reason } }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

/// The delay that a status asks for.
fn retry_delay(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|detail| detail.type_url.ends_with("/google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.delay.unwrap_or_default();
    Some(Duration::new(u64::try_from(delay.seconds).unwrap_or(0), u32::try_from(delay.nanos).unwrap_or(0)))
}

/// Bytes in, bytes out.
#[derive(Clone, Copy, Debug, Default)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        Self
    }

    fn decoder(&mut self) -> Self::Decoder {
        Self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(seconds: i64, nanos: i32) -> Vec<u8> {
        let info = RetryInfo { delay: Some(Delay { seconds, nanos }) };
        let type_url = "type.googleapis.com/google.rpc.RetryInfo".to_owned();
        RpcStatus { details: vec![Any { type_url, value: info.encode_to_vec() }] }.encode_to_vec()
    }

    #[test]
    fn exhausted_is_retried_only_where_the_receiver_says_when() {
        let full = Status::new(Code::ResourceExhausted, "too large");
        assert!(matches!(judge(&full), Answer::Refused { .. }));
        let busy = Status::with_details(Code::ResourceExhausted, "busy", details(1, 500_000_000).into());
        let after = Some(Duration::from_millis(1_500));
        assert_eq!(judge(&busy), Answer::Retry { after, reason: "ResourceExhausted: busy".into() });
    }

    #[test]
    fn what_is_wrong_with_the_request_is_not_sent_again() {
        for code in [Code::InvalidArgument, Code::Internal, Code::Unauthenticated, Code::Unimplemented] {
            assert!(matches!(judge(&Status::new(code, "no")), Answer::Refused { .. }), "{code:?}");
        }
        for code in [Code::Unavailable, Code::DeadlineExceeded, Code::Aborted, Code::DataLoss] {
            assert!(matches!(judge(&Status::new(code, "later")), Answer::Retry { .. }), "{code:?}");
        }
    }
}
