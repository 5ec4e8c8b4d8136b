//! Rewriting bytes against decoding, changing and encoding.

use ::bytes::Bytes;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use proptest::prelude::*;
use prost::Message;

use super::bytes::{Dice, damage, scramble};
use super::generate;
use crate::otlp::common::ResourceView;
use crate::otlp::rewrite::{Rewrite, resources, rewrite};
use crate::otlp::validate::{LOGS, TRACES};
use crate::wire::{put_len_field, put_varint_field};

/// Appends and says that it did not mean it.
struct Nothing;

impl Rewrite for Nothing {
    fn resource(&mut self, _resource: ResourceView<'_>, out: &mut Vec<u8>) -> bool {
        out.extend([1; 200]);
        false
    }

    fn item(&mut self, _item: &[u8], out: &mut Vec<u8>) -> bool {
        out.extend([2; 3]);
        false
    }
}

/// Replaces resources and items, each as its turn in `turns` says, by what `resource` and `item` make of them.
struct Turns<'a, R, I> {
    turns: &'a [bool],
    turn: usize,
    resource: R,
    item: I,
}

impl<R, I> Turns<'_, R, I> {
    fn due(&mut self) -> bool {
        self.turn += 1;
        self.turns[self.turn % self.turns.len()]
    }
}

impl<R: Fn(&[u8]) -> Vec<u8>, I: Fn(&[u8]) -> Vec<u8>> Rewrite for Turns<'_, R, I> {
    fn resource(&mut self, resource: ResourceView<'_>, out: &mut Vec<u8>) -> bool {
        out.extend((self.resource)(resource.raw()));
        self.due()
    }

    fn item(&mut self, item: &[u8], out: &mut Vec<u8>) -> bool {
        out.extend((self.item)(item));
        self.due()
    }
}

fn note(size: usize) -> KeyValue {
    KeyValue { key: "x".repeat(size), ..KeyValue::default() }
}

fn change_resource(resource: &mut Resource, size: usize) {
    resource.attributes.truncate(1);
    resource.attributes.push(note(size));
}

/// The rewriter that does with bytes what a model does with messages.
fn changing<M: Message + Default>(turns: &[bool], size: usize, change: impl Fn(&mut M)) -> impl Rewrite {
    let resource = move |raw: &[u8]| {
        let mut resource = Resource::decode(raw).unwrap();
        change_resource(&mut resource, size);
        resource.encode_to_vec()
    };
    let item = move |raw: &[u8]| {
        let mut item = M::decode(raw).unwrap();
        change(&mut item);
        item.encode_to_vec()
    };
    Turns { turns, turn: 0, resource, item }
}

