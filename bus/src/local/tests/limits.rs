//! What happens at the limits: of the disk, of the log, of what may wait.

use super::disk::Disk;
use super::*;

fn log(disk: &Disk, max_bytes: Option<u64>) -> Log {
    log_of(disk, 4096, max_bytes)
}

fn log_of(disk: &Disk, segment_bytes: u64, max_bytes: Option<u64>) -> Log {
    let limits = Limits { segment_bytes, max_record_bytes: 4096, max_bytes };
    let mut log = Log::open(Arc::new(disk.clone()), limits).unwrap();
    let age = Cleanup::Delete { max_age: Some(Duration::from_millis(100)), max_bytes: None };
    let topics = vec![TopicSpec { cleanup: age, ..topic("t", 1) }];
    append(&mut log, Batch { topics, ..Batch::default() }).unwrap();
    log
}

fn append(log: &mut Log, batch: Batch) -> Result<(), BusError> {
    log.append(&[batch]).pop().unwrap()
}

/// One record of 1000 bytes.
fn batch(timestamp_ms: i64) -> Batch {
    let records = vec![Record { timestamp_ms, ..record("t", 0, &"x".repeat(1000)) }];
    Batch { records, ..Batch::default() }
}

fn end(log: &Log) -> u64 {
    let state = log.store.state();
    state.range(state.part("t", 0).unwrap()).1
}

#[test]
fn a_full_disk_refuses_records_takes_commits_and_goes_on_once_there_is_room() {
    let disk = Disk::new(1);
    let mut log = log(&disk, None);
    disk.limit(disk.used() + 20_000);
    let mut sent = 0;
    let refused = loop {
        match append(&mut log, batch(0)) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, BusError::Full { .. }), "{refused:?}");
    assert!(sent > 5 && matches!(append(&mut log, batch(0)), Err(BusError::Full { .. })));
    let offsets = vec![("g".into(), PartitionId::new("t", 0), 1)];
    append(&mut log, Batch { offsets, ..Batch::default() }).expect("commits use the reserve");
    disk.limit(u64::MAX);
    append(&mut log, batch(0)).expect("nothing is poisoned");
    assert_eq!(end(&log), sent + 1);
}

#[test]
fn a_disk_smaller_than_a_segment_is_freed_once_everything_on_it_has_expired() {
    let disk = Disk::new(1);
    let mut log = log_of(&disk, 1 << 20, None);
    disk.limit(200_000);
    while append(&mut log, batch(0)).is_ok() {}
    assert!(end(&log) > 50, "{}", end(&log));
    while log.maintain(200).unwrap() {}
    append(&mut log, batch(200)).unwrap();
    assert_eq!(log.store.state().range(log.store.state().part("t", 0).unwrap()).0, end(&log) - 1);
}

#[test]
fn a_log_at_its_limit_is_full_until_retention_has_freed_a_segment() {
    let disk = Disk::new(1);
    let mut log = log(&disk, Some(40_000));
    let mut sent = 0;
    while append(&mut log, batch(0)).is_ok() {
        sent += 1;
    }
    assert!(sent >= 30, "{sent}");
    assert!(log.store.state().bytes() <= 40_000);
    assert!(!log.maintain(50).unwrap(), "nothing has expired");
    assert!(matches!(append(&mut log, batch(50)), Err(BusError::Full { .. })));
    while log.maintain(200).unwrap() {}
    append(&mut log, batch(200)).unwrap();
    assert!(disk.used() < 20_000, "{} bytes are in use", disk.used());
    drop(log);
    let log =
        Log::open(Arc::new(disk), Limits { segment_bytes: 4096, max_record_bytes: 4096, max_bytes: None }).unwrap();
    assert_eq!(end(&log), sent + 1, "offsets go on where they were");
}

#[test]
fn after_a_failed_sync_nothing_is_accepted_or_seen_until_reopening() {
    let disk = Disk::new(1);
    let mut log = log(&disk, None);
    append(&mut log, batch(0)).unwrap();
    disk.fail_sync();
    assert!(matches!(append(&mut log, batch(0)), Err(BusError::Poisoned { .. })));
    assert!(matches!(append(&mut log, batch(0)), Err(BusError::Poisoned { .. })));
    assert_eq!(end(&log), 1);
}

#[tokio::test]
async fn more_than_the_budget_is_full_while_it_waits_and_a_larger_batch_goes_alone() {
    let log = log(&Disk::new(1), None);
    let store = Arc::clone(&log.store);
    let committer = Committer::start(log, (), 2500).unwrap();
    // Whoever looks at the state keeps the committer from finishing.
    let looking = store.state();
    let first = committer.submit(batch(0)).unwrap();
    let second = committer.submit(batch(0)).unwrap();
    assert!(matches!(committer.submit(batch(0)), Err(BusError::Full { .. })));
    drop(looking);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    let records = (0..4).flat_map(|_| batch(0).records).collect();
    committer.commit(Batch { records, ..Batch::default() }).await.unwrap();
    committer.close();
    assert!(matches!(committer.submit(batch(0)), Err(BusError::Closed)));
}

#[tokio::test]
async fn batches_that_wait_share_one_sync() {
    let disk = Disk::new(1);
    let log = log(&disk, None);
    let store = Arc::clone(&log.store);
    let committer = Committer::start(log, (), 1 << 20).unwrap();
    let before = disk.syncs();
    let looking = store.state();
    let answers: Vec<_> = (0..50).map(|_| committer.submit(batch(0)).unwrap()).collect();
    drop(looking);
    for answer in answers {
        answer.await.unwrap().unwrap();
    }
    // What the thread had taken before, the others, and a segment that began meanwhile.
    assert!(disk.syncs() - before <= 3, "{} syncs", disk.syncs() - before);
    assert_eq!(store.state().partitions.values().next().unwrap().next, 50);
    committer.close();
}
