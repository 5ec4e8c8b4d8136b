//! The bytes of the format, which outlive a release.
//!
//! A new format gets a new version, a new golden file, and keeps reading this one. `AFFLUX_BLESS=1` writes the file.

use super::disk::Disk;
use super::*;
use crate::local::index::segment_name;
use crate::local::read::Allowance;

const GOLDEN: &[u8] = include_bytes!("golden_v1.log");

/// Two groups: topics of every kind; then records with everything, a tombstone, and an offset.
fn batches() -> [Batch; 3] {
    let delete = Cleanup::Delete { max_age: Some(Duration::from_millis(1500)), max_bytes: Some(4096) };
    let topics = vec![
        topic("a", 2),
        TopicSpec { cleanup: delete, ..topic("b", 1) },
        TopicSpec { cleanup: Cleanup::Compact, ..topic("c", 1) },
    ];
    let mut full = record("a", 1, "value");
    full.key = Some(Bytes::from_static(b"key"));
    full.timestamp_ms = 1_700_000_000_123;
    full.headers.push("afflux-cluster", "c1");
    full.headers.push("afflux-items", "");
    let tombstone = Record { key: Some(Bytes::from_static(b"gone")), value: None, ..record("c", 0, "") };
    let offsets = vec![("group".into(), PartitionId::new("a", 1), 1)];
    [
        Batch { topics, ..Batch::default() },
        Batch { records: vec![full, tombstone], offsets, ..Batch::default() },
        Batch { records: vec![record("a", 1, "")], ..Batch::default() },
    ]
}

fn limits() -> Limits {
    Limits { segment_bytes: 4096, max_record_bytes: 1000, max_bytes: None }
}

#[test]
fn what_is_written_is_byte_for_byte_the_golden_file() {
    let disk = Disk::new(0);
    let mut log = Log::open(Arc::new(disk.clone()), limits()).unwrap();
    let [topics, first, second] = batches();
    log.append(&[topics])[0].as_ref().unwrap();
    assert!(log.append(&[first, second]).iter().all(Result::is_ok));
    log.close().unwrap();
    let written = disk.open(&segment_name(1)).unwrap().read(0, 1 << 20).unwrap();
    if std::env::var_os("AFFLUX_BLESS").is_some() {
        std::fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/src/local/tests/golden_v1.log"), &written).unwrap();
    }
    assert!(written == GOLDEN, "the format has changed, {} bytes were {}", written.len(), GOLDEN.len());
}

#[test]
fn the_golden_file_of_the_first_version_opens_with_all_it_holds() {
    let disk = Disk::new(0);
    disk.create(&segment_name(1)).unwrap().write(0, GOLDEN).unwrap();
    let log = Log::open(Arc::new(disk), limits()).unwrap();
    let state = log.store.state();
    let [topics, first, second] = batches();
    assert_eq!(state.topics, topics.topics);
    let part = state.part("a", 1).unwrap();
    assert_eq!((state.committed("group", part), state.range(part)), (Some(1), (0, 2)));
    let all = Allowance { soft: usize::MAX, first: usize::MAX };
    let got = log.store.read(part, 0, all).unwrap();
    let sent = [&first.records[0], &second.records[0]];
    for (got, sent) in got.iter().zip(sent) {
        assert_eq!((&got.key, &got.value, &got.headers), (&sent.key, &sent.value, &sent.headers));
        assert_eq!(got.timestamp_ms, sent.timestamp_ms);
    }
    let tombstone = log.store.read(state.part("c", 0).unwrap(), 0, all).unwrap();
    assert_eq!((got.len(), tombstone.len(), &tombstone[0].value), (2, 1, &None));
}

#[test]
fn a_log_of_another_version_is_refused_and_left_alone() {
    let disk = Disk::new(0);
    let mut other = GOLDEN.to_vec();
    other[7] = 2;
    disk.create(&segment_name(1)).unwrap().write(0, &other).unwrap();
    let refused = Log::open(Arc::new(disk.clone()), limits()).map(drop).unwrap_err();
    assert!(refused.to_string().contains("format 2"), "{refused}");
    assert_eq!(disk.open(&segment_name(1)).unwrap().read(0, 1 << 20).unwrap(), other);
}
