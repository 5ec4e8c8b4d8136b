//! Intents and floors: the small objects by which writers agree on ranges.
//!
//! They outlive a release: fields are only ever added, and [`LAYOUT_VERSION`] is raised where the names of files
//! change.
//!
//! [`LAYOUT_VERSION`]: super::layout::LAYOUT_VERSION

use afflux_bus::Received;
use serde::{Deserialize, Serialize};

/// Version of the rows that this code makes of a record.
pub(crate) const WRITER_VERSION: u32 = 1;

/// "The records `first..=last` of this partition are one range": whoever writes from `first` writes exactly
/// these, under these names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Version of the names of files.
    pub(crate) layout: u32,
    /// Version of the writer that chose the range.
    pub(crate) writer: u32,
    /// The committed position at which the range begins; no record need have this offset.
    pub(crate) first: u64,
    /// Offset of the last record of the range.
    pub(crate) last: u64,
    /// Cluster of records that name none, on which the names of files depend.
    pub(crate) default_cluster: String,
    /// The first record, by which a recreated topic is known.
    pub(crate) fingerprint: Fingerprint,
}

/// What a record is recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fingerprint {
    /// Its offset.
    pub(crate) offset: u64,
    /// Its timestamp on the bus.
    pub(crate) timestamp_ms: i64,
    /// CRC-32C of its value, 0 for a tombstone.
    pub(crate) crc32c: u32,
}

impl Fingerprint {
    /// The fingerprint of a record.
    pub(crate) fn of(record: &Received) -> Self {
        Self {
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            crc32c: record.value.as_deref().map_or(0, crc32c::crc32c),
        }
    }
}

/// "Everything below this offset is stored and its intents may be gone": nobody writes below it.
///
/// The offset is in the object's name, and the highest name counts, so that a floor never sinks whoever writes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Floor {
    /// The lowest offset that may still be written.
    pub(crate) floor: u64,
    /// When it was raised, in milliseconds since the Unix epoch. Records below it are older than this.
    pub(crate) raised_ms: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every version wrote. Never edit an entry; add one.
    const INTENTS: &[&str] = &[
        r#"{"layout":1,"writer":1,"first":40,"last":97,"default_cluster":"eu","fingerprint":{"offset":41,"timestamp_ms":1700000000123,"crc32c":3808858755}}"#,
        r#"{"layout":2,"writer":1,"first":40,"last":97,"default_cluster":"eu","fingerprint":{"offset":41,"timestamp_ms":1700000000123,"crc32c":3808858755}}"#,
    ];
    const FLOORS: &[&str] = &[r#"{"floor":98,"raised_ms":1700604800123}"#];

    #[test]
    fn intents_of_every_release_read_and_the_newest_is_what_is_written() {
        let mut intent = Intent {
            layout: 1,
            writer: 1,
            first: 40,
            last: 97,
            default_cluster: "eu".into(),
            fingerprint: Fingerprint { offset: 41, timestamp_ms: 1_700_000_000_123, crc32c: 0xe306_9283 },
        };
        assert_eq!(serde_json::from_str::<Intent>(INTENTS[0]).unwrap(), intent);
        intent.layout = 2;
        assert_eq!(serde_json::from_str::<Intent>(INTENTS[1]).unwrap(), intent);
        assert_eq!(serde_json::to_string(&intent).unwrap(), *INTENTS.last().unwrap());
    }

    #[test]
    fn floors_of_every_release_read_and_the_newest_is_what_is_written() {
        let floor = Floor { floor: 98, raised_ms: 1_700_604_800_123 };
        assert_eq!(serde_json::from_str::<Floor>(FLOORS[0]).unwrap(), floor);
        assert_eq!(serde_json::to_string(&floor).unwrap(), *FLOORS.last().unwrap());
    }

    #[test]
    fn fields_that_a_later_release_adds_are_skipped() {
        let later = INTENTS[0].replace("\"layout\"", "\"colour\":\"red\",\"layout\"");
        assert!(serde_json::from_str::<Intent>(&later).is_ok());
    }
}
