use proptest::prelude::*;
use prost::encoding::{decode_varint, encode_varint, encoded_len_varint};

use super::*;

proptest! {
    #[test]
    fn varints_are_written_and_read_as_prost_does(value in any::<u64>(), shift in 0..64_u32, tail in any::<[u8; 2]>()) {
        let value = value >> shift;
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        put_varint(&mut ours, value);
        encode_varint(value, &mut theirs);
        prop_assert_eq!(&ours, &theirs);
        prop_assert_eq!(varint_len(value), encoded_len_varint(value));
        ours.extend(tail);
        let mut reader = Reader::new(&ours);
        prop_assert_eq!(reader.varint(), Ok(value));
        prop_assert_eq!(reader.rest(), tail);
    }

    /// Bytes with the top bit set are the many, so that cut-off, padded and too long varints all turn up.
    #[test]
    fn any_bytes_are_a_varint_or_not_as_prost_says(bytes in prop::collection::vec(prop_oneof![0x7e..=0x82_u8, 0xfe..=0xff_u8, 0..=2_u8], 0..13)) {
        let mut reader = Reader::new(&bytes);
        let mut theirs = &bytes[..];
        prop_assert_eq!(reader.varint().ok(), decode_varint(&mut theirs).ok());
        if reader.rest().len() < bytes.len() {
            prop_assert_eq!(reader.rest(), theirs);
        }
    }
}

proptest! {
    #[test]
    fn bytes_are_text_or_not_as_the_standard_library_says(
        mut bytes in prop_oneof![
            prop::collection::vec(0x20..0x7f_u8, 0..80),
            "\\PC{0,20}".prop_map(String::into_bytes),
        ],
        change in prop::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        if let Some((at, byte)) = change && !bytes.is_empty() {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        prop_assert_eq!(is_text(&bytes), std::str::from_utf8(&bytes).is_ok());
        prop_assert_eq!(text(&bytes), std::str::from_utf8(&bytes).unwrap_or_default());
    }
}

#[test]
fn one_byte_that_is_not_ascii_is_seen_wherever_it_stands() {
    for len in 0..80 {
        let mut bytes = vec![0; len];
        assert!(is_text(&bytes));
        for at in 0..len {
            for byte in [0x80, 0xc3, 0xff] {
                bytes[at] = byte;
                assert!(!is_text(&bytes), "{byte:x} at {at} of {len}");
            }
            bytes[at] = 0;
        }
    }
}

#[test]
fn the_tenth_byte_of_a_varint_holds_one_bit() {
    for last in 0..=255 {
        let mut bytes = [0xff; 11];
        bytes[9] = last;
        let expected = decode_varint(&mut &bytes[..]).ok();
        assert_eq!(Reader::new(&bytes).varint().ok(), expected, "{last}");
        assert_eq!(Reader::new(&bytes[..10]).varint().ok(), expected, "{last}");
        assert_eq!(expected.is_some(), last < 2);
    }
}

#[test]
fn fields_are_seen_with_and_without_their_header() {
    let mut buf = Vec::new();
    put_varint_field(&mut buf, 1, 300);
    put_len_field(&mut buf, 2, b"two");
    put_fixed64_field(&mut buf, 3, 3);
    put_fixed32_field(&mut buf, 4, 4);
    put_len_field(&mut buf, 1000, b"");
    let fields: Vec<_> = Fields::new(&buf).map(|field| (field.key, field.raw.len(), field.value)).collect();
    let expected: [(u32, usize, &[u8]); 5] = [
        (key(1, VARINT), 3, b""),
        (key(2, LEN), 5, b"two"),
        (key(3, FIXED64), 9, b""),
        (key(4, FIXED32), 5, b""),
        (key(1000, LEN), 3, b""),
    ];
    assert_eq!(fields, expected);
    assert_eq!(Fields::new(&buf).map(|field| field.raw.len()).sum::<usize>(), buf.len());
    assert_eq!(len_field_size(2, 3), 5);
    assert_eq!(len_field_size(1000, 300), 304);
}

#[test]
fn iteration_ends_at_a_malformed_byte_and_stays_ended() {
    let mut buf = Vec::new();
    put_len_field(&mut buf, 1, b"good");
    buf.extend([0x0a, 0x7f, 0x00]);
    let mut repeated = Repeated::<&[u8]>::new(&buf, 1);
    assert_eq!(repeated.next(), Some(&b"good"[..]));
    assert_eq!(repeated.next(), None);
    assert_eq!(repeated.next(), None);
    let mut fields = Fields::new(&buf);
    assert_eq!(fields.by_ref().count(), 1);
    assert!(fields.next().is_none());
}

#[test]
fn groups_end_under_their_own_number_and_within_the_depth() {
    let skip = |bytes: &[u8], depth| Reader::new(&bytes[1..]).skip(bytes[0].into(), depth);
    // Group 1 that holds group 2, which holds a varint.
    let nested = [0x0b, 0x13, 0x18, 0x01, 0x14, 0x0c];
    assert_eq!(skip(&nested, 3), Ok(()));
    assert_eq!(skip(&nested, 2), Err(Reason::Depth));
    assert_eq!(skip(&[0x0b, 0x14], 9), Err(Reason::Group));
    assert_eq!(skip(&[0x0c], 9), Err(Reason::Group));
    assert_eq!(skip(&[0x0b], 9), Err(Reason::Varint));
    assert_eq!(skip(&[0x0e, 0x00], 9), Err(Reason::WireType(6)));
    assert_eq!(skip(&[0x00, 0x00], 9), Err(Reason::Key));
}
