//! From entries to the bytes of OTLP requests, one resource each.

use afflux_schemas::wire::{
    len_field_size, put_fixed64_field, put_len_field, put_len_header, put_varint, put_varint_field, varint_len,
};
use bytes::Bytes;

use super::facts::Facts;
use super::format::Iostream;
use super::join::Entry;
use super::origin::attribute;

/// Name of the instrumentation scope.
const SCOPE: &str = "afflux.files";
/// Bytes of key and length around a message at most.
const HEADER: usize = 1 + 5;

/// What every record of a file carries, for each stream of a container.
#[derive(Debug, Default)]
pub(super) struct Constants([Vec<u8>; 3]);

impl Constants {
    /// Of a file with that name and fingerprint.
    pub(super) fn new(name: &str, fingerprint: u64) -> Self {
        let of = |iostream: Option<Iostream>| {
            let mut out = Vec::new();
            let mut text =
                |key: &str, text: &str| attribute(&mut out, 6, key, |value| put_len_field(value, 1, text.as_bytes()));
            text("log.file.name", name);
            text("log.file.fingerprint", &format!("{fingerprint:016x}"));
            if let Some(iostream) = iostream {
                text("log.iostream", iostream.as_str());
            }
            out
        };
        Self([None, Some(Iostream::Stdout), Some(Iostream::Stderr)].map(of))
    }

    #[inline]
    fn of(&self, iostream: Option<Iostream>) -> &[u8] {
        &self.0[iostream.map_or(0, |stream| 1 + stream as usize)]
    }
}

/// A finished request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) value: Bytes,
    pub(super) items: u64,
}

/// Writes one request after the other.
#[derive(Debug, Default)]
pub(super) struct Encoder {
    /// Room for what surrounds the records, then the records.
    buffer: Vec<u8>,
    room: usize,
    items: u64,
    /// Bodies that were no UTF-8, since they were last asked for.
    pub(super) replaced: u64,
}

impl Encoder {
    /// Bytes of the request so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// Bytes that an entry takes at most, besides its body.
    pub(super) const OVERHEAD: usize = 512;

    /// Appends an entry to the request of a resource.
    #[inline]
    pub(super) fn push(&mut self, resource: &[u8], constants: &Constants, entry: &Entry<'_>, observed: u64) {
        if self.items == 0 {
            self.room = 3 * HEADER + len_field_size(1, resource.len()) + len_field_size(1, scope_len());
            self.buffer.resize(self.room, 0);
        }
        let lossy;
        let body = match simdutf8::basic::from_utf8(entry.body) {
            Ok(text) => text,
            Err(_) => {
                self.replaced += 1;
                lossy = String::from_utf8_lossy(entry.body);
                &lossy
            }
        };
        let facts = Facts::of(entry.body);
        put_record(&mut self.buffer, body, &facts, constants.of(entry.iostream), entry, observed);
        self.items += 1;
    }

    /// Ends the request, if anything is in it.
    pub(super) fn finish(&mut self, resource: &[u8]) -> Option<Request> {
        if self.items == 0 {
            return None;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let records = buffer.len() - self.room;
        let mut head = Vec::with_capacity(self.room);
        let scope = len_field_size(1, scope_len());
        let block = len_field_size(1, resource.len()) + len_field_size(2, scope + records);
        put_len_header(&mut head, 1, block);
        put_len_field(&mut head, 1, resource);
        put_len_header(&mut head, 2, scope + records);
        put_len_header(&mut head, 1, scope_len());
        put_len_field(&mut head, 1, SCOPE.as_bytes());
        let start = self.room - head.len();
        buffer[start..self.room].copy_from_slice(&head);
        let request = Request { value: Bytes::from(buffer).slice(start..), items: self.items };
        self.items = 0;
        Some(request)
    }
}

/// Bytes of the `InstrumentationScope` message.
const fn scope_len() -> usize {
    len_field_size(1, SCOPE.len())
}

const OFFSET_KEY: &[u8] = b"log.file.record_offset";

/// Appends a `LogRecord` as field 2 of a scope's block. Its length is known beforehand, so that nothing is moved.
#[inline]
fn put_record(out: &mut Vec<u8>, body: &str, facts: &Facts<'_>, constants: &[u8], entry: &Entry<'_>, observed: u64) {
    let value = len_field_size(1, body.len());
    let offset_value = 1 + varint_len(entry.offset);
    let offset = len_field_size(1, OFFSET_KEY.len()) + len_field_size(2, offset_value);
    let mut length = 9 + len_field_size(5, value) + constants.len() + len_field_size(6, offset);
    length += if entry.time.is_some() { 9 } else { 0 };
    length += facts.severity.map_or(0, |severity| 2 + len_field_size(3, severity.text.len()));
    length += if facts.trace_id.is_some() { 18 } else { 0 };
    length += if facts.span_id.is_some() { 10 } else { 0 };
    out.reserve(length + HEADER);
    put_len_header(out, 2, length);
    let start = out.len();
    if let Some(time) = entry.time {
        put_fixed64_field(out, 1, time);
    }
    if let Some(severity) = &facts.severity {
        put_varint_field(out, 2, severity.number.into());
        put_len_field(out, 3, severity.text);
    }
    put_len_header(out, 5, value);
    put_len_field(out, 1, body.as_bytes());
    out.extend_from_slice(constants);
    put_len_header(out, 6, offset);
    put_len_field(out, 1, OFFSET_KEY);
    put_len_header(out, 2, offset_value);
    put_varint(out, 3 << 3);
    put_varint(out, entry.offset);
    if let Some(id) = &facts.trace_id {
        put_len_field(out, 9, id);
    }
    if let Some(id) = &facts.span_id {
        put_len_field(out, 10, id);
    }
    put_fixed64_field(out, 11, observed);
    debug_assert_eq!(out.len() - start, length, "the length was foreseen");
}

#[cfg(test)]
mod tests {
    use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use proptest::prelude::*;
    use prost::Message;

