//! Reading whole topics without a group, and writing transactions without one.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{DEADLINE, KEEP, Subject, config, number, numbered, send_numbers, topic, unique};
use crate::contract::{Bus, ConsumerConfig, Reader, ReaderConfig, ReaderEvent, Start};
use crate::error::BusError;
use crate::record::{Cleanup, PartitionId, Received};

async fn next(reader: &mut dyn Reader) -> ReaderEvent {
    tokio::time::timeout(DEADLINE, reader.next()).await.expect("an event before the deadline").expect("an event")
}

/// Everything up to [`ReaderEvent::Complete`], each partition having caught up once, after its records.
async fn all(reader: &mut dyn Reader, partitions: usize, fetch_bytes: usize) -> Vec<Received> {
    let (mut records, mut caught_up) = (Vec::<Received>::new(), BTreeSet::new());
    loop {
        match next(reader).await {
            ReaderEvent::Records(more) => {
                let bytes: usize = more.iter().map(Received::size).sum();
                assert!(!more.is_empty() && (more.len() == 1 || bytes <= fetch_bytes), "{bytes} bytes at once");
                for record in more {
                    let before = records.iter().rev().find(|r| r.from == record.from);
                    assert!(before.is_none_or(|before| before.offset < record.offset), "{} comes again", record.offset);
                    records.push(record);
                }
            }
            ReaderEvent::CaughtUp(partition) => assert!(caught_up.insert(partition), "caught up twice"),
            ReaderEvent::Complete => {
                assert_eq!(caught_up.len(), partitions);
                return records;
            }
        }
    }
}

async fn numbers(bus: &dyn Bus, config: ReaderConfig, partitions: usize) -> Vec<u64> {
    let fetch_bytes = config.fetch_bytes;
    let mut reader = bus.reader(config).await.expect("a reader");
    let mut numbers: Vec<_> = all(&mut *reader, partitions, fetch_bytes).await.iter().map(number).collect();
    numbers.sort_unstable();
    numbers
}

/// Two topics with records of several portions and an empty partition; then what is written later.
pub async fn a_reader_tells_when_it_has_everything_and_follows(subject: &dyn Subject) {
    let bus = subject.open().await;
    let one = topic(&*bus, "whole-one", 3, KEEP).await;
    let other = topic(&*bus, "whole-other", 1, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    producer.send((0..300).map(|n| numbered(&one, (n % 2) as u32, n, 10_000)).collect()).await.expect("sent");
    send_numbers(&*producer, &other, 0, 300..310).await;
    let config = ReaderConfig { fetch_bytes: 400_000, ..ReaderConfig::new([Arc::clone(&one), Arc::clone(&other)]) };
    let mut reader = bus.reader(config).await.expect("a reader");
    let mut seen: Vec<_> = all(&mut *reader, 4, 400_000).await.iter().map(number).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..310).collect::<Vec<_>>());

    send_numbers(&*producer, &one, 2, 310..311).await;
    let ReaderEvent::Records(later) = next(&mut *reader).await else { panic!("no record") };
    assert_eq!(later.iter().map(number).collect::<Vec<_>>(), [310]);
}

/// Topics of which nothing is left to deliver: never written, only aborted and decided transactions, all expired.
pub async fn a_reader_of_nothing_is_complete(subject: &dyn Subject) {
    let bus = subject.open().await;
    let empty = topic(&*bus, "nothing", 2, KEEP).await;
    assert!(numbers(&*bus, ReaderConfig::new([Arc::clone(&empty)]), 2).await.is_empty());
    assert!(numbers(&*bus, ReaderConfig::new([]), 0).await.is_empty());
    // Leaves aborted records or, where nothing is written before a commit, none.
    let id = unique("nothing-id");
    let mut writer = bus.transactional(Arc::clone(&id)).await.expect("an id");
    for turn in 0..3 {
        tokio::select! {
            biased;
            _ = writer.transact(vec![numbered(&empty, 0, turn, 8)]) => {}
            () = std::future::ready(()) => {}
        }
        writer = bus.transactional(Arc::clone(&id)).await.expect("an id");
    }
    let seen = numbers(&*bus, ReaderConfig::new([Arc::clone(&empty)]), 2).await;
    assert!(seen.iter().all(|n| *n < 3), "{seen:?}");
}

/// By offset in one partition, by time, and behind the end.
pub async fn a_reader_begins_where_it_is_told(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "begins", 2, KEEP).await;
    let producer = bus.producer().await.expect("a producer");
    let timed =
        |n: u64| crate::record::Record { timestamp_ms: 1_700_000_000_000 + n as i64, ..numbered(&topic, 0, n, 8) };
    producer.send((0..10).map(timed).collect()).await.expect("sent");
    send_numbers(&*producer, &topic, 1, 10..20).await;
    let first = PartitionId::new(Arc::clone(&topic), 0);
    assert_eq!(numbers(&*bus, ReaderConfig::at(first.clone(), 7), 1).await, [7, 8, 9]);
    assert!(numbers(&*bus, ReaderConfig::at(first.clone(), 10), 1).await.is_empty());
    assert!(numbers(&*bus, ReaderConfig::at(first, 99), 1).await.is_empty());
    let since = |time| ReaderConfig { from: Start::Timestamp(time), ..ReaderConfig::new([Arc::clone(&topic)]) };
    assert_eq!(numbers(&*bus, since(1_700_000_000_004), 2).await, (4..20).collect::<Vec<_>>());
    assert!(numbers(&*bus, since(super::now_ms() + 3_600_000), 2).await.is_empty());
    let unknown = bus.reader(ReaderConfig::at(PartitionId::new(Arc::clone(&topic), 2), 0)).await;
    assert!(matches!(unknown.err(), Some(BusError::UnknownPartition(_))));
    let missing = bus.reader(ReaderConfig::new([unique("begins-missing")])).await;
    assert!(matches!(missing.err(), Some(BusError::UnknownTopic { .. })));
}

