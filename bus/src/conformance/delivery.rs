//! What was acknowledged arrives, in order, once, and from where the group left off.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::{KEEP, Reader, Subject, after, config, now_ms, number, numbered, send_numbers, topic};
use crate::contract::{Event, StartAt};
use crate::record::{Headers, PartitionId, Record};

/// Order holds within a call and from one awaited call to the next.
pub async fn records_of_a_partition_keep_their_order(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "order", 3, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    for call in 0..20u64 {
        let records = (0..90).map(|n| numbered(&topic, (n % 3) as u32, call * 90 + n, 8)).collect();
        producer.send(records).await.expect("an acknowledgement");
    }
    let mut reader = Reader::join(&*bus, config("order", &topic)).await;
    let mut last = BTreeMap::new();
    let records = reader.read(1800).await;
    assert_eq!(records.len(), 1800);
    for record in records {
        let before = last.insert(record.from.partition, number(&record));
        assert!(before < Some(number(&record)), "{} after {before:?} in {}", number(&record), record.from);
    }
    reader.close().await;
}

/// Ten senders at once: everything acknowledged arrives, nothing arrives twice.
pub async fn everything_acknowledged_is_delivered_once(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "once", 4, KEEP).await;
    let mut reader = Reader::join(&*bus, config("once", &topic)).await;
    let mut senders = Vec::new();
    for sender in 0..10u64 {
        let (bus, topic) = (Arc::clone(&bus), Arc::clone(&topic));
        senders.push(tokio::spawn(async move {
            let producer = bus.producer().await.expect("a producer");
            for call in 0..20u64 {
                let first = sender * 1000 + call * 10;
                let records = (first..first + 10).map(|n| numbered(&topic, (n % 4) as u32, n, 300)).collect();
                producer.send(records).await.expect("an acknowledgement");
            }
        }));
    }
    let mut seen: Vec<u64> = reader.read(2000).await.iter().map(number).collect();
    for sender in senders {
        sender.await.expect("a sender");
    }
    if let Some(Event::Records(more)) = reader.next_within(Duration::from_millis(300)).await {
        seen.extend(more.iter().map(number));
    }
    seen.sort_unstable();
    let expected: Vec<u64> = (0..10).flat_map(|s| s * 1000..s * 1000 + 200).collect();
    assert_eq!(seen, expected);
    reader.close().await;
}

/// What is written is what is read, to the byte.
pub async fn keys_headers_tombstones_and_timestamps_survive(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "survive", 1, KEEP).await;
    let to = PartitionId::new(Arc::clone(&topic), 0);
    let mut headers = Headers::new();
    headers.push("afflux-cluster", &b"eu-1"[..]);
    headers.push("repeated", &b"first"[..]);
    headers.push("repeated", &b"\x00\xff"[..]);
    headers.push("empty", Bytes::new());
    let plain = Record { to, key: None, value: None, timestamp_ms: now_ms(), headers: Headers::new() };
    let written = vec![
        Record {
            key: Some(Bytes::from_static(b"key")),
            headers,
            value: Some(Bytes::from_static(b"v")),
            ..plain.clone()
        },
        Record { key: Some(Bytes::from_static(b"\x00\x01")), ..plain.clone() },
        Record { value: Some(Bytes::new()), timestamp_ms: now_ms() - 86_400_000, ..plain.clone() },
        Record { key: Some(Bytes::new()), value: Some(Bytes::from(vec![7; 100_000])), ..plain },
    ];
    bus.producer().await.expect("a producer").send(written.clone()).await.expect("an acknowledgement");
    let mut reader = Reader::join(&*bus, config("survive", &topic)).await;
    let read = reader.read(written.len()).await;
    assert_eq!(read.len(), written.len());
    for (read, written) in read.iter().zip(&written) {
        assert_eq!((&read.key, &read.value), (&written.key, &written.value));
        assert_eq!((&read.headers, read.timestamp_ms), (&written.headers, written.timestamp_ms));
    }
    reader.close().await;
}

