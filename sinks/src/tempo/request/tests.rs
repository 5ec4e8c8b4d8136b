use std::io::Read as _;

use afflux_bus::{Generation, Headers, PartitionId, Received};
use afflux_runtime::delivery::Kind;
use http_body_util::BodyExt as _;

use super::*;

fn batch(values: &[Option<&'static [u8]>]) -> Batch {
    let record = |(offset, value): (usize, &Option<&'static [u8]>)| Received {
        from: PartitionId::new("spans", 0),
        generation: Generation(0),
        offset: offset as u64,
        timestamp_ms: 0,
        key: None,
        value: value.map(Bytes::from_static),
        headers: Headers::new(),
    };
    let records = values.iter().enumerate().map(record).collect();
    Batch { kind: Kind::Spans, tenant: Some("a".into()), replay: false, records }
}

fn bytes(values: &[Option<&'static [u8]>], protocol: Protocol, compression: Compression) -> Vec<u8> {
    Request::new(&batch(values), protocol, compression).unwrap().bytes()
}

fn gunzipped(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut plain).unwrap();
    plain
}

const VALUES: [Option<&[u8]>; 4] = [Some(b"one"), None, Some(b""), Some(b"three")];

#[test]
fn values_stand_one_behind_another_as_they_are() {
    assert_eq!(bytes(&VALUES, Protocol::Http, Compression::None), b"onethree");
    assert_eq!(bytes(&VALUES, Protocol::Grpc, Compression::None), b"\0\0\0\0\x08onethree");
}

#[test]
fn compressed_values_come_back_as_they_were() {
    assert_eq!(gunzipped(&bytes(&VALUES, Protocol::Http, Compression::Gzip)), b"onethree");
    let message = bytes(&VALUES, Protocol::Grpc, Compression::Gzip);
    let (prefix, zipped) = message.split_at(PREFIX_BYTES);
    assert_eq!(prefix, [&[1][..], &(zipped.len() as u32).to_be_bytes()].concat());
    assert_eq!(gunzipped(zipped), b"onethree");
}

const PREFIX_BYTES: usize = 5;

#[test]
fn nothing_is_no_request() {
    for nothing in [&[][..], &[None, Some(&b""[..])]] {
        assert!(Request::new(&batch(nothing), Protocol::Grpc, Compression::Gzip).is_none());
    }
}

#[tokio::test]
async fn every_attempt_sends_the_same_and_says_how_long_it_is() {
    let request = Request::new(&batch(&VALUES), Protocol::Grpc, Compression::None).unwrap();
    assert_eq!(request.tenant.as_deref(), Some("a"));
    for _ in 0..2 {
        let body = request.body();
        assert_eq!(body.size_hint().exact(), Some(13));
        assert_eq!(body.collect().await.unwrap().to_bytes(), request.bytes());
    }
}