proptest! {
    #[test]
    fn what_nothing_replaces_comes_back_as_the_same_bytes(request in generate::traces(), seed in any::<u64>()) {
        let bytes = Bytes::from(scramble(&TRACES, &request.encode_to_vec(), &mut Dice(seed)));
        let rewritten = rewrite(&bytes, &mut Nothing);
        prop_assert_eq!(&rewritten, &bytes);
        prop_assert!(bytes.is_empty() || rewritten.as_ptr() == bytes.as_ptr());
    }

    /// Equal bytes in place of others: every length around them is written again.
    #[test]
    fn what_is_replaced_by_itself_gives_the_same_message(request in generate::logs(), seed in any::<u64>()) {
        let bytes = Bytes::from(scramble(&LOGS, &request.encode_to_vec(), &mut Dice(seed)));
        let mut same = Turns { turns: &[true], turn: 0, resource: <[u8]>::to_vec, item: <[u8]>::to_vec };
        let mut resources_added = ExportLogsServiceRequest::decode(bytes.clone()).unwrap();
        for block in &mut resources_added.resource_logs {
            block.resource.get_or_insert_default();
        }
        let rewritten = rewrite(&bytes, &mut same);
        prop_assert_eq!(
            ExportLogsServiceRequest::decode(rewritten).unwrap().encode_to_vec(),
            resources_added.encode_to_vec()
        );
    }

    #[test]
    fn spans_are_rewritten_as_by_decoding_them(
        mut request in generate::traces(),
        turns in prop::collection::vec(any::<bool>(), 1..9),
        size in prop_oneof![0..4_usize, 100..300_usize],
    ) {
        let bytes = Bytes::from(request.encode_to_vec());
        let change = move |span: &mut Span| {
            span.events.clear();
            span.attributes.push(note(size));
        };
        let rewritten = rewrite(&bytes, &mut changing(&turns, size, change));
        let mut turn = 0;
        let mut due = || { turn += 1; turns[turn % turns.len()] };
        for block in &mut request.resource_spans {
            if due() {
                change_resource(block.resource.get_or_insert_default(), size);
            }
            block.scope_spans.iter_mut().flat_map(|scope| &mut scope.spans).for_each(|span| if due() { change(span) });
        }
        prop_assert_eq!(rewritten, request.encode_to_vec());
    }

    #[test]
    fn log_records_are_rewritten_as_by_decoding_them(
        mut request in generate::logs(),
        turns in prop::collection::vec(any::<bool>(), 1..9),
        size in prop_oneof![0..4_usize, 100..300_usize],
    ) {
        let bytes = Bytes::from(request.encode_to_vec());
        let change = move |record: &mut LogRecord| {
            record.body = None;
            record.attributes.push(note(size));
        };
        let rewritten = rewrite(&bytes, &mut changing(&turns, size, change));
        let mut turn = 0;
        let mut due = || { turn += 1; turns[turn % turns.len()] };
        for block in &mut request.resource_logs {
            if due() {
                change_resource(block.resource.get_or_insert_default(), size);
            }
            let records = block.scope_logs.iter_mut().flat_map(|scope| &mut scope.log_records);
            records.for_each(|record| if due() { change(record) });
        }
        prop_assert_eq!(rewritten, request.encode_to_vec());
    }

    #[test]
    fn damaged_bytes_are_passed_through(request in generate::traces(), seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let mut bytes = request.encode_to_vec();
        damage(&mut bytes, &mut dice);
        let bytes = Bytes::from(bytes);
        prop_assert_eq!(rewrite(&bytes, &mut Nothing), &bytes);
        let mut all = Turns { turns: &[true], turn: 0, resource: |_: &[u8]| vec![], item: |_: &[u8]| vec![] };
        rewrite(&bytes, &mut all);
    }
}

#[test]
fn unknown_fields_stay_where_they_are_and_a_missing_resource_is_added_in_front() {
    let message = |number: u32, value: &[u8]| {
        let mut field = Vec::new();
        put_len_field(&mut field, number, value);
        field
    };
    let mut unknown = Vec::new();
    put_varint_field(&mut unknown, 99, 7);
    let scope = [&unknown[..], &message(2, b"span")].concat();
    // Padded: two bytes for the length where one would do.
    let padded = [&[0x12, 0x80 | scope.len() as u8, 0][..], &scope].concat();
    let with = [&unknown[..], &padded, &message(1, b"old"), &unknown].concat();
    let request = Bytes::from([message(1, &with), unknown.clone(), message(1, &padded)].concat());
    let rewritten = resources(&request, |resource, out| {
        out.extend(if resource.raw() == b"old" { "news" } else { "none" }.as_bytes());
        true
    });
    let with = [&unknown[..], &padded, &message(1, b"news"), &unknown].concat();
    let without = [&message(1, b"none")[..], &padded].concat();
    assert_eq!(rewritten, [message(1, &with), unknown, message(1, &without)].concat());
}

#[test]
fn resources_alone_never_look_at_items() {
    struct Items;
    impl Rewrite for Items {
        const ITEMS: bool = false;
        fn resource(&mut self, _: ResourceView<'_>, _: &mut Vec<u8>) -> bool {
            false
        }
        fn item(&mut self, _: &[u8], _: &mut Vec<u8>) -> bool {
            panic!("an item");
        }
    }
    let scope = ScopeSpans { spans: vec![Span::default()], ..ScopeSpans::default() };
    let block = ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() };
    let request = Bytes::from(ExportTraceServiceRequest { resource_spans: vec![block] }.encode_to_vec());
    assert_eq!(rewrite(&request, &mut Items), request);
}