/// Also after the client, or the whole bus, has been closed and opened again.
pub async fn reading_resumes_at_the_committed_offset_after_a_restart(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "resume", 1, KEEP).await;
    let partition = PartitionId::new(Arc::clone(&topic), 0);
    send_numbers(&*bus.producer().await.expect("a producer"), &topic, 0, 0..100).await;
    let mut reader = Reader::join(&*bus, config("resume", &topic)).await;
    assert_eq!(reader.committed(&partition).await, None);
    let read = reader.read(100).await;
    reader.commit(&[after(&read[41])]).await.expect("a commit");
    assert_eq!(reader.committed(&partition).await, Some(read[41].offset + 1));
    reader.close().await;

    let bus = subject.reopen(bus).await;
    send_numbers(&*bus.producer().await.expect("a producer"), &topic, 0, 100..110).await;
    let mut reader = Reader::join(&*bus, config("resume", &topic)).await;
    reader.assigned(1).await;
    assert_eq!(reader.position(&partition), read[41].offset + 1);
    let rest: Vec<u64> = reader.read(68).await.iter().map(number).collect();
    assert_eq!(rest, (42..110).collect::<Vec<_>>());
    reader.close().await;
}

/// What a member read and did not commit goes to its successor.
pub async fn uncommitted_records_are_delivered_again(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "again", 2, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    send_numbers(&*producer, &topic, 0, 0..50).await;
    send_numbers(&*producer, &topic, 1, 50..100).await;
    for _ in 0..2 {
        let mut reader = Reader::join(&*bus, config("again", &topic)).await;
        let mut read: Vec<u64> = reader.read(100).await.iter().map(number).collect();
        read.sort_unstable();
        assert_eq!(read, (0..100).collect::<Vec<_>>());
        reader.close().await;
    }
}

/// A group that starts at the end sees what is written from its assignment on, and nothing older.
pub async fn a_group_may_start_at_the_end(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "latest", 1, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    send_numbers(&*producer, &topic, 0, 0..10).await;
    let mut latest = config("latest", &topic);
    latest.start_at = StartAt::Latest;
    let mut reader = Reader::join(&*bus, latest).await;
    reader.assigned(1).await;
    assert_eq!(reader.position(&PartitionId::new(Arc::clone(&topic), 0)), 10);
    send_numbers(&*producer, &topic, 0, 10..13).await;
    let read: Vec<u64> = reader.read(3).await.iter().map(number).collect();
    assert_eq!(read, [10, 11, 12]);
    reader.close().await;
}

/// Polls that are dropped at once, hundreds of times, lose and repeat nothing.
pub async fn a_dropped_poll_loses_nothing(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "cancel", 2, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    let mut config = config("cancel", &topic);
    config.fetch_bytes = 4096;
    let mut reader = Reader::join(&*bus, config).await;
    let sender = {
        let topic = Arc::clone(&topic);
        tokio::spawn(async move {
            for call in 0..100u64 {
                let records = (0..10).map(|n| numbered(&topic, (n % 2) as u32, call * 10 + n, 100)).collect();
                producer.send(records).await.expect("an acknowledgement");
            }
        })
    };
    let mut seen = Vec::new();
    let mut impatience = 0;
    let deadline = tokio::time::Instant::now() + super::DEADLINE;
    while seen.len() < 1000 {
        assert!(tokio::time::Instant::now() < deadline, "only {} of 1000 records", seen.len());
        // From no patience at all to a little, over and over.
        impatience = (impatience + 1) % 7;
        if let Some(Event::Records(records)) = reader.next_within(Duration::from_micros(impatience * 300)).await {
            seen.extend(records.iter().map(number));
        }
    }
    sender.await.expect("a sender");
    seen.sort_unstable();
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    reader.close().await;
}

/// Lag is known for any group, with and without members, before and after commits.
pub async fn lag_counts_what_is_not_committed(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "lag", 2, KEEP).await;
    let topics = [Arc::clone(&topic)];
    send_numbers(&*bus.producer().await.expect("a producer"), &topic, 1, 0..10).await;
    let before = bus.lag("lag", &topics).await.expect("lag");
    assert_eq!(before.iter().map(|l| (l.committed, l.start, l.end)).collect::<Vec<_>>(), [(None, 0, 0), (None, 0, 10)]);
    assert_eq!(before[1].records(), 10);
    let mut reader = Reader::join(&*bus, config("lag", &topic)).await;
    let read = reader.read(10).await;
    reader.commit(&[after(&read[6])]).await.expect("a commit");
    let with_member = bus.lag("lag", &topics).await.expect("lag");
    assert_eq!((with_member[1].committed, with_member[1].records()), (Some(7), 3));
    reader.close().await;
    assert_eq!(bus.lag("lag", &topics).await.expect("lag"), with_member);
}