    use super::super::origin::{Origin, tests::common};
    use super::*;

    fn entry(body: &[u8]) -> Entry<'_> {
        Entry { offset: 300, origin: None, time: Some(7), iostream: Some(Iostream::Stderr), body, cut: false }
    }

    fn decoded(request: &Request) -> ExportLogsServiceRequest {
        ExportLogsServiceRequest::decode(&*request.value).unwrap()
    }

    #[test]
    fn a_request_holds_the_resource_and_all_that_is_known_of_each_line() {
        let origin = Origin::of("/var/log/a".as_ref(), &common());
        let (mut encoder, constants) = (Encoder::default(), Constants::new("a", 0xabc));
        let line = "level=warn trace_id=0af7651916cd43dd8448eb211c80319c span_id=b7ad6b7169203331";
        encoder.push(&origin.resource, &constants, &entry(line.as_bytes()), 9);
        encoder.push(&origin.resource, &constants, &Entry { time: None, iostream: None, ..entry(b"") }, 10);
        let request = encoder.finish(&origin.resource).unwrap();
        assert_eq!(request.items, 2);
        let message = decoded(&request);
        assert_eq!(message.encoded_len(), request.value.len(), "nothing is encoded in a way of its own");
        let block = &message.resource_logs[0];
        assert_eq!(block.resource.as_ref().unwrap().attributes.len(), 3);
        let scope = &block.scope_logs[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, SCOPE);
        let [first, second] = &scope.log_records[..] else { panic!("{scope:?}") };
        assert_eq!((first.time_unix_nano, first.observed_time_unix_nano, first.severity_number), (7, 9, 13));
        assert_eq!((first.severity_text.as_str(), first.trace_id.len(), first.span_id.len()), ("warn", 16, 8));
        assert_eq!(first.body.as_ref().unwrap().value, Some(Value::StringValue(line.into())));
        let attributes: Vec<_> =
            first.attributes.iter().map(|kv| (kv.key.as_str(), kv.value.clone().unwrap().value.unwrap())).collect();
        let text = |text: &str| Value::StringValue(text.into());
        assert_eq!(
            attributes,
            [
                ("log.file.name", text("a")),
                ("log.file.fingerprint", text("0000000000000abc")),
                ("log.iostream", text("stderr")),
                ("log.file.record_offset", Value::IntValue(300)),
            ]
        );
        assert_eq!((second.time_unix_nano, second.attributes.len(), second.severity_number), (0, 3, 0));
        assert!(encoder.finish(&origin.resource).is_none());
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_the_request_is_valid(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..20), offset: u64) {
            let origin = Origin::of("/var/log/a".as_ref(), &common());
            let (mut encoder, constants) = (Encoder::default(), Constants::new("a", 1));
            let invalid = bodies.iter().filter(|body| std::str::from_utf8(body).is_err()).count();
            for body in &bodies {
                let before = encoder.len();
                encoder.push(&origin.resource, &constants, &Entry { offset, ..entry(body) }, 1);
                prop_assert!(encoder.len() - before.max(encoder.room) <= 3 * body.len() + Encoder::OVERHEAD);
            }
            let request = encoder.finish(&origin.resource).unwrap();
            prop_assert!(afflux_schemas::otlp::validate::logs(&request.value).is_ok());
            let records = decoded(&request).resource_logs.remove(0).scope_logs.remove(0).log_records;
            for (body, record) in bodies.iter().zip(records) {
                let expected = String::from_utf8_lossy(body).into_owned();
                prop_assert_eq!(record.body.unwrap().value, Some(Value::StringValue(expected)));
            }
            prop_assert_eq!(encoder.replaced, invalid as u64);
        }
    }
}
