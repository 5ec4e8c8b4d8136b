//! A slow consumer holds back what it asks to hold back, and nothing grows meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::{KEEP, Reader, Subject, config, number, numbered, topic};
use crate::contract::Event;
use crate::record::PartitionId;

/// A paused partition delivers nothing, not even what was fetched; the other one goes on to its end.
pub async fn a_paused_partition_waits_while_the_others_go_on(subject: &dyn Subject) {
    const RECORDS: u64 = 500;
    let bus = subject.open().await;
    let topic = topic(&*bus, "pause", 2, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    for partition in 0..2 {
        let records = (0..RECORDS).map(|n| numbered(&topic, partition, n, 1000)).collect();
        producer.send(records).await.expect("an acknowledgement");
    }
    let mut config = config("pause", &topic);
    config.fetch_bytes = 50_000;
    let mut reader = Reader::join(&*bus, config).await;
    let (waiting, other) = (PartitionId::new(Arc::clone(&topic), 0), PartitionId::new(Arc::clone(&topic), 1));
    reader.assigned(2).await;
    // Some of the partition has been fetched when the pause comes.
    let mut read = reader.read_past(&waiting, 10).await;
    reader.pause(&waiting);
    let at_pause = read.iter().filter(|r| r.from == waiting).count();
    assert!(at_pause < RECORDS as usize, "nothing left to hold back");
    if !read.iter().any(|r| r.from == other && number(r) == RECORDS - 1) {
        read.extend(reader.read_past(&other, RECORDS - 1).await);
    }
    assert_eq!(read.iter().filter(|r| r.from == waiting).count(), at_pause, "delivered while paused");
    assert!(reader.next_within(Duration::from_millis(300)).await.is_none(), "delivered while paused");
    reader.resume(&waiting);
    read.extend(reader.read_past(&waiting, RECORDS - 1).await);
    for partition in [waiting, other] {
        let numbers: Vec<u64> = read.iter().filter(|r| r.from == partition).map(number).collect();
        assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>(), "{partition}");
    }
    reader.close().await;
}

/// The way of a stage whose budget is small: pause, work, resume, for every poll.
pub async fn everything_paused_and_resumed_again_and_again_arrives_once(subject: &dyn Subject) {
    const RECORDS: u64 = 600;
    let bus = subject.open().await;
    let topic = topic(&*bus, "stop-and-go", 3, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    for partition in 0..3 {
        let records = (0..RECORDS).map(|n| numbered(&topic, partition, n, 500)).collect();
        producer.send(records).await.expect("an acknowledgement");
    }
    let mut config = config("stop-and-go", &topic);
    config.fetch_bytes = 10_000;
    let mut reader = Reader::join(&*bus, config).await;
    let partitions = reader.assigned(3).await;
    let mut read = vec![Vec::new(); 3];
    let mut turns = 0;
    while read.iter().any(|numbers| numbers.len() < RECORDS as usize) {
        let Event::Records(records) = reader.next().await else { panic!("the group does not change") };
        records.iter().for_each(|r| read[r.from.partition as usize].push(number(r)));
        turns += 1;
        partitions.iter().for_each(|p| reader.pause(p));
        if turns % 8 == 0 {
            // Long enough for whatever fetches ahead to notice.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        partitions.iter().for_each(|p| reader.resume(p));
    }
    for numbers in read {
        assert_eq!(numbers, (0..RECORDS).collect::<Vec<_>>());
    }
    reader.close().await;
}

/// A poll keeps to `fetch_bytes`; a single larger record comes alone.
pub async fn a_poll_returns_no_more_than_its_bytes(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "bytes", 1, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    for n in 0..30u64 {
        let bytes = if n % 10 == 5 { 60_000 } else { 3_000 };
        producer.send(vec![numbered(&topic, 0, n, bytes)]).await.expect("an acknowledgement");
    }
    let mut config = config("bytes", &topic);
    config.fetch_bytes = 10_000;
    let mut reader = Reader::join(&*bus, config).await;
    // The reader checks every poll.
    let numbers: Vec<u64> = reader.read(30).await.iter().map(number).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    reader.close().await;
}

/// Far more is written than may be held, and nobody polls: the process does not grow by more than that.
///
/// Measures the whole process, so it runs in a process of its own and is not part of the suite's macro. Answers
/// with the bytes by which the process grew.
pub async fn memory_is_bounded_while_nobody_polls(subject: &dyn Subject, fetch_bytes: usize, megabytes: u64) -> usize {
    const RECORD: usize = 200_000;
    let bus = subject.open().await;
    let topic = topic(&*bus, "memory", 4, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    let records = megabytes * 1_000_000 / RECORD as u64;
    for n in 0..records {
        let mut record = numbered(&topic, (n % 4) as u32, n, RECORD);
        record.value = Some(noise(n, RECORD));
        producer.send(vec![record]).await.expect("an acknowledgement");
    }
    let mut config = config("memory", &topic);
    config.fetch_bytes = fetch_bytes;
    let mut reader = Reader::join(&*bus, config).await;
    reader.assigned(1).await;
    let before = resident_bytes();
    let mut peak = before;
    let mut read = reader.read(1).await.len();
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peak = peak.max(resident_bytes());
    }
    while read < records as usize {
        read += reader.read(1).await.len();
        peak = peak.max(resident_bytes());
    }
    assert_eq!(read, records as usize);
    reader.close().await;
    peak - before
}

/// Bytes that begin with the number and compress about twofold.
pub(super) fn noise(seed: u64, bytes: usize) -> bytes::Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut value = seed.to_le_bytes().to_vec();
    while value.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        value.extend_from_slice(&state.to_le_bytes());
        value.extend_from_slice(b"http.route=/api/");
    }
    value.truncate(bytes);
    value.into()
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    let kib: usize = line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number");
    kib * 1024
}
