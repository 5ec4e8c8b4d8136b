//! Members that go back before they go on.

use std::sync::Arc;
use std::time::Duration;

use super::{KEEP, Reader, Subject, config, now_ms, number, numbered, send_numbers, topic, unique};
use crate::contract::{Bus, ConsumerConfig, Offset};
use crate::error::BusError;
use crate::record::{PartitionId, Record};

/// Times of ten records, out of order.
const TIMES: [i64; 10] = [0, 100, 50, 200, 150, 300, 120, 310, 400, 390];

async fn timed(bus: &dyn Bus, topic: &Arc<str>, times: &[i64], first: u64) {
    let start = now_ms();
    let records = times
        .iter()
        .zip(first..)
        .map(|(time, n)| Record { timestamp_ms: start - 10_000 + time, ..numbered(topic, 0, n, 8) });
    bus.producer().await.expect("a producer").send(records.collect()).await.expect("an acknowledgement");
}

fn back(group: &str, topic: &Arc<str>, milliseconds: u64) -> ConsumerConfig {
    ConsumerConfig { rewind: Some(Duration::from_millis(milliseconds)), ..config(group, topic) }
}

/// Commits that offset for the group.
async fn stand_at(bus: &dyn Bus, group: &str, partition: &PartitionId, next: u64) {
    let mut reader = Reader::join(bus, config(group, &partition.topic)).await;
    reader.assigned(1).await;
    let offset = Offset { next, ..reader.read_offset(partition) };
    reader.commit(&[offset]).await.expect("a commit");
    reader.close().await;
}

/// The numbers that come to a group, up to the last one; and the position that it was told.
async fn come(bus: &dyn Bus, config: ConsumerConfig, last: u64) -> (u64, Vec<u64>) {
    let mut reader = Reader::join(bus, config).await;
    let partition = reader.assigned(1).await.remove(0);
    let position = reader.position(&partition);
    reader.goes_back(&partition);
    let mut numbers = Vec::new();
    while numbers.last() != Some(&last) {
        numbers.extend(reader.read(1).await.iter().map(number));
    }
    assert_eq!(reader.expired, 0, "nothing was lost");
    reader.close().await;
    (position, numbers)
}

/// From the first record that is no older than the last one before the position, less the time to go back.
pub async fn an_assignment_goes_back_by_its_time(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "back", 1, KEEP).await;
    let partition = PartitionId::new(Arc::clone(&topic), 0);
    timed(&*bus, &topic, &TIMES, 0).await;
    // Position, time to go back, first number that comes.
    for (position, time, first) in [
        (6, 0, 5),
        (6, 100, 3),
        (6, 120, 3),
        (6, 150, 3),
        (7, 20, 1),
        (7, 70, 1),
        (9, 110, 5),
        (10, 60_000, 0),
        (1, 5, 0),
    ] {
        let group = unique("back");
        stand_at(&*bus, &group, &partition, position).await;
        let (told, numbers) = come(&*bus, back(&group, &topic, time), 9.max(position - 1)).await;
        assert_eq!(told, position);
        assert_eq!(numbers, (first..10).collect::<Vec<_>>(), "from {position} back by {time} ms");
    }
    // A group that has read nothing has nothing to repeat.
    let (told, numbers) = come(&*bus, back(&unique("back-new"), &topic, 60_000), 9).await;
    assert_eq!((told, numbers), (0, (0..10).collect()));
}

/// What is repeated is not lag, and committing goes on from the position.
pub async fn repeats_leave_the_committed_offset_alone(subject: &dyn Subject) {
    let bus = subject.open().await;
    let topic = topic(&*bus, "back-lag", 1, KEEP).await;
    let partition = PartitionId::new(Arc::clone(&topic), 0);
    timed(&*bus, &topic, &TIMES, 0).await;
    let group = unique("back-lag");
    stand_at(&*bus, &group, &partition, 8).await;
    let mut reader = Reader::join(&*bus, back(&group, &topic, 60_000)).await;
    reader.assigned(1).await;
    reader.goes_back(&partition);
    let records = reader.read_past(&partition, 9).await;
    assert_eq!(records.iter().map(number).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!(reader.committed(&partition).await, Some(8));
    assert_eq!(bus.lag(&group, &[Arc::clone(&topic)]).await.expect("lag")[0].records(), 2);
    reader.commit_read(std::slice::from_ref(&partition)).await;
    assert_eq!(reader.committed(&partition).await, Some(10));
    reader.close().await;
}

/// After a transaction that starts over, the repeats come again as well; and where transactions have left holes, the
/// last record before the position is found all the same.
pub async fn a_transaction_that_starts_over_goes_back_too(subject: &dyn Subject) {
    let bus = subject.open().await;
    let input = topic(&*bus, "back-tx-in", 1, KEEP).await;
    let holed = topic(&*bus, "back-tx-holed", 1, KEEP).await;
    let partition = PartitionId::new(Arc::clone(&holed), 0);
    let id = unique("back-tx-writer");
    let writing = ConsumerConfig { transactional_id: Some(id), ..config("back-tx-writer", &input) };
    let mut writer = Reader::join(&*bus, writing).await;
    writer.assigned(1).await;
    for n in 0..5 {
        writer.transact(vec![numbered(&holed, 0, n, 8)], &[]).await.expect("a transaction");
    }
    writer.close().await;

    let id = unique("back-tx");
    let group = unique("back-tx");
    let config = ConsumerConfig { transactional_id: Some(id), ..back(&group, &holed, 60_000) };
    let mut stage = Reader::join(&*bus, config).await;
    stage.assigned(1).await;
    assert_eq!(stage.read(5).await.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    let offset = stage.read_offset(&partition);
    stage.transact(Vec::new(), std::slice::from_ref(&offset)).await.expect("a transaction");
    send_numbers(&*bus.producer().await.expect("a producer"), &holed, 0, 5..6).await;
    stage.read(1).await;

    let mut stale = stage.read_offset(&partition);
    stale.generation.0 = stale.generation.0.wrapping_sub(1);
    let fenced = stage.transact(Vec::new(), &[stale]).await;
    assert!(matches!(fenced, Err(BusError::Fenced { .. })), "{fenced:?}");
    stage.next().await;
    stage.assigned(1).await;
    assert_eq!(stage.position(&partition), offset.next);
    stage.goes_back(&partition);
    assert_eq!(stage.read(6).await.iter().map(number).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    stage.close().await;
}
