//! The bus as a whole, on a real directory.

mod disk;
mod expected;
mod golden;
mod kill;
mod limits;
mod model;
mod race;

use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::contract::{Assignment, Event, Offset, StartAt};
use crate::record::{Cleanup, Generation, Headers, Received};

const DEADLINE: Duration = Duration::from_secs(20);

fn topic(name: &str, partitions: u32) -> TopicSpec {
    TopicSpec { name: name.into(), partitions, cleanup: Cleanup::Delete { max_age: None, max_bytes: None } }
}

fn record(topic: &str, partition: u32, value: &str) -> Record {
    Record {
        to: PartitionId::new(topic, partition),
        key: None,
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        timestamp_ms: 1,
        headers: Headers::new(),
    }
}

fn reads(group: &str, topics: &[&str]) -> ConsumerConfig {
    ConsumerConfig::new(group, topics.iter().map(|topic| Arc::from(*topic)))
}

async fn open(dir: &std::path::Path) -> Arc<LocalBus> {
    let bus = LocalBus::open(LocalConfig::new(dir)).unwrap();
    bus.create_topics(&[topic("a", 2), topic("b", 1)]).await.unwrap();
    bus
}

async fn send(bus: &LocalBus, records: Vec<Record>) {
    bus.producer().await.unwrap().send(records).await.unwrap();
}

async fn poll(consumer: &mut Box<dyn Consumer>) -> Event {
    tokio::time::timeout(DEADLINE, consumer.poll()).await.expect("an event in time").unwrap()
}

async fn assigned(consumer: &mut Box<dyn Consumer>) -> Vec<Assignment> {
    match poll(consumer).await {
        Event::Assigned(assignments) => assignments,
        other => panic!("expected an assignment, got {other:?}"),
    }
}

async fn revoked(consumer: &mut Box<dyn Consumer>) -> Vec<PartitionId> {
    match poll(consumer).await {
        Event::Revoked(partitions) => partitions,
        other => panic!("expected a revocation, got {other:?}"),
    }
}

/// Polls until `count` records came.
async fn receive(consumer: &mut Box<dyn Consumer>, count: usize) -> Vec<Received> {
    let mut all = Vec::new();
    while all.len() < count {
        match poll(consumer).await {
            Event::Records(records) => all.extend(records),
            other => panic!("expected records, got {other:?}"),
        }
    }
    all
}

fn values(records: &[Received]) -> Vec<String> {
    records.iter().map(|r| String::from_utf8(r.value.as_ref().unwrap().to_vec()).unwrap()).collect()
}

fn after(record: &Received) -> Offset {
    Offset { partition: record.from.clone(), generation: record.generation, next: record.offset + 1 }
}

#[tokio::test]
async fn records_come_back_as_sent_and_in_order_per_partition() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    let mut full = record("a", 1, "x");
    full.key = Some(Bytes::from_static(b"key"));
    full.headers.push("afflux-cluster", "c1");
    full.headers.push("afflux-items", "7");
    full.timestamp_ms = -5;
    let tombstone = Record { value: None, ..record("a", 1, "") };
    send(&bus, vec![record("a", 0, "0"), full.clone(), tombstone.clone(), record("a", 0, "1")]).await;
    let mut consumer = bus.consumer(reads("g", &["a"])).await.unwrap();
    assert_eq!(assigned(&mut consumer).await.len(), 2);
    let mut got = receive(&mut consumer, 4).await;
    got.sort_by_key(|r| (r.from.clone(), r.offset));
    assert_eq!(values(&got[..2]), ["0", "1"]);
    assert_eq!((got[2].offset, got[3].offset), (0, 1));
    let Received { timestamp_ms, key, value, headers, .. } = got[2].clone();
    assert_eq!((timestamp_ms, key, value, headers), (-5, full.key, full.value, full.headers));
    assert_eq!(got[3].value, None);
}

#[tokio::test]
async fn reading_resumes_at_the_committed_offset_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    send(&bus, (0..10).map(|n| record("b", 0, &n.to_string())).collect()).await;
    let mut consumer = bus.consumer(reads("g", &["b"])).await.unwrap();
    assigned(&mut consumer).await;
    let got = receive(&mut consumer, 10).await;
    consumer.commit(&[after(&got[3])]).await.unwrap();
    consumer.close().await;
    let producer = bus.producer().await.unwrap();
    bus.close().await;
    assert!(matches!(producer.send(vec![record("b", 0, "late")]).await, Err(BusError::Closed)));

    let bus = open(dir.path()).await;
    let mut consumer = bus.consumer(reads("g", &["b"])).await.unwrap();
    assert_eq!(assigned(&mut consumer).await[0].position, 4);
    assert_eq!(consumer.committed(&PartitionId::new("b", 0)).await.unwrap(), Some(4));
    let got = receive(&mut consumer, 6).await;
    assert_eq!(values(&got), ["4", "5", "6", "7", "8", "9"]);
    let lag = &bus.lag("g", &["b".into()]).await.unwrap()[0];
    assert_eq!((lag.committed, lag.start, lag.end, lag.records()), (Some(4), 0, 10, 6));
}

