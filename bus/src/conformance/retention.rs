//! What is old goes, and readers that were further back go on with what is left.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{DEADLINE, Reader, Subject, config, now_ms, number, numbered, send_numbers, topic, unique};
use crate::contract::{Bus, PartitionLag};
use crate::record::{Cleanup, PartitionId, Received, Record};

const HOUR: Duration = Duration::from_secs(3600);

async fn lag(bus: &dyn Bus, group: &str, topic: &Arc<str>) -> PartitionLag {
    bus.lag(group, &[Arc::clone(topic)]).await.expect("lag").remove(0)
}

async fn wait_for_start(subject: &dyn Subject, bus: &dyn Bus, topic: &Arc<str>, wanted: impl Fn(u64) -> bool) -> u64 {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        subject.tidy(bus).await;
        let start = lag(bus, "nobody", topic).await.start;
        if wanted(start) {
            return start;
        }
        assert!(tokio::time::Instant::now() < deadline, "partition still starts at {start}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Records over the age go; a group that had committed below resumes at the oldest that is left.
pub async fn records_go_by_age_and_readers_go_on_at_the_start(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "age", 1, Cleanup::Delete { max_age: Some(HOUR), max_bytes: None }).await;
    let partition = PartitionId::new(Arc::clone(&topic), 0);
    let mut reader = Reader::join(&*bus, config("age", &topic)).await;
    reader.assigned(1).await;
    reader.commit_read(std::slice::from_ref(&partition)).await;
    reader.close().await;

    let producer = bus.producer().await.expect("a producer");
    let long_ago = now_ms() - 2 * i64::try_from(HOUR.as_millis()).expect("milliseconds");
    let old = (0..50).map(|n| Record { timestamp_ms: long_ago, ..numbered(&topic, 0, n, 8) }).collect();
    producer.send(old).await.expect("an acknowledgement");
    assert_eq!(wait_for_start(subject, &*bus, &topic, |start| start > 0).await, 50);
    send_numbers(&*producer, &topic, 0, 50..60).await;
    assert_eq!(lag(&*bus, "age", &topic).await.records(), 10);
    let mut reader = Reader::join(&*bus, config("age", &topic)).await;
    reader.assigned(1).await;
    let rest = reader.read(10).await;
    assert_eq!(
        rest.iter().map(|r| (r.offset, number(r))).collect::<Vec<_>>(),
        (50..60).map(|n| (n, n)).collect::<Vec<_>>()
    );
    while reader.expired == 0 {
        reader.next().await;
    }
    assert_eq!(reader.expired, 50, "what is lost is said");
    reader.close().await;

    // Nor did a group that has never committed get to read them.
    let mut newcomer = Reader::join(&*bus, config("age-newcomer", &topic)).await;
    assert_eq!(newcomer.read(10).await.len(), 10);
    while newcomer.expired == 0 {
        newcomer.next().await;
    }
    assert_eq!(newcomer.expired, 50);
    newcomer.close().await;
}

/// The oldest records go when a partition passes its size; what stays is the newest, without a hole.
pub async fn records_go_by_size(subject: &dyn Subject) {
    const BYTES: u64 = 2_000_000;
    const RECORDS: u64 = 800;
    let bus = subject.open().await;
    let topic = topic(&*bus, "size", 1, Cleanup::Delete { max_age: None, max_bytes: Some(BYTES) }).await;
    let producer = bus.producer().await.expect("a producer");
    for call in 0..RECORDS / 20 {
        let records = (call * 20..call * 20 + 20).map(|n| {
            let mut record = numbered(&topic, 0, n, 8);
            record.value = Some(super::flow::noise(n, 20_000));
            record
        });
        producer.send(records.collect()).await.expect("an acknowledgement");
    }
    // 16 MB were written. Buses free whole portions, and may keep one more than the limit.
    let start = wait_for_start(subject, &*bus, &topic, |start| start >= RECORDS / 2).await;
    let mut reader = Reader::join(&*bus, config("size", &topic)).await;
    let read: Vec<u64> =
        reader.read_past(&PartitionId::new(Arc::clone(&topic), 0), RECORDS - 1).await.iter().map(number).collect();
    assert!(read[0] >= start, "{} was already gone", read[0]);
    // Retention may have gone on, also while this was read.
    let start = lag(&*bus, "nobody", &topic).await.start;
    let left: Vec<_> = read.into_iter().filter(|n| *n >= start).collect();
    assert_eq!(left, (start..RECORDS).collect::<Vec<_>>());
    let kept = (RECORDS - start) * 20_000;
    assert!(kept >= BYTES / 2, "only {kept} bytes were kept");
    reader.close().await;
}

/// The last value of every key stays, deleted keys go, and order and offsets stay as they were.
pub async fn compaction_keeps_the_last_value_of_a_key(subject: &dyn Subject) {
    if !subject.compacts_soon() {
        return;
    }
    let bus = subject.open().await;
    let topic = topic(&*bus, "compact", 1, Cleanup::Compact).await;
    let producer = bus.producer().await.expect("a producer");
    let keyed = |key: u64, n: u64, deleted: bool| {
        let record = numbered(&topic, 0, n, 2_000);
        let value = record.value.filter(|_| !deleted);
        Record { key: Some(Bytes::from(format!("key-{key}"))), value, ..record }
    };
    for call in 0..50u64 {
        let records = (0..10).map(|key| keyed(key, call * 10 + key, false)).collect();
        producer.send(records).await.expect("an acknowledgement");
    }
    producer.send(vec![keyed(3, 0, true)]).await.expect("an acknowledgement");
    let read = read_compacted(subject, &*bus, &topic).await;
    for key in (0..10u64).filter(|key| *key != 3) {
        let name = format!("key-{key}");
        let last = read.iter().rfind(|r| r.key.as_deref() == Some(name.as_bytes())).expect("a value for every key");
        assert_eq!((last.offset, number(last)), (490 + key, 490 + key), "{name}");
    }
    let third = read.iter().rfind(|r| r.key.as_deref() == Some(b"key-3"));
    assert!(third.is_none_or(|r| r.value.is_none()), "a deleted key is back");
}

/// All that is left of the topic's 501 records, once fewer than half of them are.
async fn read_compacted(subject: &dyn Subject, bus: &dyn Bus, topic: &Arc<str>) -> Vec<Received> {
    let deadline = tokio::time::Instant::now() + DEADLINE;
    loop {
        subject.tidy(bus).await;
        let mut reader = Reader::join(bus, config(&unique("compact"), topic)).await;
        let read = reader.read_past(&PartitionId::new(Arc::clone(topic), 0), 500).await;
        reader.close().await;
        if read.len() < 250 {
            return read;
        }
        assert!(tokio::time::Instant::now() < deadline, "{} of 501 records are left", read.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
