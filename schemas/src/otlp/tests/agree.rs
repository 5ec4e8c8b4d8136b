//! Views and validation say what `prost` says, of any bytes.

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use prost::Message;

use super::bytes::{Dice, damage, scramble, soup};
use super::{decode, generate};
use crate::otlp::validate::{Checked, LOGS, Malformed, TRACES};
use crate::otlp::{canonical, split, validate};
use crate::wire::put_len_field;

/// What the two signals have in common.
struct Signal<M> {
    validate: fn(&[u8]) -> Result<Checked, Malformed>,
    canonical: fn(&[u8]) -> Result<::bytes::Bytes, Malformed>,
    decode: fn(&[u8]) -> M,
    items: fn(&M) -> usize,
    split: fn(&::bytes::Bytes) -> split::Split,
}

const TRACE: Signal<ExportTraceServiceRequest> = Signal {
    validate: validate::traces,
    canonical: canonical::traces,
    decode: decode::traces,
    items: |request| request.resource_spans.iter().flat_map(|r| &r.scope_spans).map(|s| s.spans.len()).sum(),
    split: |bytes| split::traces(bytes, 3),
};

const LOG: Signal<ExportLogsServiceRequest> = Signal {
    validate: validate::logs,
    canonical: canonical::logs,
    decode: decode::logs,
    items: |request| request.resource_logs.iter().flat_map(|r| &r.scope_logs).map(|s| s.log_records.len()).sum(),
    split: |bytes| split::logs(bytes, 3, "cluster"),
};

impl<M: Message + Default + std::fmt::Debug> Signal<M> {
    /// Checks that validation accepts what `prost` accepts, and that views then show what `prost` decodes.
    /// Returns whether it was accepted.
    fn agrees(&self, bytes: &[u8]) -> Result<bool, TestCaseError> {
        let (ours, theirs) = ((self.validate)(bytes), M::decode(bytes));
        let (checked, message) = match (ours, theirs) {
            (Ok(checked), Ok(message)) => (checked, message),
            (Err(malformed), Err(_)) => {
                prop_assert!(malformed.offset < bytes.len(), "{malformed} of {}", bytes.len());
                self.survives(bytes);
                return Ok(false);
            }
            (ours, theirs) => {
                return Err(TestCaseError::fail(format!("{ours:?}, but prost says {:?}", theirs.map(drop))));
            }
        };
        // Compared as encoded, so that NaN equals itself and -0.0 differs from 0.0.
        let expected = message.encode_to_vec();
        prop_assert_eq!(checked.items, (self.items)(&message) as u64);
        if checked.canonical {
            prop_assert!((self.decode)(bytes).encode_to_vec() == expected, "views differ from {message:?}");
        }
        let rewritten = (self.canonical)(bytes).map_err(|malformed| TestCaseError::fail(malformed.to_string()))?;
        prop_assert_eq!((self.validate)(&rewritten), Ok(Checked { canonical: true, ..checked }));
        prop_assert!((self.decode)(&rewritten).encode_to_vec() == expected, "views differ from {message:?}");
        self.survives(bytes);
        Ok(true)
    }

