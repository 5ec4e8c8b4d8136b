//! Nesting, at the limit and far beyond it.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;

use crate::identity::Identity;
use crate::otlp::common::ValueView;
use crate::otlp::trace::TracesView;
use crate::otlp::{canonical, validate};
use crate::wire::{END_GROUP, LEN, Reason, START_GROUP, VARINT, key, put_len_field, put_varint, put_varint_field};

/// Wraps a message's bytes in messages, field by field from the inside out.
fn wrap(mut bytes: Vec<u8>, fields: impl IntoIterator<Item = u32>) -> Vec<u8> {
    for field in fields {
        let mut outer = Vec::with_capacity(bytes.len() + 6);
        put_len_field(&mut outer, field, &bytes);
        bytes = outer;
    }
    bytes
}

/// A trace request with a resource attribute whose `AnyValue` message is given.
fn request(value: Vec<u8>) -> Vec<u8> {
    wrap(value, [2, 1, 1, 1])
}

/// `levels` arrays around the fields of an `AnyValue`.
fn arrays(innermost: Vec<u8>, levels: usize) -> Vec<u8> {
    wrap(innermost, std::iter::repeat_n([1, 5], levels).flatten())
}

fn groups(levels: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    (0..levels).for_each(|_| put_varint(&mut bytes, key(20, START_GROUP).into()));
    (0..levels).for_each(|_| put_varint(&mut bytes, key(20, END_GROUP).into()));
    bytes
}

#[test]
fn nesting_is_accepted_exactly_as_deep_as_prost_does() {
    let mut int = Vec::new();
    put_varint_field(&mut int, 3, 7);
    let mut unknown = Vec::new();
    put_varint(&mut unknown, key(9, VARINT).into());
    unknown.push(0);
    let leaves = [Vec::new(), int, unknown, groups(1), groups(2), groups(5), groups(60)];
    let mut refused = 0;
    for leaf in leaves {
        for levels in 0..60 {
            let bytes = request(arrays(leaf.clone(), levels));
            let ours = validate::traces(&bytes);
            assert_eq!(ours.is_ok(), ExportTraceServiceRequest::decode(&bytes[..]).is_ok(), "{levels} {leaf:x?}");
            if let Err(malformed) = ours {
                assert_eq!(malformed.reason, Reason::Depth);
                refused += 1;
            }
        }
    }
    assert!(refused > 7 * 10);
}

#[test]
fn hundreds_of_thousands_of_levels_exhaust_no_stack() {
    let mut bytes = Vec::new();
    // From the inside out, every length is right.
    let mut headers = Vec::new();
    let mut len = 0_usize;
    for level in 0..300_000 {
        let mut header = Vec::new();
        put_varint(&mut header, key(if level % 2 == 0 { 1 } else { 5 }, LEN).into());
        put_varint(&mut header, len as u64);
        len += header.len();
        headers.push(header);
    }
    headers.iter().rev().for_each(|header| bytes.extend_from_slice(header));
    let bytes = request(bytes);
    assert_eq!(validate::traces(&bytes).unwrap_err().reason, Reason::Depth);
    assert!(canonical::traces(&bytes).is_err());

    // Views of it that nobody validated.
    let resource = TracesView::new(&bytes).resource_spans().next().unwrap().resource();
    assert_eq!(Identity::of(resource), Identity::default());
    let value = resource.attributes().next().unwrap().value();
    assert!(matches!(value, ValueView::Array(_)));
    let mut text = String::new();
    value.write_text(&mut text);
    assert!(text.starts_with("[[[["), "{text}");

    let grouped = groups(500_000);
    assert_eq!(validate::traces(&grouped).unwrap_err().reason, Reason::Depth);
    assert_eq!(TracesView::new(&grouped).resource_spans().count(), 0);
}