#[tokio::test]
async fn a_group_that_starts_at_the_latest_sees_only_what_comes_after() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    send(&bus, vec![record("b", 0, "old")]).await;
    let config = ConsumerConfig { start_at: StartAt::Latest, ..reads("g", &["b"]) };
    let mut consumer = bus.consumer(config).await.unwrap();
    assert_eq!(assigned(&mut consumer).await[0].position, 1);
    send(&bus, vec![record("b", 0, "new")]).await;
    assert_eq!(values(&receive(&mut consumer, 1).await), ["new"]);
}

#[tokio::test]
async fn two_members_share_and_a_revoked_partition_passes_on_after_the_next_poll() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    send(&bus, vec![record("a", 0, "p0"), record("a", 1, "p1")]).await;
    let mut one = bus.consumer(reads("g", &["a"])).await.unwrap();
    let first = assigned(&mut one).await;
    let got = receive(&mut one, 2).await;
    let mut two = bus.consumer(reads("g", &["a"])).await.unwrap();
    let gone = revoked(&mut one).await;
    assert_eq!(gone.len(), 1);
    let last = got.iter().find(|r| r.from == gone[0]).unwrap();
    // Until it polls again, the first member may still commit.
    one.commit(&[after(last)]).await.unwrap();
    let waiting = tokio::spawn(async move {
        let assignments = assigned(&mut two).await;
        (two, assignments)
    });
    let polling = tokio::spawn(async move {
        let _ = tokio::time::timeout(Duration::from_millis(50), one.poll()).await;
        one
    });
    let (mut two, second) = waiting.await.unwrap();
    let mut one = polling.await.unwrap();
    assert_eq!((&second[0].partition, second[0].position), (&gone[0], 1));
    assert!(second[0].generation > first.iter().find(|a| a.partition == gone[0]).unwrap().generation);
    // The old generation is fenced, the new owner commits.
    assert!(matches!(one.commit(&[after(last)]).await, Err(BusError::Fenced { .. })));
    let mut config = after(last);
    config.generation = second[0].generation;
    two.commit(&[config]).await.unwrap();
    one.close().await;
    assert_eq!(assigned(&mut two).await.len(), 1);
}

#[tokio::test]
async fn a_silent_member_loses_its_partitions_after_the_revoke_timeout() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    send(&bus, vec![record("b", 0, "x")]).await;
    let config = ConsumerConfig { revoke_timeout: Duration::from_millis(50), ..reads("g", &["a", "b"]) };
    let mut silent = bus.consumer(config.clone()).await.unwrap();
    assert_eq!(assigned(&mut silent).await.len(), 3);
    let mut other = bus.consumer(config).await.unwrap();
    let taken = assigned(&mut other).await;
    assert_eq!(taken.len(), 1);
    let gone = revoked(&mut silent).await;
    assert_eq!(gone, [taken[0].partition.clone()]);
    let stale = Offset { partition: gone[0].clone(), generation: Generation(1), next: 1 };
    assert!(matches!(silent.commit(&[stale]).await, Err(BusError::Fenced { .. })));
}

#[tokio::test]
async fn a_transaction_is_there_as_a_whole_and_a_fenced_one_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    send(&bus, vec![record("a", 0, "in")]).await;
    let config = ConsumerConfig { transactional_id: Some("t".into()), ..reads("g", &["a"]) };
    let mut consumer = bus.consumer(config).await.unwrap();
    assigned(&mut consumer).await;
    let got = receive(&mut consumer, 1).await;
    let stale = Offset { generation: Generation(0), ..after(&got[0]) };
    let refused = consumer.transact(vec![record("b", 0, "never")], &[stale]).await;
    assert!(matches!(refused, Err(BusError::Fenced { .. })), "{refused:?}");
    // Everything is revoked and assigned anew at the committed offset.
    assert_eq!(revoked(&mut consumer).await.len(), 2);
    let again = assigned(&mut consumer).await;
    assert!(again.iter().all(|a| a.position == 0 && a.generation > got[0].generation), "{again:?}");
    let got = receive(&mut consumer, 1).await;
    consumer.transact(vec![record("b", 0, "out")], &[after(&got[0])]).await.unwrap();
    let mut plain = bus.consumer(reads("check", &["b"])).await.unwrap();
    assigned(&mut plain).await;
    assert_eq!(values(&receive(&mut plain, 1).await), ["out"]);
    assert!(matches!(plain.transact(Vec::new(), &[]).await, Err(BusError::Config(_))));
    assert_eq!(consumer.committed(&PartitionId::new("a", 0)).await.unwrap(), Some(1));
}