/// A compacted topic as a table: the last value of every key, whatever was compacted away before the end.
pub async fn a_compacted_topic_is_read_as_a_table(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "table", 1, Cleanup::Compact).await;
    let producer = bus.producer().await.expect("a producer");
    let keyed =
        |n: u64| crate::record::Record { key: Some(format!("key-{}", n % 10).into()), ..numbered(&topic, 0, n, 1000) };
    producer.send((0..200).map(keyed).collect()).await.expect("sent");
    subject.tidy(&*bus).await;
    let seen = numbers(&*bus, ReaderConfig::new([Arc::clone(&topic)]), 1).await;
    assert!(seen.ends_with(&(190..200).collect::<Vec<_>>()), "{seen:?}");
}

/// What was committed when the reader was opened comes before it is complete, although a transaction that began
/// earlier is decided only afterwards; what is not committed does not come.
pub async fn a_reader_sees_what_is_committed(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "committed", 1, KEEP).await;
    let mut writer = bus.transactional(unique("committed-id")).await.expect("an id");
    for turn in 0..20 {
        writer.transact(vec![numbered(&topic, 0, turn, 8)]).await.expect("a transaction");
        assert_eq!(numbers(&*bus, ReaderConfig::new([Arc::clone(&topic)]), 1).await, (0..=turn).collect::<Vec<_>>());
    }
}

/// The owner that came last writes; the one before is refused, and does not take the id back.
pub async fn the_last_owner_of_an_id_writes(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "owner", 1, KEEP).await;
    let id = unique("owner-id");
    let mut older = bus.transactional(Arc::clone(&id)).await.expect("an id");
    older.transact(vec![numbered(&topic, 0, 0, 8), numbered(&topic, 0, 1, 8)]).await.expect("it was alone");
    let mut newer = bus.transactional(Arc::clone(&id)).await.expect("an id");
    for _ in 0..2 {
        let refused = older.transact(vec![numbered(&topic, 0, 2, 8)]).await;
        assert!(matches!(refused, Err(BusError::Fenced { .. })), "{refused:?}");
        newer.transact(vec![numbered(&topic, 0, 3, 8)]).await.expect("the newer owner");
    }
    drop(older);
    newer.transact(vec![numbered(&topic, 0, 4, 8)]).await.expect("the newer owner");
    assert_eq!(numbers(&*bus, ReaderConfig::new([topic]), 1).await, [0, 1, 3, 3, 4]);
}

/// Too large, or for no partition: nothing is written, and who opens the id anew goes on.
pub async fn a_refused_transaction_without_offsets_leaves_nothing(subject: &dyn Subject) {
    let bus = subject.open().await;
    let (topic, id) = (topic(&*bus, "alone", 1, KEEP).await, unique("alone-id"));
    let mut writer = bus.transactional(Arc::clone(&id)).await.expect("an id");
    let large = numbered(&topic, 0, 1, subject.max_record_bytes() + 1);
    let refused = writer.transact(vec![numbered(&topic, 0, 0, 8), large]).await;
    assert!(matches!(refused, Err(BusError::TooLarge { .. })), "{refused:?}");
    let mut writer = bus.transactional(Arc::clone(&id)).await.expect("an id");
    let refused = writer.transact(vec![numbered(&topic, 0, 0, 8), numbered(&topic, 7, 1, 8)]).await;
    assert!(matches!(refused, Err(BusError::UnknownPartition(_))), "{refused:?}");
    let mut writer = bus.transactional(id).await.expect("an id");
    writer.transact(vec![numbered(&topic, 0, 2, 8)]).await.expect("it goes on");
    assert_eq!(numbers(&*bus, ReaderConfig::new([topic]), 1).await, [2]);
}

/// Readers and groups do not disturb each other.
pub async fn a_reader_commits_nothing(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "beside", 1, KEEP).await;
    send_numbers(&*bus.producer().await.expect("a producer"), &topic, 0, 0..5).await;
    let group = ConsumerConfig { group: unique("beside-group"), ..config("", &topic) };
    let mut member = super::Reader::join(&*bus, group).await;
    assert_eq!(member.read(5).await.len(), 5);
    assert_eq!(numbers(&*bus, ReaderConfig::new([Arc::clone(&topic)]), 1).await.len(), 5);
    let partition = PartitionId::new(topic, 0);
    assert_eq!(member.committed(&partition).await, None);
    member.commit_read(&[partition]).await;
    member.close().await;
}