    /// Walks all that there is, whatever it is worth: nothing may panic.
    fn survives(&self, bytes: &[u8]) {
        (self.decode)(bytes);
        let shared = ::bytes::Bytes::copy_from_slice(bytes);
        (self.split)(&shared);
        split::by_cluster(&shared);
    }
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn accepted<M: Message + Default + std::fmt::Debug>(signal: &Signal<M>, bytes: &[u8]) -> TestCaseResult {
    let accepted = signal.agrees(bytes)?;
    prop_assert!(accepted, "valid bytes are refused");
    Ok(())
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn spans_read_as_prost_reads_them(request in generate::traces(), seed in any::<u64>()) {
        let bytes = request.encode_to_vec();
        accepted(&TRACE, &bytes)?;
        prop_assert!(validate::traces(&bytes).unwrap().canonical);
        let mut dice = Dice(seed);
        let scrambled = scramble(&TRACES, &bytes, &mut dice);
        accepted(&TRACE, &scrambled)?;
        for _ in 0..10 {
            let mut damaged = scrambled.clone();
            damage(&mut damaged, &mut dice);
            TRACE.agrees(&damaged)?;
        }
    }

    #[test]
    fn log_records_read_as_prost_reads_them(request in generate::logs(), seed in any::<u64>()) {
        let bytes = request.encode_to_vec();
        accepted(&LOG, &bytes)?;
        prop_assert!(validate::logs(&bytes).unwrap().canonical);
        let mut dice = Dice(seed);
        let scrambled = scramble(&LOGS, &bytes, &mut dice);
        accepted(&LOG, &scrambled)?;
        for _ in 0..10 {
            let mut damaged = scrambled.clone();
            damage(&mut damaged, &mut dice);
            LOG.agrees(&damaged)?;
        }
    }
}

proptest! {
    #![proptest_config(config(20_000))]

    #[test]
    fn any_fields_are_accepted_or_refused_as_prost_does(seed in any::<u64>()) {
        TRACE.agrees(&soup(&TRACES, &mut Dice(seed), 9))?;
        LOG.agrees(&soup(&LOGS, &mut Dice(seed), 9))?;
    }
}

proptest! {
    #![proptest_config(config(10))]

    #[test]
    fn a_request_cut_off_anywhere_is_accepted_or_refused_as_prost_does(request in generate::traces(), logs in generate::logs()) {
        let (bytes, logs) = (request.encode_to_vec(), logs.encode_to_vec());
        for end in 0..bytes.len().min(600) {
            TRACE.agrees(&bytes[..end])?;
        }
        for end in 0..logs.len().min(600) {
            LOG.agrees(&logs[..end])?;
        }
    }
}

#[test]
fn an_error_says_where_in_the_request_and_why() {
    // A span whose name, its last field, is not UTF-8.
    let bytes = [0x0a, 8, 0x12, 6, 0x12, 4, 0x30, 1, 0x2a, 0];
    assert!(validate::traces(&bytes).is_ok());
    let mut bytes = [0x0a, 10, 0x12, 8, 0x12, 6, 0x30, 1, 0x2a, 2, 0xc3, 0x28];
    let text = |bytes: &[u8]| validate::traces(bytes).unwrap_err().to_string();
    assert_eq!(text(&bytes), "malformed protobuf in Span at byte 8: field 5 is not UTF-8");
    bytes[9] = 3;
    assert_eq!(text(&bytes), "malformed protobuf in Span at byte 8: a field reaches past the end of its message");
    bytes[6] = 0x32;
    assert_eq!(text(&bytes), "malformed protobuf in Span at byte 6: field 6 has wire type 2 instead of 0");
    bytes[4] = 0x14;
    assert_eq!(text(&bytes), "malformed protobuf in ScopeSpans at byte 4: field 2 has wire type 4 instead of 2");
}

/// An empty message at the end of a path of field numbers, so many times.
fn at(path: &[u32], times: usize) -> Vec<u8> {
    let (last, outer) = path.split_last().unwrap();
    let mut bytes = Vec::new();
    (0..times).for_each(|_| put_len_field(&mut bytes, *last, &[]));
    outer.iter().rev().fold(bytes, |inner, field| {
        let mut bytes = Vec::new();
        put_len_field(&mut bytes, *field, &inner);
        bytes
    })
}

#[test]
fn a_singular_message_in_two_pieces_is_told_and_a_repeated_one_is_not() {
    type Validate = fn(&[u8]) -> Result<Checked, Malformed>;
    let traces: (Validate, &[(&[u32], bool)]) = (
        validate::traces,
        &[
            (&[1], true),
            (&[1, 1], false),
            (&[1, 2], true),
            (&[1, 2, 1], false),
            (&[1, 2, 2], true),
            (&[1, 2, 2, 9], true),
            (&[1, 2, 2, 9, 2], false),
            (&[1, 2, 2, 11], true),
            (&[1, 2, 2, 11, 3], true),
            (&[1, 2, 2, 13], true),
            (&[1, 2, 2, 13, 4], true),
            (&[1, 2, 2, 15], false),
        ],
    );
    let logs: (Validate, &[(&[u32], bool)]) = (
        validate::logs,
        &[
            (&[1, 1], false),
            (&[1, 1, 1], true),
            (&[1, 1, 3], true),
            (&[1, 2, 1], false),
            (&[1, 2, 2, 5], false),
            (&[1, 2, 2, 5, 5], false),
            (&[1, 2, 2, 5, 5, 1], true),
            (&[1, 2, 2, 5, 6], false),
            (&[1, 2, 2, 5, 6, 1], true),
            (&[1, 2, 2, 6], true),
        ],
    );
    for (validate, paths) in [traces, logs] {
        for (path, repeated) in paths {
            assert!(validate(&at(path, 1)).unwrap().canonical, "{path:?}");
            assert_eq!(validate(&at(path, 2)).unwrap().canonical, *repeated, "{path:?}");
        }
    }
}
