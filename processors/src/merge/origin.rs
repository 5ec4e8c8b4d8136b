//! Where the records that an output was made of stood in another Kafka cluster, as [`HEADER_ORIGIN`] tells.
//!
//! Every copied record has an origin of its own, which would keep it from sharing an output with its neighbours.
//! So it is taken apart: what neighbours have in common, and an offset. An output lists the offsets as ranges that
//! rise, each offset once: a record that was copied twice never shares an output with its copy, and whoever reads
//! the outputs can tell.

use std::fmt::Write as _;

use afflux_bus::Headers;
use afflux_schemas::topics::HEADER_ORIGIN;
use bytes::Bytes;

/// Ranges that one output lists at most, some two kilobytes.
const MAX_RANGES: usize = 128;

/// Takes the origin out of the headers: `NAME:topic/partition`, and the offset. What does not read so stays.
pub(super) fn take(headers: &mut Headers) -> Option<(Bytes, u64)> {
    let value = headers.get(HEADER_ORIGIN)?.clone();
    let slash = value.iter().rposition(|byte| *byte == b'/')?;
    let offset = std::str::from_utf8(&value[slash + 1..]).ok()?.parse().ok()?;
    headers.0.retain(|(name, _)| **name != *HEADER_ORIGIN);
    Some((value.slice(..slash), offset))
}

/// The header's value for records of one partition, whose offsets rise.
pub(super) fn header(partition: &Bytes, offsets: impl Iterator<Item = u64>) -> Bytes {
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    for offset in offsets {
        match ranges.last_mut() {
            Some((_, last)) if offset <= last.saturating_add(1) => *last = offset,
            _ => ranges.push((offset, offset)),
        }
    }
    let mut text = String::new();
    for (at, (first, last)) in ranges.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{first}-{last}", if at == 0 { "/" } else { "," });
    }
    [partition, text.as_bytes()].concat().into()
}

/// The origins of an output in the making: a position in the other cluster for each position here.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origins {
    ranges: usize,
    /// Of the last record: its offset there, and its offset here.
    last: Option<(u64, u64)>,
}

impl Origins {
    /// Adds a record; says whether it may join those before, and adds nothing otherwise.
    pub(super) fn add(&mut self, origin: Option<u64>, offset: u64) -> bool {
        let Some(origin) = origin else { return true };
        let (follows, adjacent) = match self.last {
            None => (true, false),
            // Another part of the same record.
            Some((last, at)) if last == origin => (at == offset, true),
            Some((last, _)) => (origin > last, last.checked_add(1) == Some(origin)),
        };
        if !follows || (!adjacent && self.ranges == MAX_RANGES) {
            return false;
        }
        self.ranges += usize::from(!adjacent);
        self.last = Some((origin, offset));
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_apart_and_anything_else_left_alone() {
        let mut headers = Headers::new();
        headers.push("x", "1");
        headers.push(HEADER_ORIGIN, "east:afflux.ingest.spans/3/17");
        let (partition, offset) = take(&mut headers).unwrap();
        assert_eq!((&partition[..], offset), (&b"east:afflux.ingest.spans/3"[..], 17));
        assert_eq!(headers.0.len(), 1);
        for other in ["", "east", "east:topic/3/", "east:topic/3/1-2", "east:topic/3/-1"] {
            let mut headers = Headers::new();
            headers.push(HEADER_ORIGIN, other);
            assert_eq!(take(&mut headers), None, "{other}");
            assert_eq!(headers.get(HEADER_ORIGIN).map(|value| &value[..]), Some(other.as_bytes()));
        }
    }

    #[test]
    fn offsets_are_listed_as_ranges() {
        let partition = Bytes::from_static(b"east:t/0");
        assert_eq!(header(&partition, [4].into_iter()), "east:t/0/4-4");
        assert_eq!(header(&partition, [4, 4, 5, 6, 9, 11, 12].into_iter()), "east:t/0/4-6,9-9,11-12");
        assert_eq!(
            header(&partition, [u64::MAX - 1, u64::MAX].into_iter()),
            format!("east:t/0/{}-{}", u64::MAX - 1, u64::MAX)
        );
    }

    #[test]
    fn a_list_of_ranges_is_bounded() {
        let mut origins = Origins::default();
        let taken = (0..1000).take_while(|n| origins.add(Some(n * 2), *n)).count();
        assert_eq!(taken, MAX_RANGES);
        let last = 2 * (MAX_RANGES as u64 - 1);
        assert!(origins.add(Some(last + 1), 1000) && !origins.add(Some(last + 3), 1001));
    }
}