#[tokio::test]
async fn a_paused_partition_keeps_still_and_goes_on_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    let mut consumer = bus.consumer(reads("g", &["a"])).await.unwrap();
    assigned(&mut consumer).await;
    consumer.pause(&PartitionId::new("a", 0)).unwrap();
    send(&bus, vec![record("a", 0, "p0"), record("a", 1, "p1")]).await;
    assert_eq!(values(&receive(&mut consumer, 1).await), ["p1"]);
    assert!(tokio::time::timeout(Duration::from_millis(50), consumer.poll()).await.is_err());
    consumer.resume(&PartitionId::new("a", 0)).unwrap();
    assert_eq!(values(&receive(&mut consumer, 1).await), ["p0"]);
}

#[tokio::test]
async fn a_poll_returns_no_more_than_its_bytes_and_a_larger_record_alone() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    let big = "x".repeat(5000);
    send(&bus, (0..20).map(|n| record("a", n % 2, &format!("{n:0500}"))).collect()).await;
    send(&bus, vec![record("a", 0, &big), record("a", 1, &big)]).await;
    let config = ConsumerConfig { fetch_bytes: 2000, ..reads("g", &["a"]) };
    let mut consumer = bus.consumer(config).await.unwrap();
    assigned(&mut consumer).await;
    let mut all = 0;
    while all < 22 {
        let Event::Records(records) = poll(&mut consumer).await else { panic!("expected records") };
        let size: usize = records.iter().map(Received::size).sum();
        assert!(size <= 2000 || records.len() == 1, "{size} bytes in {} records", records.len());
        all += records.len();
    }
}

#[tokio::test]
async fn what_can_never_be_written_is_a_typed_error_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let bus = LocalBus::open(LocalConfig { max_record_bytes: 10, ..LocalConfig::new(dir.path()) }).unwrap();
    let compact = TopicSpec { cleanup: Cleanup::Compact, ..topic("c", 1) };
    bus.create_topics(&[topic("a", 1), compact]).await.unwrap();
    let producer = bus.producer().await.unwrap();
    let refused = producer.send(vec![record("a", 0, "ok"), record("a", 0, "eleven bytes")]).await;
    assert!(matches!(refused, Err(BusError::TooLarge { size: 12, limit: 10, .. })), "{refused:?}");
    let refused = producer.send(vec![record("a", 0, "ok"), record("x", 0, "")]).await;
    assert!(matches!(&refused, Err(BusError::UnknownTopic { topic }) if topic == "x"), "{refused:?}");
    let refused = producer.send(vec![record("a", 1, "ok")]).await;
    assert!(matches!(refused, Err(BusError::UnknownPartition(_))), "{refused:?}");
    let refused = producer.send(vec![record("c", 0, "no key")]).await;
    assert_eq!(refused.unwrap_err().class(), crate::ErrorClass::Permanent);
    let refused = bus.create_topics(&[topic("none", 0)]).await;
    assert!(matches!(refused, Err(BusError::Config(_))), "{refused:?}");
    assert!(matches!(bus.consumer(reads("g", &["x"])).await.map(drop), Err(BusError::UnknownTopic { .. })));
    assert_eq!(bus.lag("g", &["a".into()]).await.unwrap()[0].end, 0);
}

#[tokio::test]
async fn a_second_opening_names_the_owner_until_it_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let bus = open(dir.path()).await;
    let consumer = bus.consumer(reads("g", &["a"])).await.unwrap();
    let refused = LocalBus::open(LocalConfig::new(dir.path())).map(drop);
    let pid = std::process::id().to_string();
    assert!(matches!(&refused, Err(BusError::Locked { pid: owner, .. }) if *owner == pid), "{refused:?}");
    bus.close().await;
    drop(LocalBus::open(LocalConfig::new(dir.path())).unwrap());
    drop(consumer);
}
